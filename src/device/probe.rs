//! Probes for NVIDIA's driver without touching cudarc, which panics where there is none, or where
//! it lacks a function.
//!
//! cudarc opens `libcuda.so` by that name at its first call, and only where there is none the names
//! behind it. So that name is probed first, and in the end the library that cudarc has opened is
//! compared with the one that was probed.

use std::ffi::{CStr, c_int};

use cudarc::driver::sys;

use super::library::{self, Library};
use super::words::words;
use crate::error::Error;

/// The names under which the driver's library is installed, in the order in which cudarc tries
/// them.
#[cfg(windows)]
const NAMES: &[&str] = &["nvcuda.dll"];
/// The names under which the driver's library is installed, in the order in which cudarc tries
/// them.
#[cfg(not(windows))]
const NAMES: &[&str] = &["libcuda.so", "libcuda.so.1"];

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
    c"cuMemAlloc_v2",
    c"cuMemAllocAsync",
    c"cuMemFree_v2",
    c"cuMemFreeAsync",
    c"cuMemGetInfo_v2",
    c"cuMemcpyDtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemsetD8Async",
    c"cuModuleGetFunction",
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

/// Loads the installed driver, makes cudarc open it, and returns how many devices it has: at least
/// one.
///
/// The library stays loaded (a driver may not survive being unloaded). One that cannot be used
/// stays loaded too, but not under the name that cudarc asks for, so that the emulator can be put
/// in its place.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::DriverTooOld`] where there is no driver to
/// use; [`Error::DriverHidden`] where there is one, but cudarc would open another library.
pub(super) fn probe() -> Result<usize, Error> {
    let mut refused: Vec<(Option<Library>, Error)> = Vec::new();
    for &name in NAMES {
        let library = match Library::open(name) {
            Ok(library) => library,
            Err(reason) => {
                refused.push((None, Error::NoDriver { reason }));
                continue;
            }
        };
        let known = |(other, _): &(Option<Library>, Error)| {
            other.as_ref().is_some_and(|other| other.is(&library))
        };
        if refused.iter().any(known) {
            continue;
        }
        match ask(&library) {
            Ok(devices) => return adopt(library, refused).map(|()| devices),
            Err(error) => refused.push((Some(library), error)),
        }
    }
    Err(refusal(refused))
}

/// One error for all the names. Of libraries that are there the first one's is worth most.
fn refusal(refused: Vec<(Option<Library>, Error)>) -> Error {
    let reasons: Vec<String> = refused
        .iter()
        .filter_map(|(_, error)| match error {
            Error::NoDriver { reason } => Some(reason.clone()),
            _ => None,
        })
        .collect();
    let mut told = None;
    for (library, error) in refused {
        if let Some(library) = library {
            library.give_up(NAMES[0]);
            if !matches!(error, Error::NoDriver { .. }) {
                told.get_or_insert(error);
            }
        }
    }
    told.unwrap_or(Error::NoDriver {
        reason: reasons.join("; "),
    })
}

/// Makes cudarc open its library, and holds that it is this one.
fn adopt(library: Library, refused: Vec<(Option<Library>, Error)>) -> Result<(), Error> {
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
            driver: library::path_of(ours.unwrap_or(0)),
            by: library::path_of(address),
            reason: String::from("it is another library"),
        }),
        Err(_) => Err(Error::NoDriver {
            reason: String::from("the library that cudarc has opened has no cuInit"),
        }),
    }
}

/// Asks a library for all that this crate needs: its functions, its version, its devices.
fn ask(library: &Library) -> Result<usize, Error> {
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
    // SAFETY: `words` asks for the two functions that have this type.
    let find = |name: &CStr| unsafe { library.get(name) };
    let failed = |call: &str, code| no_driver(format!("{call} fails with {}", words(&find, code)));
    let none = || Error::NoDevice {
        ordinal: 0,
        devices: 0,
    };
    let (mut devices, mut speaks) = (0, 0);
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
    match unsafe { version(&mut speaks) } {
        0 => {}
        code => return Err(failed("cuDriverGetVersion", code)),
    }
    let speaks = speaks.max(0) as u32;
    if speaks < OLDEST {
        return Err(Error::DriverTooOld {
            driver: speaks,
            what: String::from("this crate's driver interface"),
            needs: String::from("CUDA 11.4"),
        });
    }
    Ok(devices.max(0) as usize)
}
