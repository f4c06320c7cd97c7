//! Instructions through the Rust API: their results, and the checks of what they access.
//!
//! ```text
//! cargo test --test instructions edges::    # one module
//! cargo test --test instructions -- --list
//! ```

#[path = "../common/mod.rs"]
mod common;

mod arithmetic;
mod clusters;
mod edges;
mod matrix;
mod memory;
mod printing;
mod tensor;
mod wgmma;
