#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod client;
pub mod counters;
pub mod device;
#[cfg(unix)]
mod driver;
mod exec;
pub mod ir;
pub mod launch;
mod load_error;
mod lower;
pub mod memory;
pub mod module;
mod order;
mod panics;
mod ptx;
pub mod report;
mod sanitizer;
pub mod tensor_map;

/// Writes a line to standard error, unless the client has silenced reports.
pub(crate) fn note(line: &str) {
    #[cfg(unix)]
    driver::note(line);
    #[cfg(not(unix))]
    {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

pub use counters::{Class, Counters, MatrixKind, MatrixWork};
pub use device::{Device, DeviceConfig};
pub use launch::LaunchConfig;
pub use load_error::LoadError;
pub use memory::{Memory, MemoryError};
pub use module::{LoadedKernel, LoadedModule, Module};
pub use report::{Fault, FaultKind};
