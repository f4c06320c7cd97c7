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
mod rebuild;
mod relu;
mod softmax;
mod subsample;
mod tanh;
mod tensor;
mod types;

pub use bottleneck2d::{Added, Bottleneck2d};
pub use branches::{Branches, MAX_CONVOLUTIONS, Product};
pub(crate) use branches::{MAX_MERGED, MAX_PRODUCTS};
pub(crate) use conv2d::Axis;
pub use conv2d::{Conv2d, Window};
pub use lrn::{Lrn, LrnParameters};
pub use notation::{NotationReason, NotationWarning};
pub(crate) use pool2d::MAX_INDEXED_WINDOW;
pub use pool2d::{NO_INDEX, Pool2d, PoolKind};
pub use relu::Relu;
pub use softmax::Softmax;
pub use subsample::{Activation, Subsample};
pub use tanh::Tanh;
pub(crate) use tensor::DEFAULT_ALIGNMENT;
pub use tensor::{Builder, FilterDesc, TensorDesc};
pub(crate) use types::PACKED_BYTES;
pub use types::{DType, FilterLayout, Layout, Math, Padding};
