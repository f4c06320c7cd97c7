//! The command line in a process of its own, for tests: what it says and with which code it ends.

#[cfg(target_os = "linux")]
pub mod limited;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder of its own for a test, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// An empty one.
    pub fn new(name: &str) -> Scratch {
        let folder =
            std::env::temp_dir().join(format!("warpconv-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path of a file in it, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// A copy of a case of `tests/data`.
    pub fn copy(&self, case: &str) -> PathBuf {
        let (from, to) = (data(case), self.0.join(case));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            // Contents only: the originals may be read-only.
            fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
        }
        to
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A path of `tests/data`.
pub fn data(path: &str) -> PathBuf {
    crate::paths::data().join(path)
}

/// Runs it with the arguments.
pub fn warpconv<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(crate::paths::warpconv())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Output.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs and expects an exit code; panics of the program would show as 101.
pub fn expect<S: AsRef<std::ffi::OsStr>>(args: &[S], code: i32) -> (String, String) {
    let output = warpconv(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout:\n{out}\nstderr:\n{err}"
    );
    (out, err)
}

/// `verify` of a path on the emulator.
pub fn verify(path: &Path, more: &[&str], code: i32) -> (String, String) {
    let mut args = vec!["verify", path.to_str().unwrap(), "--device", "emulator:80"];
    args.extend(more);
    expect(&args, code)
}

/// Reads a file that it wrote.
pub fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
