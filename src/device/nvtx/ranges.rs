//! The application's side of NVTX 3, as the header `nvtx3/nvToolsExt.h` has it: a profiler names
//! its library in `NVTX_INJECTION64_PATH`, the application loads it and calls its
//! `InitializeInjectionNvtx2`, and the library writes its functions into the application's tables.
//!
//! There is no library of NVIDIA's to link to: NVTX 3 is that header alone. cudarc's feature `nvtx`
//! asks for `libnvToolsExt`, which new toolkits lack, and panics where there is none.

use std::env;
use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libloading::Library;

/// Where a profiler names its library.
const VARIABLE: &str = match size_of::<usize>() {
    4 => "NVTX_INJECTION32_PATH",
    _ => "NVTX_INJECTION64_PATH",
};

/// `NVTX_VERSION`.
const VERSION: u32 = 3;

/// `NVTX_ETID_CALLBACKS`.
const CALLBACKS: u32 = 1;
/// `NVTX_ETID_VERSIONINFO`.
const VERSION_INFO: u32 = 3;

/// `NVTX_CB_MODULE_CORE`.
const CORE: usize = 1;
/// `NVTX_CBID_CORE_RangePushA`.
const RANGE_PUSH_A: usize = 9;
/// `NVTX_CBID_CORE_RangePop`.
const RANGE_POP: usize = 11;

/// Functions per module, the invalid one of number 0 included: `NVTX_CBID_CORE_SIZE` and so on, by
/// `NvtxCallbackModule`.
const SIZES: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
const MODULES: usize = SIZES.len();
const MAX_SIZE: usize = 16;

type Slot = AtomicPtr<c_void>;
type GetExportTable = extern "C" fn(c_uint) -> *const c_void;
type Initialize = unsafe extern "C" fn(GetExportTable) -> c_int;
type RangePushA = unsafe extern "C" fn(*const c_char) -> c_int;
type RangePop = unsafe extern "C" fn() -> c_int;

/// The profiler's functions, null as long as it has written none.
static SLOTS: [[Slot; MAX_SIZE]; MODULES] =
    [const { [const { Slot::new(ptr::null_mut()) }; MAX_SIZE] }; MODULES];

/// Per module the addresses of its slots, null where there is none.
struct Tables([[*const Slot; MAX_SIZE + 1]; MODULES]);

// SAFETY: the addresses are those of a static of atomics.
unsafe impl Sync for Tables {}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = [[ptr::null(); MAX_SIZE + 1]; MODULES];
    let mut module = 0;
    while module < MODULES {
        // The function of number 0 does not exist.
        let mut function = 1;
        while function < SIZES[module] {
            tables[module][function] = &raw const SLOTS[module][function];
            function += 1;
        }
        module += 1;
    }
    Tables(tables)
}

/// `NvtxExportTableCallbacks`.
#[repr(C)]
struct Callbacks {
    size: usize,
    module_functions: extern "C" fn(c_int, *mut *const *const Slot, *mut c_uint) -> c_int,
}

static CALLBACK_TABLE: Callbacks = Callbacks {
    size: size_of::<Callbacks>(),
    module_functions,
};

/// `NvtxExportTableVersionInfo`.
#[repr(C)]
struct VersionInfo {
    size: usize,
    version: u32,
    reserved: u32,
    set_injection_version: extern "C" fn(u32),
}

static VERSION_TABLE: VersionInfo = VersionInfo {
    size: size_of::<VersionInfo>(),
    version: VERSION,
    reserved: 0,
    set_injection_version,
};

extern "C" fn export_table(id: c_uint) -> *const c_void {
    match id {
        CALLBACKS => (&raw const CALLBACK_TABLE).cast(),
        VERSION_INFO => (&raw const VERSION_TABLE).cast(),
        _ => ptr::null(),
    }
}

extern "C" fn module_functions(
    module: c_int,
    table: *mut *const *const Slot,
    size: *mut c_uint,
) -> c_int {
    let Some(module) = usize::try_from(module)
        .ok()
        .filter(|m| (1..MODULES).contains(m))
    else {
        return 0;
    };
    // SAFETY: the profiler passes null or the address of a variable, as the header's function
    // takes it.
    unsafe {
        if let Some(size) = size.as_mut() {
            *size = SIZES[module] as c_uint;
        }
        if let Some(table) = table.as_mut() {
            *table = TABLES.0[module].as_ptr();
        }
    }
    1
}

/// The header ignores the profiler's version too.
extern "C" fn set_injection_version(_version: u32) {}

/// Returns whether a profiler takes ranges. The first call loads its library.
pub(super) fn listened_to() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
            return false;
        };
        match load(&path) {
            Ok(()) => true,
            Err(reason) => {
                let path = path.display();
                log::warn!("no NVTX ranges: {VARIABLE} names {path}, and {reason}");
                false
            }
        }
    })
}

fn load(path: &OsStr) -> Result<(), String> {
    // SAFETY: whoever sets the variable has the library loaded into the process, as every program
    // with NVTX 3 does.
    let library = unsafe { Library::new(path) }.map_err(super::super::reason)?;
    // SAFETY: this is the type of the function of that name, `NvtxInitializeInjectionNvtxFunc_t`.
    let initialize = unsafe { library.get::<Initialize>(b"InitializeInjectionNvtx2\0") }
        .map(|function| *function)
        .map_err(super::super::reason)?;
    // SAFETY: the tables that the function asks for are those of the header, and statics.
    let status = unsafe { initialize(export_table) };
    if status == 0 {
        return Err(String::from("its InitializeInjectionNvtx2 returns 0"));
    }
    // Its functions are called until the process ends.
    std::mem::forget(library);
    if [RANGE_PUSH_A, RANGE_POP].iter().any(|&f| slot(f).is_null()) {
        return Err(String::from("it takes no nvtxRangePushA and nvtxRangePop"));
    }
    Ok(())
}

/// The profiler's function, or null.
fn slot(function: usize) -> *mut c_void {
    SLOTS[CORE][function].load(Ordering::Acquire)
}

/// Opens a range; returns whether there is one to close.
pub(super) fn push(text: &CStr) -> bool {
    let function = slot(RANGE_PUSH_A);
    if function.is_null() {
        return false;
    }
    // SAFETY: the profiler wrote a function of this type into this slot, and stays loaded.
    let push: RangePushA = unsafe { std::mem::transmute(function) };
    // SAFETY: the text ends in NUL, and is read during the call.
    unsafe { push(text.as_ptr()) };
    true
}

/// Closes the last range that this thread opened.
pub(super) fn pop() {
    let function = slot(RANGE_POP);
    if function.is_null() {
        return;
    }
    // SAFETY: the profiler wrote a function of this type into this slot, and stays loaded.
    let pop: RangePop = unsafe { std::mem::transmute(function) };
    // SAFETY: it takes nothing.
    unsafe { pop() };
}
