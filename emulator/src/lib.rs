#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod client;
pub mod counters;
pub mod device;
mod device_config;
#[cfg(unix)]
mod driver;
mod exec;
pub mod ir;
pub mod launch;
mod launch_config;
#[cfg(test)]
mod layers;
mod load_error;
mod lower;
pub mod memory;
pub mod module;
mod note;
mod order;
mod panics;
mod ptx;
mod random;
pub mod report;
mod sanitizer;
pub mod tensor_map;

pub use counters::{Class, Counters, MatrixKind, MatrixWork};
pub use device::{Device, DeviceConfig};
pub use launch::LaunchConfig;
pub use load_error::LoadError;
pub use memory::{Memory, MemoryError};
pub use module::{LoadedKernel, LoadedModule, Module};
pub use report::{Fault, FaultKind};
