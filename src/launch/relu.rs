//! Launching a ReLU.

use cudarc::driver::{CudaStream, sys};

use super::args::ReluArgs;
use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::fill::offset_bytes;
use super::prepared::Prepared;
use crate::error::Error;
use crate::gpu::Gpu;
use crate::plan::ReluPlan;
use crate::problem::Relu;

/// A ReLU ready to launch; made by [`Gpu::prepare_relu`].
pub type PreparedRelu = Prepared<Relu, ReluArgs>;

/// The operands of a ReLU, as cudarc's slices or views. Lengths in elements.
pub struct ReluBuffers<'a, T> {
    /// The input: [`Relu::input`]`().len()`.
    pub x: &'a dyn DeviceBuffer<T>,
    /// The output: [`Relu::output`]`().len()`. Of a wider tensor only the slice's channels are written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

impl<'a, T> ReluBuffers<'a, T> {
    /// Input and output.
    pub fn new(
        x: &'a dyn DeviceBuffer<T>,
        y: &'a mut dyn DeviceBufferMut<T>,
    ) -> ReluBuffers<'a, T> {
        ReluBuffers { x, y }
    }
}

/// The operands of a ReLU as device addresses: each that of the whole buffer's first element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReluPointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The output; the same as `x` for a ReLU in place.
    pub y: sys::CUdeviceptr,
}

impl Gpu {
    /// Loads the plan's kernel, if this is its first use, and makes the plan ready to launch.
    ///
    /// # Errors
    /// As [`Gpu::prepare_conv`].
    pub fn prepare_relu(&self, plan: &ReluPlan) -> Result<PreparedRelu, Error> {
        Prepared::new(self, plan, ReluArgs::from(plan.problem()))
    }
}

impl PreparedRelu {
    /// Computes the ReLU in the stream, from one buffer to another. Returns when the work is queued, not when it is
    /// done. An empty batch is nothing to do.
    ///
    /// # Errors
    /// As [`PreparedConv::launch`](super::PreparedConv::launch).
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: ReluBuffers<'_, T>,
    ) -> Result<(), Error> {
        self.check_call::<T>(stream)?;
        let (problem, context) = (self.problem(), self.context());
        let ReluBuffers { x, y } = buffers;
        check::buffer(context, "x", x, problem.input().len())?;
        check::buffer(context, "y", y, problem.output().len())?;
        if problem.output().is_empty() {
            return Ok(());
        }
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = x.device_ptr(stream);
        let (y, _y) = y.device_ptr_mut(stream);
        self.check_ordering()?;
        // SAFETY: both pointers are buffers of this context, as long as the problem says, alive until their uses in this
        // stream are done (cudarc frees in stream order and was told of the use), and borrowed for the call. The stream
        // is of this context.
        unsafe { self.launch_raw(stream.cu_stream(), ReluPointers { x, y }) }
    }

    /// Computes the ReLU in place: `y` is both operands, which therefore are the same channels of the same tensor.
    ///
    /// # Errors
    /// As [`PreparedConv::launch`](super::PreparedConv::launch); [`Error::Overlap`] if the problem's input and output
    /// are different slices with common channels.
    pub fn launch_in_place<T: Element>(
        &self,
        stream: &CudaStream,
        y: &mut dyn DeviceBufferMut<T>,
    ) -> Result<(), Error> {
        self.check_call::<T>(stream)?;
        let (problem, context) = (self.problem(), self.context());
        check::buffer(context, "x", y, problem.input().len())?;
        check::buffer(context, "y", y, problem.output().len())?;
        if problem.output().is_empty() {
            return Ok(());
        }
        let (y, _y) = y.device_ptr_mut(stream);
        self.check_ordering()?;
        // SAFETY: as in `launch`; that the two are the same elements, or none in common, is checked there.
        unsafe { self.launch_raw(stream.cu_stream(), ReluPointers { x: y, y }) }
    }

    /// Computes the ReLU in a stream of anyone's, on memory of anyone's, in place if both pointers are the same.
    ///
    /// # Safety
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw).
    ///
    /// # Errors
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw).
    pub unsafe fn launch_raw(
        &self,
        stream: sys::CUstream,
        pointers: ReluPointers,
    ) -> Result<(), Error> {
        let problem = self.problem();
        if problem.output().is_empty() {
            return Ok(());
        }
        let element = problem.dtype().size();
        let x = Span::new("x", pointers.x, problem.input().len(), element);
        let y = Span::new("y", pointers.y, problem.output().len(), element);
        x.check(element as u64)?;
        y.check(element as u64)?;
        let (input, output) = ((&x, problem.input()), (&y, problem.output()));
        if !check::same_elements(input, output) && !check::disjoint_slices(input, output) {
            y.apart_from(&x)?;
        }
        let mut arguments = *self.arguments();
        arguments.x = pointers.x + offset_bytes(problem.input());
        arguments.y = pointers.y + offset_bytes(problem.output());
        // SAFETY: the caller's promise is this function's own.
        unsafe { self.launch_arguments(stream, arguments) }
    }
}
