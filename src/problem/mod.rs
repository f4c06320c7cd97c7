//! Problems: shapes, strides, paddings and storage, validated on construction.
//!
//! Sizes go by one-letter names throughout the crate: `n` images of `c` channels, `h` rows and `w`
//! columns go in; `k` filters of `r` rows and `s` columns make `p` rows and `q` columns of output,
//! in `groups` groups. [`Conv2d`], [`Pool2d`], [`Relu`] and [`Bottleneck2d`] are made by builders
//! that refuse what cannot be computed, the first two also by [`str::parse`] from the notation of
//! oneDNN's benchdnn (see [`notation`]).

mod bottleneck2d;
mod branches;
mod conv2d;
mod lrn;
pub mod notation;
mod pair;
mod pool2d;
mod relu;
mod softmax;
mod subsample;
mod tanh;
mod tensor;
mod types;

pub use bottleneck2d::{Added, Bottleneck2d, Bottleneck2dBuilder};
pub use branches::{Branches, MAX_CONVOLUTIONS, MAX_MERGED, MAX_PRODUCTS, Product};
pub use conv2d::{Conv2d, Conv2dBuilder, DEFAULT_ALIGNMENT};
pub use lrn::{Lrn, LrnParameters};
pub use notation::{NotationReason, NotationWarning};
pub use pool2d::{MAX_INDEXED_WINDOW, NO_INDEX, Pool2d, Pool2dBuilder, PoolKind};
pub use relu::Relu;
pub use softmax::Softmax;
pub use subsample::{Activation, Subsample};
pub use tanh::Tanh;
pub use tensor::{Axis, MAX_INDEX, TensorDesc, TensorStrides, Window};
pub use types::{DType, FilterLayout, Layout, Math, PACKED_BYTES, Padding};
