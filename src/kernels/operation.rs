//! Operations: what a plan needs of a problem, the table of kernels, the families that compute
//! convolutions, and the parts that all argument structs share.
//!
//! Pointers in arguments are device addresses that already include the channel offset of a slice.
//! Strides are in elements.

use std::fmt;

use super::catalog::Family;
use super::simt::ConvArgs;
use super::tensor::{Copies, Rounding, TensorTraits};
use super::tensor_args::TensorArgs;
use super::{
    Algorithm, Capability, Kernel, PeakRates, Refusal, Roofline, Score, bottleneck, mma, simt,
    tensor, wgmma,
};
use crate::error::Error;
use crate::problem::{
    Bottleneck2d, Branches, Conv2d, DType, Layout, Lrn, Math, Pool2d, Relu, Softmax, Subsample,
    Tanh, TensorDesc,
};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Every kernel, as the catalog lists them.
pub fn kernels() -> &'static [Kernel] {
    &table::KERNELS
}

/// Index of a kernel in [`kernels`]; the PTX table of the build is sorted alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId(pub usize);

impl KernelId {
    /// Entry of the catalog.
    ///
    /// # Panics
    /// If there is no kernel of that number. Those that this crate gives out exist.
    pub fn kernel(self) -> &'static Kernel {
        &kernels()[self.0]
    }
}

/// Limits of a plan, and its fixed choices.
///
/// ```
/// use warpconv::plan::{Capability, Plan, Limits};
/// use warpconv::problem::Conv2d;
/// let problem: Conv2d = "mb1ic512ih7oc512kh3ph1+bf16+nhwc+packed".parse()?;
/// let frugal = Limits { workspace: 0, ..Limits::default() };
/// let plan = Plan::within(&problem, &Capability::h200(), &frugal)?;
/// assert_eq!(plan.score().workspace, 0);
/// # Ok::<(), warpconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of workspace at most: counters, packed filters and the partial tiles of split-K.
    pub workspace: u64,
    /// Kernel to take; `None` takes the best one.
    pub kernel: Option<KernelId>,
    /// Split-K to take; `None` takes the best one. Kernels without split-K refuse all but 1.
    pub split_k: Option<u32>,
    /// Kernels not to take, such as those that failed a check on the device.
    pub excluded: &'static [KernelId],
}

impl Limits {
    /// Default bound of a plan's workspace: 256 MiB.
    pub(crate) const WORKSPACE: u64 = 256 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            workspace: Limits::WORKSPACE,
            kernel: None,
            split_k: None,
            excluded: &[],
        }
    }
}

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

    /// Bytes that device memory must move at least: each operand read once, each output written
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

    /// Least precise mode of multiplication.
    #[doc(hidden)]
    fn math(&self) -> Math {
        Math::Strict
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

    /// The algorithm's own constraints, those of type, layout, math and device aside.
    #[doc(hidden)]
    fn accepts(&self, _kernel: &Kernel) -> Result<(), Refusal> {
        Ok(())
    }

    /// Returns whether a launch of the kernel packs the filters first.
    #[doc(hidden)]
    fn packs_filter(&self, _kernel: &Kernel) -> bool {
        false
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

/// Compares problem and device with an entry of the catalog: operation, type, layout, math and
/// architecture. Only an entry that passes is given to its family.
pub(crate) fn check_entry<P: Operation>(
    problem: &P,
    kernel: &Kernel,
    device: &Capability,
) -> Result<(), Refusal> {
    if !P::computed_by(kernel.algorithm) {
        return Err(Refusal::Operation {
            kernel: kernel.algorithm.name(),
            problem: P::NAME,
        });
    }
    if kernel.dtype != problem.dtype() {
        return Err(Refusal::DType {
            kernel: kernel.dtype,
            problem: problem.dtype(),
        });
    }
    if let Some(layout) = kernel.layout.filter(|&layout| layout != problem.layout()) {
        return Err(Refusal::Layout {
            kernel: layout,
            problem: problem.layout(),
        });
    }
    if !problem.math().allows(kernel.math) {
        return Err(Refusal::Math {
            kernel: kernel.math,
            problem: problem.math(),
        });
    }
    if !device.runs(kernel.arch) {
        return Err(Refusal::Arch {
            needs: kernel.arch.capability(),
            has: device.version(),
        });
    }
    Ok(())
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

/// A family of convolution kernels: what it accepts, costs and is passed.
pub(crate) trait ConvFamily: Sync {
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

/// The family that implements an algorithm, if it computes convolutions.
pub(crate) fn conv_family(algorithm: Algorithm) -> Option<&'static dyn ConvFamily> {
    match algorithm.family() {
        Family::Simt => Some(&simt::Simt),
        Family::Mma => Some(&mma::Mma),
        Family::Wgmma => Some(&wgmma::Wgmma),
        Family::Bottleneck | Family::MultiConv | Family::Pool | Family::Elementwise => None,
    }
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

impl Operation for Conv2d {
    const NAME: &'static str = "a convolution";

    fn computed_by(algorithm: Algorithm) -> bool {
        conv_family(algorithm).is_some()
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn macs(&self) -> u64 {
        self.macs()
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn packs_filter(&self, kernel: &Kernel) -> bool {
        kernel.algorithm.tensor() && tensor::packs(self, kernel)
    }

    fn peak_rates(&self) -> PeakRates {
        PeakRates::of_products(self.dtype(), self.math())
    }

    fn math(&self) -> Math {
        self.math()
    }

    fn accepts(&self, kernel: &Kernel) -> Result<(), Refusal> {
        match conv_family(kernel.algorithm) {
            Some(family) => family.accepts(self, kernel),
            None => Err(not_a_convolution(kernel)),
        }
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        simt::blocks(self, kernel)
    }

    fn estimate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        match conv_family(kernel.algorithm) {
            Some(family) => family.estimate(self, kernel, device, roofline, limits),
            None => Err(not_a_convolution(kernel)),
        }
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        simt::score(self, kernel, device, roofline)
    }
}

/// The refusal of a kernel that computes something else.
fn not_a_convolution(kernel: &Kernel) -> Refusal {
    Refusal::Operation {
        kernel: kernel.algorithm.name(),
        problem: Conv2d::NAME,
    }
}

/// Division of a 31-bit number by a constant, as a multiplication and a shift.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastDiv {
    pub(super) mul: u32,
    pub(super) shift: u32,
    pub(super) divisor: u32,
}

impl FastDiv {
    /// For division by `divisor`, from 1 to 2^31 - 1. Zero is taken as one: it is the length of
    /// something empty, and nothing is launched for that.
    pub fn new(divisor: u32) -> FastDiv {
        let divisor = divisor.clamp(1, (1 << 31) - 1);
        let shift = divisor.next_power_of_two().trailing_zeros();
        let mul = (1u64 << (31 + shift)).div_ceil(u64::from(divisor));
        FastDiv {
            mul: mul as u32,
            shift,
            divisor,
        }
    }

    /// No division but an extent in 64 bits, as `kernels/common/wide_units.cuh` reads it where
    /// there are 2^31 units or more.
    pub(crate) fn wide(extent: u64) -> FastDiv {
        FastDiv {
            mul: (extent >> 32) as u32,
            shift: u32::MAX,
            divisor: extent as u32,
        }
    }

    /// Divides as the kernel does: `n / divisor` for `n` below 2^31.
    pub fn divide(self, n: u32) -> u32 {
        ((u64::from(n << 1) * u64::from(self.mul)) >> 32) as u32 >> self.shift
    }

    /// Divisor.
    pub fn divisor(self) -> u32 {
        self.divisor
    }
}

/// Strides, by which value (n, c, h, w) of an activation lies: `n * image + c * channel + (h *
/// width + w) * pixel`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strides {
    /// Elements from one image to the next.
    pub image: i64,
    /// Elements from one channel to the next.
    pub channel: i32,
    /// Elements from one pixel to the next.
    pub pixel: i32,
}

/// Returns whether y and the residual, each with its address, may be accessed four elements at a
/// time: filters in NHWC, pixels in NCHW. A residual at 0 is none. Blocks of filters begin and end
/// at `filters`.
pub(super) fn whole_outputs(
    kernel: &Kernel,
    y: (u64, Strides),
    residual: (u64, Strides),
    filters: &[i32],
    pixels: u32,
) -> bool {
    let bytes = 4 * kernel.dtype.size() as u64;
    let residual = if residual.0 == 0 { y } else { residual };
    [y, residual].iter().all(|(address, strides)| {
        let whole = match kernel.layout {
            Some(Layout::Nhwc) => {
                filters.iter().all(|filter| filter % 4 == 0) && strides.pixel % 4 == 0
            }
            _ => pixels.is_multiple_of(4),
        };
        whole && strides.image % 4 == 0 && address.is_multiple_of(bytes)
    })
}

/// Converts an extent or a stride within an image, which the problem types keep below 2^31.
pub(crate) fn int(value: usize) -> i32 {
    debug_assert!(i32::try_from(value).is_ok());
    value as i32
}

impl From<&TensorDesc> for Strides {
    fn from(desc: &TensorDesc) -> Strides {
        let strides = desc.strides();
        Strides {
            image: strides.image,
            // A plane may have more pixels than that: poolings and what keeps the extents take the
            // step from rows and columns.
            channel: strides.channel.min(i64::from(i32::MAX)) as i32,
            // No more than the channels, which have 31 bits.
            pixel: strides.pixel as i32,
        }
    }
}

/// Bytes of the buffer before the tensor's first value.
pub(crate) fn offset_bytes(desc: &TensorDesc) -> u64 {
    desc.offset() as u64 * desc.dtype().size() as u64
}

/// An argument struct that shares a problem out among blocks.
pub trait Arguments: Copy {
    /// Fills in what depends on the kernel and on the pointers' alignment, and returns the number
    /// of blocks.
    fn set_grid(&mut self, kernel: &Kernel) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_catalog() {
        assert_eq!(kernels(), crate::kernels::catalog::entries());
    }
}
