//! The table of exported names, written by `build.rs`, and `cuGetProcAddress`, which looks names up
//! in it.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::status::{CUresult, Result};
use super::types::{In, Out, check, text};

/// The address of an exported function.
pub struct Symbol(*const c_void);

// SAFETY: the address of a function may be read anywhere.
unsafe impl Sync for Symbol {}

/// Exports functions that the emulator does not have. Their arguments do not matter: in the C
/// calling convention the caller clears them away.
macro_rules! unsupported {
    ($($name:ident,)*) => {$(
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub extern "C" fn $name() -> CUresult {
            crate::driver::guard(stringify!($name), || Err(CUresult::NOT_SUPPORTED))
        }
    )*};
}

include!(concat!(env!("OUT_DIR"), "/exports.rs"));

/// The address of the newest variant of `name` that a driver of `version` (12040 for 12.4) has.
fn address(name: &str, version: c_int) -> Option<*const c_void> {
    // Programs ask for the plain name and their own CUDA version. The variants of a function are
    // told apart by suffix; `_v3` and `_v4` change parameters and came late, so older programs must
    // not get them.
    let find = |name: &str| {
        let index = TABLE.binary_search_by(|row| row.0.cmp(name)).ok()?;
        Some(TABLE[index].1.0)
    };
    // From 12.0 on, this name means the function with flags.
    let name = match name {
        "cuGraphInstantiate" if version >= 12000 => "cuGraphInstantiateWithFlags",
        name => name,
    };
    let variants: &[(&str, c_int)] = match name {
        "cuCtxCreate" => &[("_v4", 12050), ("_v3", 11040), ("_v2", 3020)],
        "cuEventElapsedTime" => &[("_v2", 12080)],
        "cuMemPrefetchAsync" | "cuMemAdvise" => &[("_v2", 13000)],
        "cuGetProcAddress" | "cuStreamWaitValue32" | "cuStreamWriteValue32" => &[("_v2", 12000)],
        "cuStreamGetCaptureInfo" => &[("_v3", 12030), ("_v2", 11030)],
        "cuGraphGetEdges" | "cuGraphNodeGetDependencies" | "cuGraphNodeGetDependentNodes" => {
            &[("_v2", 13000)]
        }
        "cuGraphAddKernelNode" | "cuGraphKernelNodeGetParams" | "cuGraphKernelNodeSetParams" => {
            &[("_v2", 12000)]
        }
        "cuGraphExecKernelNodeSetParams" | "cuGraphExecUpdate" => &[("_v2", 12000)],
        "cuGraphAddNode" | "cuGraphAddDependencies" | "cuGraphRemoveDependencies" => {
            &[("_v2", 12030)]
        }
        "cuCtxSynchronize" | "cuCtxGetDevice" => &[("_v2", 13000)],
        _ => &[("_v3", 3020), ("_v2", 3020)],
    };
    variants
        .iter()
        .filter(|variant| version >= variant.1)
        .find_map(|variant| find(&format!("{name}{}", variant.0)))
        .or_else(|| find(name))
}

fn look_up(
    symbol: In<c_char>,
    function: Out<*const c_void>,
    version: c_int,
    status: Out<c_uint>,
) -> Result {
    check(!function.is_null())?;
    match address(&text(symbol)?, version) {
        Some(address) => {
            status.set_if_wanted(0);
            function.set(address)
        }
        None => {
            // CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND
            status.set_if_wanted(1);
            function.set(std::ptr::null())?;
            Err(CUresult::NOT_FOUND)
        }
    }
}

driver! {
    fn cuGetProcAddress(
        symbol: In<c_char>, function: Out<*const c_void>, version: c_int, _flags: u64,
    ) {
        look_up(symbol, function, version, Out(std::ptr::null_mut()))
    }

    fn cuGetProcAddress_v2(
        symbol: In<c_char>,
        function: Out<*const c_void>,
        version: c_int,
        _flags: u64,
        status: Out<c_uint>,
    ) {
        look_up(symbol, function, version, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_found_by_version() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert!(TABLE.len() > 500);
        let at = |name: &str| TABLE.iter().find(|row| row.0 == name).map(|row| row.1.0);
        assert_eq!(address("cuMemAlloc", 12000), at("cuMemAlloc_v2"));
        assert_eq!(address("cuCtxCreate", 11040), at("cuCtxCreate_v3"));
        assert_eq!(address("cuCtxCreate", 13000), at("cuCtxCreate_v4"));
        assert_eq!(address("cuInit", 12000), at("cuInit"));
        assert_eq!(address("cuNoSuchThing", 12000), None);
    }
}
