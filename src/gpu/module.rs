//! The modules of the catalog, loaded into a context once each, on first use.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, result, sys};

use super::driver_error;
use crate::catalog::{Kernel, KernelId, kernels};
use crate::error::Error;
use crate::ptx;

/// A kernel in a context, ready to launch; unloaded when the last user is gone.
pub(crate) struct LoadedKernel {
    kernel: &'static Kernel,
    module: sys::CUmodule,
    function: sys::CUfunction,
    context: Arc<CudaContext>,
}

// SAFETY: the driver's handles may be used from any thread, and nothing here changes after construction.
unsafe impl Send for LoadedKernel {}
// SAFETY: as above.
unsafe impl Sync for LoadedKernel {}

impl LoadedKernel {
    /// The catalog's entry.
    pub(crate) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    pub(crate) fn function(&self) -> sys::CUfunction {
        self.function
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// A figure that the driver has of the compiled kernel, such as its registers.
    pub(crate) fn attribute(&self, attribute: sys::CUfunction_attribute) -> Result<u32, Error> {
        self.context
            .bind_to_thread()
            .map_err(|e| driver_error("binding the context", e))?;
        // SAFETY: the function belongs to a module that lives as long as `self`, in the context bound above.
        unsafe { result::function::get_function_attribute(self.function, attribute) }
            .map(|value| value.max(0) as u32)
            .map_err(|e| driver_error("cuFuncGetAttribute", e))
    }

    fn load(context: &Arc<CudaContext>, id: KernelId, text: &str) -> Result<LoadedKernel, Error> {
        let kernel = id.kernel();
        let name = kernel.id();
        // The build's texts hold no NUL; where there is one, the driver refuses the empty module.
        let image = CString::new(text).unwrap_or_default();
        context
            .bind_to_thread()
            .map_err(|e| driver_error("binding the context", e))?;
        let module = load_data(&name, &image)?;
        // From here on `loaded` unloads the module, whatever happens.
        let mut loaded = LoadedKernel {
            kernel,
            module,
            function: ptr::null_mut(),
            context: context.clone(),
        };
        let entry = CString::new(name.as_str()).unwrap_or_default();
        // SAFETY: the module was just loaded into the context that is bound to this thread.
        loaded.function = unsafe { result::module::get_function(module, entry) }
            .map_err(|e| driver_error("cuModuleGetFunction", e))?;
        loaded.allow_dynamic_shared()?;
        Ok(loaded)
    }
}

impl LoadedKernel {
    /// Asks for the shared memory that launches will ask for: of more than 48 KiB a function has to be told beforehand.
    fn allow_dynamic_shared(&self) -> Result<(), Error> {
        use sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST;
        let bytes = self.kernel.dynamic_shared();
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the function belongs to a module that lives as long as `self`, in the context that `load` has bound.
        unsafe { result::function::set_function_attribute(self.function, MOST, bytes as i32) }
            .map_err(|e| driver_error("cuFuncSetAttribute", e))
    }
}

impl Drop for LoadedKernel {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // Launches may be under way, in streams that only their owners know.
        self.context.record_err(result::ctx::synchronize());
        // SAFETY: the module is this value's own; its kernels have ended, and none can be launched any more.
        self.context
            .record_err(unsafe { result::module::unload(self.module) });
    }
}

impl fmt::Debug for LoadedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedKernel")
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

/// Loads a PTX image, keeping what the driver's compiler said if it refuses.
fn load_data(kernel: &str, image: &CStr) -> Result<sys::CUmodule, Error> {
    const LOG_BYTES: usize = 4096;
    let mut log = [0u8; LOG_BYTES];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    // The driver reads each value from the bits of a pointer, integers included.
    let mut values = [
        log.as_mut_ptr().cast::<c_void>(),
        ptr::without_provenance_mut(LOG_BYTES),
    ];
    let mut module = ptr::null_mut();
    // SAFETY: the image ends in NUL; the two options have the values that the driver documents for them, and the log
    // outlives the call with the room that was stated.
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
        return Ok(module);
    }
    let said = CStr::from_bytes_until_nul(&log)
        .map(CStr::to_string_lossy)
        .unwrap_or_default();
    let mut reason = super::message(status);
    if !said.trim().is_empty() {
        reason = format!("{reason}: {}", said.trim());
    }
    Err(match status {
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => Error::DriverTooOld {
            driver: super::driver_version().unwrap_or(0),
            what: kernel.to_owned(),
            needs: format!("PTX {}", ptx::version(&image.to_string_lossy())),
        },
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

/// One place a kernel of the catalog.
#[derive(Debug)]
pub(super) struct Modules {
    loaded: Vec<OnceLock<Arc<LoadedKernel>>>,
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
            loading: Mutex::new(()),
        }
    }

    /// The kernel, loaded if this is its first use; a failure is not remembered.
    pub(super) fn get(
        &self,
        context: &Arc<CudaContext>,
        id: KernelId,
    ) -> Result<Arc<LoadedKernel>, Error> {
        let place = &self.loaded[id.0];
        if let Some(kernel) = place.get() {
            return Ok(kernel.clone());
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = place.get() {
            return Ok(kernel.clone());
        }
        let text = ptx::text(id).unwrap_or_default();
        let kernel = Arc::new(LoadedKernel::load(context, id, text)?);
        Ok(place.get_or_init(|| kernel).clone())
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
        let kernel = Arc::new(LoadedKernel::load(context, id, text)?);
        self.loaded[id.0]
            .set(kernel)
            .map_err(|_| Error::ModuleLoad {
                kernel: id.kernel().id(),
                code: sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
                reason: String::from("another text of it is loaded"),
            })
    }
}
