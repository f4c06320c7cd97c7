//! The driver's objects: data, and operations on it that neither wait nor run work.

pub mod context;
pub mod copy;
mod device;
mod driver;
mod external;
mod fill;
mod graph;
mod launch;
mod memory;
mod module;
mod operation;
pub mod transfer;

pub use context::Context;
pub use device::{Allocation, AllocationKind, Device};
pub use driver::{Driver, driver, driver_raw};
pub use external::ExternalMemory;
pub use fill::Fill;
pub use graph::{Graph, GraphExec};
pub use launch::Launch;
pub use memory::{HostRange, Pages, Pool};
pub use module::{ClusterSettings, Function, Module};
pub use operation::{
    CallbackFunction, Capture, Event, EventState, HostData, HostFunction, Mode, Node, Op, Stream,
    StreamCapture, TaskId,
};
