//! Launches: buffers and pointers, refusals, streams and their order, memory, faults, drivers.

#[path = "../common/mod.rs"]
mod common;

mod bottleneck;
mod buffers;
mod drivers;
mod edge;
mod errors;
#[cfg(feature = "emulator")]
mod examples;
mod faults;
mod images;
mod invariants;
mod no_allocation;
#[cfg(feature = "nvtx")]
mod nvtx;
mod ordering;
mod out_of_memory;
mod pointers;
mod recovery;
mod streams;
mod wide;
mod workspace;
