//! The scaled hyperbolic tangent, LeNet-5's activation.

use crate::error::Error;
use crate::problem::pair::{Pair, Real, pair_methods};
use crate::problem::tensor::TensorDesc;
use crate::problem::{DType, Layout};

/// `y = amplitude tanh(slope x)`, element by element. Input and output may be different slices, or
/// the same buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tanh {
    pair: Pair,
    amplitude: Real,
    slope: Real,
}

impl Tanh {
    /// The hyperbolic tangent (amplitude 1, slope 1) between two dense tensors.
    ///
    /// # Errors
    /// As [`TensorDesc::new`].
    pub fn new([n, c, h, w]: [usize; 4], layout: Layout, dtype: DType) -> Result<Self, Error> {
        Self::of(Pair::dense([n, c, h, w], layout, dtype)?)
    }

    /// The hyperbolic tangent from `input` to `output`, which may be slices.
    ///
    /// # Errors
    /// [`Error::Shape`] if their extents differ, [`Error::Incompatible`] if their layouts or types
    /// do.
    pub fn between(input: TensorDesc, output: TensorDesc) -> Result<Self, Error> {
        Self::of(Pair::between("output of a tanh", input, output)?)
    }

    fn of(pair: Pair) -> Result<Self, Error> {
        let one = Real::finite("the amplitude of a tanh", 1.0)?;
        Ok(Self {
            pair,
            amplitude: one,
            slope: one,
        })
    }

    /// The same problem with this amplitude and slope.
    ///
    /// # Errors
    /// [`Error::Parameter`] if either is not finite.
    pub fn scaled(self, amplitude: f64, slope: f64) -> Result<Self, Error> {
        Ok(Self {
            amplitude: Real::finite("the amplitude of a tanh", amplitude)?,
            slope: Real::finite("the slope of a tanh", slope)?,
            ..self
        })
    }

    /// Amplitude and slope.
    pub fn scale(&self) -> [f64; 2] {
        [self.amplitude.get(), self.slope.get()]
    }

    pair_methods!();
}
