//! Bulk tensor copies against plain loops over coordinates. Bytes are copied, so everything is
//! compared exactly.

mod harness;
mod im2col;
mod replace;
mod tiled;
