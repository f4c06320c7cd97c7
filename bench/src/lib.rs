//! What the benchmarks share: a device, time by its own events, a result checked before its time is
//! taken, the peer beside it, and rows that the report puts together. `CONTRIBUTING.md` says how to
//! run them and what is measured.

pub mod ceilings;
pub mod chain;
pub mod clocks;
pub mod conv;
#[cfg(feature = "cudnn")]
pub mod cudnn;
pub mod date;
pub mod family;
pub mod measure;
pub mod memory;
pub mod module;
pub mod options;
pub mod peer;
pub mod pool;
pub mod report;
pub mod row;
pub mod session;
pub mod wanted;
