//! The scaled hyperbolic tangent, LeNet-5's activation.

use crate::error::Error;
use crate::problem::pair::{Pair, Real, pair_methods};
use crate::problem::tensor::TensorDesc;

/// `y = amplitude tanh(slope x)`, element by element. Input and output may be different slices, or
/// the same buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tanh {
    pair: Pair,
    amplitude: Real,
    slope: Real,
}

impl Tanh {
    /// The hyperbolic tangent with this amplitude and slope, from `input` to `output`, which may be
    /// slices. `[1.0, 1.0]` is the plain tangent.
    ///
    /// # Errors
    /// [`Error::Shape`] if the extents differ, [`Error::Incompatible`] if the layouts or types do,
    /// [`Error::Parameter`] if amplitude or slope is not finite.
    pub fn new(
        input: &TensorDesc,
        output: &TensorDesc,
        [amplitude, slope]: [f64; 2],
    ) -> Result<Self, Error> {
        Ok(Self {
            pair: Pair::new("output of a tanh", input, output)?,
            amplitude: Real::finite("the amplitude of a tanh", amplitude)?,
            slope: Real::finite("the slope of a tanh", slope)?,
        })
    }

    /// Amplitude and slope.
    pub fn scale(&self) -> [f64; 2] {
        [self.amplitude.get(), self.slope.get()]
    }

    pair_methods!();
}
