//! A device's context: opening it, its device's capability, the launch of a kernel, and what the
//! crate keeps for as long as the context lives: its kernels, each loaded on its first use, and its
//! count of streams above zero.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use cudarc::driver::{CudaContext, CudaStream, result, sys};

use super::driver::{driver_error, message, unsupported_ptx, words};
use crate::error::Error;
use crate::kernels::{Kernel, KernelId, kernels};
use crate::plan::Capability;
use crate::ptx;

/// `CUDA_ERROR_OUT_OF_MEMORY`, `CUDA_ERROR_DEVICE_UNAVAILABLE` and the codes of the Multi-Process
/// Service: the device is there, but takes no work now.
const BUSY: &[c_int] = &[2, 46, 805, 806, 807, 808, 809];

type Init = unsafe extern "C" fn(u32) -> c_int;
type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
type Release = unsafe extern "C" fn(c_int) -> c_int;

/// The primary context of the device. cudarc has opened the driver by now.
///
/// It is retained here first: cudarc converts the driver's code to its enum unchecked, and the enum
/// of CUDA 11.4 lacks the code of a device that another process has for itself.
pub(super) fn open(ordinal: usize) -> Result<Arc<CudaContext>, Error> {
    let failed = |code| match BUSY.contains(&code) {
        true => Error::DeviceBusy {
            ordinal,
            code: code as u32,
            message: said(code),
        },
        false => Error::Driver {
            operation: "opening the device's context",
            code: code as u32,
            message: said(code),
        },
    };
    let missing = |name: &str| Error::NoDriver {
        reason: format!("it has no {name}"),
    };
    // SAFETY: these are the functions' types, unchanged since CUDA 11.
    let (init, get, retain, release) = unsafe {
        (
            find::<Init>(c"cuInit").ok_or_else(|| missing("cuInit"))?,
            find::<Get>(c"cuDeviceGet").ok_or_else(|| missing("cuDeviceGet"))?,
            find::<Retain>(c"cuDevicePrimaryCtxRetain")
                .ok_or_else(|| missing("cuDevicePrimaryCtxRetain"))?,
            find::<Release>(c"cuDevicePrimaryCtxRelease_v2")
                .ok_or_else(|| missing("cuDevicePrimaryCtxRelease_v2"))?,
        )
    };
    let (mut device, mut retained) = (0, ptr::null_mut());
    let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    // SAFETY: the pointers are to a device and to a context, and the device is set before it is
    // used.
    let code = unsafe {
        let mut code = init(0);
        if code == 0 {
            code = get(&mut device, ordinal);
        }
        if code == 0 {
            code = retain(&mut retained, device);
        }
        code
    };
    if code != 0 {
        return Err(failed(code));
    }
    let context = CudaContext::new(ordinal as usize);
    // SAFETY: it was retained above; cudarc holds its own share of it.
    unsafe { release(device) };
    context.map_err(|e| driver_error("opening the device's context", e))
}

/// The CUDA version of the driver that cudarc has opened.
pub(super) fn driver_version() -> Result<u32, Error> {
    let mut version = 0;
    // SAFETY: the pointer is valid for the call. A context exists by now, or a module is being
    // loaded into one, so the library is there.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| driver_error("cuDriverGetVersion", e))?;
    Ok(version.max(0) as u32)
}

/// Capability of the context's device.
pub(super) fn capability(context: &Arc<CudaContext>) -> Result<Capability, Error> {
    use sys::CUdevice_attribute as Attribute;
    let value = |attribute| {
        context
            .attribute(attribute)
            .map(|value| value.max(0) as u32)
            .map_err(|e| driver_error("cuDeviceGetAttribute", e))
    };
    let mut capability = Capability::sm75();
    capability.major = value(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    capability.minor = value(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    capability.sm_count = value(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    capability.shared_per_block =
        value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?;
    capability.shared_per_block_optin =
        value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
    capability.shared_per_sm =
        value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?;
    capability.registers_per_sm =
        value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)?;
    capability.max_threads_per_sm =
        value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?;
    capability.max_threads_per_block = value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
    capability.max_grid_x = value(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?;
    capability.clock_khz = value(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    Ok(capability)
}

/// The driver's words for a code.
fn said(code: c_int) -> String {
    // SAFETY: `words` looks up the two functions that have this type.
    words(&|name| unsafe { find(name) }, code)
}

/// A function of the library that cudarc has opened.
///
/// # Safety
/// `F` is the function's type.
unsafe fn find<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: the library is loaded; the type is the caller's promise.
    let found = unsafe { sys::culib().get::<F>(name.to_bytes_with_nul()) };
    found.ok().map(|symbol| *symbol)
}

/// The contexts in use. What is gone is cleared away when the next one comes.
static CONTEXTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    /// Not to keep the context alive: a device that has faulted works again once its context is
    /// gone.
    context: Weak<CudaContext>,
    modules: Arc<Modules>,
}

/// The context's kernels. On the first call for this context, it begins to track the uses of its
/// buffers for good.
///
/// # Errors
/// [`Error::Driver`] or [`Error::OutOfMemory`] if the driver makes no stream, or cannot wait for
/// the context's work.
pub(super) fn modules(context: &Arc<CudaContext>) -> Result<Arc<Modules>, Error> {
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    contexts.retain(|entry| entry.context.strong_count() > 0);
    let known = contexts
        .iter()
        .find(|entry| ptr::eq(entry.context.as_ptr(), Arc::as_ptr(context)));
    if let Some(entry) = known {
        return Ok(entry.modules.clone());
    }
    track_for_good(context)?;
    let modules = Arc::new(Modules::new());
    contexts.push(Entry {
        context: Arc::downgrade(context),
        modules: modules.clone(),
    });
    Ok(modules)
}

/// Makes cudarc count one stream more in this context than there are.
///
/// cudarc orders the uses of a slice in several streams by events, but only while it counts streams
/// of its own: dropping the last one ends that, though the stream's work goes on, and per-thread
/// streams do not count. With one more, it does so as long as the context lives. What was queued
/// before is waited for (`CudaContext::new_stream` does, if it is the first).
fn track_for_good(context: &Arc<CudaContext>) -> Result<(), Error> {
    let failed = |e| driver_error("making a stream", e);
    let stream = context.new_stream().map_err(failed)?;
    let Ok(stream) = Arc::try_unwrap(stream) else {
        // It has no other owner; if it had, it would count for as long as that one keeps it.
        return Ok(());
    };
    // Dropping it would count it off.
    let stream = ManuallyDrop::new(stream);
    // SAFETY: the stream is this function's own, was given no work, and is not used again.
    let destroyed = unsafe { result::stream::destroy(stream.cu_stream()) };
    // SAFETY: the value is never dropped nor used again, so its share of the context is moved out
    // of it, once.
    drop(unsafe { ptr::read(stream.context()) });
    destroyed.map_err(|e| driver_error("destroying a stream", e))
}

/// A kernel in a context, ready to launch.
///
/// Its module is never unloaded: the driver destroys it with the context. Unloading before that
/// would have to wait for the context's work, in streams that are not known here, and a context
/// in which a stream is being captured cannot be waited for: the attempt breaks the capture, in
/// whichever thread it is. It would also pull the kernel from under graphs.
#[derive(Clone)]
pub(crate) struct LoadedKernel {
    kernel: &'static Kernel,
    function: Function,
    context: Arc<CudaContext>,
}

/// A function of a module that lives as long as the context.
#[derive(Clone, Copy, Debug)]
struct Function(sys::CUfunction);

// SAFETY: the driver's handles may be used from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl LoadedKernel {
    /// Entry of the catalog.
    pub(crate) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    pub(crate) fn function(&self) -> sys::CUfunction {
        self.function.0
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Launches the kernel with arguments whose pointers are set and whose work is shared out.
    ///
    /// # Safety
    /// `arguments` are of the kind that the kernel takes, shared out among `grid` blocks. Every
    /// pointer in them is to memory of the kernel's context that is as large as the problem states
    /// and stays allocated until the stream has done the work, during which nothing else writes it
    /// (or, if it is written by the kernel, reads it). The stream belongs to this context.
    pub(crate) unsafe fn launch<A: Copy>(
        &self,
        stream: sys::CUstream,
        grid: u64,
        mut arguments: A,
    ) -> Result<(), Error> {
        if grid == 0 {
            return Ok(());
        }
        let kernel = self.kernel;
        let most = i32::MAX as u64;
        let grid = u32::try_from(grid)
            .ok()
            .filter(|&grid| u64::from(grid) <= most)
            .ok_or(Error::TooLarge {
                what: "the number of blocks",
                value: u128::from(grid),
                limit: most,
            })?;
        self.context
            .bind_to_thread()
            .map_err(|e| driver_error("binding the context", e))?;
        let mut parameters = [ptr::from_mut(&mut arguments).cast::<c_void>()];
        // SAFETY: the kernel takes one parameter, the struct that `arguments` mirrors field by
        // field (their sizes are asserted on both sides), and the driver copies it before it
        // returns. The pointers in it and the stream are the caller's promise; the context is
        // bound, and the kernel's block fits every device of its architecture.
        unsafe {
            result::launch_kernel(
                self.function(),
                (grid, 1, 1),
                (kernel.threads, 1, 1),
                kernel.dynamic_shared(),
                stream,
                &mut parameters,
            )
        }
        .map_err(|e| driver_error("launching a kernel", e))
    }

    /// A figure that the driver has of the compiled kernel, such as its registers.
    pub(crate) fn attribute(&self, attribute: sys::CUfunction_attribute) -> Result<u32, Error> {
        self.context
            .bind_to_thread()
            .map_err(|e| driver_error("binding the context", e))?;
        // SAFETY: the function belongs to a module that lives as long as the context, which is
        // bound above.
        unsafe { result::function::get_function_attribute(self.function(), attribute) }
            .map(|value| value.max(0) as u32)
            .map_err(|e| driver_error("cuFuncGetAttribute", e))
    }
}

/// Loads the kernel from a text into the context.
fn load(context: &CudaContext, id: KernelId, text: &str) -> Result<Function, Error> {
    let kernel = id.kernel();
    let name = kernel.name();
    // The build's texts hold no NUL; where there is one, the driver refuses the empty module.
    let image = CString::new(text).unwrap_or_default();
    context
        .bind_to_thread()
        .map_err(|e| driver_error("binding the context", e))?;
    let module = load_data(&name, &image)?;
    let function = entry(module, kernel, &name);
    if function.is_err() {
        // SAFETY: the module was just loaded into the bound context, and none of its kernels was
        // launched.
        context.record_err(unsafe { result::module::unload(module) });
    }
    function
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

impl fmt::Debug for LoadedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedKernel")
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

/// Loads a PTX image; if the driver's compiler refuses it, the error has the compiler's log.
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
    // SAFETY: the image ends in NUL; the two options have the values that the driver documents for
    // them, and the log outlives the call with the room that was stated.
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
    let mut reason = message(status);
    if !said.trim().is_empty() {
        reason = format!("{reason}: {}", said.trim());
    }
    Err(match status {
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            let (driver, text) = (driver_version().unwrap_or(0), image.to_string_lossy());
            unsupported_ptx(kernel, driver, ptx::version(&text), &reason)
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

/// Loaded kernels of a context, one slot per kernel of the catalog.
#[derive(Debug)]
pub(super) struct Modules {
    loaded: Vec<OnceLock<Function>>,
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

    /// The kernel, loaded if this is its first use in `context`, the one that these modules are of;
    /// a failure is not remembered.
    pub(super) fn get(
        &self,
        context: &Arc<CudaContext>,
        id: KernelId,
    ) -> Result<Arc<LoadedKernel>, Error> {
        Ok(Arc::new(LoadedKernel {
            kernel: id.kernel(),
            function: self.function(context, id)?,
            context: context.clone(),
        }))
    }

    fn function(&self, context: &CudaContext, id: KernelId) -> Result<Function, Error> {
        let place = &self.loaded[id.0];
        if let Some(function) = place.get() {
            return Ok(*function);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = place.get() {
            return Ok(*function);
        }
        let text = ptx::text(id).unwrap_or_default();
        let function = load(context, id, &text)?;
        Ok(*place.get_or_init(|| function))
    }

    /// Loads `text` as the kernel, which must not be loaded yet.
    #[cfg(feature = "emulator")]
    pub(super) fn put(&self, context: &CudaContext, id: KernelId, text: &str) -> Result<(), Error> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let function = load(context, id, text)?;
        self.loaded[id.0]
            .set(function)
            .map_err(|_| Error::ModuleLoad {
                kernel: id.kernel().name(),
                code: sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
                reason: String::from("another text of it is loaded"),
            })
    }
}

/// Checks that the stream belongs to the context of the launch, and that cudarc's bookkeeping will
/// not break a capture.
///
/// In a context that tracks events, cudarc makes the launch wait for events recorded before the
/// capture began, which a capture cannot contain. This check finds that before anything invalidates
/// the capture. A graph also outlives cudarc's hold on its buffers. A program that captures
/// therefore turns tracking off, which is unsafe. The default stream cannot be
/// captured.
pub(crate) fn check_stream(context: &Arc<CudaContext>, stream: &CudaStream) -> Result<(), Error> {
    if !Arc::ptr_eq(stream.context(), context) {
        return Err(Error::WrongContext { what: "stream" });
    }
    if context.is_event_tracking() && !stream.cu_stream().is_null() {
        let status = stream
            .capture_status()
            .map_err(|e| driver_error("cuStreamIsCapturing", e))?;
        if status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Err(Error::CaptureWithEventTracking);
        }
    }
    Ok(())
}

/// Checks that cudarc ordered the stream behind the buffers' last uses and recorded this one.
/// cudarc keeps such a failure until it is read.
pub(crate) fn check_ordering(context: &CudaContext) -> Result<(), Error> {
    context
        .check_err()
        .map_err(|e| driver_error("ordering the stream behind its buffers", e))
}
