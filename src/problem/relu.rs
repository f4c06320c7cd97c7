//! ReLU as an operation of its own.

use crate::error::Error;
use crate::problem::pair::{Pair, pair_methods};
use crate::problem::tensor::TensorDesc;

/// `y = max(x, 0)` with NaN kept, element by element. Input and output may be different slices, or
/// the same buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relu {
    pair: Pair,
}

impl Relu {
    /// A ReLU from `input` to `output`, which may be slices.
    ///
    /// # Errors
    /// [`Error::Shape`] if their extents differ, [`Error::Incompatible`] if their layouts or types
    /// do.
    pub fn new(input: &TensorDesc, output: &TensorDesc) -> Result<Self, Error> {
        let pair = Pair::new("output of a ReLU", input, output)?;
        Ok(Self { pair })
    }

    pair_methods!();
}
