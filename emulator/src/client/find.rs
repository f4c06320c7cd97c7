//! Searches for the shared library, and loads it under the name that bindings open.

use std::path::{Path, PathBuf};

use super::ClientError;

/// The library's file name.
const FILE: &str = "libptx_emulator.so";

/// Candidate paths of the library: the file named by `PTX_EMULATOR_LIB`, else the folder of the
/// executable and those where cargo puts the libraries of a program, its tests, examples and
/// benchmarks.
fn candidates(named: Option<PathBuf>, executable: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![if named.is_dir() {
            named.join(FILE)
        } else {
            named
        }];
    }
    let mut places = Vec::new();
    let beside = executable.and_then(Path::parent);
    for directory in [beside, beside.and_then(Path::parent)]
        .into_iter()
        .flatten()
    {
        // cargo always builds into `deps`; a copy one level up may come from an earlier build.
        places.push(directory.join("deps").join(FILE));
        places.push(directory.join(FILE));
    }
    if let (Some(directory), Some(first)) = (beside, places.first_mut()) {
        // A test's executable is itself in `deps`.
        if directory.ends_with("deps") {
            *first = directory.join(FILE);
        }
    }
    // The bare name, which the loader searches in LD_LIBRARY_PATH: cargo sets it for everything
    // that it runs.
    places.push(PathBuf::from(FILE));
    places
}

/// Loads the first of the candidates that exists.
pub fn load() -> Result<(libloading::Library, PathBuf), ClientError> {
    let named = std::env::var_os("PTX_EMULATOR_LIB").map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    let mut tried = candidates(named, executable.as_deref());
    tried.dedup();
    for path in &tried {
        let bare = path.components().count() == 1 && path.as_os_str() == FILE;
        if !bare && !path.exists() {
            continue;
        }
        match open(path) {
            Ok(library) => return Ok((library, path.clone())),
            Err(_) if bare => {}
            Err(error) => {
                return Err(ClientError::Load {
                    path: path.clone(),
                    message: error.to_string(),
                });
            }
        }
    }
    Err(ClientError::NotFound { tried })
}

/// Loads a library with all symbols global.
#[cfg(unix)]
fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the emulator's library runs nothing when it is loaded.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
}

/// Loads a library.
#[cfg(not(unix))]
fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the emulator's library runs nothing when it is loaded.
    unsafe { libloading::Library::new(path) }
}

/// Returns whether `libcuda.so` resolves to the library that has this function at this address.
#[cfg(target_os = "linux")]
pub fn is_the_driver(version: usize) -> bool {
    // SAFETY: a library of that name is already loaded: the emulator, or a driver without load-time
    // side effects.
    let Ok(driver) = (unsafe { libloading::Library::new("libcuda.so") }) else {
        return false;
    };
    // SAFETY: the address is only compared.
    let found = unsafe { driver.get::<unsafe extern "C" fn()>(b"ptx_emulator_version\0") };
    found.is_ok_and(|symbol| *symbol as usize == version)
}

/// Returns whether `libcuda.so` resolves to this library: can be determined on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn is_the_driver(_version: usize) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_layouts_are_covered() {
        let places = |executable: &str| candidates(None, Some(Path::new(executable)));
        let at = |path: &str| PathBuf::from(path).join(FILE);
        assert_eq!(places("/t/debug/app")[0], at("/t/debug/deps"));
        assert_eq!(places("/t/debug/deps/test-1")[0], at("/t/debug/deps"));
        assert!(places("/t/debug/examples/app").contains(&at("/t/debug/deps")));
        assert!(places("/usr/app/bin/app").contains(&at("/usr/app/bin")));
        assert_eq!(
            candidates(Some("/x/y.so".into()), None),
            [PathBuf::from("/x/y.so")]
        );
    }
}
