//! The library behind cudarc: NVIDIA's driver, found without touching cudarc, or ptx-emulator in
//! its place.
//!
//! cudarc panics where there is no driver, or where it lacks a function. It opens `libcuda.so` by
//! that name at its first call, and only where there is none the names behind it. So that name is
//! probed first, and in the end the library that cudarc has opened is compared with the one that
//! was probed.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int};

use cudarc::driver::sys;
#[cfg(feature = "emulator")]
use ptx_emulator::client;

use super::DeviceChoice;
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
            driver: path_of(ours.unwrap_or(0)),
            by: path_of(address),
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

/// A loaded library.
#[derive(Debug)]
struct Library(libloading::Library);

impl Library {
    /// Loads the library that the dynamic linker finds by this name.
    ///
    /// The linker answers a name with the library that was loaded by it before, for as long as that
    /// stays loaded. So this loads the library by its path, which leaves the name to whoever comes
    /// next, such as the emulator.
    fn open(name: &str) -> Result<Library, String> {
        // SAFETY: loading the CUDA driver runs its initialisers, which any program may do at any
        // time.
        let named = unsafe { libloading::Library::new(name) }.map_err(reason)?;
        let named = Library(named);
        let path = named.path();
        if !std::path::Path::new(&path).is_absolute() {
            return Ok(named);
        }
        // Nothing of it was called, so it may be unloaded, and is, unless somebody else has loaded
        // it.
        drop(named);
        // SAFETY: as above.
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
    fn is(&self, other: &Library) -> bool {
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

    /// Leaves it loaded, unless it still answers to `name`, as one does whose SONAME that is.
    fn give_up(self, name: &str) {
        if !answers_to(name) {
            self.keep();
        }
    }
}

/// The loader's own words are one level down.
fn reason(error: libloading::Error) -> String {
    match error.source() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

/// Returns whether a library is loaded that the linker gives to those who ask for `name`.
#[cfg(target_os = "linux")]
fn answers_to(name: &str) -> bool {
    use libloading::os::unix::{Library, RTLD_LAZY};
    // SAFETY: with this flag nothing is loaded.
    unsafe { Library::open(Some(name), RTLD_LAZY | libc::RTLD_NOLOAD) }.is_ok()
}

/// Returns whether a library is loaded that the linker gives to those who ask for `name`: not known
/// here.
#[cfg(not(target_os = "linux"))]
fn answers_to(_name: &str) -> bool {
    false
}

/// The file of the library that has this address.
#[cfg(unix)]
fn path_of(address: usize) -> String {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let address = std::ptr::without_provenance::<libc::c_void>(address);
    // SAFETY: the address is only compared with those of the loaded libraries, and there is room
    // for the answer.
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

/// Returns whether the driver that cudarc speaks to is the emulator, however it came there.
pub(super) fn emulator_is_loaded() -> bool {
    // SAFETY: a context exists, so the library is loaded; the symbol is only looked for, not
    // called.
    unsafe {
        sys::culib()
            .get::<unsafe extern "C" fn()>(b"ptx_emulator_version\0")
            .is_ok()
    }
}

/// The emulator, if [`load_emulator`] has put it in the driver's place.
#[cfg(feature = "emulator")]
static EMULATOR: std::sync::OnceLock<client::Library> = std::sync::OnceLock::new();

/// Puts the emulator in the driver's place and returns the ordinal of its device of capability
/// `sm`.
#[cfg(feature = "emulator")]
pub(super) fn load_emulator(sm: u32) -> Result<usize, Error> {
    let library = client::Library::load(sm, 1).map_err(|error| match error {
        client::ClientError::DriverLoaded { .. } => Error::DriverInUse {
            wanted: String::from("the emulator"),
            loaded: String::from("another libcuda.so"),
        },
        other => Error::NoEmulator {
            reason: other.to_string(),
        },
    })?;
    let ordinal = library.ordinals().first().copied();
    let _first_stays = EMULATOR.set(library);
    ordinal.ok_or_else(|| Error::NoEmulator {
        reason: format!("it gave no device of capability {sm}"),
    })
}

/// Puts the emulator in the driver's place: not in this build.
#[cfg(not(feature = "emulator"))]
pub(super) fn load_emulator(_sm: u32) -> Result<usize, Error> {
    Err(Error::NoEmulator {
        reason: String::from("this build is without the feature `emulator`"),
    })
}

/// Capability of the emulator if none was asked for: that of its own variable, else 9.0.
pub(super) fn default_sm() -> u32 {
    let named = std::env::var("PTX_EMULATOR_SM").ok();
    let first = named.as_deref().and_then(|list| list.split(',').next());
    let digits = first.map(|text| text.trim().replace('.', ""));
    digits
        .and_then(|sm| sm.parse().ok())
        .filter(|sm| DeviceChoice::EMULATED.contains(sm))
        .unwrap_or(90)
}

/// The emulator's side of the process, if it is loaded through this crate.
#[cfg(feature = "emulator")]
pub(super) fn emulator() -> Option<&'static client::Library> {
    EMULATOR.get()
}

/// Report of the emulator for the status that a driver call returned.
pub(super) fn emulator_report(_code: u32) -> Option<String> {
    #[cfg(feature = "emulator")]
    if let Some(report) = emulator().and_then(client::Library::last_report) {
        return (report.code == _code).then_some(report.text);
    }
    None
}
