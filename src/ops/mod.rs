//! One call each: plan, load, allocate the output, launch; and the copies of host data to the
//! device and back.
//!
//! They compute in the device's own stream; [`Gpu::with_stream`] selects another one.
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

use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, sys};

pub use bottleneck::Bottleneck;
pub use inception::Inception;

use crate::device::{Gpu, driver_error};
use crate::error::Error;
use crate::launch::buffer::{empty, zeros};
use crate::launch::prepared::{fitting, read};
use crate::launch::{
    ConvBuffers, DeviceBuffer, DeviceBufferMut, Element, PoolBuffers, SubsampleBuffers, Unary,
    UnaryBuffers,
};
use crate::plan::{Limits, Plan};
use crate::problem::{Conv2d, Pool2d, Subsample, TensorDesc};

impl Gpu {
    /// Copies elements to a new buffer on the device, in the default stream, and waits for that. No
    /// elements make a buffer of length 0.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if the copy, or earlier work, failed.
    pub fn upload<T: DeviceRepr>(&self, elements: &[T]) -> Result<CudaSlice<T>, Error> {
        let failed = |e| driver_error("copying to the device", e);
        if elements.is_empty() {
            return empty(self.stream()).map_err(failed);
        }
        let buffer = self.stream().clone_htod(elements).map_err(failed)?;
        // A copy from pageable memory has read it all when the call returns. One from pinned
        // memory, which a slice may be in, goes on: wait, so that the elements may be changed or
        // freed in any case.
        self.stream().synchronize().map_err(failed)?;
        Ok(buffer)
    }

    /// Copies a buffer's elements back, once the default stream has done all that was queued
    /// before, and every stream what writes the buffer.
    ///
    /// # Errors
    /// [`Error::WrongContext`] if the buffer belongs to another context; [`Error::Driver`] if the
    /// copy, or earlier work, failed.
    pub fn download<T: DeviceRepr>(&self, buffer: &impl DeviceBuffer<T>) -> Result<Vec<T>, Error> {
        let failed = |e| driver_error("copying from the device", e);
        let (stream, context) = (self.stream(), self.context());
        // Events of another context's streams order nothing here.
        if !Arc::ptr_eq(buffer.stream().context(), context) {
            return Err(Error::WrongContext { what: "the buffer" });
        }
        let mut elements: Vec<T> = Vec::with_capacity(buffer.len());
        context.bind_to_thread().map_err(failed)?;
        let (address, used) = read(buffer, stream);
        context.check_err().map_err(failed)?;
        // SAFETY: both sides have room for the buffer's elements, and the vector outlives the wait
        // below.
        let copied = match buffer.len() {
            0 => Ok(()),
            _ => unsafe {
                let to = elements.as_mut_ptr().cast();
                sys::cuMemcpyDtoHAsync_v2(to, address, buffer.num_bytes(), stream.cu_stream())
                    .result()
            },
        };
        drop(used);
        // A copy to pageable memory blocks the host until it is done. Memory that somebody has
        // pinned, as a program's allocator may have the vector's, is written behind the host's
        // back: wait in any case.
        copied.and_then(|()| stream.synchronize()).map_err(failed)?;
        // SAFETY: the copy has written them, from a slice whose elements are of this type.
        unsafe { elements.set_len(buffer.len()) };
        Ok(elements)
    }
}

/// Allocates a buffer for the tensor, zeroed if it has gaps that the operation does not write.
pub(crate) fn allocate<T: Element>(
    stream: &Arc<CudaStream>,
    desc: &TensorDesc,
) -> Result<CudaSlice<T>, Error> {
    const WHAT: &str = "allocating the output";
    if desc.is_empty() || !desc.is_dense() {
        return zeros(stream, desc.len(), WHAT);
    }
    // SAFETY: every element of a dense output is written before anything can read it: the launch
    // follows in the same stream, readers in other streams wait for the write that it records, and
    // any bits are a valid T.
    unsafe { stream.alloc(desc.len()) }.map_err(|e| driver_error(WHAT, e))
}

/// A convolution about to be computed; made by [`conv2d`].
#[must_use = "nothing is computed before `run` or `run_into`"]
pub struct ConvCall<'a, T> {
    gpu: &'a Gpu,
    problem: &'a Conv2d,
    x: &'a dyn DeviceBuffer<T>,
    w: &'a dyn DeviceBuffer<T>,
    bias: Option<&'a dyn DeviceBuffer<T>>,
    residual: Option<&'a dyn DeviceBuffer<T>>,
    limits: Limits,
}

/// Computes a convolution of `x` with the filters `w`.
pub fn conv2d<'a, T: Element>(
    gpu: &'a Gpu,
    problem: &'a Conv2d,
    x: &'a dyn DeviceBuffer<T>,
    w: &'a dyn DeviceBuffer<T>,
) -> ConvCall<'a, T> {
    ConvCall {
        gpu,
        problem,
        x,
        w,
        bias: None,
        residual: None,
        limits: Limits::default(),
    }
}

impl<'a, T: Element> ConvCall<'a, T> {
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
    /// As [`Plan::within`](crate::plan::Plan::within), [`Gpu::prepare`],
    /// [`Prepared::launch`](crate::launch::Prepared::launch), [`Error::OutOfMemory`] and
    /// [`Error::NoWorkspace`].
    pub fn run(self) -> Result<CudaSlice<T>, Error> {
        let mut y = allocate(self.gpu.stream(), self.problem.output())?;
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
        let plan = |limits: &Limits| Plan::within(self.problem, capability, limits);
        let (plan, mut workspace) =
            fitting(self.gpu.stream(), &self.limits, plan, Plan::workspace_bytes)?;
        let ConvCall {
            x,
            w,
            bias,
            residual,
            ..
        } = self;
        self.gpu.prepare(&plan)?.launch(
            self.gpu.stream(),
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
/// [`FilterLayout::Packed`](crate::problem::FilterLayout::Packed): the new buffer, and the problem
/// that takes it. Worth doing once where the same filters are used again, as
/// [`Gpu::prepare_pack_filter`] explains.
///
/// # Errors
/// As [`Gpu::prepare_pack_filter`], [`PreparedPack::launch`](crate::launch::PreparedPack::launch),
/// and [`Error::OutOfMemory`].
pub fn pack_filter<T: Element>(
    gpu: &Gpu,
    problem: &Conv2d,
    w: &dyn DeviceBuffer<T>,
) -> Result<(Conv2d, CudaSlice<T>), Error> {
    let pack = gpu.prepare_pack_filter(problem)?;
    // SAFETY: every element is written, gaps included, before anything can read it: the launch
    // follows in the same stream, readers in other streams wait for the write that it records, and
    // any bits are a valid T.
    let mut packed = unsafe { gpu.stream().alloc(pack.packed().filter().len()) }
        .map_err(|e| driver_error("allocating the filters", e))?;
    pack.launch(gpu.stream(), w, &mut packed)?;
    Ok((pack.packed().clone(), packed))
}

/// Computes a pooling of `x` into a new buffer, and the indices, if the problem has them, into
/// another; of a wider tensor the other channels are zero.
///
/// # Errors
/// As [`ConvCall::run`].
pub fn pool2d<T: Element>(
    gpu: &Gpu,
    problem: &Pool2d,
    x: &dyn DeviceBuffer<T>,
) -> Result<(CudaSlice<T>, Option<CudaSlice<u8>>), Error> {
    let stream = gpu.stream();
    let mut y = allocate(stream, problem.output())?;
    let mut indices = match problem.indices() {
        true => Some(zeros(stream, problem.index_len(), "allocating the output")?),
        false => None,
    };
    let buffers = PoolBuffers {
        x,
        y: &mut y,
        indices: indices.as_mut().map(|indices| indices as _),
    };
    let plan = Plan::new(problem, gpu.capability())?;
    gpu.prepare(&plan)?.launch(stream, buffers)?;
    Ok((y, indices))
}

/// Computes an operation that keeps the extents (ReLU, tanh, local response normalisation, softmax)
/// into a new buffer; of a wider tensor the other channels are zero.
///
/// # Errors
/// As [`ConvCall::run`].
pub fn unary<P: Unary, T: Element>(
    gpu: &Gpu,
    problem: &P,
    x: &dyn DeviceBuffer<T>,
) -> Result<CudaSlice<T>, Error> {
    let mut y = allocate(gpu.stream(), problem.output())?;
    let plan = Plan::new(problem, gpu.capability())?;
    let buffers = UnaryBuffers { x, y: &mut y };
    gpu.prepare(&plan)?.launch(gpu.stream(), buffers)?;
    Ok(y)
}

/// Computes an operation that keeps the extents in place.
///
/// # Errors
/// As [`ConvCall::run`]; [`Error::Overlap`] if the problem's input and output are different slices
/// with channels in common, or the operation cannot be done in place ([`Unary::IN_PLACE`]).
pub fn unary_in_place<P: Unary, T: Element>(
    gpu: &Gpu,
    problem: &P,
    y: &mut dyn DeviceBufferMut<T>,
) -> Result<(), Error> {
    let plan = Plan::new(problem, gpu.capability())?;
    gpu.prepare(&plan)?.launch_in_place(gpu.stream(), y)
}

/// Computes a trainable subsampling of `x` into a new buffer; of a wider tensor the other channels
/// are zero.
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
    gpu.prepare(&plan)?.launch(gpu.stream(), buffers)?;
    Ok(y)
}
