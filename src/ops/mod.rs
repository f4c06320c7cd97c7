//! One call each: plan, load, allocate the output, launch.
//!
//! These are for code that computes something once. They plan anew on every call (some tens of microseconds); whoever
//! repeats a call keeps the [`Plan`](crate::plan::Plan) and the prepared plan of [`launch`](crate::launch).
//!
//! ```no_run
//! use warpconv::gpu::{DeviceChoice, Gpu};
//! use warpconv::ops;
//! use warpconv::problem::{Conv2d, Padding};
//!
//! let gpu = Gpu::open(&DeviceChoice::Auto)?;
//! let conv = Conv2d::builder().input(1, 3, 8, 8).filters(4).kernel(3, 3).padding(Padding::same(1)).build()?;
//! let x = gpu.upload(&vec![1.0f32; conv.input().len()])?;
//! let w = gpu.upload(&vec![0.5f32; conv.filter_len()])?;
//! let y = gpu.download(&ops::conv2d(&gpu, &conv, &x, &w).run()?)?;
//! assert_eq!(y[9], 13.5);
//! # Ok::<(), warpconv::Error>(())
//! ```

mod bottleneck;
mod inception;
mod module;

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, ValidAsZeroBits};

pub use bottleneck::Bottleneck;
pub use inception::Inception;
pub use module::{Module, ModuleBuffers, Node, Place, PreparedModule, Step, Weights};

use crate::error::Error;
use crate::gpu::{Gpu, driver_error};
use crate::launch::{ConvBuffers, Element, PoolBuffers, ReluBuffers};
use crate::plan::{ConvPlan, PoolPlan, ReluPlan};
use crate::problem::{Conv2d, Pool2d, Relu, TensorDesc};

/// A convolution about to be computed; made by [`conv2d`].
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct ConvCall<'a, T> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    problem: &'a Conv2d,
    x: &'a dyn DevicePtr<T>,
    w: &'a dyn DevicePtr<T>,
    bias: Option<&'a dyn DevicePtr<T>>,
    residual: Option<&'a dyn DevicePtr<T>>,
}

/// Computes a convolution of `x` with the filters `w`, in the device's default stream unless told otherwise.
pub fn conv2d<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Conv2d,
    x: &'a dyn DevicePtr<T>,
    w: &'a dyn DevicePtr<T>,
) -> ConvCall<'a, T> {
    ConvCall {
        gpu,
        stream: gpu.stream(),
        problem,
        x,
        w,
        bias: None,
        residual: None,
    }
}

impl<'a, T: Element> ConvCall<'a, T> {
    /// The stream to compute in.
    pub fn stream(self, stream: &'a Arc<CudaStream>) -> Self {
        ConvCall { stream, ..self }
    }

    /// The bias, which the problem must have.
    pub fn bias(self, bias: &'a dyn DevicePtr<T>) -> Self {
        ConvCall {
            bias: Some(bias),
            ..self
        }
    }

    /// The residual, which the problem must have.
    pub fn residual(self, residual: &'a dyn DevicePtr<T>) -> Self {
        ConvCall {
            residual: Some(residual),
            ..self
        }
    }

    /// Computes into a new buffer; of a wider tensor the other channels are zero.
    ///
    /// # Errors
    /// As [`ConvPlan::new`](crate::plan::Plan::new), [`Gpu::prepare_conv`],
    /// [`PreparedConv::launch`](crate::launch::PreparedConv), and [`Error::OutOfMemory`].
    pub fn run(self) -> Result<CudaSlice<T>, Error> {
        let mut y = allocate(self.stream, self.problem.output())?;
        self.run_into(&mut y)?;
        Ok(y)
    }

    /// Computes into `y`.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run_into(self, y: &mut dyn DevicePtrMut<T>) -> Result<(), Error> {
        let plan = ConvPlan::new(self.problem, self.gpu.capability())?;
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
            },
        )
    }
}

/// A pooling about to be computed; made by [`pool2d`].
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct PoolCall<'a, T> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    problem: &'a Pool2d,
    x: &'a dyn DevicePtr<T>,
}

/// Computes a pooling of `x`: maximum, mean, global or adaptive, as the problem says; in the device's default stream
/// unless told otherwise.
pub fn pool2d<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Pool2d,
    x: &'a dyn DevicePtr<T>,
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

    /// Computes into a new buffer, and the indices, if the problem asks for them, into another; of a wider tensor the
    /// other channels are zero.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run(self) -> Result<(CudaSlice<T>, Option<CudaSlice<u8>>), Error> {
        let mut y = allocate(self.stream, self.problem.output())?;
        if !self.problem.indices() {
            self.run_into(&mut y, None)?;
            return Ok((y, None));
        }
        let mut indices = zeros(self.stream, self.problem.index_len())?;
        self.run_into(&mut y, Some(&mut indices))?;
        Ok((y, Some(indices)))
    }

    /// Computes into `y`, and the indices, if the problem asks for them, into `indices`.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run_into<'b>(
        self,
        y: &'b mut dyn DevicePtrMut<T>,
        indices: Option<&'b mut dyn DevicePtrMut<u8>>,
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

/// A ReLU about to be computed; made by [`relu`].
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct ReluCall<'a, T> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    problem: &'a Relu,
    x: &'a dyn DevicePtr<T>,
}

/// Computes a ReLU of `x`, in the device's default stream unless told otherwise.
pub fn relu<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Relu,
    x: &'a dyn DevicePtr<T>,
) -> ReluCall<'a, T> {
    ReluCall {
        gpu,
        stream: gpu.stream(),
        problem,
        x,
    }
}

impl<'a, T: Element> ReluCall<'a, T> {
    /// The stream to compute in.
    pub fn stream(self, stream: &'a Arc<CudaStream>) -> Self {
        ReluCall { stream, ..self }
    }

    /// Computes into a new buffer; of a wider tensor the other channels are zero.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run(self) -> Result<CudaSlice<T>, Error> {
        let mut y = allocate(self.stream, self.problem.output())?;
        self.run_into(&mut y)?;
        Ok(y)
    }

    /// Computes into `y`.
    ///
    /// # Errors
    /// As [`ConvCall::run`].
    pub fn run_into(self, y: &mut dyn DevicePtrMut<T>) -> Result<(), Error> {
        let plan = ReluPlan::new(self.problem, self.gpu.capability())?;
        self.gpu
            .prepare_relu(&plan)?
            .launch(self.stream, ReluBuffers { x: self.x, y })
    }
}

/// Computes a ReLU in place, in the given stream.
///
/// # Errors
/// As [`ConvCall::run`]; [`Error::Overlap`] if the problem's input and output are different slices with channels in
/// common.
pub fn relu_in_place<T: Element>(
    gpu: &Gpu,
    stream: &CudaStream,
    problem: &Relu,
    y: &mut dyn DevicePtrMut<T>,
) -> Result<(), Error> {
    let plan = ReluPlan::new(problem, gpu.capability())?;
    gpu.prepare_relu(&plan)?.launch_in_place(stream, y)
}

impl Gpu {
    /// Copies elements to a new buffer on the device, in the default stream.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if the copy, or earlier work, failed.
    pub fn upload<T: DeviceRepr>(&self, elements: &[T]) -> Result<CudaSlice<T>, Error> {
        self.stream()
            .clone_htod(elements)
            .map_err(|e| driver_error("copying to the device", e))
    }

    /// Copies a buffer's elements back, once the default stream has done all that was queued before.
    ///
    /// # Errors
    /// [`Error::Driver`] if the copy, or earlier work, failed.
    pub fn download<T: DeviceRepr>(&self, buffer: &impl DevicePtr<T>) -> Result<Vec<T>, Error> {
        let stream = self.stream();
        stream
            .clone_dtoh(buffer)
            .map_err(|e| driver_error("copying from the device", e))
    }
}

/// A buffer for the tensor; zeroed if it has gaps that the operation will not write.
fn allocate<T: Element>(
    stream: &Arc<CudaStream>,
    desc: &TensorDesc,
) -> Result<CudaSlice<T>, Error> {
    if !desc.is_dense() {
        return zeros(stream, desc.len());
    }
    // SAFETY: every element of a dense output is written before anything can read it: the launch follows in the
    // same stream, and any bits are a valid T.
    unsafe { stream.alloc(desc.len()) }.map_err(|e| driver_error("allocating the output", e))
}

fn zeros<T: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    len: usize,
) -> Result<CudaSlice<T>, Error> {
    stream
        .alloc_zeros(len)
        .map_err(|e| driver_error("allocating the output", e))
}
