//! The tuning file that a command reads, and what is said of it.

use std::io::Write;
use std::path::PathBuf;

use warpconv::device::Gpu;
use warpconv::plan::Tuning;

use crate::args::Global;

/// The file that the options name, or the usual one; `None` if the user wants none, or there is no
/// place for one.
pub fn path(global: &Global) -> Option<PathBuf> {
    match &global.tuning {
        Some(named) => Some(named.clone()).filter(|path| path.as_os_str() != "none"),
        None => Tuning::default_path(),
    }
}

/// The winners for a device, from the file that the options name. One that cannot be used is
/// ignored with a warning that says why.
pub fn load(global: &Global, gpu: &Gpu) -> Tuning {
    let path = path(global);
    let read = path.as_ref().map(|path| {
        if global.tuning.is_some() && !path.exists() {
            warn(format_args!("{}: there is no such file", path.display()));
        }
        Tuning::read(path, gpu.card())
    });
    match read {
        Some(Ok(tuning)) => tuning,
        Some(Err(error)) => {
            warn(format_args!("{error}; plans are made without it"));
            Tuning::new(gpu.card())
        }
        None => Tuning::new(gpu.card()),
    }
}

/// A line on standard error; if that is closed, there is nobody to warn.
pub fn warn(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "warpconv: warning: {line}");
}
