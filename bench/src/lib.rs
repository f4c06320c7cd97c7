//! Shared parts of the benchmarks: a device, time by its own events, a result checked before its
//! time is taken, the peer beside it, and rows that the report puts together. `CONTRIBUTING.md`
//! says how to run them and what is measured.

pub mod clocks;
pub mod conv;
#[cfg(feature = "cudnn")]
pub mod cudnn;
pub mod cudnn_baseline;
pub mod date;
pub mod expected;
pub mod measure;
pub mod memory;
pub mod module;
pub mod options;
pub mod peak_rates;
pub mod pool;
pub mod record;
pub mod report;
pub mod session;
pub mod targets;
pub mod timed_graph;

#[cfg(test)]
mod tests;
