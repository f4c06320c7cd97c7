//! State of the machine that runs a kernel: registers of warps, what the warps of a block share.
//!
//! Imports neither [`super::memory`] nor [`super::instructions`].
pub(crate) mod context;
pub(crate) mod lanes;
pub(crate) mod softfloat;
pub(crate) mod warp;
