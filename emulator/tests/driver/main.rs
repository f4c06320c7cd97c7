//! The library as a driver: calls through cudarc, the order of streams and graphs, and input that
//! exceeds a limit or is damaged.
//!
//! ```text
//! cargo test --test driver graphs::     # one module
//! cargo test --test driver -- --list
//! ```

#[path = "../common/mod.rs"]
mod common;
#[macro_use]
#[path = "../common/process.rs"]
mod process;

mod calls;
mod client;
mod cooperative;
mod fuzz;
mod graphs;
mod kernels;
mod limited;
mod limits;
mod ordering;
mod streams;
mod tensor_maps;
