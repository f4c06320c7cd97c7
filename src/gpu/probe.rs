//! Asking for NVIDIA's driver without touching cudarc, which panics where there is none.

use std::error::Error as _;
use std::ffi::c_int;

use libloading::Library;

use crate::error::Error;

/// The names under which the driver's library is installed, most specific first.
#[cfg(windows)]
const NAMES: &[&str] = &["nvcuda.dll"];
/// The names under which the driver's library is installed, most specific first.
#[cfg(not(windows))]
const NAMES: &[&str] = &["libcuda.so.1", "libcuda.so"];

/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: c_int = 100;

/// What the installed driver said of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// Devices that it drives, at least one.
    pub devices: usize,
    /// The CUDA version that it speaks: 12040 is 12.4.
    pub version: u32,
}

type Init = unsafe extern "C" fn(u32) -> c_int;
type Count = unsafe extern "C" fn(*mut c_int) -> c_int;

/// Loads the installed driver and asks for its version and its devices.
///
/// The library stays loaded (a driver does not survive being unloaded), so this is for when it is to be used.
pub(super) fn probe() -> Result<Driver, Error> {
    let library = open()?;
    let symbol = |name: &str| format!("the driver's library has no {name}");
    // SAFETY: these are the driver API's signatures, unchanged since CUDA 2; the pointers outlive the calls.
    unsafe {
        let init = *library
            .get::<Init>(b"cuInit\0")
            .map_err(|_| no_driver(symbol("cuInit")))?;
        let count = *library
            .get::<Count>(b"cuDeviceGetCount\0")
            .map_err(|_| no_driver(symbol("cuDeviceGetCount")))?;
        let version = *library
            .get::<Count>(b"cuDriverGetVersion\0")
            .map_err(|_| no_driver(symbol("cuDriverGetVersion")))?;
        std::mem::forget(library);

        match init(0) {
            0 => {}
            NO_DEVICE => {
                return Err(Error::NoDevice {
                    ordinal: 0,
                    devices: 0,
                });
            }
            code => return Err(no_driver(format!("cuInit failed with CUDA error {code}"))),
        }
        let (mut devices, mut driver) = (0, 0);
        match count(&mut devices) {
            0 if devices > 0 => {}
            0 | NO_DEVICE => {
                return Err(Error::NoDevice {
                    ordinal: 0,
                    devices: 0,
                });
            }
            code => {
                return Err(no_driver(format!(
                    "cuDeviceGetCount failed with CUDA error {code}"
                )));
            }
        }
        if version(&mut driver) != 0 {
            driver = 0;
        }
        Ok(Driver {
            devices: devices.max(0) as usize,
            version: driver.max(0) as u32,
        })
    }
}

fn open() -> Result<Library, Error> {
    let mut reasons = Vec::new();
    for &name in NAMES {
        // SAFETY: loading the CUDA driver runs its initialisers, which any program may do at any time.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            // The loader's own words are one level down.
            Err(error) => reasons.push(match error.source() {
                Some(cause) => cause.to_string(),
                None => error.to_string(),
            }),
        }
    }
    Err(no_driver(reasons.join("; ")))
}

fn no_driver(reason: String) -> Error {
    Error::NoDriver { reason }
}
