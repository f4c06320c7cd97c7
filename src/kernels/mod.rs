//! The kernels: their catalog, and per problem their acceptance, estimate, arguments and grid.
//!
//! The catalog (one [`Kernel`] per PTX module) is all that build.rs reads.

pub(crate) mod args;
#[cfg(test)]
mod args_tests;
pub(crate) mod bottleneck;
mod catalog;
pub(crate) mod cost;
pub(crate) mod elementwise;
mod filter_rows;
mod mma;
pub(crate) mod multi_conv;
pub(crate) mod operation;
pub(crate) mod pack_args;
pub(crate) mod pool;
mod refusal;
pub(crate) mod simt;
pub(crate) mod tensor;
pub(crate) mod tensor_args;
mod tensor_cost;
mod wgmma;

pub(crate) use catalog::FEW_CHANNELS_MAX_GEMM_K;
pub use catalog::{Algorithm, Arch, Kernel};
pub use cost::{Bound, Capability, PeakRates, Roofline, Score};
pub use elementwise::Unary;
pub(crate) use filter_rows::FilterRows;
pub use filter_rows::{WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
use operation::estimate_simt;
pub use operation::{KernelId, Limits, Operation, kernels};
pub use refusal::Refusal;
#[doc(hidden)]
pub use tensor::Rounding;
pub(crate) use tensor_cost::LAUNCH_US;

use crate::problem;
pub use crate::problem::{DType, Layout, Math};
