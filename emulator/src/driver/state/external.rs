//! Imported memory: a shared mapping of a file.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;

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
    pub address: u64,
    pub bytes: u64,
    /// The imported file, owned by the driver.
    _file: File,
}

impl ExternalMemory {
    /// Maps a file, which the driver owns afterwards; returns the file if that fails.
    pub fn import(file: File, bytes: u64) -> std::result::Result<ExternalMemory, File> {
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
