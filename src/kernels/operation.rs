//! The operations that kernels compute, with what a plan needs of each.

use std::fmt;

use super::{Algorithm, Capability, Kernel, Limits, PeakRates, Refusal, Roofline, Score};
use crate::error::Error;
use crate::problem::{
    Bottleneck2d, Branches, Conv2d, DType, Layout, Lrn, Pool2d, Relu, Softmax, Subsample, Tanh,
    TensorDesc,
};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Bottleneck2d {}
    impl Sealed for super::Branches {}
    impl Sealed for super::Conv2d {}
    impl Sealed for super::Pool2d {}
    impl Sealed for super::Relu {}
    impl Sealed for super::Lrn {}
    impl Sealed for super::Softmax {}
    impl Sealed for super::Tanh {}
    impl Sealed for super::Subsample {}
}

/// Problems that a plan can be made for: [`Conv2d`], [`Pool2d`], [`Relu`], [`Lrn`], [`Softmax`],
/// [`Tanh`], [`Subsample`], [`Bottleneck2d`], [`Branches`].
pub trait Operation: Clone + fmt::Debug + sealed::Sealed {
    /// Multiply-adds, those with padding included; of an operation without products its additions
    /// or comparisons.
    fn macs(&self) -> u64;

    /// Bytes that device memory must move at least: each operand read once, each result written
    /// once; saturated.
    fn min_bytes(&self) -> u64;

    /// The same problem for `n` images.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the tensors get too large.
    fn with_batch(&self, n: usize) -> Result<Self, Error>;

    /// The operation in words, with its article, for errors.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Returns whether the algorithm computes this operation at all.
    #[doc(hidden)]
    fn computed_by(algorithm: Algorithm) -> bool;

    /// The problem as one line, for errors.
    #[doc(hidden)]
    fn describe(&self) -> String;

    /// The tensor it computes, or one of them: all are stored alike.
    #[doc(hidden)]
    fn output(&self) -> &TensorDesc;

    /// Storage type of the elements.
    #[doc(hidden)]
    fn dtype(&self) -> DType {
        self.output().dtype()
    }

    /// Layout of the activations.
    #[doc(hidden)]
    fn layout(&self) -> Layout {
        self.output().layout()
    }

    /// Returns whether there is nothing to compute.
    #[doc(hidden)]
    fn is_empty(&self) -> bool {
        self.output().is_empty()
    }

    /// Peak rates, from which the problem's bound is computed.
    #[doc(hidden)]
    fn peak_rates(&self) -> PeakRates {
        PeakRates::H200_FP32
    }

    /// The algorithm's own constraints, those of type, layout and device aside.
    #[doc(hidden)]
    fn accepts(&self, _kernel: &Kernel) -> Result<(), Refusal> {
        Ok(())
    }

    /// Number of blocks of a launch.
    #[doc(hidden)]
    fn blocks(&self, kernel: &Kernel) -> u64;

    /// Estimate of the kernel within the limits.
    #[doc(hidden)]
    fn estimate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        estimate_simt(self, kernel, device, roofline, limits)
    }

    /// Estimate of a kernel on CUDA cores.
    #[doc(hidden)]
    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score;
}

/// The score of a kernel on CUDA cores, or why it cannot be launched: each tile is one block's.
pub(super) fn estimate_simt<P: Operation>(
    problem: &P,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
    limits: &Limits,
) -> Result<Score, Refusal> {
    if let Some(asked) = limits.split_k.filter(|&split_k| split_k != 1) {
        return Err(Refusal::SplitK { asked, most: 1 });
    }
    let blocks = problem.blocks(kernel);
    let most = u64::from(device.max_grid_x).min(i32::MAX as u64);
    if blocks > most {
        return Err(Refusal::Grid { blocks, most });
    }
    let mut score = problem.score(kernel, device, roofline);
    score.blocks = blocks;
    Ok(score)
}
