//! The frame of every exported function.

use crate::driver::config::{self, Config, Log};
use crate::driver::contain::contained;
use crate::driver::queue;
use crate::driver::status::{CUresult, Result};

/// Runs the body of a driver function: a panic becomes `CUDA_ERROR_UNKNOWN` with a report, and the
/// call is logged according to the settings.
pub fn guard(name: &str, body: impl FnOnce() -> Result) -> CUresult {
    queue::note_call();
    let result = contained(name, || {
        let code = match body() {
            Ok(()) => CUresult::SUCCESS,
            Err(code) => code,
        };
        log_call(name, code);
        code
    });
    result.unwrap_or(CUresult::UNKNOWN)
}

/// Logs a call, if calls are logged.
fn log_call(name: &str, code: CUresult) {
    let level = Config::get().map_or(Log::Quiet, |config| config.log);
    if level == Log::All
        || (level == Log::Failures && code != CUresult::SUCCESS && code != CUresult::NOT_READY)
    {
        config::say(&format!("ptx-emulator: {name} -> {}", code.name()));
    }
}
