//! The kernels: their catalog, and per problem what each accepts, what it is estimated to take, its
//! arguments and its grid.
//!
//! The catalog (one [`Kernel`] per PTX module) is all that build.rs reads.

pub(crate) mod activation_args;
pub(crate) mod args;
#[cfg(test)]
mod args_tests;
pub(crate) mod bottleneck;
pub(crate) mod bottleneck_args;
pub(crate) mod branches;
pub(crate) mod branches_args;
mod capability;
mod catalog;
pub(crate) mod channel_args;
mod conv;
mod cost;
pub(crate) mod fill;
mod filter_rows;
mod limits;
mod lrn;
mod operation;
pub(crate) mod pack_args;
mod pool;
mod refusal;
mod relu;
mod roofline;
mod softmax;
mod subsample;
mod tanh;
pub(crate) mod tensor;
pub(crate) mod tensor_args;
mod tensor_cost;
mod unary;

pub use capability::Capability;
pub use catalog::{Algorithm, Arch, FEW_CHANNELS_MAX_GEMM_K, Kernel, KernelId, kernels};
pub use cost::Score;
pub(crate) use filter_rows::FilterRows;
pub use filter_rows::{WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
pub use limits::Limits;
pub use operation::Operation;
use operation::estimate_simt;
pub use refusal::Refusal;
pub use roofline::{Bound, PeakRates, Roofline};
pub use tensor_cost::LAUNCH_US;
pub use unary::Unary;

pub use crate::problem::{DType, Layout, Math};
