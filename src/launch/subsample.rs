//! Preparing and launching a trainable subsampling.

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::Element;
use super::prepared::{
    self, DeviceBuffer, DeviceBufferMut, Prepared, Span, check_buffer, disjoint_slices,
};
use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::elementwise::activation_args::SubsampleArgs;
use crate::kernels::operation::offset_bytes;
use crate::plan::Plan;
use crate::problem::Subsample;

/// The operands of a subsampling, as cudarc's slices or views. Lengths in elements.
pub struct SubsampleBuffers<'a, T> {
    /// The input: [`Subsample::input`](crate::problem::Subsample::input)`().len()`.
    pub x: &'a dyn DeviceBuffer<T>,
    /// A coefficient per channel: [`TensorDesc::c`](crate::problem::TensorDesc::c) of the input.
    pub coefficient: &'a dyn DeviceBuffer<T>,
    /// A bias per channel: [`TensorDesc::c`](crate::problem::TensorDesc::c) of the input.
    pub bias: &'a dyn DeviceBuffer<T>,
    /// The output: [`Subsample::output`](crate::problem::Subsample::output)`().len()`. Of a wider
    /// tensor only the slice's channels are written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

/// The operands of a subsampling as device addresses: each that of the whole buffer's first
/// element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubsamplePointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The coefficients.
    pub coefficient: sys::CUdeviceptr,
    /// The biases.
    pub bias: sys::CUdeviceptr,
    /// The output.
    pub y: sys::CUdeviceptr,
}

impl Launch for Subsample {
    type Buffers<'a, T: Element> = SubsampleBuffers<'a, T>;
    type Pointers = SubsamplePointers;
    type Arguments = SubsampleArgs;

    fn arguments(_gpu: &Gpu, plan: &Plan<Subsample>) -> Result<SubsampleArgs, Error> {
        Ok(SubsampleArgs::from(plan.problem()))
    }

    fn launch<T: Element>(
        prepared: &Prepared<Subsample>,
        stream: &CudaStream,
        buffers: SubsampleBuffers<'_, T>,
    ) -> Result<(), Error> {
        prepared.check_call::<T>(stream)?;
        let (problem, context) = (prepared.problem(), prepared.context());
        let SubsampleBuffers {
            x,
            coefficient,
            bias,
            y,
        } = buffers;
        check_buffer(context, "x", x, problem.input().len())?;
        check_buffer(context, "coefficient", coefficient, problem.c())?;
        check_buffer(context, "bias", bias, problem.c())?;
        check_buffer(context, "y", y, problem.output().len())?;
        if problem.output().is_empty() {
            return Ok(());
        }
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = prepared::read(x, stream);
        let (coefficient, _coefficient) = prepared::read(coefficient, stream);
        let (bias, _bias) = prepared::read(bias, stream);
        let (y, _y) = prepared::write(y, stream);
        prepared.check_ordering()?;
        let pointers = SubsamplePointers {
            x,
            coefficient,
            bias,
            y,
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem states, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives
        // (see `prepared::Use`). The stream is of this context.
        unsafe { prepared.launch_raw(stream.cu_stream(), pointers) }
    }

    unsafe fn launch_raw(
        prepared: &Prepared<Subsample>,
        stream: sys::CUstream,
        pointers: SubsamplePointers,
    ) -> Result<(), Error> {
        let problem = prepared.problem();
        if problem.output().is_empty() {
            return Ok(());
        }
        let element = problem.dtype().size();
        let x = Span::new("x", pointers.x, problem.input().len(), element);
        let y = Span::new("y", pointers.y, problem.output().len(), element);
        let coefficient = Span::new("coefficient", pointers.coefficient, problem.c(), element);
        let bias = Span::new("bias", pointers.bias, problem.c(), element);
        for span in [&x, &y, &coefficient, &bias] {
            span.check(element as u64)?;
        }
        for read in [&coefficient, &bias] {
            y.apart_from(read)?;
        }
        if !disjoint_slices((&y, problem.output()), (&x, problem.input())) {
            y.apart_from(&x)?;
        }
        let mut arguments = *prepared.arguments();
        arguments.x = pointers.x + offset_bytes(problem.input());
        arguments.y = pointers.y + offset_bytes(problem.output());
        arguments.coefficient = pointers.coefficient;
        arguments.bias = pointers.bias;
        // SAFETY: the caller's promise is this function's own.
        unsafe { prepared.launch_arguments(stream, arguments) }
    }
}
