//! Preparing and launching an operation from one tensor to another of the same extents: ReLU, tanh,
//! local response normalisation, softmax.

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::Element;
use super::prepared::{
    self, DeviceBuffer, DeviceBufferMut, Prepared, Span, check_buffer, disjoint_slices,
    same_elements,
};
use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::Unary;
use crate::kernels::operation::offset_bytes;
use crate::plan::Plan;

/// The operands of a [`Unary`], as cudarc's slices or views. Lengths in elements.
pub struct UnaryBuffers<'a, T> {
    /// The input: `input().len()` of the problem.
    pub x: &'a dyn DeviceBuffer<T>,
    /// The output: `output().len()` of the problem. Of a wider tensor only the slice's channels are
    /// written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

/// The operands of a [`Unary`] as device addresses: each that of the whole buffer's first element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnaryPointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The output; the same as `x` in place.
    pub y: sys::CUdeviceptr,
}

impl<P: Unary> Launch for P {
    type Buffers<'a, T: Element> = UnaryBuffers<'a, T>;
    type Pointers = UnaryPointers;
    type Arguments = P::Args;

    fn arguments(_gpu: &Gpu, plan: &Plan<P>) -> Result<P::Args, Error> {
        Ok(Unary::arguments(plan.problem()))
    }

    fn launch<T: Element>(
        prepared: &Prepared<P>,
        stream: &CudaStream,
        buffers: UnaryBuffers<'_, T>,
    ) -> Result<(), Error> {
        prepared.check_call::<T>(stream)?;
        let (problem, context) = (prepared.problem(), prepared.context());
        let UnaryBuffers { x, y } = buffers;
        check_buffer(context, "x", x, problem.input().len())?;
        check_buffer(context, "y", y, problem.output().len())?;
        if problem.is_empty() {
            return Ok(());
        }
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = prepared::read(x, stream);
        let (y, _y) = prepared::write(y, stream);
        prepared.check_ordering()?;
        // SAFETY: both pointers are buffers of this context, as long as the problem states, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives
        // (see `prepared::Use`). The stream is of this context.
        unsafe { prepared.launch_raw(stream.cu_stream(), UnaryPointers { x, y }) }
    }

    unsafe fn launch_raw(
        prepared: &Prepared<P>,
        stream: sys::CUstream,
        pointers: UnaryPointers,
    ) -> Result<(), Error> {
        let problem = prepared.problem();
        if problem.is_empty() {
            return Ok(());
        }
        let element = problem.dtype().size();
        let x = Span::new("x", pointers.x, problem.input().len(), element);
        let y = Span::new("y", pointers.y, problem.output().len(), element);
        x.check(element as u64)?;
        y.check(element as u64)?;
        let (input, output) = ((&x, problem.input()), (&y, problem.output()));
        let in_place = P::IN_PLACE && same_elements(input, output);
        if !in_place && !disjoint_slices(input, output) {
            y.apart_from(&x)?;
        }
        let mut arguments = *prepared.arguments();
        P::set_pointers(
            &mut arguments,
            pointers.x + offset_bytes(problem.input()),
            pointers.y + offset_bytes(problem.output()),
        );
        // SAFETY: the caller's promise is this function's own.
        unsafe { prepared.launch_arguments(stream, arguments) }
    }
}

impl<P: Unary> Prepared<P> {
    /// Computes in place: `y` is both operands, which therefore are the same channels of the same
    /// tensor, or have no channel in common.
    ///
    /// # Errors
    /// As [`Prepared::launch`]; [`Error::Overlap`] if the
    /// problem's input and output are different slices with common channels, or the operation
    /// cannot be done in place ([`Unary::IN_PLACE`]).
    pub fn launch_in_place<T: Element>(
        &self,
        stream: &CudaStream,
        y: &mut dyn DeviceBufferMut<T>,
    ) -> Result<(), Error> {
        self.check_call::<T>(stream)?;
        let (problem, context) = (self.problem(), self.context());
        check_buffer(context, "x", y, problem.input().len())?;
        check_buffer(context, "y", y, problem.output().len())?;
        if problem.is_empty() {
            return Ok(());
        }
        let (y, _y) = prepared::write(y, stream);
        self.check_ordering()?;
        // SAFETY: as in `launch`; that the two are the same elements, or none in common, is checked
        // there.
        unsafe { self.launch_raw(stream.cu_stream(), UnaryPointers { x: y, y }) }
    }
}
