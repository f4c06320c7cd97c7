//! Each instruction's arithmetic against Rust's own: rounding, denormals, NaN, infinities, saturation, wrap-around.

mod convert;
mod exact;
mod float;
mod half_types;
mod harness;
mod integer;
