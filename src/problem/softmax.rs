//! Softmax.

use crate::error::Error;
use crate::problem::pair::{Pair, pair_methods};
use crate::problem::tensor::TensorDesc;

/// Softmax over the channels of each pixel: `y[c] = exp(x[c] - max) / sum_j exp(x[j] - max)`, in
/// f32 and rounded once. Input and output may be different slices, or the same buffer.
///
/// A NaN or a positive infinity makes its whole row NaN, so does a row of nothing but negative
/// infinities; any other negative infinity becomes 0: PyTorch's results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Softmax {
    pair: Pair,
}

impl Softmax {
    /// A softmax from `input` to `output`, which may be slices.
    ///
    /// # Errors
    /// [`Error::Shape`] if their extents differ, [`Error::Incompatible`] if their layouts or types
    /// do.
    pub fn new(input: &TensorDesc, output: &TensorDesc) -> Result<Self, Error> {
        let pair = Pair::new("output of a softmax", input, output)?;
        Ok(Self { pair })
    }

    pair_methods!();
}
