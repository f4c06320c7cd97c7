//! Search for the cuDNN library without cudarc, which panics if the library is missing.

use std::error::Error as _;
use std::ffi::OsStr;

use cudarc::cudnn::sys;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The environment variable that names the library's file, or its folder.
pub const VARIABLE: &str = "WARPCONV_CUDNN";

/// The versions for which the constants of the bindings are valid.
const VERSIONS: std::ops::Range<usize> = 90_000..100_000;

/// All cuDNN functions that are called here: cudarc panics at a call of a function that the library
/// lacks.
const FUNCTIONS: [&str; 35] = [
    "cudnnActivationForward",
    "cudnnAddTensor",
    "cudnnBackendCreateDescriptor",
    "cudnnBackendDestroyDescriptor",
    "cudnnBackendExecute",
    "cudnnBackendFinalize",
    "cudnnBackendGetAttribute",
    "cudnnBackendSetAttribute",
    "cudnnConvolutionBiasActivationForward",
    "cudnnConvolutionForward",
    "cudnnCreate",
    "cudnnCreateActivationDescriptor",
    "cudnnCreateConvolutionDescriptor",
    "cudnnCreateFilterDescriptor",
    "cudnnCreatePoolingDescriptor",
    "cudnnCreateTensorDescriptor",
    "cudnnDestroy",
    "cudnnDestroyActivationDescriptor",
    "cudnnDestroyConvolutionDescriptor",
    "cudnnDestroyFilterDescriptor",
    "cudnnDestroyPoolingDescriptor",
    "cudnnDestroyTensorDescriptor",
    "cudnnGetConvolutionForwardWorkspaceSize",
    "cudnnGetVersion",
    "cudnnPoolingForward",
    "cudnnSetActivationDescriptor",
    "cudnnSetConvolution2dDescriptor",
    "cudnnSetConvolutionGroupCount",
    "cudnnSetConvolutionMathType",
    "cudnnSetFilter4dDescriptor",
    "cudnnSetPooling2dDescriptor",
    "cudnnSetStream",
    "cudnnSetTensor4dDescriptor",
    "cudnnSetTensor4dDescriptorEx",
    "cudnnTransformTensor",
];

/// Loads the library, for the rest of the process, and returns its version. The error names what is
/// missing.
pub fn find() -> Result<usize, String> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        // cudarc later opens the library by name and gets this one, which has that name.
        load_named(&named)?;
    }
    if !is_found() {
        return Err(format!(
            "no cuDNN here: the loader finds no libcudnn.so.9 (set {VARIABLE} or LD_LIBRARY_PATH)"
        ));
    }
    // SAFETY: the library was just found under one of the names that cudarc tries.
    let library = unsafe { sys::culib() };
    for function in FUNCTIONS {
        // SAFETY: the symbol is looked up, not called.
        let found = unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) };
        if found.is_err() {
            return Err(format!("the cuDNN that is here has no {function}"));
        }
    }
    // SAFETY: the function was found above; it takes no arguments and can be called at any time.
    let version = unsafe { sys::cudnnGetVersion() };
    if !VERSIONS.contains(&version) {
        return Err(format!(
            "the cuDNN that is here is version {version}; 9 is needed"
        ));
    }
    Ok(version)
}

/// Returns whether the loader finds the library under a name that cudarc tries. The library stays
/// loaded: its threads do not survive unloading.
fn is_found() -> bool {
    cudarc::get_lib_name_candidates("cudnn")
        .iter()
        .any(|name| load(OsStr::new(name)).is_ok())
}

fn load_named(named: &OsStr) -> Result<(), String> {
    let path = std::path::Path::new(named);
    let file = if path.is_dir() {
        path.join("libcudnn.so.9")
    } else {
        path.to_owned()
    };
    load(file.as_os_str()).map_err(|why| format!("{VARIABLE} names no cuDNN: {why}"))
}

fn load(name: &OsStr) -> Result<(), String> {
    // SAFETY: loading cuDNN runs its initialisers, which any program may do at any time.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) };
    match library {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(match error.source() {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        }),
    }
}
