//! A whole bottleneck: what is computed, checked on construction.

mod builder;

use std::fmt;

use crate::error::Error;
use crate::problem::tensor::Builder;
use crate::problem::{Conv2d, DEFAULT_ALIGNMENT, FilterLayout, TensorDesc};
use crate::problem::{DType, Layout, Math};

/// Tensor that a bottleneck adds to its output before the last ReLU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Added {
    /// No tensor is added.
    #[default]
    Nothing,
    /// The bottleneck's own input, which has the output's shape and is not passed a second time.
    Input,
    /// A tensor of the output's shape: a projected shortcut.
    Tensor,
}

/// Three convolutions as one operation, by way of a few channels:
///
/// ```text
/// mid1 = relu(conv 1x1 (x, w1) + b1)                c -> mid_channels, rounded to the storage type
/// mid2 = relu(conv 3x3 (mid1, w2) + b2)             mid_channels -> mid_channels, padding 1,
///                                                   stride 1 or 2, rounded likewise
/// y    = act(conv 1x1 (mid2, w3) + b3 + residual)   mid_channels -> k
/// ```
///
/// with `act` the ReLU (NaN kept) or nothing. The stride is the 3x3's, as in torchvision's ResNet;
/// the paper of 2015 had it in the first 1x1, which drops three quarters of the input. Padding is
/// zeros around `mid1`, whatever `b1` is.
///
/// ```
/// use warpconv::plan::Operation;
/// use warpconv::problem::Bottleneck2d;
/// let block = Bottleneck2d::builder().input(128, 252, 56, 56).mid_channels(63);
/// let block = block.filters(252).build()?;
/// assert_eq!(block.macs(), 128 * 56 * 56 * 67_473);
/// let text = "bottleneck_mb128_ic252ih56iw56_narrow63_oc252oh56ow56+bias+relu";
/// assert_eq!(block.to_string(), text);
/// # Ok::<(), warpconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bottleneck2d {
    /// Boxed: the other problems are a third of the size.
    convolutions: Box<[Conv2d; 3]>,
    added: Added,
}

impl Bottleneck2d {
    /// Starts a description; see [`Builder`](crate::problem::Builder).
    pub fn builder() -> Builder<Bottleneck2d> {
        Builder::bottleneck()
    }

    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Builder<Bottleneck2d> {
        Builder::of(self)
    }

    /// The same problem over `n` images.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.to_builder()
            .input(n, self.c(), self.h(), self.w())
            .build()
    }

    /// The three convolutions that compute the same one after the other, with dense tensors between
    /// them.
    pub fn convolutions(&self) -> &[Conv2d; 3] {
        &self.convolutions
    }

    /// Images.
    pub(crate) fn n(&self) -> usize {
        self.input().n()
    }

    /// Channels of the input.
    pub(crate) fn c(&self) -> usize {
        self.input().c()
    }

    /// Rows of the input.
    pub(crate) fn h(&self) -> usize {
        self.input().h()
    }

    /// Columns of the input.
    pub(crate) fn w(&self) -> usize {
        self.input().w()
    }

    /// Channels of both intermediates.
    pub(crate) fn mid_channels(&self) -> usize {
        self.convolutions[0].k()
    }

    /// Channels of the output.
    pub(crate) fn k(&self) -> usize {
        self.output().c()
    }

    /// Rows of the output.
    pub(crate) fn p(&self) -> usize {
        self.output().h()
    }

    /// Columns of the output.
    pub(crate) fn q(&self) -> usize {
        self.output().w()
    }

    /// Rows and columns between two windows of the 3x3: 1 or 2.
    pub(crate) fn stride(&self) -> usize {
        self.convolutions[1].stride()[0]
    }

    /// Convolutions of the three that have a bias.
    pub(crate) fn bias(&self) -> [bool; 3] {
        self.convolutions.each_ref().map(Conv2d::bias)
    }

    /// Tensor added before the last ReLU.
    pub fn added(&self) -> Added {
        self.added
    }

    /// Returns whether the result passes through ReLU.
    pub(crate) fn relu(&self) -> bool {
        self.convolutions[2].relu()
    }

    /// Storage type of all tensors.
    pub(crate) fn dtype(&self) -> DType {
        self.input().dtype()
    }

    /// The layout of input, output and residual.
    pub(crate) fn layout(&self) -> Layout {
        self.input().layout()
    }

    /// The layout of the filters.
    pub(crate) fn filter_layout(&self) -> FilterLayout {
        self.convolutions[0].filter_layout()
    }

    /// Least precise mode of multiplication.
    pub(crate) fn math(&self) -> Math {
        self.convolutions[0].math()
    }

    /// Promised alignment of every buffer's first element, in bytes.
    pub(crate) fn alignment(&self) -> usize {
        self.convolutions[0].alignment()
    }

    /// The input.
    pub fn input(&self) -> &TensorDesc {
        self.convolutions[0].input()
    }

    /// The output.
    pub fn output(&self) -> &TensorDesc {
        self.convolutions[2].output()
    }

    /// The tensor added before the ReLU, if any; the input itself for [`Added::Input`].
    pub(crate) fn residual(&self) -> Option<&TensorDesc> {
        self.convolutions[2].residual()
    }

    /// Multiply-adds, those with padding included.
    pub(crate) fn macs(&self) -> u64 {
        let macs = self.convolutions.iter().map(Conv2d::macs);
        macs.fold(0, u64::saturating_add)
    }

    /// Bytes that device memory must move at least: input, filters, biases, and the residual where
    /// it is a tensor of its own, read once, output written once; saturated.
    pub(crate) fn min_bytes(&self) -> u64 {
        let residual = match self.added {
            Added::Tensor => self.output().elements(),
            Added::Nothing | Added::Input => 0,
        };
        let weights: usize = self
            .convolutions
            .iter()
            .map(|conv| conv.filter().elements() + if conv.bias() { conv.k() } else { 0 })
            .sum();
        let elements = self.input().elements() + weights + residual + self.output().elements();
        (elements as u64).saturating_mul(self.dtype().size() as u64)
    }
}

impl fmt::Display for Bottleneck2d {
    /// In the manner of [`crate::problem::notation`], for people and for keys; it is not read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bottleneck_mb{}_ic{}ih{}iw{}_narrow{}_oc{}oh{}ow{}",
            self.n(),
            self.c(),
            self.h(),
            self.w(),
            self.mid_channels(),
            self.k(),
            self.p(),
            self.q()
        )?;
        if self.stride() != 1 {
            write!(f, "_sh{0}sw{0}", self.stride())?;
        }
        if self.dtype() != DType::F32 {
            write!(f, "+{}", self.dtype().name())?;
        }
        if self.layout() == Layout::Nhwc {
            write!(f, "+{}", self.layout().name())?;
        }
        if self.filter_layout() != FilterLayout::Kcrs {
            write!(f, "+{}", self.filter_layout().name())?;
        }
        if self.math() != Math::Strict {
            write!(f, "+{}", self.math().name())?;
        }
        if self.alignment() != DEFAULT_ALIGNMENT {
            write!(f, "+align{}", self.alignment())?;
        }
        slice(f, "in", self.input())?;
        slice(f, "out", self.output())?;
        match self.bias() {
            [true, true, true] => write!(f, "+bias")?,
            biases => {
                for (number, _) in (1..).zip(biases).filter(|(_, bias)| *bias) {
                    write!(f, "+bias{number}")?;
                }
            }
        }
        match (self.added, self.residual()) {
            (Added::Input, _) => write!(f, "+residual_in")?,
            (Added::Tensor, Some(residual)) if !residual.is_dense() => {
                slice(f, "residual", residual)?;
            }
            (Added::Tensor, _) => write!(f, "+residual")?,
            (Added::Nothing, _) => {}
        }
        if self.relu() {
            write!(f, "+relu")?;
        }
        Ok(())
    }
}

fn slice(f: &mut fmt::Formatter<'_>, word: &str, desc: &TensorDesc) -> fmt::Result {
    if desc.is_dense() {
        return Ok(());
    }
    let (pitch, offset) = (desc.channel_pitch(), desc.channel_offset());
    write!(f, "+{word}{pitch}:{offset}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Builder<Bottleneck2d> {
        Bottleneck2d::builder()
            .input(2, 12, 9, 7)
            .mid_channels(3)
            .filters(12)
    }

    #[test]
    fn the_three_follow_one_another() {
        let problem = block().stride(2).dtype(DType::Bf16).build().unwrap();
        let [reduce, middle, expand] = problem.convolutions();
        assert_eq!(reduce.output(), middle.input());
        assert_eq!(middle.output(), expand.input());
        assert_eq!((problem.p(), problem.q()), (5, 4));
        assert_eq!([reduce.relu(), middle.relu(), expand.relu()], [true; 3]);
        assert_eq!(problem.bias(), [true; 3]);
        let pixels = [2 * 9 * 7, 2 * 5 * 4];
        let macs = pixels[0] * 36 + pixels[1] * (81 + 36);
        assert_eq!(problem.macs(), macs as u64);
        let elements = pixels[0] * 12 + pixels[1] * 12 + 36 + 81 + 36 + 3 + 3 + 12;
        assert_eq!(problem.min_bytes(), 2 * elements as u64);
    }

    #[test]
    fn a_problem_builds_itself_again() {
        for problem in [
            block().added(Added::Input).input_slice(20, 3),
            block().residual_slice(16, 4).output_slice(15, 2).stride(2),
            block().bias([true, false, true]).relu(false),
            block().math(Math::Tf32).layout(Layout::Nhwc).alignment(4),
        ] {
            let problem = problem.build().unwrap();
            assert_eq!(problem.to_builder().build().unwrap(), problem);
        }
    }

    #[test]
    fn the_notation_says_everything() {
        let text = |builder: Builder<Bottleneck2d>| builder.build().unwrap().to_string();
        assert_eq!(
            text(block().added(Added::Input)),
            "bottleneck_mb2_ic12ih9iw7_narrow3_oc12oh9ow7+bias+residual_in+relu"
        );
        assert_eq!(
            text(
                block()
                    .stride(2)
                    .dtype(DType::F16)
                    .layout(Layout::Nhwc)
                    .filter_layout(FilterLayout::Packed)
                    .bias([true, false, true])
                    .input_slice(20, 3)
                    .residual_slice(16, 4)
                    .relu(false)
            ),
            "bottleneck_mb2_ic12ih9iw7_narrow3_oc12oh5ow4_sh2sw2+f16+nhwc+packed+in20:3+bias1\
             +bias3+residual16:4"
        );
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        assert_eq!(
            block().stride(3).build().unwrap_err().to_string(),
            "a bottleneck's 3x3 has stride 3: it must be 1 or 2"
        );
        assert_eq!(
            block()
                .added(Added::Input)
                .stride(2)
                .build()
                .unwrap_err()
                .to_string(),
            "the input, 12x9x7, cannot be added to an output of 12x5x4"
        );
        assert_eq!(
            block().mid_channels(0).build().unwrap_err().to_string(),
            "the number of filters is 0; it must be at least 1"
        );
        assert!(block().input_slice(12, 1).build().is_err());
        assert!(block().dtype(DType::F16).math(Math::Tf32).build().is_err());
        assert!(
            block()
                .input(0, 12, 9, 7)
                .build()
                .unwrap()
                .output()
                .is_empty()
        );
    }
}
