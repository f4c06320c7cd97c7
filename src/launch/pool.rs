//! Preparing and launching a pooling.

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::Element;
use super::prepared::{
    self, DeviceBuffer, DeviceBufferMut, Prepared, Span, address_or_null, check_buffer,
    check_optional, disjoint_slices,
};
use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::operation::offset_bytes;
use crate::kernels::pool::args::PoolArgs;
use crate::plan::Plan;
use crate::problem::Pool2d;

/// The operands of a pooling, as cudarc's slices or views. Lengths in elements.
pub struct PoolBuffers<'a, T> {
    /// The input: [`Pool2d::input`]`().len()`.
    pub x: &'a dyn DeviceBuffer<T>,
    /// The output: [`Pool2d::output`]`().len()`. Of a wider tensor only the slice's channels are
    /// written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
    /// Buffer for the index of each maximum, exactly if the problem has indices:
    /// one byte per element of the output, dense, in the order of its layout.
    pub indices: Option<&'a mut dyn DeviceBufferMut<u8>>,
}

/// The operands of a pooling as device addresses: each that of the whole buffer's first element.
/// `indices` is 0 if the problem has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolPointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The output.
    pub y: sys::CUdeviceptr,
    /// The indices or 0.
    pub indices: sys::CUdeviceptr,
}

impl Launch for Pool2d {
    type Buffers<'a, T: Element> = PoolBuffers<'a, T>;
    type Pointers = PoolPointers;
    type Arguments = PoolArgs;

    fn arguments(_gpu: &Gpu, plan: &Plan<Pool2d>) -> Result<PoolArgs, Error> {
        Ok(PoolArgs::from(plan.problem()))
    }

    fn launch<T: Element>(
        prepared: &Prepared<Pool2d>,
        stream: &CudaStream,
        buffers: PoolBuffers<'_, T>,
    ) -> Result<(), Error> {
        prepared.check_call::<T>(stream)?;
        let (problem, context) = (prepared.problem(), prepared.context());
        let PoolBuffers { x, y, indices } = buffers;
        check_buffer(context, "x", x, problem.input().len())?;
        check_buffer(context, "y", y, problem.output().len())?;
        let mut indices = check_optional("indices", problem.indices(), indices)?;
        if let Some(indices) = &indices {
            check_buffer(context, "indices", &**indices, problem.index_len())?;
        }
        if problem.output().is_empty() {
            return Ok(());
        }

        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = prepared::read(x, stream);
        let (y, _y) = prepared::write(y, stream);
        let indices = indices
            .as_mut()
            .map(|indices| prepared::write(&mut **indices, stream));
        prepared.check_ordering()?;
        let pointers = PoolPointers {
            x,
            y,
            indices: address_or_null(&indices),
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem states, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives
        // (see `prepared::Use`). The stream is of this context.
        unsafe { prepared.launch_raw(stream.cu_stream(), pointers) }
    }

    unsafe fn launch_raw(
        prepared: &Prepared<Pool2d>,
        stream: sys::CUstream,
        pointers: PoolPointers,
    ) -> Result<(), Error> {
        let problem = prepared.problem();
        if problem.output().is_empty() {
            return Ok(());
        }
        check_pointers(problem, &pointers)?;
        let mut arguments = *prepared.arguments();
        arguments.x = pointers.x + offset_bytes(problem.input());
        arguments.y = pointers.y + offset_bytes(problem.output());
        arguments.indices = pointers.indices;
        // SAFETY: the caller's promise is this function's own.
        unsafe { prepared.launch_arguments(stream, arguments) }
    }
}

fn check_pointers(problem: &Pool2d, pointers: &PoolPointers) -> Result<(), Error> {
    let element = problem.dtype().size();
    let x = Span::new("x", pointers.x, problem.input().len(), element);
    let y = Span::new("y", pointers.y, problem.output().len(), element);
    x.check(element as u64)?;
    y.check(element as u64)?;
    if !disjoint_slices((&y, problem.output()), (&x, problem.input())) {
        y.apart_from(&x)?;
    }
    let given = (pointers.indices != 0).then_some(pointers.indices);
    if let Some(address) = check_optional("indices", problem.indices(), given)? {
        let indices = Span::new("indices", address, problem.index_len(), 1);
        indices.apart_from(&x)?;
        indices.apart_from(&y)?;
    }
    Ok(())
}
