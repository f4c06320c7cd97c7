//! A device's context: opening it, its device's capability, the launch of a kernel, and what the
//! crate keeps for as long as the context lives: its kernels ([`Modules`]) and its count of streams
//! above zero.

use std::ffi::{CStr, c_int, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::{CudaContext, CudaStream, result, sys};

use super::driver::{driver_error, text_of, words};
use super::modules::{Loaded, Module, Modules};
use crate::error::Error;
use crate::kernels::Kernel;
use crate::plan::Capability;

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
pub(super) fn capability(context: &CudaContext) -> Result<Capability, Error> {
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

/// The driver's symbolic name of an error's code. To be called with a device open only: without a
/// library cudarc panics.
pub(super) fn error_name(code: u32) -> Option<String> {
    // SAFETY: the function of this name has this type.
    let function = unsafe { find(c"cuGetErrorName") }?;
    text_of(function, c_int::try_from(code).ok()?)
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
    module: Arc<Module>,
    context: Arc<CudaContext>,
}

impl LoadedKernel {
    pub(super) fn new(
        kernel: &'static Kernel,
        module: Arc<Module>,
        context: &Arc<CudaContext>,
    ) -> LoadedKernel {
        LoadedKernel {
            kernel,
            module,
            context: context.clone(),
        }
    }

    /// Entry of the catalog.
    pub(crate) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    pub(crate) fn function(&self) -> sys::CUfunction {
        self.module.function()
    }

    /// Image that was loaded.
    pub(crate) fn loaded(&self) -> &Loaded {
        self.module.loaded()
    }

    /// Shared-memory carve-out in percent; `None` if the driver chooses.
    pub(crate) fn carveout(&self) -> Option<u32> {
        self.module.carveout()
    }

    /// Log of the driver's compiler; empty if the driver gave none.
    pub(crate) fn jit_log(&self) -> &str {
        self.module.jit_log()
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

impl fmt::Debug for LoadedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedKernel")
            .field("module", &self.module)
            .finish_non_exhaustive()
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
