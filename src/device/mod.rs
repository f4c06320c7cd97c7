//! A device: its context, a stream, its capability, and the kernels loaded into it.
//!
//! [`Gpu::open`] looks for NVIDIA's driver itself before cudarc touches anything (cudarc panics
//! where there is none) and can put ptx-emulator in its place (feature `emulator`). A process uses
//! one driver only. The first choice stands until the process ends; a later one that contradicts it
//! is [`Error::DriverInUse`].
//!
//! cudarc opens `libcuda.so` by that name at its first call, and only where there is none the names
//! behind it. So that name is probed first, and in the end the library that cudarc has opened is
//! compared with the one that was probed.

mod context;
mod cubins;
mod driver;
mod modules;
mod names;
#[cfg(feature = "nvtx")]
mod nvtx;
mod overrides;
mod tensor_map;
mod watchdog;
mod wgmma_args;

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, sys};
#[cfg(feature = "emulator")]
use ptx_emulator::client;

pub(crate) use context::{LoadedKernel, check_ordering, check_stream};
#[doc(hidden)] // for the workspace's own crates, which call cudarc themselves
pub use driver::driver_error;
pub use modules::Loaded;
#[cfg(feature = "nvtx")]
pub(crate) use nvtx::Label;
pub(crate) use wgmma_args::WgmmaArgs;

use driver::{Library, adopt, examine};

use crate::error::Error;
use crate::kernels::KernelId;
use crate::plan::{Capability, Card};

/// Target of the [`log`] records of the loader: a warning for each kernel that is not
/// loaded from this build's PTX or machine code though it could be.
pub const LOG_TARGET: &str = "warpconv::device";

/// Choice of a device; written `auto`, `gpu`, `gpu:1`, `emulator`, `emulator:75`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU if there is one, else the emulator. One that is busy or full is there:
    /// that is an error.
    #[default]
    Auto,
    /// The NVIDIA GPU of this ordinal.
    Cuda(usize),
    /// The emulator, posing as a device of compute capability `sm / 10`.
    Emulator {
        /// Compute capability times ten: 75, 80 or 90.
        sm: u32,
    },
}

impl DeviceChoice {
    /// The environment variable that [`DeviceChoice::from_env`] reads.
    pub(crate) const VARIABLE: &'static str = "WARPCONV_DEVICE";

    /// The capabilities that the emulator can pose as.
    pub(crate) const EMULATED: [u32; 3] = [75, 80, 90];

    /// The choice that `WARPCONV_DEVICE` names; [`DeviceChoice::Auto`] where it is not set.
    ///
    /// # Errors
    /// [`Error::BadDevice`] if the variable holds something else.
    pub fn from_env() -> Result<DeviceChoice, Error> {
        match std::env::var(DeviceChoice::VARIABLE) {
            Ok(text) if !text.trim().is_empty() => text.trim().parse(),
            _ => Ok(DeviceChoice::Auto),
        }
    }
}

/// Kind of a [`Gpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// An NVIDIA GPU behind NVIDIA's driver.
    Gpu,
    /// The emulator, in the driver's place.
    Emulator,
}

/// The driver of this process, once one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Installed { devices: usize },
    Emulator,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// A device, cheap to clone and shared by threads.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    kind: DeviceKind,
    name: String,
    capability: Capability,
    driver_version: u32,
    modules: Arc<modules::Modules>,
}

impl Gpu {
    /// Opens the device of `choice`.
    ///
    /// [`DeviceChoice::Auto`] takes the emulator where there is no GPU: no driver, one that does
    /// not start (the toolkit's stub among them) or is too old, or one without a device. A GPU that
    /// is there and takes no work now is an error instead, since the emulator is slower by orders
    /// of magnitude. A caller that accepts that names the emulator.
    ///
    /// # Errors
    /// - [`Error::NoDriver`] if NVIDIA's driver is asked for and cannot be loaded or initialised.
    /// - [`Error::DriverHidden`] if there is one, but another library goes by the name that cudarc
    ///   asks for.
    /// - [`Error::DeviceBusy`] if the device has no memory left, belongs to another process alone,
    ///   or its MPS server takes no client.
    /// - [`Error::NoDevice`] if the driver has no device of that ordinal.
    /// - [`Error::NoEmulator`] if the emulator is asked for (or, for [`DeviceChoice::Auto`],
    ///   needed) and its library cannot be found, or the crate was built without the feature
    ///   `emulator`.
    /// - [`Error::DriverInUse`] if this process already has the other driver.
    /// - [`Error::DeviceTooOld`] if the device is below compute capability 7.5.
    pub fn open(choice: &DeviceChoice) -> Result<Gpu, Error> {
        let mut driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
        let ordinal = match *choice {
            DeviceChoice::Auto => open_any(&mut driver)?,
            DeviceChoice::Cuda(ordinal) => open_installed(&mut driver, ordinal)?,
            DeviceChoice::Emulator { sm } => open_emulator(&mut driver, sm)?,
        };
        drop(driver);
        Gpu::new(context::open(ordinal)?)
    }

    /// The device of a context that the caller has already made with cudarc.
    ///
    /// From here on the context is in cudarc's multi-stream mode for good, as if it had a stream
    /// that is never dropped: that is what orders launches behind the earlier uses of their
    /// buffers, and later uses, frees among them, behind launches (see [`launch`](crate::launch)).
    /// The first call for a context that has no stream yet waits for its work, so not while a
    /// stream of it is being captured. Kernels stay loaded as long as the context lives.
    ///
    /// # Errors
    /// [`Error::DeviceTooOld`] if the device is below compute capability 7.5, [`Error::Driver`] if
    /// it does not answer.
    pub fn new(context: Arc<CudaContext>) -> Result<Gpu, Error> {
        let name = context
            .name()
            .map_err(|e| driver_error("cuDeviceGetName", e))?;
        let capability = context::capability(&context)?;
        if capability.version() < (7, 5) {
            return Err(Error::DeviceTooOld {
                name,
                capability: capability.version(),
                needs: (7, 5),
            });
        }
        let kind = if emulator_is_loaded() {
            DeviceKind::Emulator
        } else {
            DeviceKind::Gpu
        };
        let driver_version = context::driver_version()?;
        let modules = context::modules(&context)?;
        Ok(Gpu {
            inner: Arc::new(Inner {
                stream: context.default_stream(),
                context,
                kind,
                name,
                capability,
                driver_version,
                modules,
            }),
        })
    }

    /// Kind of the device: an NVIDIA GPU or the emulator.
    pub fn kind(&self) -> DeviceKind {
        self.inner.kind
    }

    /// Capability of the device; plans are made from this.
    pub fn capability(&self) -> &Capability {
        &self.inner.capability
    }

    /// The CUDA version that the driver supports: 12040 is 12.4.
    pub(crate) fn driver_version(&self) -> u32 {
        self.inner.driver_version
    }

    /// Name of the device, and the CUDA version that its driver supports. Tunings are kept by them.
    pub fn card(&self) -> Card {
        Card::new(&self.inner.name, self.driver_version())
    }

    /// The device's context, for cudarc.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.inner.context
    }

    /// The stream of uploads, downloads and [`ops`](crate::ops): the context's default stream, or
    /// that of [`Gpu::with_stream`]. Launches go to whatever stream they are given; this is the one
    /// for callers who do not care. (A default stream cannot be captured into a graph: make one
    /// with `context().new_stream()`.)
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.inner.stream
    }

    /// The same device with another stream of its context as its own: uploads, downloads and
    /// [`ops`](crate::ops) go there. With a stream per thread, the work of one thread does not wait
    /// for that of another.
    ///
    /// # Errors
    /// [`Error::WrongContext`] if the stream belongs to another context.
    pub fn with_stream(&self, stream: Arc<CudaStream>) -> Result<Gpu, Error> {
        if !Arc::ptr_eq(stream.context(), &self.inner.context) {
            return Err(Error::WrongContext { what: "the stream" });
        }
        Ok(Gpu {
            inner: Arc::new(Inner {
                stream,
                ..Inner::clone(&self.inner)
            }),
        })
    }

    /// Waits for all work on the device and reports what went wrong in it, if anything did.
    ///
    /// # Errors
    /// [`Error::Driver`] with the driver's code; for the emulator, its report.
    pub fn synchronize(&self) -> Result<(), Error> {
        self.inner
            .context
            .synchronize()
            .map_err(|e| driver_error("waiting for the device", e))
    }

    /// The driver's symbolic name of an error's code, such as `CUDA_ERROR_ILLEGAL_ADDRESS` for 700.
    #[doc(hidden)]
    pub fn error_name(&self, code: u32) -> Option<String> {
        context::error_name(code)
    }

    /// The emulator behind this device, to read its reports and each launch's counters; `None` on
    /// hardware, and where the emulator was put in the driver's place by other means than
    /// [`Gpu::open`].
    #[cfg(feature = "emulator")]
    pub fn emulator(&self) -> Option<&'static client::Library> {
        match self.inner.kind {
            DeviceKind::Emulator => EMULATOR.get(),
            DeviceKind::Gpu => None,
        }
    }

    /// Counters of the emulator, over all launches of this process since [`Gpu::reset_counters`];
    /// `None` on hardware.
    #[cfg(feature = "emulator")]
    pub fn counters(&self) -> Option<ptx_emulator::Counters> {
        self.emulator().map(|library| library.totals())
    }

    /// Sets the emulator's counters to zero; nothing on hardware.
    #[cfg(feature = "emulator")]
    pub fn reset_counters(&self) {
        if let Some(library) = self.emulator() {
            library.reset();
        }
    }

    /// Takes `text` for the kernel's PTX in this device's context, in which it has not been used
    /// yet: for the tests that break kernels on purpose.
    ///
    /// # Errors
    /// [`Error::ModuleLoad`] if the driver does not take the text or the kernel is loaded already.
    ///
    /// # Safety
    /// Launches that are safe otherwise run whatever the text is.
    #[cfg(feature = "emulator")]
    #[doc(hidden)]
    pub unsafe fn replace_ptx(&self, id: KernelId, text: &str) -> Result<(), Error> {
        self.inner.modules.put(&self.inner.context, id, text)
    }

    /// The kernel, loaded into this device's context if this is its first use.
    pub(crate) fn load(&self, id: KernelId) -> Result<Arc<LoadedKernel>, Error> {
        self.inner.modules.get(&self.inner.context, id)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("kind", &self.inner.kind)
            .field("name", &self.inner.name)
            .field("capability", &self.inner.capability)
            .finish_non_exhaustive()
    }
}

/// The installed driver's first device if there is one, else the emulator's.
fn open_any(driver: &mut Option<Driver>) -> Result<usize, Error> {
    if driver.is_some() {
        return Ok(0);
    }
    match open_installed(driver, 0) {
        Ok(ordinal) => Ok(ordinal),
        // There is a GPU: what keeps it from being used is to be mended, not to be worked around by
        // a slower device.
        Err(hidden @ Error::DriverHidden { .. }) => Err(hidden),
        Err(no_gpu) => match open_emulator(driver, default_sm()) {
            Ok(ordinal) => Ok(ordinal),
            // Both reasons are worth knowing.
            Err(Error::NoEmulator { reason }) => Err(Error::NoEmulator {
                reason: format!("{reason}; and no GPU: {no_gpu}"),
            }),
            Err(other) => Err(other),
        },
    }
}

fn open_installed(driver: &mut Option<Driver>, ordinal: usize) -> Result<usize, Error> {
    let devices = match *driver {
        Some(Driver::Installed { devices }) => devices,
        Some(Driver::Emulator) => {
            return Err(Error::DriverInUse {
                wanted: String::from("an NVIDIA GPU"),
                loaded: String::from("the emulator"),
            });
        }
        None => {
            let devices = probe()?;
            *driver = Some(Driver::Installed { devices });
            devices
        }
    };
    if ordinal >= devices {
        return Err(Error::NoDevice { ordinal, devices });
    }
    Ok(ordinal)
}

fn open_emulator(driver: &mut Option<Driver>, sm: u32) -> Result<usize, Error> {
    if let Some(Driver::Installed { .. }) = *driver {
        return Err(Error::DriverInUse {
            wanted: String::from("the emulator"),
            loaded: String::from("NVIDIA's driver"),
        });
    }
    let ordinal = load_emulator(sm)?;
    *driver = Some(Driver::Emulator);
    Ok(ordinal)
}

/// The names under which the driver's library is installed, in the order in which cudarc tries
/// them.
#[cfg(windows)]
const NAMES: &[&str] = &["nvcuda.dll"];
/// The names under which the driver's library is installed, in the order in which cudarc tries
/// them.
#[cfg(not(windows))]
const NAMES: &[&str] = &["libcuda.so", "libcuda.so.1"];

/// Loads the installed driver, makes cudarc open it, and returns how many devices it has: at least
/// one.
///
/// The library stays loaded (a driver may not survive being unloaded). One that cannot be used
/// stays loaded too, but not under the name that cudarc loads, so that the emulator can be put
/// in its place.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::DriverTooOld`] where there is no driver to
/// use; [`Error::DriverHidden`] where there is one, but cudarc would open another library.
fn probe() -> Result<usize, Error> {
    let mut refused: Vec<(Option<Library>, Error)> = Vec::new();
    for &name in NAMES {
        let library = match open_library(name) {
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
        match examine(&library) {
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

/// Loads the library that the dynamic linker finds by this name.
fn open_library(name: &str) -> Result<Library, String> {
    // SAFETY: loading the CUDA driver runs its initialisers, which any program may do at any time.
    let named = unsafe { libloading::Library::new(name) }.map_err(reason)?;
    Library::by_path(named)
}

/// The loader's own words are one level down.
fn reason(error: libloading::Error) -> String {
    match error.source() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

/// Returns whether the driver that cudarc has opened is the emulator, however it was loaded.
fn emulator_is_loaded() -> bool {
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
fn load_emulator(sm: u32) -> Result<usize, Error> {
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
fn load_emulator(_sm: u32) -> Result<usize, Error> {
    Err(Error::NoEmulator {
        reason: String::from("this build is without the feature `emulator`"),
    })
}

/// Capability of the emulator if none was asked for: that of its own variable, else 9.0.
fn default_sm() -> u32 {
    let named = std::env::var("PTX_EMULATOR_SM").ok();
    let first = named.as_deref().and_then(|list| list.split(',').next());
    let digits = first.map(|text| text.trim().replace('.', ""));
    digits
        .and_then(|sm| sm.parse().ok())
        .filter(|sm| DeviceChoice::EMULATED.contains(sm))
        .unwrap_or(90)
}

#[cfg(test)]
mod tests;
