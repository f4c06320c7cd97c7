//! Launching a trainable subsampling.

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::uses;
use crate::device::Prepared;
use crate::error::Error;
use crate::kernels::args::offset_bytes;
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
        check::buffer(context, "x", x, problem.input().len())?;
        check::buffer(context, "coefficient", coefficient, problem.c())?;
        check::buffer(context, "bias", bias, problem.c())?;
        check::buffer(context, "y", y, problem.output().len())?;
        if problem.output().is_empty() {
            return Ok(());
        }
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = uses::read(x, stream);
        let (coefficient, _coefficient) = uses::read(coefficient, stream);
        let (bias, _bias) = uses::read(bias, stream);
        let (y, _y) = uses::write(y, stream);
        prepared.check_ordering()?;
        let pointers = SubsamplePointers {
            x,
            coefficient,
            bias,
            y,
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem says, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives (`uses`
        // says why). The stream is of this context.
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
        if !check::disjoint_slices((&y, problem.output()), (&x, problem.input())) {
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
