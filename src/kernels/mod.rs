//! The kernels: their catalog, and per problem their acceptance, estimate, arguments and grid.
//!
//! The catalog (one [`Kernel`] per PTX module) is all that build.rs reads.

pub(crate) mod args;
#[cfg(test)]
mod args_tests;
pub(crate) mod bottleneck;
mod capability;
mod catalog;
mod conv;
pub(crate) mod cost;
pub(crate) mod elementwise;
pub(crate) mod families;
pub(crate) mod fill;
mod filter_rows;
mod limits;
mod mma;
pub(crate) mod multi_conv;
mod operation;
pub(crate) mod pack_args;
mod pool;
mod refusal;
mod roofline;
mod simt;
pub(crate) mod tensor;
pub(crate) mod tensor_args;
mod tensor_cost;
mod wgmma;

pub use capability::Capability;
pub use catalog::{Algorithm, Arch, FEW_CHANNELS_MAX_GEMM_K, Kernel, KernelId, kernels};
pub use cost::Score;
pub use elementwise::Unary;
#[doc(hidden)]
pub use families::Rounding;
pub(crate) use filter_rows::FilterRows;
pub use filter_rows::{WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
pub use limits::Limits;
pub use operation::Operation;
use operation::estimate_simt;
pub use refusal::Refusal;
pub use roofline::{Bound, PeakRates, Roofline};
pub use tensor_cost::LAUNCH_US;

use crate::problem;
pub use crate::problem::{DType, Layout, Math};
