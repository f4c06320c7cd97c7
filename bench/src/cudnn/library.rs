//! Search for the cuDNN library without cudarc, which panics if the library is missing.

use std::error::Error as _;
use std::ffi::{OsStr, c_void};
use std::path::{Path, PathBuf};

use cudarc::cudnn::sys;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::cudnn_locations::{self, FILE, Location, Search, Surroundings};

/// The environment variable that names the library's file, or its folder.
pub const VARIABLE: &str = "WARPCONV_CUDNN";

/// The versions for which the constants of the bindings are valid.
const VERSIONS: std::ops::Range<usize> = 90_000..100_000;

/// All cuDNN functions that are called here: cudarc panics at a call of a function that the library
/// lacks.
pub const FUNCTIONS: [&str; 35] = [
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

/// The library that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its version: 91002 is 9.10.2.
    pub version: usize,
    /// Its file, unless the loader found it.
    pub file: Option<PathBuf>,
}

/// Loads the library, for the rest of the process. The error names what is missing, and where it
/// was looked for.
pub fn find() -> Result<Found, String> {
    let file = load_somewhere()?;
    // SAFETY: the library was just found under one of the names that cudarc tries.
    let library = unsafe { sys::culib() };
    if let Some(file) = &file {
        check_same(library, file)?;
    }
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
    Ok(Found { version, file })
}

/// Checks that cudarc opened `file`, which is loaded: the loader may find another library, since
/// cudarc tries the name without a version first.
fn check_same(library: &libloading::Library, file: &Path) -> Result<(), String> {
    const NAME: &[u8] = b"cudnnGetVersion\0";
    // SAFETY: the file is loaded already, so no initialiser runs; symbols are looked up only.
    let same = unsafe {
        let own = Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL).map_err(|e| e.to_string())?;
        let address = |symbol: Result<*mut c_void, libloading::Error>| symbol.ok();
        let opened = address(library.get::<*mut c_void>(NAME).map(|symbol| *symbol));
        let expected = address(own.get::<*mut c_void>(NAME).map(|symbol| *symbol));
        opened == expected
    };
    match same {
        true => Ok(()),
        false => Err(format!(
            "{} is loaded, but the loader has another libcudnn.so in its path (LD_LIBRARY_PATH or \
             the system's folders)",
            file.display()
        )),
    }
}

/// Loads the library from the named location, else by the loader, else from the locations where
/// users have it. Returns its file unless the loader found it.
fn load_somewhere() -> Result<Option<PathBuf>, String> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let location = cudnn_locations::named(Path::new(&named));
        let location = location.and_then(|location| load_location(&location).map(|()| location));
        let location = location.map_err(|why| format!("{VARIABLE} names no cuDNN: {why}"))?;
        return match is_found() {
            true => Ok(Some(location.file)),
            false => Err(format!(
                "{VARIABLE} names {}, which is not called {FILE} inside",
                location.file.display()
            )),
        };
    }
    if is_found() {
        return Ok(None);
    }
    let search = Search::new(&Surroundings::of_process());
    let mut failed = String::new();
    for location in &search.locations {
        match load_location(location) {
            // cudarc later opens the library by name and gets this one, which has that name.
            Ok(()) if is_found() => return Ok(Some(location.file.clone())),
            Ok(()) => {}
            Err(why) => failed.push_str(&format!("; {} fails: {why}", location.file.display())),
        }
    }
    Err(format!(
        "no cuDNN 9 here (set {VARIABLE} to its file or folder): the loader finds no {FILE}, and \
         none was loaded from {search}{failed}"
    ))
}

/// Returns whether the loader finds the library under a name that cudarc tries. The library stays
/// loaded: its threads do not survive unloading.
fn is_found() -> bool {
    cudarc::get_lib_name_candidates("cudnn")
        .iter()
        .any(|name| load(OsStr::new(name)).is_ok())
}

/// Loads cuBLAS and NVRTC, then cuDNN, which opens both by name. Without them it is loaded too: it
/// needs them for some plans only.
fn load_location(location: &Location) -> Result<(), String> {
    for dependency in &location.dependencies {
        let _plans_that_need_it_fail = load(dependency.as_os_str());
    }
    load(location.file.as_os_str())
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
