//! Each instruction's arithmetic against Rust's own: rounding, denormals, NaN, infinities,
//! saturation, wrap-around.
#![allow(clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons)] // what a NaN gives depends on them

mod convert;
mod exact;
mod fields;
mod float;
mod half_types;
mod harness;
mod integer;
mod warp;
