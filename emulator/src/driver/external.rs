//! External memory, imported by file descriptor: a shared mapping that kernels access under its
//! host address.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};

use super::current::healthy;
use super::host::{map, unmap};
use super::queue;
use super::registry::{Registry, lock};
use super::state::{AllocationKind, driver};
use super::status::{CUresult, Result};
use super::types::{DevicePtr, Handle, In, Out, check};

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

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        bytes: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, bytes: usize) -> c_int;
}

/// `PROT_READ | PROT_WRITE`.
const PROTECTION: c_int = 1 | 2;
/// `MAP_SHARED`.
const SHARED: c_int = 1;

/// Imported memory, mapped into the process.
pub struct ExternalMemory {
    address: u64,
    bytes: u64,
    /// The imported file, owned by the driver.
    _file: File,
}

impl ExternalMemory {
    /// Maps a file, which the driver owns afterwards; returns the file if that fails.
    fn import(file: File, bytes: u64) -> std::result::Result<ExternalMemory, File> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        // A mapping past the file's end would fault when it is touched.
        if bytes == 0
            || !file
                .metadata()
                .is_ok_and(|metadata| metadata.len() >= bytes)
        {
            return Err(file);
        }
        // SAFETY: a new shared mapping of an open file, at an address chosen by the system.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                PROTECTION,
                SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        // MAP_FAILED is the highest address.
        if address as usize == usize::MAX {
            return Err(file);
        }
        Ok(ExternalMemory {
            address: address as u64,
            bytes,
            _file: file,
        })
    }
}

impl Drop for ExternalMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `import` made; each buffer on it holds a reference, so no buffer
        // remains.
        unsafe { munmap(self.address as *mut c_void, self.bytes as usize) };
    }
}

/// Imported memory by handle.
pub type Imports = Registry<ExternalMemory>;

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
