//! A device: its context, a stream, its capability, and the kernels loaded into it.
//!
//! [`Gpu::open`] looks for NVIDIA's driver itself before cudarc touches anything (cudarc panics
//! where there is none) and can put ptx-emulator in its place (feature `emulator`). A process uses
//! one driver only. The first choice stands until the process ends; a later one that contradicts it
//! is [`Error::DriverInUse`].

mod context;
mod driver;
mod tensor_map;
mod wgmma_args;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, DriverError, sys};

pub(crate) use context::LoadedKernel;
pub(crate) use wgmma_args::WgmmaArgs;

use crate::error::Error;
use crate::kernels::KernelId;
use crate::plan::{Capability, Card};

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

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceChoice, Error> {
        let bad = || Error::BadDevice {
            text: text.to_owned(),
        };
        let (kind, number) = match text.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (text, None),
        };
        match (kind, number) {
            ("auto", None) => Ok(DeviceChoice::Auto),
            ("gpu", None) => Ok(DeviceChoice::Cuda(0)),
            ("gpu", Some(ordinal)) => ordinal.parse().map(DeviceChoice::Cuda).map_err(|_| bad()),
            ("emulator", None) => Ok(DeviceChoice::Emulator { sm: 90 }),
            ("emulator", Some(sm)) => match sm.parse() {
                Ok(sm) if DeviceChoice::EMULATED.contains(&sm) => Ok(DeviceChoice::Emulator { sm }),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cuda(ordinal) => write!(f, "gpu:{ordinal}"),
            DeviceChoice::Emulator { sm } => write!(f, "emulator:{sm}"),
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

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Gpu => "gpu",
            DeviceKind::Emulator => "emulator",
        })
    }
}

/// The driver that this process speaks to, once one is chosen.
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
    modules: Arc<context::Modules>,
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
    /// - [`Error::DriverInUse`] if this process already speaks to the other driver.
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
        let capability = capability(&context)?;
        if capability.version() < (7, 5) {
            return Err(Error::DeviceTooOld {
                name,
                capability: capability.version(),
                needs: (7, 5),
            });
        }
        let kind = if driver::emulator_is_loaded() {
            DeviceKind::Emulator
        } else {
            DeviceKind::Gpu
        };
        let driver_version = driver_version()?;
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

    /// The CUDA version that the driver speaks: 12040 is 12.4.
    pub(crate) fn driver_version(&self) -> u32 {
        self.inner.driver_version
    }

    /// Name of the device, and the CUDA version that its driver speaks. Tunings are kept by them.
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

    /// The emulator behind this device, to read its reports and each launch's counters; `None` on
    /// hardware, and where the emulator was put in the driver's place by other means than
    /// [`Gpu::open`].
    #[cfg(feature = "emulator")]
    pub fn emulator(&self) -> Option<&'static ptx_emulator::client::Library> {
        match self.inner.kind {
            DeviceKind::Emulator => driver::emulator(),
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
    /// Launches that are safe otherwise run whatever the text says.
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
        Err(no_gpu) => match open_emulator(driver, driver::default_sm()) {
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
            let devices = driver::probe()?;
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
    let ordinal = driver::load_emulator(sm)?;
    *driver = Some(Driver::Emulator);
    Ok(ordinal)
}

/// The CUDA version of the driver that cudarc speaks to.
fn driver_version() -> Result<u32, Error> {
    let mut version = 0;
    // SAFETY: the pointer is valid for the call. A context exists by now, or a module is being
    // loaded into one, so the library is there.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| driver_error("cuDriverGetVersion", e))?;
    Ok(version.max(0) as u32)
}

fn capability(context: &Arc<CudaContext>) -> Result<Capability, Error> {
    use sys::CUdevice_attribute as Attribute;
    let ask = |attribute| {
        context
            .attribute(attribute)
            .map(|value| value.max(0) as u32)
            .map_err(|e| driver_error("cuDeviceGetAttribute", e))
    };
    let mut capability = Capability::sm75();
    capability.major = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    capability.minor = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    capability.sm_count = ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    capability.shared_per_block = ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?;
    capability.shared_per_block_optin =
        ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
    capability.shared_per_sm =
        ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?;
    capability.registers_per_sm =
        ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)?;
    capability.max_threads_per_sm =
        ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?;
    capability.max_threads_per_block = ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
    capability.max_grid_x = ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?;
    capability.clock_khz = ask(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    Ok(capability)
}

/// The driver's words for a status.
fn message(status: sys::CUresult) -> String {
    let text = DriverError(status)
        .error_string()
        .map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("{status:?}"))
}

/// The crate's error for a failed driver call; `operation` says what was tried.
#[doc(hidden)] // for the workspace's own crates, which call cudarc themselves
pub fn driver_error(operation: &'static str, error: DriverError) -> Error {
    use sys::CUresult as Status;
    match error.0 {
        Status::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { operation },
        Status::CUDA_ERROR_STUB_LIBRARY => Error::NoDriver {
            reason: String::from("the libcuda.so found first is the toolkit's stub, not a driver"),
        },
        status => {
            let mut message = message(status);
            if let Some(report) = driver::emulator_report(status as u32) {
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

#[cfg(test)]
mod tests;
