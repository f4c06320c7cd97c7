//! Storage types, layouts, padding, and modes of multiplication.
//!
//! build.rs includes this file too: it depends on `core` alone.

/// Storage type of an element. Accumulators are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
}

impl DType {
    /// Every storage type.
    pub const ALL: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
        }
    }

    /// The name used in kernel ids, on the command line and in JSON: `f32`, `f16`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
        }
    }
}

/// The order of an activation tensor's dimensions in memory, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// Batch, channel, row, column: a channel's plane is contiguous.
    Nchw,
    /// Batch, row, column, channel: a pixel's channels are contiguous.
    Nhwc,
}

impl Layout {
    /// Both layouts.
    pub const ALL: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

    /// `nchw` or `nhwc`.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        }
    }
}

/// The order of a filter's dimensions in memory, slowest first: k filters of c / groups channels
/// and r x s taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterLayout {
    /// Filter, channel, row, column (PyTorch's and ONNX's OIHW).
    Kcrs,
    /// Filter, row, column, channel (OHWI).
    Krsc,
    /// As [`FilterLayout::Krsc`], with the channels of a tap rounded up to a multiple of 16 bytes
    /// and the rest zero: `FilterDesc::len`. The layout that kernels on tensor cores read;
    /// their launches pack any other one first, every time.
    Packed,
}

/// Bytes that a run of channels of [`FilterLayout::Packed`] is a multiple of.
pub(crate) const PACKED_BYTES: usize = 16;

impl FilterLayout {
    /// Every layout.
    pub const ALL: [FilterLayout; 3] =
        [FilterLayout::Kcrs, FilterLayout::Krsc, FilterLayout::Packed];

    /// `kcrs`, `krsc` or `packed`.
    pub const fn name(self) -> &'static str {
        match self {
            FilterLayout::Kcrs => "kcrs",
            FilterLayout::Krsc => "krsc",
            FilterLayout::Packed => "packed",
        }
    }

    /// Elements from one tap's channels to the next where channels are innermost, for `channels` of
    /// them stored as `dtype`; `channels` itself where they are not.
    pub(crate) fn pitch(self, channels: usize, dtype: DType) -> usize {
        match self {
            FilterLayout::Kcrs | FilterLayout::Krsc => channels,
            FilterLayout::Packed => channels.next_multiple_of(PACKED_BYTES / dtype.size()),
        }
    }
}

/// Rows and columns added around an image: zeros to a convolution, minus infinity to a maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub(crate) const NONE: Padding = Padding::same(0);

    /// The same on all four sides.
    pub const fn same(size: usize) -> Self {
        Padding {
            top: size,
            bottom: size,
            left: size,
            right: size,
        }
    }
}

/// Mode of f32 multiplication. The types of 16 bits have one way only, [`Math::Strict`]: their
/// products are exact in f32.
///
/// In all modes sums are in f32 and the result is rounded once to the stored type. Ordered from the
/// most exact on: a kernel may always compute more exactly than it is asked to.
///
/// # Error
/// With `m` the sum of the magnitudes that an output adds up, `sum |x| |w| + |bias| + |residual|`,
/// and `n` its terms, a result in f32 is at most `(p + s) m` away from the exact one:
///
/// | kernel | `p`, of the products | `s`, of the sums |
/// |---|---|---|
/// | CUDA cores, any type | 0 | `(n + 4) 2^-24` |
/// | tensor cores, f16 and bf16 | 0 | `(n + i + b + 4) 2^-23` |
/// | `tf32x3` | `3.01 * 2^-22` | `(3 n + 3 i + b + 4) 2^-23` |
/// | `tf32`, `mma.sync` | `2^-10`: each operand is rounded to 11 bits | `(n + i + b + 4) 2^-23` |
/// | `tf32`, `wgmma` | `2^-9`: TMA copies operands as they are; last bits are cut | as above |
///
/// `i` counts the instructions that a sum passes through, at most `r s ceil(c / 4)`, and `b` the
/// blocks that share it. CUDA cores round each addition to nearest; tensor cores align the products
/// of an instruction and the sum with the largest of them and cut off what is below its last place.
/// `tf32x3` takes an operand as a big and a small part, which leave out 2^-22 of it, and drops the
/// product of the small parts. These are bounds for the worst case; errors of random signs add up
/// to about the square root of it.
///
/// Measured on the emulator, whose tensor cores do not cut off but add one product after the other,
/// each sum rounded to nearest: the largest error against the largest output, of all kernels of
/// compute capability 8.0 for NHWC and of operands with 24 bits:
///
/// | terms | strict | `tf32x3` | `tf32` |
/// |---|---|---|---|
/// | 96 (golden case `conv_f32_1x1`) | 2.1e-7 | 4.6e-7 | 2.2e-4 |
/// | 288 (`conv_f32_3x3`) | 6.7e-7 | 8.1e-7 | 3.0e-4 |
/// | 4608 (`conv_long_k_4608_f32`) | 1.6e-6 | 5.3e-6 | 5.1e-4 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Math {
    /// f32 as the CPU has it, on CUDA cores.
    #[default]
    Strict,
    /// Tensor cores: each operand is split into two tf32 numbers, and of their four products the
    /// three that count are added.
    Tf32x3,
    /// Tensor cores: each operand is rounded to tf32, which has 11 bits of precision.
    Tf32,
}

impl Math {
    /// Every mode, the most exact first.
    pub const ALL: [Math; 3] = [Math::Strict, Math::Tf32x3, Math::Tf32];

    /// The name used in kernel ids, on the command line and in JSON: `strict`, `tf32x3`, `tf32`.
    pub const fn name(self) -> &'static str {
        match self {
            Math::Strict => "strict",
            Math::Tf32x3 => "tf32x3",
            Math::Tf32 => "tf32",
        }
    }

    /// Returns whether a problem in this mode may be computed by a kernel of mode `kernel`: one
    /// that is no less exact.
    pub(crate) fn allows(self, kernel: Math) -> bool {
        kernel <= self
    }
}
