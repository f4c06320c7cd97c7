//! Hand-written CUDA convolution, pooling and ReLU kernels with safe Rust launchers.
#![deny(missing_docs)]

pub mod catalog;
pub mod error;
pub mod gpu;
pub mod launch;
pub mod plan;
pub mod problem;
pub mod ptx;
pub mod reference;

pub use catalog::{DType, Layout};
pub use error::Error;
