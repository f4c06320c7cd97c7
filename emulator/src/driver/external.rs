//! External memory, imported by file descriptor: a shared mapping that kernels access under its
//! host address.

use std::ffi::{c_int, c_uint};
use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd};

use crate::driver::current::healthy;
use crate::driver::host::{map, unmap};
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::state::{AllocationKind, ExternalMemory, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, Handle, In, Out, check};

/// `CUDA_EXTERNAL_MEMORY_HANDLE_DESC` with a file descriptor.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HandleDescription {
    kind: c_uint,
    padding: u32,
    descriptor: c_int,
    rest_of_union: [u32; 3],
    bytes: u64,
    flags: c_uint,
    reserved: [c_uint; 16],
}

/// `CUDA_EXTERNAL_MEMORY_BUFFER_DESC`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct BufferDescription {
    offset: u64,
    bytes: u64,
    flags: c_uint,
    reserved: [c_uint; 16],
}

/// `CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD`.
const OPAQUE_FD: c_uint = 1;

/// Unmaps a buffer on imported memory from the devices; returns whether the address was that of a
/// buffer.
pub fn release_buffer(address: DevicePtr) -> Result<bool> {
    let driver = driver()?;
    match driver.find(address) {
        Some((_, base, allocation)) if allocation.kind == AllocationKind::External => {
            check(base == address)?;
            unmap(driver, address);
            // Running work may still use it; afterwards the mapping is removed, if the memory was
            // destroyed before.
            queue::wait_for_running()?;
            lock(&driver.external_buffers).remove(&address);
            Ok(true)
        }
        _ => Ok(false),
    }
}

driver! {
    fn cuImportExternalMemory(out: Out<Handle>, description: In<HandleDescription>) {
        check(!out.is_null())?;
        healthy()?;
        let wanted = description.get()?;
        if wanted.kind != OPAQUE_FD {
            return Err(CUresult::NOT_SUPPORTED);
        }
        check(wanted.descriptor >= 0 && wanted.flags & !1 == 0)?;
        // SAFETY: the caller transfers ownership of the descriptor; it is returned below if the
        // import fails.
        let file = unsafe { File::from_raw_fd(wanted.descriptor) };
        match ExternalMemory::import(file, wanted.bytes) {
            Ok(memory) => {
                let handle = driver()?.imports.add(memory);
                out.set(handle)
            }
            Err(file) => {
                let _ = file.into_raw_fd();
                Err(CUresult::INVALID_VALUE)
            }
        }
    }

    fn cuExternalMemoryGetMappedBuffer(
        out: Out<DevicePtr>, handle: Handle, description: In<BufferDescription>,
    ) {
        check(!out.is_null())?;
        let context = healthy()?;
        let memory = driver()?.imports.get(handle)?;
        let wanted = description.get()?;
        let end = wanted.offset.checked_add(wanted.bytes);
        check(wanted.flags == 0 && wanted.bytes > 0 && end.is_some_and(|end| end <= memory.bytes))?;
        let address = memory.address + wanted.offset;
        map(driver()?, address, wanted.bytes as usize, context.handle, AllocationKind::External)?;
        lock(&driver()?.external_buffers).insert(address, memory);
        out.set(address)
    }

    // "Any existing buffers and CUDA mipmapped arrays mapped onto this object must no longer be
    // used and must be explicitly freed": the mapping stays until they are, so that their use is no
    // fault of the process.
    fn cuDestroyExternalMemory(handle: Handle) {
        healthy()?;
        driver()?.imports.remove(handle).map(|_| ())
    }
}
