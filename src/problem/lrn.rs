//! Local response normalisation.

use crate::error::Error;
use crate::problem::pair::{Pair, Real, pair_methods};
use crate::problem::tensor::{TensorDesc, at_most, nonzero};

/// The constants of a local response normalisation, by PyTorch's convention: `alpha` is divided by
/// the size.
///
/// The paper on AlexNet multiplies the sum by its alpha of 1e-4 undivided, which is an alpha of
/// 5e-4 here; the programs that trained with it (cuda-convnet, Caffe) divide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnParameters {
    /// Channels of a window.
    pub size: usize,
    /// Factor of the mean of the squares (channels outside the tensor count as zeros).
    pub alpha: f64,
    /// Exponent of the denominator.
    pub beta: f64,
    /// Constant added to the mean.
    pub k: f64,
}

/// Local response normalisation across channels, as `torch.nn.LocalResponseNorm` has it:
/// `y[c] = x[c] / (k + alpha / size * sum_{j = c - size / 2}^{c - size / 2 + size - 1}
/// x[j]^2)^beta` at each pixel, channels outside the tensor left out. A window of even size has one
/// channel more before its centre than after it (ONNX's has it after).
///
/// Sums are in f32: where a square passes its range (x beyond 1.8e19) it is infinite and the result
/// 0, as in PyTorch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lrn {
    pair: Pair,
    size: usize,
    alpha: Real,
    beta: Real,
    k: Real,
}

impl Lrn {
    /// A normalisation from `input` to `output`, which may be slices, but share no element.
    ///
    /// # Errors
    /// [`Error::Shape`] if the extents differ, [`Error::Incompatible`] if the layouts or types do;
    /// [`Error::Zero`] or [`Error::TooLarge`] for the size, [`Error::Parameter`] if `alpha` or `k`
    /// is negative, or any constant is not finite.
    pub fn new(
        input: &TensorDesc,
        output: &TensorDesc,
        parameters: LrnParameters,
    ) -> Result<Self, Error> {
        let pair = Pair::new("output of a local response normalisation", input, output)?;
        nonzero("the size of a normalisation's window", parameters.size)?;
        at_most(
            "the size of a normalisation's window",
            parameters.size as u128,
        )?;
        Ok(Self {
            pair,
            size: parameters.size,
            alpha: Real::not_negative("the alpha of a normalisation", parameters.alpha)?,
            beta: Real::finite("the beta of a normalisation", parameters.beta)?,
            k: Real::not_negative("the k of a normalisation", parameters.k)?,
        })
    }

    /// The constants.
    pub fn parameters(&self) -> LrnParameters {
        LrnParameters {
            size: self.size,
            alpha: self.alpha.get(),
            beta: self.beta.get(),
            k: self.k.get(),
        }
    }

    pair_methods!();
}
