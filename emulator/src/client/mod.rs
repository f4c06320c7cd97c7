//! Use of the drop-in library from a Rust program: search, loading, and reading of counters.
//!
//! The shared library has its own state. A program that links this crate reaches the emulated
//! devices only through the driver API, as any CUDA program does, and through [`Library`].
//!
//! ```no_run
//! use ptx_emulator::client::Library;
//!
//! let library = Library::load(80, 1)?; // before the first call of cudarc or another binding
//! let ordinal = library.ordinals()[0]; // the device to open
//! library.reset();
//! // ... launch kernels through the driver API ...
//! println!("{} bytes of device memory", library.totals().device_bytes());
//! # Ok::<(), ptx_emulator::client::ClientError>(())
//! ```

mod find;
pub(crate) mod wire;

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::Counters;
use wire::LaunchHeader;

/// Reason why the library cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The library is in none of the searched paths.
    #[error(
        "libptx_emulator.so was not found; build it with `cargo build -p ptx-emulator` and name it \
        in PTX_EMULATOR_LIB (tried: {})",
        list(.tried)
    )]
    NotFound {
        /// Paths that were searched.
        tried: Vec<PathBuf>,
    },
    /// The file exists but cannot be loaded.
    #[error("{} cannot be loaded: {message}", .path.display())]
    Load {
        /// Path of the library.
        path: PathBuf,
        /// Message of the dynamic linker.
        message: String,
    },
    /// The library was built from another version of this crate.
    #[error("{} is of version {found}, this program of {expected}", .path.display())]
    Version {
        /// Path of the library.
        path: PathBuf,
        /// The version of the library.
        found: String,
        /// The version of this crate.
        expected: String,
    },
    /// Another library is already loaded as `libcuda.so`, so bindings would use that one.
    #[error("another libcuda.so was loaded before {}", .path.display())]
    DriverLoaded {
        /// The emulator's file.
        path: PathBuf,
    },
    /// The library cannot create such devices.
    #[error(
        "no {count} devices of capability {sm}: the driver says {code} (capabilities are 75, 80 \
        and 90; a process has up to 10 devices)"
    )]
    Devices {
        /// Requested compute capability.
        sm: u32,
        /// Requested number of devices.
        count: usize,
        /// The `CUresult` of the failed call.
        code: u32,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// One successful launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: String,
    /// The ordinal of its device.
    pub ordinal: usize,
    /// Grid: blocks along x, y, z.
    pub grid: [u32; 3],
    /// Block: threads along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: u32,
    /// Run time of the emulator in nanoseconds, which is no indication of a GPU's time.
    pub nanoseconds: u64,
    /// Counters of the launch.
    pub counters: Counters,
}

/// Report of a kernel's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The text of [`crate::Fault`].
    pub text: String,
    /// The `CUresult` that driver calls return after the fault.
    pub code: u32,
}

/// The exported functions of the library.
struct Functions {
    version: unsafe extern "C" fn() -> *const c_char,
    devices: unsafe extern "C" fn(u32, usize, *mut c_int) -> u32,
    reset: unsafe extern "C" fn(),
    launches: unsafe extern "C" fn() -> u64,
    totals: unsafe extern "C" fn(*mut u64, usize) -> usize,
    launch:
        unsafe extern "C" fn(u64, *mut LaunchHeader, *mut c_char, c_int, *mut u64, usize) -> usize,
    last_report: unsafe extern "C" fn(*mut c_char, c_int, *mut u32) -> usize,
    silence: unsafe extern "C" fn(c_int),
    limits: unsafe extern "C" fn(u64, u64),
    label: unsafe extern "C" fn(u64, *const c_char) -> u32,
}

/// The loaded library. It stays loaded until the process ends; several values may refer to it.
pub struct Library {
    functions: &'static Functions,
    path: &'static Path,
    ordinals: Vec<usize>,
}

impl Library {
    /// Loads the library so that bindings which open `libcuda.so` get it, and ensures that it has
    /// `devices` devices of capability `sm` (75, 80 or 90).
    ///
    /// Must precede the process's first driver call. May be called again, also with another
    /// capability: missing devices are added, and [`Library::ordinals`] returns those of this call.
    pub fn load(sm: u32, devices: usize) -> Result<Library, ClientError> {
        static LOADED: OnceLock<Result<(Functions, PathBuf), ClientError>> = OnceLock::new();
        let (functions, path) = LOADED
            .get_or_init(open)
            .as_ref()
            .map_err(ClientError::clone)?;
        let mut ordinals = vec![0; devices];
        // SAFETY: there is room for `devices` ordinals.
        let code = unsafe { (functions.devices)(sm, devices, ordinals.as_mut_ptr()) };
        if code != 0 {
            return Err(ClientError::Devices {
                sm,
                count: devices,
                code,
            });
        }
        let ordinals = ordinals
            .into_iter()
            .filter_map(|ordinal| usize::try_from(ordinal).ok())
            .collect();
        Ok(Library {
            functions,
            path,
            ordinals,
        })
    }

    /// The ordinals of the requested devices.
    pub fn ordinals(&self) -> &[usize] {
        &self.ordinals
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Discards all launches and the last report.
    pub fn reset(&self) {
        // SAFETY: takes nothing.
        unsafe { (self.functions.reset)() }
    }

    /// Number of successful launches since the last reset, on all devices.
    pub fn launch_count(&self) -> u64 {
        // SAFETY: takes nothing.
        unsafe { (self.functions.launches)() }
    }

    /// The sum of the counters of all launches since the last reset.
    pub fn totals(&self) -> Counters {
        let mut words = vec![0; wire::to_words(&Counters::default()).len()];
        // SAFETY: the vector has room for its length.
        unsafe { (self.functions.totals)(words.as_mut_ptr(), words.len()) };
        wire::from_words(&words)
    }

    /// Launch number `index` since the last reset, from 0. `None` if there was none, or if it is
    /// not among the last 4096.
    pub fn launch(&self, index: u64) -> Option<Launch> {
        let mut header = LaunchHeader::default();
        let mut name = vec![0u8; 1024];
        let mut words = vec![0; wire::to_words(&Counters::default()).len()];
        // SAFETY: every buffer has the length passed with it.
        let count = unsafe {
            (self.functions.launch)(
                index,
                &mut header,
                name.as_mut_ptr().cast(),
                name.len() as c_int,
                words.as_mut_ptr(),
                words.len(),
            )
        };
        if count == 0 {
            return None;
        }
        let kernel =
            CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned());
        Some(Launch {
            kernel: kernel.unwrap_or_default(),
            ordinal: header.ordinal as usize,
            grid: header.grid,
            block: header.block,
            shared_bytes: header.shared_bytes,
            nanoseconds: header.nanoseconds,
            counters: wire::from_words(&words),
        })
    }

    /// The stored launches since the last reset, oldest first.
    pub fn launches(&self) -> Vec<Launch> {
        (0..self.launch_count())
            .filter_map(|index| self.launch(index))
            .collect()
    }

    /// The last report of a fault since the last reset.
    pub fn last_report(&self) -> Option<Report> {
        let mut code = 0;
        // SAFETY: the length of the text buffer is 0.
        let length = unsafe { (self.functions.last_report)(std::ptr::null_mut(), 0, &mut code) };
        if length == 0 {
            return None;
        }
        let mut text = vec![0u8; length + 1];
        let room = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: the buffer has `room` bytes.
        unsafe { (self.functions.last_report)(text.as_mut_ptr().cast(), room, &mut code) };
        let text =
            CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().into_owned());
        Some(Report {
            text: text.unwrap_or_default(),
            code,
        })
    }

    /// Suppresses reports on standard error, or enables them again.
    pub fn silence(&self, silent: bool) {
        // SAFETY: takes a number.
        unsafe { (self.functions.silence)(c_int::from(silent)) }
    }

    /// Sets the limits of later launches on any device, in place of `PTX_EMULATOR_INSTRUCTIONS` and
    /// `PTX_EMULATOR_SECONDS`: instructions of one warp (at least 1), and time, to a millisecond
    /// (`None` for no limit).
    pub fn set_limits(&self, instructions: u64, time: Option<Duration>) {
        // A limit below a millisecond must not become 0, which means no limit.
        let milliseconds = time.map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
        });
        // SAFETY: takes numbers.
        unsafe { (self.functions.limits)(instructions, milliseconds) }
    }

    /// Names the allocation that begins at a device address, for reports. Returns whether there is
    /// one.
    pub fn label(&self, address: u64, label: &str) -> bool {
        let Ok(label) = CString::new(label) else {
            return false;
        };
        // SAFETY: a C string.
        unsafe { (self.functions.label)(address, label.as_ptr()) == 0 }
    }
}

/// Finds and loads the library, which is never unloaded.
fn open() -> Result<(Functions, PathBuf), ClientError> {
    let (library, path) = find::load()?;
    let functions = functions(&library).map_err(|error| ClientError::Load {
        path: path.clone(),
        message: error.to_string(),
    })?;
    // Bindings keep addresses of its functions.
    std::mem::forget(library);
    // SAFETY: takes nothing and returns a static string.
    let found = unsafe { CStr::from_ptr((functions.version)()) };
    if found != wire::VERSION {
        return Err(ClientError::Version {
            path,
            found: found.to_string_lossy().into_owned(),
            expected: wire::VERSION.to_string_lossy().into_owned(),
        });
    }
    if !find::is_the_driver(functions.version as usize) {
        return Err(ClientError::DriverLoaded { path });
    }
    Ok((functions, path))
}

/// Looks the exported functions up.
fn functions(library: &libloading::Library) -> Result<Functions, libloading::Error> {
    // SAFETY: the names and types are those of `driver::client_api`; the version is compared before
    // any other call.
    unsafe {
        Ok(Functions {
            version: *library.get(b"ptx_emulator_version\0")?,
            devices: *library.get(b"ptx_emulator_devices\0")?,
            reset: *library.get(b"ptx_emulator_reset\0")?,
            launches: *library.get(b"ptx_emulator_launches\0")?,
            totals: *library.get(b"ptx_emulator_totals\0")?,
            launch: *library.get(b"ptx_emulator_launch\0")?,
            last_report: *library.get(b"ptx_emulator_last_report\0")?,
            silence: *library.get(b"ptx_emulator_silence\0")?,
            limits: *library.get(b"ptx_emulator_limits\0")?,
            label: *library.get(b"ptx_emulator_label\0")?,
        })
    }
}
