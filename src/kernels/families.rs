//! The families of convolution kernels. Planner, launcher and checker loop over them.

use super::args::ConvArgs;
use super::tensor_args::TensorArgs;
use super::{
    Algorithm, Capability, Kernel, Limits, Refusal, Roofline, Score, bottleneck, mma, simt, wgmma,
};
use crate::problem::Conv2d;

/// A family of convolution kernels: what it accepts, costs and is passed.
pub(crate) trait ConvFamily: Sync {
    /// The algorithms that the family implements.
    fn algorithms(&self) -> &'static [Algorithm];

    /// Checks the constraints of a kernel, those of type, layout, math and device aside.
    fn accepts(&self, problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal>;

    /// Estimates the time of a kernel within the limits.
    fn estimate(
        &self,
        problem: &Conv2d,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal>;

    /// The arguments of a kernel without its pointers.
    fn arguments(&self, problem: &Conv2d, kernel: &Kernel, split_k: u32) -> ConvArguments;

    /// The differences between the family's kernels on tensor cores.
    fn tensor_traits(&self, kernel: &Kernel) -> TensorTraits;
}

/// Every family of convolution kernels.
pub(crate) static CONV_FAMILIES: [&dyn ConvFamily; 3] = [&simt::Simt, &mma::Mma, &wgmma::Wgmma];

/// The family that implements an algorithm, if it computes convolutions.
pub(crate) fn conv_family(algorithm: Algorithm) -> Option<&'static dyn ConvFamily> {
    let mut families = CONV_FAMILIES.into_iter();
    families.find(|family| family.algorithms().contains(&algorithm))
}

/// The arguments of a convolution kernel, one kind per argument struct.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConvArguments {
    /// Arguments of the kernels on CUDA cores.
    Simt(ConvArgs),
    /// Arguments of the kernels by `mma.sync`.
    Tensor(TensorArgs),
    /// Arguments of the kernels by `wgmma`, which take tensor maps as well.
    TensorMaps(TensorArgs),
}

/// Kind of copies by which a kernel loads the pixels of a tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Vectors of [`Kernel::vector`] bytes.
    #[default]
    Vectors,
    /// Elements, each by an entry of a table of terms.
    Table,
    /// Boxes by TMA: one thread issues one copy.
    Boxes,
}

/// The differences between kernels on tensor cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TensorTraits {
    /// gemm_k runs through taps and channels in one go, and a row of filters has all taps.
    pub all_taps: bool,
    /// Several groups share a tile, [`Kernel::tile_k`] channels and filters each.
    pub small_groups: bool,
    /// Kind of copies that load x into shared memory.
    pub copies: Copies,
    /// Blocks take one tile after another, the epilogue of one beside the steps of the next.
    pub persistent: bool,
    /// Operands reach the tensor cores as they are, which cut bits off instead of rounding.
    pub cuts_operands: bool,
}

/// The rounding of a kernel, of which a bound on its error is made.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// Products are added by instructions of the tensor cores, which cut.
    pub tensor: bool,
    /// An instruction adds products of several taps.
    pub all_taps: bool,
    /// Operands are cut to tf32, not rounded.
    pub cuts_operands: bool,
}

impl Kernel {
    /// The traits of a kernel on tensor cores; of others, and of those that compute several
    /// operations at once, the defaults.
    pub(crate) fn tensor_traits(&self) -> TensorTraits {
        let family = conv_family(self.algorithm);
        family.map_or(TensorTraits::default(), |family| family.tensor_traits(self))
    }

    /// Rounding of the kernel.
    #[doc(hidden)]
    pub fn rounding(&self) -> Rounding {
        let traits = self.tensor_traits();
        Rounding {
            tensor: self.algorithm.tensor(),
            all_taps: traits.all_taps,
            cuts_operands: traits.cuts_operands || bottleneck::cuts_operands(self),
        }
    }

    /// Bytes to which the address of x and the strides of its copies are aligned.
    pub(crate) fn x_vector(&self) -> usize {
        match self.tensor_traits().copies {
            Copies::Boxes => crate::problem::PACKED_BYTES,
            Copies::Vectors | Copies::Table => self.vector as usize,
        }
    }
}
