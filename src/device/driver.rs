//! Examination of a driver's library that is found, and the errors of its calls in words.
//!
//! cudarc panics where the driver lacks a function, so a library is examined without cudarc.

use std::ffi::{CStr, c_char, c_int};

use cudarc::driver::{DriverError, sys};

use super::{NAMES, reason, watchdog};
use crate::error::Error;
use crate::ptx;

/// The functions that this crate calls, by itself or through cudarc, which panics where one is
/// missing. All are in CUDA 11.4.
const FUNCTIONS: &[&CStr] = &[
    c"cuInit",
    c"cuDriverGetVersion",
    c"cuGetErrorString",
    c"cuGetErrorName",
    c"cuDeviceGet",
    c"cuDeviceGetAttribute",
    c"cuDeviceGetCount",
    c"cuDeviceGetName",
    c"cuDevicePrimaryCtxRelease_v2",
    c"cuDevicePrimaryCtxRetain",
    c"cuCtxGetCurrent",
    c"cuCtxSetCurrent",
    c"cuCtxSynchronize",
    c"cuEventCreate",
    c"cuEventDestroy_v2",
    c"cuEventElapsedTime",
    c"cuEventQuery",
    c"cuEventRecord",
    c"cuEventSynchronize",
    c"cuFuncGetAttribute",
    c"cuFuncSetAttribute",
    c"cuGraphDestroy",
    c"cuGraphExecDestroy",
    c"cuGraphLaunch",
    c"cuLaunchKernel",
    c"cuMemHostAlloc",
    c"cuMemHostGetDevicePointer_v2",
    c"cuMemAlloc_v2",
    c"cuMemAllocAsync",
    c"cuMemFree_v2",
    c"cuMemFreeAsync",
    c"cuMemGetInfo_v2",
    c"cuMemcpyDtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemcpyHtoD_v2",
    c"cuMemsetD8Async",
    c"cuModuleGetFunction",
    c"cuModuleGetGlobal_v2",
    c"cuModuleLoadDataEx",
    c"cuModuleUnload",
    c"cuStreamBeginCapture_v2",
    c"cuStreamCreate",
    c"cuStreamDestroy_v2",
    c"cuStreamEndCapture",
    c"cuStreamIsCapturing",
    c"cuStreamSynchronize",
    c"cuStreamWaitEvent",
];

/// The oldest driver that has every function which cudarc calls for this crate: CUDA 11.4.
const OLDEST: u32 = 11_040;

/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: c_int = 100;

type Init = unsafe extern "C" fn(u32) -> c_int;
type Number = unsafe extern "C" fn(*mut c_int) -> c_int;

/// Makes cudarc open its library, and holds that it is this one.
pub(super) fn adopt(library: Library, refused: Vec<(Option<Library>, Error)>) -> Result<(), Error> {
    let mut hidden = None;
    for (other, error) in refused {
        if let Some(other) = other {
            // It goes by a name that cudarc tries before: it would be taken, and it is of no use.
            hidden.get_or_insert(Error::DriverHidden {
                driver: library.path(),
                by: other.path(),
                reason: error.to_string(),
            });
            other.give_up(NAMES[0]);
        }
    }
    if let Some(hidden) = hidden {
        library.keep();
        return Err(hidden);
    }
    // SAFETY: cudarc finds a library by one of its names, that of `library` among them, so it does
    // not panic; the symbol is only looked for.
    let theirs = unsafe { sys::culib().get::<Init>(b"cuInit\0") }.map(|symbol| *symbol as usize);
    let ours = library.address(c"cuInit");
    library.keep();
    match theirs {
        Ok(address) if Some(address) == ours => Ok(()),
        Ok(address) => Err(Error::DriverHidden {
            driver: path_of(ours.unwrap_or(0)),
            by: path_of(address),
            reason: String::from("it is another library"),
        }),
        Err(_) => Err(Error::NoDriver {
            reason: String::from("the library that cudarc has opened has no cuInit"),
        }),
    }
}

/// Examines a library for all that this crate needs: its functions, its version, its devices.
/// Returns their number.
pub(super) fn examine(library: &Library) -> Result<usize, Error> {
    let path = library.path();
    let no_driver = |reason: String| Error::NoDriver {
        reason: format!("{path}: {reason}"),
    };
    let missing: Vec<_> = FUNCTIONS
        .iter()
        .filter(|name| library.address(name).is_none())
        .map(|name| name.to_string_lossy())
        .collect();
    if let Some(first) = missing.first() {
        let more = match missing.len() - 1 {
            0 => String::new(),
            more => format!(" (nor {more} others that are needed)"),
        };
        return Err(no_driver(format!(
            "it has no {first}{more}: not a whole driver, or one older than CUDA 11.4"
        )));
    }
    let absent = |name: &str| no_driver(format!("it has no {name}"));
    // SAFETY: these are the driver API's signatures, unchanged since CUDA 2.
    let (init, count, version) = unsafe {
        (
            library
                .get::<Init>(c"cuInit")
                .ok_or_else(|| absent("cuInit"))?,
            library
                .get::<Number>(c"cuDeviceGetCount")
                .ok_or_else(|| absent("cuDeviceGetCount"))?,
            library
                .get::<Number>(c"cuDriverGetVersion")
                .ok_or_else(|| absent("cuDriverGetVersion"))?,
        )
    };
    // SAFETY: `words` looks up the two functions that have this type.
    let find = |name: &CStr| unsafe { library.get(name) };
    let failed = |call: &str, code| no_driver(format!("{call} fails with {}", words(&find, code)));
    let none = || Error::NoDevice {
        ordinal: 0,
        devices: 0,
    };
    let (mut devices, mut newest) = (0, 0);
    // SAFETY: as above; the call takes a number of flags, 0.
    match unsafe { init(0) } {
        0 => {}
        NO_DEVICE => return Err(none()),
        code => return Err(failed("cuInit", code)),
    }
    // SAFETY: as above; the pointer is to an int.
    match unsafe { count(&mut devices) } {
        0 if devices > 0 => {}
        0 | NO_DEVICE => return Err(none()),
        code => return Err(failed("cuDeviceGetCount", code)),
    }
    // SAFETY: as above.
    match unsafe { version(&mut newest) } {
        0 => {}
        code => return Err(failed("cuDriverGetVersion", code)),
    }
    let newest = newest.max(0) as u32;
    if newest < OLDEST {
        return Err(Error::DriverTooOld {
            driver: newest,
            what: String::from("this crate's driver interface"),
            needs: String::from("CUDA 11.4"),
        });
    }
    Ok(devices.max(0) as usize)
}

/// A loaded library.
#[derive(Debug)]
pub(super) struct Library(libloading::Library);

impl Library {
    /// Loads the library by its path instead of by its name.
    ///
    /// The linker resolves a name to the library that was loaded by it before, as long as that
    /// stays loaded. Loading by path leaves the name free for another library, such as the
    /// emulator.
    pub(super) fn by_path(named: libloading::Library) -> Result<Library, String> {
        let named = Library(named);
        let path = named.path();
        if !std::path::Path::new(&path).is_absolute() {
            return Ok(named);
        }
        // Nothing of it was called, so it may be unloaded. It stays if it was loaded elsewhere too.
        drop(named);
        // SAFETY: loading the CUDA driver runs its initialisers, which any program may do at any
        // time.
        match unsafe { libloading::Library::new(&path) } {
            Ok(library) => Ok(Library(library)),
            Err(error) => Err(reason(error)),
        }
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is the function's type.
    unsafe fn get<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: the caller's promise is this function's own.
        unsafe { self.0.get::<F>(name.to_bytes_with_nul()) }
            .ok()
            .map(|symbol| *symbol)
    }

    /// The address of a function.
    fn address(&self, name: &CStr) -> Option<usize> {
        // SAFETY: only the address is looked at.
        unsafe { self.get::<unsafe extern "C" fn()>(name) }.map(|function| function as usize)
    }

    /// Returns whether it is the same library as the other one, loaded by another name.
    pub(super) fn is(&self, other: &Library) -> bool {
        let init = self.address(c"cuInit");
        init.is_some() && init == other.address(c"cuInit")
    }

    /// Its file, as far as that is known.
    fn path(&self) -> String {
        path_of(self.address(c"cuInit").unwrap_or(0))
    }

    /// Leaves it loaded until the process ends.
    fn keep(self) {
        std::mem::forget(self.0);
    }

    /// Leaves it loaded, unless the linker resolves `name` to it, as to one with that SONAME.
    pub(super) fn give_up(self, name: &str) {
        if !resolves(name) {
            self.keep();
        }
    }
}

/// Returns whether the linker resolves `name` to a loaded library.
#[cfg(target_os = "linux")]
fn resolves(name: &str) -> bool {
    use libloading::os::unix::{Library, RTLD_LAZY};
    // SAFETY: with this flag nothing is loaded.
    unsafe { Library::open(Some(name), RTLD_LAZY | libc::RTLD_NOLOAD) }.is_ok()
}

/// Returns whether the linker resolves `name` to a loaded library: not known here.
#[cfg(not(target_os = "linux"))]
fn resolves(_name: &str) -> bool {
    false
}

/// The file of the library that has this address.
#[cfg(unix)]
fn path_of(address: usize) -> String {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let address = std::ptr::without_provenance::<libc::c_void>(address);
    // SAFETY: the address is only compared with those of the loaded libraries, and `info` has room
    // for the result.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
    // SAFETY: any bits, zeros among them, are a valid Dl_info.
    let info = unsafe { info.assume_init() };
    if !found || info.dli_fname.is_null() {
        return String::from("libcuda.so");
    }
    // SAFETY: the linker gives a string that lives as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    name.to_string_lossy().into_owned()
}

/// The file of the library that has this address: not known here.
#[cfg(not(unix))]
fn path_of(_address: usize) -> String {
    String::from("nvcuda.dll")
}

/// `cuGetErrorName` and `cuGetErrorString`.
pub(super) type Words = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;

/// A code with the driver's name and words for it, and what is known to cause it. `find` looks the
/// two functions up. cudarc has an enum of codes, which lacks those of newer drivers.
pub(super) fn words(find: &dyn Fn(&CStr) -> Option<Words>, code: c_int) -> String {
    let said: Vec<String> = [c"cuGetErrorName", c"cuGetErrorString"]
        .into_iter()
        .filter_map(|function| text_of(find(function)?, code))
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

/// Text that one of the two functions gives for a code.
pub(super) fn text_of(function: Words, code: c_int) -> Option<String> {
    let mut text = std::ptr::null();
    // SAFETY: both functions set a pointer to a string of the library's own, or give an error.
    let said = unsafe { function(code, &mut text) };
    if said != 0 || text.is_null() {
        return None;
    }
    // SAFETY: the driver has set the pointer to a string that it keeps.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
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

/// The driver's words for a status.
pub(super) fn message(status: sys::CUresult) -> String {
    let text = DriverError(status)
        .error_string()
        .map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("{status:?}"))
}

/// The crate's error for a failed driver call; `operation` names what was tried.
#[doc(hidden)] // for the workspace's own crates, which call cudarc themselves
pub fn driver_error(operation: &'static str, error: DriverError) -> Error {
    use sys::CUresult as Status;
    match error.0 {
        Status::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { operation },
        Status::CUDA_ERROR_STUB_LIBRARY => Error::NoDriver {
            reason: String::from("the libcuda.so found first is the toolkit's stub, not a driver"),
        },
        status => {
            if let Some(report) = watchdog::report() {
                return report;
            }
            let mut message = message(status);
            if let Some(report) = emulator_report(status as u32) {
                message = format!("{message}\n{report}");
            }
            Error::Driver {
                operation,
                code: status as u32,
                message,
            }
        }
    }
}

/// Report of the emulator for the status that a driver call returned.
fn emulator_report(_code: u32) -> Option<String> {
    #[cfg(feature = "emulator")]
    if let Some(report) = super::EMULATOR
        .get()
        .and_then(|library| library.last_report())
    {
        return (report.code == _code).then_some(report.text);
    }
    None
}

/// The error for a driver that refuses a module for its PTX version.
pub(super) fn unsupported_ptx(kernel: &str, driver: u32, version: &str, said: &str) -> Error {
    let needs = ptx::cuda_version(version);
    if driver < needs {
        return Error::DriverTooOld {
            driver,
            what: kernel.to_owned(),
            needs: format!("PTX {version}"),
        };
    }
    let cuda = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
    Error::ModuleLoad {
        kernel: kernel.to_owned(),
        code: sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION as u32,
        reason: format!(
            "{said}. The driver speaks CUDA {}, and PTX {version} needs no more than {}: its PTX \
             compiler, \
            libnvidia-ptxjitcompiler.so.1, is probably of an older driver than libcuda.so (compare \
            their versions, and look for \
            a second one in LD_LIBRARY_PATH)",
            cuda(driver),
            cuda(needs)
        ),
    }
}
