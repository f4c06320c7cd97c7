//! Each instruction's arithmetic against Rust's own: rounding, denormals, NaN, infinities,
//! saturation, wrap-around.
// The value of a NaN depends on these forms.
#![allow(clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons)]

mod convert;
mod exact;
mod fields;
mod float;
mod half_types;
mod harness;
mod integer;
mod warp;
