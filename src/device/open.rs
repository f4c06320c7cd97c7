//! Opening a device's context.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::{CudaContext, sys};

use super::driver_error;
use super::words::words;
use crate::error::Error;

/// `CUDA_ERROR_OUT_OF_MEMORY`, `CUDA_ERROR_DEVICE_UNAVAILABLE` and the codes of the Multi-Process
/// Service: the device is there, but takes no work now.
const BUSY: &[c_int] = &[2, 46, 805, 806, 807, 808, 809];

type Init = unsafe extern "C" fn(u32) -> c_int;
type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
type Release = unsafe extern "C" fn(c_int) -> c_int;

/// The primary context of the device. cudarc has opened the driver by now.
///
/// It is retained here first, since cudarc takes the driver's code for a value of its enum without
/// a look, and the enum of CUDA 11.4 does not have the one that says that the device is another
/// process's.
pub(super) fn context(ordinal: usize) -> Result<Arc<CudaContext>, Error> {
    let failed = |code| match BUSY.contains(&code) {
        true => Error::DeviceBusy {
            ordinal,
            code: code as u32,
            message: said(code),
        },
        false => Error::Driver {
            operation: "opening the device's context",
            code: code as u32,
            message: said(code),
        },
    };
    let missing = |name: &str| Error::NoDriver {
        reason: format!("it has no {name}"),
    };
    // SAFETY: these are the functions' types, unchanged since CUDA 11.
    let (init, get, retain, release) = unsafe {
        (
            find::<Init>(c"cuInit").ok_or_else(|| missing("cuInit"))?,
            find::<Get>(c"cuDeviceGet").ok_or_else(|| missing("cuDeviceGet"))?,
            find::<Retain>(c"cuDevicePrimaryCtxRetain")
                .ok_or_else(|| missing("cuDevicePrimaryCtxRetain"))?,
            find::<Release>(c"cuDevicePrimaryCtxRelease_v2")
                .ok_or_else(|| missing("cuDevicePrimaryCtxRelease_v2"))?,
        )
    };
    let (mut device, mut retained) = (0, ptr::null_mut());
    let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    // SAFETY: the pointers are to a device and to a context, and the device is asked for before it
    // is used.
    let code = unsafe {
        let mut code = init(0);
        if code == 0 {
            code = get(&mut device, ordinal);
        }
        if code == 0 {
            code = retain(&mut retained, device);
        }
        code
    };
    if code != 0 {
        return Err(failed(code));
    }
    let context = CudaContext::new(ordinal as usize);
    // SAFETY: it was retained above; cudarc holds its own share of it.
    unsafe { release(device) };
    context.map_err(|e| driver_error("opening the device's context", e))
}

fn said(code: c_int) -> String {
    // SAFETY: `words` asks for the two functions that have this type.
    words(&|name| unsafe { find(name) }, code)
}

/// A function of the library that cudarc has opened.
///
/// # Safety
/// `F` is the function's type.
unsafe fn find<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: the library is loaded; the type is the caller's promise.
    let found = unsafe { sys::culib().get::<F>(name.to_bytes_with_nul()) };
    found.ok().map(|symbol| *symbol)
}
