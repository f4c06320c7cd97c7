//! ReLU as an operation of its own.

use crate::error::Error;
use crate::problem::pair::{Pair, pair_methods};
use crate::problem::tensor::TensorDesc;
use crate::problem::{DType, Layout};

/// `y = max(x, 0)` with NaN kept, element by element. Input and output may be different slices, or
/// the same buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relu {
    pair: Pair,
}

impl Relu {
    /// A ReLU between two dense tensors.
    ///
    /// # Errors
    /// As [`TensorDesc::new`].
    pub fn new([n, c, h, w]: [usize; 4], layout: Layout, dtype: DType) -> Result<Self, Error> {
        let pair = Pair::dense([n, c, h, w], layout, dtype)?;
        Ok(Self { pair })
    }

    /// A ReLU from `input` to `output`, which may be slices.
    ///
    /// # Errors
    /// [`Error::Shape`] if their extents differ, [`Error::Incompatible`] if their layouts or types
    /// do.
    pub fn between(input: TensorDesc, output: TensorDesc) -> Result<Self, Error> {
        let pair = Pair::between("output of a ReLU", input, output)?;
        Ok(Self { pair })
    }

    pair_methods!();
}
