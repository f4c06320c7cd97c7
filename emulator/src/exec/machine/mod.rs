//! State of the machine that runs a kernel: registers of warps, and state shared by the warps of a
//! block.
//!
//! Imports neither [`super::memory`] nor [`super::instructions`].
pub(crate) mod barriers;
pub(crate) mod cluster;
pub(crate) mod cluster_barrier;
pub(crate) mod context;
pub(crate) mod copies;
pub(crate) mod deadlock_timer;
pub(crate) mod flow;
pub(crate) mod lanes;
pub(crate) mod local_memory;
pub(crate) mod mbarriers;
pub(crate) mod printed;
pub(crate) mod register_pool;
pub(crate) mod softfloat;
pub(crate) mod special;
pub(crate) mod warp;
pub(crate) mod wgmma_state;
