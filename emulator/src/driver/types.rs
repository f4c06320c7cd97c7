//! Types of the C interface: opaque handles as integers, pointers to results, structs passed by
//! address.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::driver::status::{CUresult, Result};

/// A handle of the caller: an opaque pointer. It is never dereferenced, only looked up in a
/// registry.
pub type Handle = usize;

/// An address in device memory.
pub type DevicePtr = u64;

/// A device's ordinal.
pub type Ordinal = c_int;

/// `Err(CUDA_ERROR_INVALID_VALUE)` unless `condition` holds.
pub fn check(condition: bool) -> Result {
    if condition {
        Ok(())
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

/// Pointer to which a driver function writes a result.
#[repr(transparent)]
pub struct Out<T>(pub *mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes the result; a null pointer is `CUDA_ERROR_INVALID_VALUE`.
    pub fn set(self, value: T) -> Result {
        check(!self.0.is_null())?;
        // SAFETY: the caller of the driver function guarantees a non-null result pointer to be
        // valid; `T` is plain data.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes the result unless the pointer is null.
    pub fn set_if_wanted(self, value: T) {
        let _ = self.set(value);
    }
}

/// A value that the caller passes by address.
#[repr(transparent)]
pub struct In<T>(pub *const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Reads the value; a null pointer is `CUDA_ERROR_INVALID_VALUE`.
    pub fn get(self) -> Result<T> {
        check(!self.0.is_null())?;
        // SAFETY: the caller of the driver function guarantees a non-null argument pointer to be
        // valid; `T` is plain data.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// Reads element `index` of an array.
    pub fn at(self, index: usize) -> Result<T> {
        check(!self.0.is_null())?;
        // SAFETY: as in `get`; the caller also guarantees the array's length.
        Ok(unsafe { self.0.wrapping_add(index).read_unaligned() })
    }
}

/// A C string argument; null or not UTF-8 is `CUDA_ERROR_INVALID_VALUE`.
pub fn text(pointer: In<c_char>) -> Result<String> {
    check(!pointer.is_null())?;
    // SAFETY: the caller of the driver function guarantees a NUL-terminated string.
    let bytes = unsafe { CStr::from_ptr(pointer.0) };
    bytes
        .to_str()
        .map(str::to_owned)
        .map_err(|_| CUresult::INVALID_VALUE)
}

/// Copies `text` and a NUL into the caller's buffer of `length` bytes; a longer text is truncated.
pub fn copy_text(text: &str, buffer: Out<c_char>, length: c_int) -> Result {
    check(length > 0 && !buffer.is_null())?;
    let count = text.len().min(length as usize - 1);
    // SAFETY: the caller guarantees `length` writable bytes; count + 1 <= length.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.0.cast(), count);
        buffer.0.add(count).write(0);
    }
    Ok(())
}

/// Host memory of `length` bytes that a copy reads.
pub fn host_bytes<'a>(pointer: *const c_void, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    check(!pointer.is_null() && isize::try_from(length).is_ok())?;
    // SAFETY: the caller of a copy guarantees `length` readable bytes that no thread writes during
    // the call.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// Host memory of `length` bytes that a copy writes.
pub fn host_bytes_mut<'a>(pointer: *mut c_void, length: usize) -> Result<&'a mut [u8]> {
    if length == 0 {
        return Ok(&mut []);
    }
    check(!pointer.is_null() && isize::try_from(length).is_ok())?;
    // SAFETY: the caller of a copy guarantees `length` writable bytes that no other thread accesses
    // during the call.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), length) })
}

/// `CUuuid`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Uuid(pub [u8; 16]);

/// `CUlaunchConfig`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchConfigC {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub stream: Handle,
    pub attributes: *const LaunchAttribute,
    pub attribute_count: c_uint,
}

/// `CUlaunchAttribute`: an id, padding to eight bytes, and a union of 64 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub padding: u32,
    pub value: [u32; 16],
}

/// `CUDA_MEMCPY2D`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Copy2d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_kind: c_uint,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: usize,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_kind: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: usize,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Copy3d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_kind: c_uint,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: usize,
    pub reserved0: usize,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_kind: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: usize,
    pub reserved1: usize,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// The head of `CUmemPoolProps`: the fields that the emulator reads.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PoolProperties {
    pub allocation_type: c_uint,
    pub handle_types: c_uint,
    pub location_type: c_uint,
    pub location_id: c_int,
}

/// `CUmemLocation`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Location {
    pub kind: c_uint,
    pub id: c_int,
}
