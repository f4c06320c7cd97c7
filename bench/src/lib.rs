//! Criterion on a device: time between its events, or instructions that the emulator counts.
//!
//! Beneath criterion are parts that it lacks: chains of launches on cold copies, a check of each
//! result before its time is taken, and cuDNN sampled in turn. Records are compared with the
//! roofline in the report. `docs/benchmarks.md` defines what is measured and how to run it.

pub mod ceilings;
pub mod clocks;
pub mod conv;
#[cfg(feature = "cudnn")]
pub mod cudnn;
pub mod cudnn_baseline;
pub mod cudnn_locations;
pub mod date;
pub mod exclude;
pub mod expected;
pub mod graph_cudnn;
pub mod graphs;
pub mod measure;
pub mod measurement;
pub mod memory;
pub mod options;
pub mod peak_rates;
pub mod point;
pub mod pool;
pub mod problems;
pub mod report;
pub mod rows;
pub mod session;
pub mod targets;
pub mod timed_graph;

pub use warpconv_records as record;

#[cfg(test)]
mod tests;
