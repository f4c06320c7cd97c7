//! Buffers on the device, an empty batch's among them.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, ValidAsZeroBits, sys};

use super::{DeviceBuffer, Element, Workspace, uses};
use crate::device::{Gpu, driver_error};
use crate::error::Error;
use crate::plan::Limits;
use crate::problem::TensorDesc;

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
        // What another context knows of its streams orders nothing here.
        if !Arc::ptr_eq(buffer.stream().context(), context) {
            return Err(Error::WrongContext { what: "the buffer" });
        }
        let mut elements: Vec<T> = Vec::with_capacity(buffer.len());
        context.bind_to_thread().map_err(failed)?;
        let (address, used) = uses::read(buffer, stream);
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

/// Allocates a buffer of zeros; `what` names the call in errors.
pub(crate) fn zeros<T: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    len: usize,
    what: &'static str,
) -> Result<CudaSlice<T>, Error> {
    let made = if len == 0 {
        empty(stream)
    } else {
        stream.alloc_zeros(len)
    };
    made.map_err(|e| driver_error(what, e))
}

/// Allocates a workspace of `bytes`; `None` for 0.
pub(crate) fn workspace(stream: &Arc<CudaStream>, bytes: u64) -> Result<Option<Workspace>, Error> {
    match bytes {
        0 => Ok(None),
        bytes => Workspace::new(stream, bytes).map(Some),
    }
}

/// Plans within the limits and allocates the workspace that the plan `needs`. Where that does not
/// fit, it plans again within what the driver calls free, and at last without a workspace.
pub(crate) fn fitting<P>(
    stream: &Arc<CudaStream>,
    limits: &Limits,
    plan: impl Fn(&Limits) -> Result<P, Error>,
    needs: impl Fn(&P) -> u64,
) -> Result<(P, Option<Workspace>), Error> {
    let mut within = *limits;
    let mut missing = None;
    loop {
        let planned = match (plan(&within), missing) {
            // Nothing takes less: what the plan before lacked is the answer.
            (Err(Error::NoKernel { .. } | Error::KernelRefused { .. }), Some(missing)) => {
                return Err(missing);
            }
            (planned, _) => planned?,
        };
        let needs = needs(&planned);
        match workspace(stream, needs) {
            Err(Error::OutOfMemory { .. }) => {}
            made => return made.map(|workspace| (planned, workspace)),
        }
        let free = stream.context().mem_get_info();
        let (free, _) = free.map_err(|e| driver_error("asking for the free memory", e))?;
        let free = free as u64;
        // Free memory may lie in pieces, or be taken meanwhile: what did not fit within it is not
        // asked for again.
        within.workspace = if free < needs { free } else { 0 };
        missing = Some(Error::NoWorkspace { needs, free });
    }
}

/// A buffer of length 0. A driver may refuse to allocate no bytes, so there is one behind it.
fn empty<T: DeviceRepr>(
    stream: &Arc<CudaStream>,
) -> Result<CudaSlice<T>, cudarc::driver::DriverError> {
    // SAFETY: nothing reads the byte.
    let byte = unsafe { stream.alloc::<u8>(1) }?;
    // SAFETY: the address is an allocation of this stream that nothing owns any more, and long
    // enough for no element.
    Ok(unsafe { stream.upgrade_device_ptr(byte.leak(), 0) })
}
