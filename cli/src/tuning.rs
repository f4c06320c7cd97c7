//! The tuning file that a command reads, and its warnings.

use std::io::Write;
use std::path::PathBuf;

use warpconv::device::Gpu;
use warpconv::plan::Tuning;

use crate::args::Global;

/// The path in the options, or the default one; `None` if the options disable it, or there is no
/// cache folder.
pub fn path(global: &Global) -> Option<PathBuf> {
    match &global.tuning {
        Some(named) => Some(named.clone()).filter(|path| path.as_os_str() != "none"),
        None => Tuning::default_path(),
    }
}

/// Reads the tuned kernels for a device. A file that cannot be used is ignored, with a warning that
/// gives the reason.
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

/// Prints a line on standard error; errors are ignored.
pub fn warn(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "warpconv: warning: {line}");
}
