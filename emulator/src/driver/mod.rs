//! The driver API: every function that `libcuda.so` exports.
//!
//! A function of the API is written in a [`driver!`] block, which exports it under its C name and
//! logs it. The block also prevents panics from crossing the C interface. `build.rs` collects these
//! names and generates a function that returns `CUDA_ERROR_NOT_SUPPORTED` for every other exported
//! name.
//!
//! Work is asynchronous: a call that submits work creates a task (`queue`), and calls wait where
//! CUDA's wait. Handles are looked up, never dereferenced, so a stale one is an error.

/// Defines exported driver functions. Each body is a `Result<(), CUresult>`, or ends in a
/// semicolon-free expression of that type; arguments are plain C data.
macro_rules! driver {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $crate::driver::status::CUresult {
            $crate::driver::guard(stringify!($name), || $body)
        }
    )*};
}

mod attributes;
mod backend;
mod capture;
mod client_api;
mod cluster;
mod config;
mod context;
mod copy;
mod current;
mod device;
mod device_profiles;
mod event;
mod exports;
mod external;
mod fill;
mod graph;
mod host;
mod init;
mod launch;
mod memory;
mod module;
mod module_file;
mod occupancy;
mod ordering;
mod pointer;
mod pool;
mod queue;
mod registry;
mod state;
mod status;
mod stream;
mod tensor_map;
mod transfer;
mod types;
mod work;

use config::{Config, Log};
use status::{CUresult, Result};

/// Runs the body of a driver function: a panic becomes `CUDA_ERROR_UNKNOWN` with a report, and the
/// call is logged according to the settings.
fn guard(name: &str, body: impl FnOnce() -> Result) -> CUresult {
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

/// Runs work of the driver; a panic is reported, with `name` as the operation, and the result is
/// `None`.
///
/// Every exported function and every thread of the driver uses it.
fn contained<T>(name: &str, body: impl FnOnce() -> T) -> Option<T> {
    match crate::panics::contain(body) {
        Ok(value) => Some(value),
        Err(panic) => {
            // Standard error may be closed, and the report itself must not panic.
            let _ = crate::panics::contain(|| {
                let report = format!("{panic}\n  in {name}");
                config::report(&format!("ptx-emulator: {report}"));
                client_api::note_fault(report, CUresult::UNKNOWN);
            });
            None
        }
    }
}

/// Logs the reason of a failed call, if failures are logged.
fn log_detail(text: &str) {
    if Config::get().map_or(Log::Quiet, |config| config.log) != Log::Quiet {
        config::say(&format!("ptx-emulator: {text}"));
    }
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
