//! The kernels of a context: the image that each is loaded from on its first use. It stays as long
//! as the context.

use std::ffi::{CStr, CString, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fmt, ptr};

use cudarc::driver::{CudaContext, result, sys};

use super::context::{LoadedKernel, capability, driver_version};
use super::cubins::{Cubin, DeviceCubins};
use super::driver::{driver_error, message, unsupported_ptx};
use super::emulator_is_loaded;
use super::overrides::{self, OVERRIDE};
use super::watchdog;
use crate::error::Error;
use crate::kernels::cost::resident;
use crate::kernels::{Kernel, KernelId, kernels};
use crate::ptx;

/// Image that a kernel was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loaded {
    /// The PTX of this build, compiled by the driver.
    Ptx,
    /// Machine code of this build's PTX, assembled before.
    Cubin {
        /// Architecture that it is assembled for: `sm_80`, `sm_90a`.
        target: String,
    },
    /// PTX of the folder that `WARPCONV_OVERRIDE_PTX` names.
    Override {
        /// The folder as it is named.
        folder: PathBuf,
    },
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loaded::Ptx => f.write_str("PTX, compiled by the driver"),
            Loaded::Cubin { target } => write!(f, "cubin {target}"),
            Loaded::Override { folder } => write!(f, "PTX of {}", folder.display()),
        }
    }
}

/// An image as the driver takes it.
#[derive(Debug)]
struct Image {
    loaded: Loaded,
    /// A text with its NUL, or an ELF file.
    bytes: Vec<u8>,
}

impl Image {
    /// An image of PTX. The texts of the build have no NUL; the driver refuses an empty text.
    fn ptx(text: String) -> Image {
        Image::text(Loaded::Ptx, CString::new(text).unwrap_or_default())
    }

    fn cubin(cubin: Cubin) -> Image {
        Image {
            loaded: Loaded::Cubin {
                target: cubin.target,
            },
            bytes: cubin.image,
        }
    }

    fn text(loaded: Loaded, text: CString) -> Image {
        let bytes = text.into_bytes_with_nul();
        Image { loaded, bytes }
    }

    /// The image's first byte. An image ends with a NUL, or is an ELF file that was stored whole.
    fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Returns whether the module, PTX or an ELF file, has the watchdog's variable.
    fn is_watched(&self) -> bool {
        let name = watchdog::VARIABLE.as_bytes();
        self.bytes.windows(name.len()).any(|part| part == name)
    }

    fn is_cubin(&self) -> bool {
        matches!(self.loaded, Loaded::Cubin { .. })
    }

    /// The version of the PTX ISA in the text's `.version`.
    fn version(&self) -> String {
        ptx::version(&String::from_utf8_lossy(&self.bytes)).to_owned()
    }
}

/// This build's text of the kernel.
fn own(id: KernelId) -> Image {
    Image::ptx(ptx::text(id).unwrap_or_default())
}

/// A loaded module: its kernel, its image, and what the driver's compiler said.
#[derive(Debug)]
pub(super) struct Module {
    function: Function,
    loaded: Loaded,
    jit_log: String,
    /// Shared-memory carve-out in percent, where it is set.
    carveout: Option<u32>,
}

/// A function of a module that lives as long as the context.
#[derive(Clone, Copy, Debug)]
struct Function(sys::CUfunction);

// SAFETY: the driver's handles may be used from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Module {
    pub(super) fn function(&self) -> sys::CUfunction {
        self.function.0
    }

    pub(super) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    pub(super) fn jit_log(&self) -> &str {
        &self.jit_log
    }

    pub(super) fn carveout(&self) -> Option<u32> {
        self.carveout
    }
}

/// Loaded kernels of a context, one slot per kernel of the catalog.
#[derive(Debug)]
pub(super) struct Modules {
    loaded: Vec<OnceLock<Arc<Module>>>,
    /// Machine code for the context's device, if a folder has it.
    cubins: OnceLock<Option<DeviceCubins>>,
    /// Held while a module is being loaded, so that two threads do not load the same one.
    loading: Mutex<()>,
}

impl Modules {
    pub(super) fn new() -> Modules {
        let loaded = std::iter::repeat_with(OnceLock::new)
            .take(kernels().len())
            .collect();
        Modules {
            loaded,
            cubins: OnceLock::new(),
            loading: Mutex::new(()),
        }
    }

    /// The kernel, loaded if this is its first use in `context`, the one that these modules are of;
    /// a failure is not remembered.
    pub(super) fn get(
        &self,
        context: &Arc<CudaContext>,
        id: KernelId,
    ) -> Result<Arc<LoadedKernel>, Error> {
        let module = self.module(context, id)?;
        Ok(Arc::new(LoadedKernel::new(id.kernel(), module, context)))
    }

    fn module(&self, context: &Arc<CudaContext>, id: KernelId) -> Result<Arc<Module>, Error> {
        let place = &self.loaded[id.0];
        if let Some(module) = place.get() {
            return Ok(module.clone());
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = place.get() {
            return Ok(module.clone());
        }
        let module = self.load(context, id)?;
        Ok(place.get_or_init(|| Arc::new(module)).clone())
    }

    /// Loads the kernel: a text that replaces it, else machine code, else the build's text. Machine
    /// code that the driver refuses is no error.
    fn load(&self, context: &Arc<CudaContext>, id: KernelId) -> Result<Module, Error> {
        let named = std::env::var_os(OVERRIDE).filter(|named| !named.is_empty());
        if let Some(folder) = named.map(PathBuf::from)
            && let Some(text) = overrides::text(&folder, id)?
        {
            return load(
                context,
                id.kernel(),
                Image::text(Loaded::Override { folder }, text),
            );
        }
        let cubins = self.cubins.get_or_init(|| {
            // The emulator executes PTX alone.
            let device = capability(context).ok().filter(|_| !emulator_is_loaded())?;
            DeviceCubins::open(device.version())
        });
        let cubin = cubins
            .as_ref()
            .and_then(|cubins| Some((cubins, cubins.get(id)?)));
        if let Some((cubins, cubin)) = cubin {
            match load(context, id.kernel(), Image::cubin(cubin)) {
                Err(error) if !matches!(error, Error::OutOfMemory { .. }) => {
                    cubins.warn(id, &format!("the driver refuses its cubin: {error}"));
                }
                loaded => return loaded,
            }
        }
        load(context, id.kernel(), own(id))
    }

    /// Loads `text` as the kernel, which must not be loaded yet.
    #[cfg(feature = "emulator")]
    pub(super) fn put(
        &self,
        context: &Arc<CudaContext>,
        id: KernelId,
        text: &str,
    ) -> Result<(), Error> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let module = load(context, id.kernel(), Image::ptx(text.to_owned()))?;
        self.loaded[id.0]
            .set(Arc::new(module))
            .map_err(|_| Error::ModuleLoad {
                kernel: id.kernel().name(),
                code: sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
                reason: String::from("another text of it is loaded"),
            })
    }
}

/// Loads the image as the kernel into the context.
fn load(context: &Arc<CudaContext>, kernel: &Kernel, image: Image) -> Result<Module, Error> {
    let name = kernel.name();
    context
        .bind_to_thread()
        .map_err(|e| driver_error("binding the context", e))?;
    let (module, jit_log) = load_data(&name, &image)?;
    let mut function = entry(module, kernel, &name);
    if image.is_watched() {
        let attached = watchdog::attach(context, &name, module);
        function = function.and_then(|found| attached.map(|()| found));
    }
    if function.is_err() {
        // SAFETY: the module was just loaded into the bound context, and none of its kernels was
        // launched.
        context.record_err(unsafe { result::module::unload(module) });
    }
    let function = function?;
    Ok(Module {
        function,
        loaded: image.loaded,
        jit_log,
        carveout: set_carveout(context, kernel, function),
    })
}

/// Requests the largest shared-memory carve-out where the plan counts on two or more blocks per SM
/// that stage their operands in dynamic shared memory. Returns the percentage if it is set: it is a
/// hint, so a failure leaves the choice to the driver.
///
/// Kernels on CUDA cores keep the driver's choice, for they read rows of x through the L1 cache.
fn set_carveout(context: &CudaContext, kernel: &Kernel, function: Function) -> Option<u32> {
    use sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT as CARVEOUT;
    const ALL: u32 = 100;
    let device = capability(context).ok()?;
    if kernel.dynamic_shared() == 0 || resident(kernel, &device) < 2 {
        return None;
    }
    // SAFETY: the function's module lives as long as the context, which is bound to this thread.
    let set = unsafe { result::function::set_function_attribute(function.0, CARVEOUT, ALL as i32) };
    set.ok().map(|()| ALL)
}

/// Finds the module's kernel and sets its dynamic shared memory; above 48 KiB the size of a launch
/// is not enough.
fn entry(module: sys::CUmodule, kernel: &Kernel, name: &str) -> Result<Function, Error> {
    use sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MAX;
    let entry = CString::new(name).unwrap_or_default();
    // SAFETY: the module was just loaded into the context that is bound to this thread.
    let function = unsafe { result::module::get_function(module, entry) }
        .map_err(|e| driver_error("cuModuleGetFunction", e))?;
    let bytes = kernel.dynamic_shared();
    if bytes > 0 {
        // SAFETY: as above; the function is the module's.
        unsafe { result::function::set_function_attribute(function, MAX, bytes as i32) }
            .map_err(|e| driver_error("cuFuncSetAttribute", e))?;
    }
    Ok(Function(function))
}

/// Loads an image and returns the compiler's log; if the driver refuses the image, the error has
/// the log.
fn load_data(kernel: &str, image: &Image) -> Result<(sys::CUmodule, String), Error> {
    use sys::CUjit_option as Option;
    const LOG_BYTES: usize = 16 << 10;
    let (mut errors, mut notes) = (vec![0u8; LOG_BYTES], vec![0u8; LOG_BYTES]);
    // The driver reads each value from the bits of a pointer, integers included.
    let room = ptr::without_provenance_mut(LOG_BYTES);
    let (mut options, mut values): (Vec<Option>, Vec<*mut c_void>) = [
        (Option::CU_JIT_ERROR_LOG_BUFFER, errors.as_mut_ptr().cast()),
        (Option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, room),
        (Option::CU_JIT_INFO_LOG_BUFFER, notes.as_mut_ptr().cast()),
        (Option::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, room),
        (Option::CU_JIT_LOG_VERBOSE, ptr::without_provenance_mut(1)),
    ]
    .into_iter()
    .unzip();
    let mut module = ptr::null_mut();
    // SAFETY: the image is a text that ends in NUL, or a whole ELF file; the options have the
    // values that the driver documents for them, and the logs outlive the call with the room that
    // was stated.
    let status = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            image.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if status == sys::CUresult::CUDA_SUCCESS {
        return Ok((module, log_text(&notes)));
    }
    let mut reason = message(status);
    let said = log_text(&errors);
    if !said.is_empty() {
        reason = format!("{reason}: {said}");
    }
    if let Loaded::Override { .. } = image.loaded {
        reason = format!("{} is no module for this device: {reason}", image.loaded);
    }
    Err(match status {
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION if !image.is_cubin() => {
            let driver = driver_version().unwrap_or(0);
            unsupported_ptx(kernel, driver, &image.version(), &reason)
        }
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory {
            operation: "loading a module",
        },
        _ => Error::ModuleLoad {
            kernel: kernel.to_owned(),
            code: status as u32,
            reason,
        },
    })
}

/// Text of a log buffer, up to its NUL.
fn log_text(log: &[u8]) -> String {
    CStr::from_bytes_until_nul(log)
        .map(|text| text.to_string_lossy().trim().to_owned())
        .unwrap_or_default()
}
