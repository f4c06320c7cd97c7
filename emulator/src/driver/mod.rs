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
            $crate::driver::guard::guard(stringify!($name), || $body)
        }
    )*};
}

mod attributes;
mod backend;
mod capture;
mod client_api;
mod cluster;
mod config;
mod contain;
mod context;
mod copy;
mod current;
mod device;
mod device_profiles;
mod error;
mod event;
mod exports;
mod external;
mod fill;
mod graph;
mod guard;
mod host;
mod init;
mod journal;
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
mod release;
mod resources;
mod state;
mod status;
mod stream;
mod submit;
mod tensor_map;
mod touched;
mod types;
mod work;
