//! Meaning of a driver's error code, in the driver's words and ours. cudarc has an enum of codes,
//! which lacks those of newer drivers.

use std::ffi::{CStr, c_char, c_int};

/// `cuGetErrorName` and `cuGetErrorString`.
pub(super) type Words = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;

/// A code with the driver's name and words for it, and what is known to cause it. `find` looks the
/// two functions up.
pub(super) fn words(find: &dyn Fn(&CStr) -> Option<Words>, code: c_int) -> String {
    let ask = |function: &CStr| {
        let mut text = std::ptr::null();
        // SAFETY: both functions set a pointer to a string of the library's own, or give an error.
        let said = unsafe { find(function)?(code, &mut text) };
        if said != 0 || text.is_null() {
            return None;
        }
        // SAFETY: the driver has set the pointer to a string that it keeps.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    };
    let said: Vec<String> = [c"cuGetErrorName", c"cuGetErrorString"]
        .into_iter()
        .filter_map(ask)
        .collect();
    let mut text = format!("CUDA error {code}");
    if !said.is_empty() {
        text += &format!(" ({})", said.join(": "));
    }
    if let Some(cause) = cause(code) {
        text += &format!(": {cause}");
    }
    text
}

/// Usual cause of a driver that does not start, or a device that cannot be opened.
fn cause(code: c_int) -> Option<&'static str> {
    Some(match code {
        2 => "the device's memory is full",
        34 => {
            "it is the toolkit's stub, which is only for linking; the driver is another libcuda.so"
        }
        46 => {
            "another process has the device for itself, or it is prohibited (nvidia-smi says the \
             compute mode)"
        }
        802 => "a service that the machine needs, such as the fabric manager, is not running yet",
        803 => {
            "this library and the kernel's module are of different driver versions, as after an \
             update: reboot, or reload \
            the module"
        }
        804 => {
            "the library is of a forward-compatibility package, which this card does not take: \
             take its folder out of \
            LD_LIBRARY_PATH"
        }
        805..=809 => "the device's MPS server takes no client",
        999 => {
            "often the device files /dev/nvidia* are missing or not readable, or nvidia_uvm is not \
             loaded (after a suspend: \
            reload it)"
        }
        _ => return None,
    })
}
