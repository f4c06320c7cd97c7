//! Containment of panics, and the log of reasons.

use crate::driver::config::{self, Config, Log};
use crate::driver::journal::note_fault;
use crate::driver::status::CUresult;

/// Runs work of the driver; a panic is reported, with `name` as the operation, and the result is
/// `None`.
///
/// Every exported function and every thread of the driver uses it.
pub fn contained<T>(name: &str, body: impl FnOnce() -> T) -> Option<T> {
    match crate::panics::contain(body) {
        Ok(value) => Some(value),
        Err(panic) => {
            // Standard error may be closed, and the report itself must not panic.
            let _ = crate::panics::contain(|| {
                let report = format!("{panic}\n  in {name}");
                config::report(&format!("ptx-emulator: {report}"));
                note_fault(report, CUresult::UNKNOWN);
            });
            None
        }
    }
}

/// Logs the reason of a failed call, if failures are logged.
pub fn log_detail(text: &str) {
    if Config::get().map_or(Log::Quiet, |config| config.log) != Log::Quiet {
        config::say(&format!("ptx-emulator: {text}"));
    }
}
