//! One call each: plan, load, allocate the output, launch.
//!
//! These are for code that computes something once. They plan anew on every call (some tens of
//! microseconds). To repeat a call, keep the [`Plan`] and the prepared plan of
//! [`launch`](crate::launch).
//!
//! ```no_run
//! use warpconv::device::{DeviceChoice, Gpu};
//! use warpconv::ops;
//! use warpconv::problem::{Conv2d, Padding};
//!
//! let gpu = Gpu::open(&DeviceChoice::Auto)?;
//! let conv = Conv2d::builder().input(1, 3, 8, 8).filters(4).kernel(3, 3);
//! let conv = conv.padding(Padding::same(1)).build()?;
//! let x = gpu.upload(&vec![1.0f32; conv.input().len()])?;
//! let w = gpu.upload(&vec![0.5f32; conv.filter().len()])?;
//! let y = gpu.download(&ops::conv2d(&gpu, &conv, &x, &w).run()?)?;
//! assert_eq!(y[9], 13.5);
//! # Ok::<(), warpconv::Error>(())
//! ```

mod bottleneck;
mod inception;

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

pub use bottleneck::Bottleneck;
pub use inception::Inception;

use crate::device::{Gpu, driver_error};
use crate::error::Error;
use crate::launch::memory::{allocate, fitting, zeros};
use crate::launch::{
    ConvBuffers, DeviceBuffer, DeviceBufferMut, Element, PoolBuffers, SubsampleBuffers, Unary,
    UnaryBuffers,
};
use crate::plan::{ConvPlan, Limits, Plan, PoolPlan};
use crate::problem::{Conv2d, Lrn, Pool2d, Relu, Softmax, Subsample, Tanh};

/// A convolution about to be computed; made by [`conv2d`].
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct ConvCall<'a, T> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    problem: &'a Conv2d,
    x: &'a dyn DeviceBuffer<T>,
    w: &'a dyn DeviceBuffer<T>,
    bias: Option<&'a dyn DeviceBuffer<T>>,
    residual: Option<&'a dyn DeviceBuffer<T>>,
    limits: Limits,
}

/// Computes a convolution of `x` with the filters `w`, in the device's default stream unless told
/// otherwise.
pub fn conv2d<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Conv2d,
    x: &'a dyn DeviceBuffer<T>,
    w: &'a dyn DeviceBuffer<T>,
) -> ConvCall<'a, T> {
    ConvCall {
        gpu,
        stream: gpu.stream(),
        problem,
        x,
        w,
        bias: None,
        residual: None,
        limits: Limits::default(),
    }
}

impl<'a, T: Element> ConvCall<'a, T> {
    /// The stream to compute in.
    pub fn stream(self, stream: &'a Arc<CudaStream>) -> Self {
        ConvCall { stream, ..self }
    }

    /// The bias, which the problem must have.
    pub fn bias(self, bias: &'a dyn DeviceBuffer<T>) -> Self {
        ConvCall {
            bias: Some(bias),
            ..self
        }
    }

    /// The residual, which the problem must have.
    pub fn residual(self, residual: &'a dyn DeviceBuffer<T>) -> Self {
        ConvCall {
            residual: Some(residual),
            ..self
        }
    }

    /// Limits of the plan: [`Limits::default`] unless said otherwise.
    pub fn limits(self, limits: Limits) -> Self {
        ConvCall { limits, ..self }
    }

    /// Computes into a new buffer; of a wider tensor the other channels are zero.
    ///
    /// # Errors
    /// As [`ConvPlan::within`](crate::plan::Plan::within), [`Gpu::prepare_conv`],
    /// [`PreparedConv::launch`](crate::launch::PreparedConv), [`Error::OutOfMemory`] and
    /// [`Error::NoWorkspace`].
    pub fn run(self) -> Result<CudaSlice<T>, Error> {
        let mut y = allocate(self.stream, self.problem.output())?;
        self.run_into(&mut y)?;
        Ok(y)
    }

    /// Computes into `y`. A plan that computes in a workspace is given one of its own for the call;
    /// if the device has no memory for it, another plan is made within what is left.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run_into(self, y: &mut dyn DeviceBufferMut<T>) -> Result<(), Error> {
        let capability = self.gpu.capability();
        let plan = |limits: &Limits| ConvPlan::within(self.problem, capability, limits);
        let (plan, mut workspace) =
            fitting(self.stream, &self.limits, plan, ConvPlan::workspace_bytes)?;
        let ConvCall {
            x,
            w,
            bias,
            residual,
            ..
        } = self;
        self.gpu.prepare_conv(&plan)?.launch(
            self.stream,
            ConvBuffers {
                x,
                w,
                bias,
                residual,
                y,
                workspace: workspace.as_mut(),
            },
        )
    }
}

/// Brings the filters of a convolution into
/// [`FilterLayout::Packed`](crate::problem::FilterLayout::Packed), in the given stream: the new
/// buffer, and the problem that takes it. Worth doing once where the same filters are used again,
/// as [`Gpu::prepare_pack_filter`] says.
///
/// # Errors
/// As [`Gpu::prepare_pack_filter`], [`PreparedPack::launch`](crate::launch::PreparedPack::launch),
/// and [`Error::OutOfMemory`].
pub fn pack_filter<T: Element>(
    gpu: &Gpu,
    stream: &Arc<CudaStream>,
    problem: &Conv2d,
    w: &dyn DeviceBuffer<T>,
) -> Result<(Conv2d, CudaSlice<T>), Error> {
    let pack = gpu.prepare_pack_filter(problem)?;
    // SAFETY: every element is written, gaps included, before anything can read it: the launch
    // follows in the same stream, readers in other streams wait for the write that it records, and
    // any bits are a valid T.
    let mut packed = unsafe { stream.alloc(pack.packed().filter().len()) }
        .map_err(|e| driver_error("allocating the filters", e))?;
    pack.launch(stream, w, &mut packed)?;
    Ok((pack.packed().clone(), packed))
}

/// A pooling about to be computed; made by [`pool2d`].
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct PoolCall<'a, T> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    problem: &'a Pool2d,
    x: &'a dyn DeviceBuffer<T>,
}

/// Computes a pooling of `x`: maximum, mean, global or adaptive, as the problem says; in the
/// device's default stream unless told otherwise.
pub fn pool2d<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Pool2d,
    x: &'a dyn DeviceBuffer<T>,
) -> PoolCall<'a, T> {
    PoolCall {
        gpu,
        stream: gpu.stream(),
        problem,
        x,
    }
}

impl<'a, T: Element> PoolCall<'a, T> {
    /// The stream to compute in.
    pub fn stream(self, stream: &'a Arc<CudaStream>) -> Self {
        PoolCall { stream, ..self }
    }

    /// Computes into a new buffer, and the indices, if the problem asks for them, into another; of
    /// a wider tensor the other channels are zero.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run(self) -> Result<(CudaSlice<T>, Option<CudaSlice<u8>>), Error> {
        let mut y = allocate(self.stream, self.problem.output())?;
        if !self.problem.indices() {
            self.run_into(&mut y, None)?;
            return Ok((y, None));
        }
        let mut indices = zeros(
            self.stream,
            self.problem.index_len(),
            "allocating the output",
        )?;
        self.run_into(&mut y, Some(&mut indices))?;
        Ok((y, Some(indices)))
    }

    /// Computes into `y`, and the indices, if the problem asks for them, into `indices`.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run_into<'b>(
        self,
        y: &'b mut dyn DeviceBufferMut<T>,
        indices: Option<&'b mut dyn DeviceBufferMut<u8>>,
    ) -> Result<(), Error>
    where
        'a: 'b,
    {
        let plan = PoolPlan::new(self.problem, self.gpu.capability())?;
        let PoolCall { gpu, stream, x, .. } = self;
        gpu.prepare_pool(&plan)?
            .launch(stream, PoolBuffers { x, y, indices })
    }
}

/// An operation that keeps the extents, about to be computed; made by [`unary`] and its siblings.
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct UnaryCall<'a, P, T> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    problem: &'a P,
    x: &'a dyn DeviceBuffer<T>,
}

/// A ReLU about to be computed.
pub type ReluCall<'a, T> = UnaryCall<'a, Relu, T>;

/// Computes an operation that keeps the extents, in the device's default stream unless told
/// otherwise.
pub fn unary<'a, P: Unary, T: Element>(
    gpu: &'a Gpu,
    problem: &'a P,
    x: &'a dyn DeviceBuffer<T>,
) -> UnaryCall<'a, P, T> {
    UnaryCall {
        gpu,
        stream: gpu.stream(),
        problem,
        x,
    }
}

/// Computes a ReLU of `x`, in the device's default stream unless told otherwise.
pub fn relu<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Relu,
    x: &'a dyn DeviceBuffer<T>,
) -> ReluCall<'a, T> {
    unary(gpu, problem, x)
}

/// Computes a local response normalisation of `x`, in the device's default stream unless told
/// otherwise.
pub fn lrn<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Lrn,
    x: &'a dyn DeviceBuffer<T>,
) -> UnaryCall<'a, Lrn, T> {
    unary(gpu, problem, x)
}

/// Computes a softmax of `x` over channels, in the device's default stream unless told otherwise.
pub fn softmax<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Softmax,
    x: &'a dyn DeviceBuffer<T>,
) -> UnaryCall<'a, Softmax, T> {
    unary(gpu, problem, x)
}

/// Computes the hyperbolic tangent of `x`, scaled as the problem says, in the device's default
/// stream unless told otherwise.
pub fn tanh<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Tanh,
    x: &'a dyn DeviceBuffer<T>,
) -> UnaryCall<'a, Tanh, T> {
    unary(gpu, problem, x)
}

/// Computes a trainable subsampling of `x` into a new buffer, in the device's default stream; of a
/// wider tensor the other channels are zero.
///
/// # Errors
/// As [`ConvCall::run`].
pub fn subsample<T: Element>(
    gpu: &Gpu,
    problem: &Subsample,
    x: &dyn DeviceBuffer<T>,
    coefficient: &dyn DeviceBuffer<T>,
    bias: &dyn DeviceBuffer<T>,
) -> Result<CudaSlice<T>, Error> {
    let plan = Plan::new(problem, gpu.capability())?;
    let mut y = allocate(gpu.stream(), problem.output())?;
    let buffers = SubsampleBuffers {
        x,
        coefficient,
        bias,
        y: &mut y,
    };
    gpu.prepare_subsample(&plan)?
        .launch(gpu.stream(), buffers)?;
    Ok(y)
}

impl<'a, P: Unary, T: Element> UnaryCall<'a, P, T> {
    /// The stream to compute in.
    pub fn stream(self, stream: &'a Arc<CudaStream>) -> Self {
        UnaryCall { stream, ..self }
    }

    /// Computes into a new buffer; of a wider tensor the other channels are zero.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run(self) -> Result<CudaSlice<T>, Error> {
        let mut y = allocate(self.stream, self.problem.y())?;
        self.run_into(&mut y)?;
        Ok(y)
    }

    /// Computes into `y`.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run_into(self, y: &mut dyn DeviceBufferMut<T>) -> Result<(), Error> {
        let plan = Plan::new(self.problem, self.gpu.capability())?;
        self.gpu
            .prepare_unary(&plan)?
            .launch(self.stream, UnaryBuffers { x: self.x, y })
    }
}

/// Computes an operation that keeps the extents in place, in the given stream.
///
/// # Errors
/// As [`ConvCall::run`]; [`Error::Overlap`] if the problem's input and output are different slices
/// with channels in common, or the operation cannot be done in place ([`Unary::IN_PLACE`]).
pub fn unary_in_place<P: Unary, T: Element>(
    gpu: &Gpu,
    stream: &CudaStream,
    problem: &P,
    y: &mut dyn DeviceBufferMut<T>,
) -> Result<(), Error> {
    let plan = Plan::new(problem, gpu.capability())?;
    gpu.prepare_unary(&plan)?.launch_in_place(stream, y)
}

/// [`unary_in_place`] of a ReLU.
///
/// # Errors
/// As [`unary_in_place`].
pub fn relu_in_place<T: Element>(
    gpu: &Gpu,
    stream: &CudaStream,
    problem: &Relu,
    y: &mut dyn DeviceBufferMut<T>,
) -> Result<(), Error> {
    unary_in_place(gpu, stream, problem, y)
}
