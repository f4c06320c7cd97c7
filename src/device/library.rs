//! A library that may be the driver, loaded so that its name stays free for another.

use std::error::Error as _;
use std::ffi::CStr;

/// A loaded library.
#[derive(Debug)]
pub(super) struct Library(libloading::Library);

impl Library {
    /// Loads the library that the dynamic linker finds by this name.
    ///
    /// The linker answers a name with the library that was loaded by it before, for as long as that
    /// stays loaded. So this loads the library by its path, which leaves the name to whoever comes
    /// next, such as the emulator.
    pub(super) fn open(name: &str) -> Result<Library, String> {
        // SAFETY: loading the CUDA driver runs its initialisers, which any program may do at any
        // time.
        let named = unsafe { libloading::Library::new(name) }.map_err(words)?;
        let named = Library(named);
        let path = named.path();
        if !std::path::Path::new(&path).is_absolute() {
            return Ok(named);
        }
        // Nothing of it was called, so it may be unloaded, and is, unless somebody else has loaded
        // it.
        drop(named);
        // SAFETY: as above.
        match unsafe { libloading::Library::new(&path) } {
            Ok(library) => Ok(Library(library)),
            Err(error) => Err(words(error)),
        }
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is the function's type.
    pub(super) unsafe fn get<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: the caller's promise is this function's own.
        unsafe { self.0.get::<F>(name.to_bytes_with_nul()) }
            .ok()
            .map(|symbol| *symbol)
    }

    /// The address of a function.
    pub(super) fn address(&self, name: &CStr) -> Option<usize> {
        // SAFETY: only the address is looked at.
        unsafe { self.get::<unsafe extern "C" fn()>(name) }.map(|function| function as usize)
    }

    /// Returns whether it is the same library as the other one, loaded by another name.
    pub(super) fn is(&self, other: &Library) -> bool {
        let init = self.address(c"cuInit");
        init.is_some() && init == other.address(c"cuInit")
    }

    /// Its file, as far as that is known.
    pub(super) fn path(&self) -> String {
        path_of(self.address(c"cuInit").unwrap_or(0))
    }

    /// Leaves it loaded until the process ends.
    pub(super) fn keep(self) {
        std::mem::forget(self.0);
    }

    /// Leaves it loaded, unless it still answers to `name`, as one does whose SONAME that is.
    pub(super) fn give_up(self, name: &str) {
        if !answers_to(name) {
            self.keep();
        }
    }
}

/// The loader's own words are one level down.
fn words(error: libloading::Error) -> String {
    match error.source() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

/// Returns whether a library is loaded that the linker gives to those who ask for `name`.
#[cfg(target_os = "linux")]
fn answers_to(name: &str) -> bool {
    use libloading::os::unix::{Library, RTLD_LAZY};
    // SAFETY: with this flag nothing is loaded.
    unsafe { Library::open(Some(name), RTLD_LAZY | libc::RTLD_NOLOAD) }.is_ok()
}

/// Returns whether a library is loaded that the linker gives to those who ask for `name`: not known
/// here.
#[cfg(not(target_os = "linux"))]
fn answers_to(_name: &str) -> bool {
    false
}

/// The file of the library that has this address.
#[cfg(unix)]
pub(super) fn path_of(address: usize) -> String {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let address = std::ptr::without_provenance::<libc::c_void>(address);
    // SAFETY: the address is only compared with those of the loaded libraries, and there is room
    // for the answer.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
    // SAFETY: any bits, zeros among them, are a valid Dl_info.
    let info = unsafe { info.assume_init() };
    if !found || info.dli_fname.is_null() {
        return String::from("libcuda.so");
    }
    // SAFETY: the linker gives a string that lives as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    name.to_string_lossy().into_owned()
}

/// The file of the library that has this address: not known here.
#[cfg(not(unix))]
pub(super) fn path_of(_address: usize) -> String {
    String::from("nvcuda.dll")
}
