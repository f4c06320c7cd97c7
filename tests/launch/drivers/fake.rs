//! A `libcuda.so` that computes nothing and fails as it is told to: `tests/drivers.rs` compiles it
//! once, and writes other numbers behind the mark in copies of it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

/// The mark, then decimal numbers of six digits: what `cuInit` returns, the devices, the version,
/// what `cuDevicePrimaryCtxRetain` returns, what `cuModuleLoadDataEx` returns for PTX and for ELF.
static TOLD: [u8; 56] = *b"FAKE-DRIVER-IS-TOLD:000000000001012040000000000000000000";

fn told(place: usize) -> c_int {
    let from = 20 + 6 * place;
    // What is compiled in is not what the copy says.
    // SAFETY: the reference is to an element of the array, of which a read by value is valid.
    let digit = |at: usize| c_int::from(unsafe { ptr::read_volatile(&TOLD[at]) } - b'0');
    (from..from + 6).fold(0, |number, at| 10 * number + digit(at))
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_: u32) -> c_int {
    told(0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *count = told(1) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *version = told(2) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let text: &CStr = match code {
        803 => c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        _ => c"CUDA_ERROR_OF_THE_FAKE",
    };
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *name = text.as_ptr() };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(_: c_int, text: *mut *const c_char) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *text = c"the fake's own words".as_ptr() };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, _: c_int) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *device = 0 };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, _: c_int, _: c_int) -> c_int {
    let text = c"Fake";
    // SAFETY: cudarc passes a buffer of 128 bytes; the name is shorter and lies elsewhere.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), name, text.to_bytes_with_nul().len()) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _: c_int) -> c_int {
    let answer = match attribute {
        75 => 8,
        76 => 0,
        _ => 1 << 16,
    };
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *value = answer };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _: c_int) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *context = ptr::dangling_mut::<u64>().cast() };
    told(3)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(context: *mut *mut c_void) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *context = ptr::dangling_mut::<u64>().cast() };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut *mut c_void, _: u32) -> c_int {
    // SAFETY: by the driver API the caller passes a pointer that is valid for one write.
    unsafe { *stream = ptr::dangling_mut::<u64>().cast() };
    0
}

/// Prints the kind of each image. Options 3 and 5 are the buffers of the info log and the error
/// log. As a driver does, it writes notes of PTX alone.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    _: *mut *mut c_void,
    image: *const c_void,
    count: u32,
    options: *const c_int,
    values: *const *mut c_void,
) -> c_int {
    // SAFETY: by the driver API the caller passes an ELF file, or a text of a line at least.
    let elf = unsafe { image.cast::<[u8; 4]>().read_unaligned() } == *b"\x7fELF";
    eprintln!("THE FAKE LOADS {}", if elf { "ELF" } else { "PTX" });
    let code = told(if elf { 5 } else { 4 });
    for i in 0..count as usize {
        // SAFETY: by the driver API the caller passes `count` options and as many values.
        let (option, value) = unsafe { (*options.add(i), *values.add(i)) };
        let log = match option {
            3 if code == 0 && !elf => c"ptxas info    : Used 42 registers",
            5 if code != 0 => c"ptxas fatal: the fake's log",
            _ => continue,
        };
        let buffer = value.cast::<c_char>();
        // SAFETY: the value of these options is a buffer of the size that the option behind states;
        // the library passes thousands of bytes, the log is shorter and lies elsewhere.
        unsafe { ptr::copy_nonoverlapping(log.as_ptr(), buffer, log.to_bytes_with_nul().len()) };
    }
    code
}

macro_rules! succeed {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> c_int {
                0
            }
        )*
    };
}

succeed! {
    cuDevicePrimaryCtxRelease_v2 cuCtxSetCurrent cuCtxSynchronize cuEventCreate cuEventDestroy_v2
    cuEventElapsedTime cuEventQuery cuEventRecord cuEventSynchronize cuFuncGetAttribute
    cuFuncSetAttribute cuGraphDestroy cuGraphExecDestroy cuGraphLaunch cuLaunchKernel cuMemAlloc_v2
    cuMemAllocAsync cuMemFree_v2 cuMemFreeAsync cuMemGetInfo_v2 cuMemcpyDtoDAsync_v2
    cuMemcpyDtoHAsync_v2 cuMemcpyHtoDAsync_v2 cuMemsetD8Async cuModuleGetFunction cuModuleUnload
    cuModuleGetGlobal_v2 cuMemHostAlloc cuMemHostGetDevicePointer_v2 cuMemcpyHtoD_v2
    cuStreamBeginCapture_v2 cuStreamDestroy_v2 cuStreamEndCapture cuStreamIsCapturing
    cuStreamSynchronize cuStreamWaitEvent
}
