//! A profiler's library, as `NVTX_INJECTION64_PATH` names it: writes the calls of the core
//! functions to the file that `WARPCONV_TEST_RANGES` names. The test compiles it.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::OpenOptions;
use std::io::Write;

/// `NvtxExportTableCallbacks` of `nvtx3/nvtxDetail/nvtxTypes.h`.
#[repr(C)]
struct Callbacks {
    size: usize,
    module_functions: extern "C" fn(c_int, *mut *const *mut *const c_void, *mut c_uint) -> c_int,
}

/// `NvtxExportTableVersionInfo`.
#[repr(C)]
struct VersionInfo {
    size: usize,
    version: u32,
    reserved: u32,
    set_injection_version: extern "C" fn(u32),
}

fn say(line: &str) {
    let path = std::env::var("WARPCONV_TEST_RANGES").unwrap();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "{line}").unwrap();
}

unsafe extern "C" fn push(text: *const c_char) -> c_int {
    // SAFETY: the application passes a text that ends in NUL.
    say(&format!(
        "push {}",
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    ));
    0
}

extern "C" fn pop() -> c_int {
    say("pop");
    0
}

/// # Safety
/// `export_table` is the application's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn InitializeInjectionNvtx2(
    export_table: extern "C" fn(c_uint) -> *const c_void,
) -> c_int {
    let accepts = std::env::var_os("WARPCONV_TEST_REFUSES").is_none();
    // SAFETY: the tables of number 1 and 3 are these.
    let (callbacks, version) = unsafe {
        (
            &*export_table(1).cast::<Callbacks>(),
            &*export_table(3).cast::<VersionInfo>(),
        )
    };
    assert_eq!(callbacks.size, size_of::<Callbacks>());
    assert_eq!(version.size, size_of::<VersionInfo>());
    assert!(export_table(2).is_null());
    (version.set_injection_version)(3);
    let (mut table, mut functions) = (std::ptr::null(), 0);
    for (module, size) in [(1, 16), (2, 9), (3, 15), (4, 7), (5, 16), (6, 7)] {
        assert_eq!(
            (callbacks.module_functions)(module, &mut table, &mut functions),
            1
        );
        assert_eq!(functions, size, "module {module}");
        // A profiler subscribes to whatever there is.
        for function in 0..functions as usize {
            // SAFETY: the table has as many slots, each null or the address of a function.
            let slot = unsafe { *table.add(function) };
            assert_eq!(slot.is_null(), function == 0);
            if function > 0 {
                // SAFETY: as above.
                unsafe { *slot = unwanted as *const c_void };
            }
        }
    }
    assert_eq!(
        (callbacks.module_functions)(7, &mut table, &mut functions),
        0
    );
    assert_eq!(
        (callbacks.module_functions)(1, &mut table, &mut functions),
        1
    );
    // SAFETY: as above; 9 is nvtxRangePushA, 11 is nvtxRangePop.
    unsafe {
        **table.add(9) = push as *const c_void;
        **table.add(11) = pop as *const c_void;
    }
    say(&format!("version {}", version.version));
    accepts.into()
}

extern "C" fn unwanted() {
    say("another function");
    std::process::abort();
}
