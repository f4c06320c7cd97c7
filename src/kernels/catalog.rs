//! The kernels that are compiled: one [`Kernel`] per PTX module.
//!
//! This is the one source of truth for tiles and constraints. `build.rs` includes this file too,
//! hands each entry to nvcc as definitions ([`Kernel::defines`]), and writes the table of all
//! entries. So this file depends on nothing but `core` and `std`.

// Written out: build.rs reads this file from another place.
#[path = "bottleneck/entries.rs"]
mod bottleneck;
#[path = "elementwise/entries.rs"]
mod elementwise;
#[path = "mma/entries.rs"]
mod mma;
#[path = "multi_conv/entries.rs"]
mod multi_conv;
#[path = "pool/entries.rs"]
mod pool;
#[path = "simt/entries.rs"]
mod simt;
#[path = "catalog/tile.rs"]
mod tile;
#[path = "wgmma/entries.rs"]
mod wgmma;

// By `super`: build.rs has the types beside the catalog, the library has them as an import of
// `kernels`.
use super::problem::{DType, Layout, Math};

/// The algorithm that a kernel implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Convolution as an implicit matrix product, any filter, groups = 1.
    Direct,
    /// Convolution of few channels, groups = 1: an implicit matrix product whose gemm_k runs
    /// through channels and filter taps in one go, so that no channel block is padded. Needs
    /// c * r * s <= `FEW_CHANNELS_MAX_GEMM_K`.
    DirectFewChannels,
    /// 1x1 convolution as a plain matrix product, strided included, groups = 1, no padding.
    Pointwise,
    /// Convolution with 1 < groups, many channels per group: an implicit matrix product per group.
    Grouped,
    /// Convolution with 1 < groups, few channels per group: one thread per pixel and a few filters.
    SmallGroups,
    /// Convolution with groups = channels, channel multiplier included.
    Depthwise,
    /// Convolution on tensor cores by `mma.sync`: one implicit GEMM per group, 1x1 included.
    Mma,
    /// Convolution of few channels on tensor cores, groups = 1: gemm_k runs through filter taps and
    /// channels in one go. Needs c * r * s <= `FEW_CHANNELS_MAX_GEMM_K`.
    MmaFewChannels,
    /// Convolution on tensor cores with groups smaller than a tile, several of which share one.
    MmaSmallGroups,
    /// Convolution on the tensor cores of compute capability 9.0 by `wgmma`; TMA loads x in im2col
    /// mode.
    Wgmma,
    /// As [`Algorithm::Wgmma`], with x loaded by threads: pitches that are no multiple of 16 bytes,
    /// and NCHW.
    WgmmaGather,
    /// A whole bottleneck, 1x1, 3x3 and 1x1, on CUDA cores.
    BottleneckSimt,
    /// A whole bottleneck on tensor cores by `mma.sync`.
    Bottleneck,
    /// A whole bottleneck on the tensor cores of compute capability 9.0 by `wgmma`.
    BottleneckWgmma,
    /// Several convolutions with the same output pixels on tensor cores by `mma.sync`, in one
    /// launch.
    MmaMultiConv,
    /// Packing of filters into the layout that kernels on tensor cores read.
    PackFilter,
    /// Windowed maximum, with the index of each maximum if asked.
    MaxPool,
    /// Windowed mean; adaptive windows included.
    AvgPool,
    /// Mean or maximum over the whole plane.
    GlobalPool,
    /// `max(x, 0)`, NaN kept.
    Relu,
    /// Local response normalisation across channels.
    Lrn,
    /// Softmax over channels.
    Softmax,
    /// `amplitude tanh(slope x)`.
    Tanh,
    /// LeNet-5's trainable subsampling.
    Subsample,
}

impl Algorithm {
    /// First part of kernel names.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct",
            Algorithm::DirectFewChannels => "direct_few_channels",
            Algorithm::Pointwise => "1x1",
            Algorithm::Grouped => "grouped",
            Algorithm::SmallGroups => "small_groups",
            Algorithm::Depthwise => "depthwise",
            Algorithm::Mma => "mma",
            Algorithm::MmaFewChannels => "mma_few_channels",
            Algorithm::MmaSmallGroups => "mma_small_groups",
            Algorithm::Wgmma => "wgmma",
            Algorithm::WgmmaGather => "wgmma_gather",
            Algorithm::BottleneckSimt => "bottleneck_simt",
            Algorithm::Bottleneck => "bottleneck",
            Algorithm::BottleneckWgmma => "bottleneck_wgmma",
            Algorithm::MmaMultiConv => "mma_multi_conv",
            Algorithm::PackFilter => "pack_filter",
            Algorithm::MaxPool => "max_pool",
            Algorithm::AvgPool => "avg_pool",
            Algorithm::GlobalPool => "global_pool",
            Algorithm::Relu => "relu",
            Algorithm::Lrn => "lrn",
            Algorithm::Softmax => "softmax",
            Algorithm::Tanh => "tanh",
            Algorithm::Subsample => "subsample",
        }
    }

    /// The file in `kernels/` that holds the template.
    #[doc(hidden)]
    pub const fn source(self) -> &'static str {
        match self {
            Algorithm::Direct => "simt/direct.cu",
            Algorithm::DirectFewChannels => "simt/direct_few_channels.cu",
            Algorithm::Pointwise => "simt/pointwise.cu",
            Algorithm::Grouped => "simt/grouped.cu",
            Algorithm::SmallGroups => "simt/small_groups.cu",
            Algorithm::Depthwise => "simt/depthwise.cu",
            Algorithm::Mma => "mma/mma.cu",
            Algorithm::MmaFewChannels => "mma/few_channels.cu",
            Algorithm::MmaSmallGroups => "mma/small_groups.cu",
            Algorithm::Wgmma => "wgmma/wgmma.cu",
            Algorithm::WgmmaGather => "wgmma/gather.cu",
            Algorithm::BottleneckSimt => "bottleneck/simt.cu",
            Algorithm::Bottleneck => "bottleneck/mma.cu",
            Algorithm::BottleneckWgmma => "bottleneck/wgmma.cu",
            Algorithm::MmaMultiConv => "mma/multi_conv.cu",
            Algorithm::PackFilter => "elementwise/pack_filter.cu",
            Algorithm::MaxPool => "pool/max_pool.cu",
            Algorithm::AvgPool => "pool/avg_pool.cu",
            Algorithm::GlobalPool => "pool/global_pool.cu",
            Algorithm::Relu => "elementwise/relu.cu",
            Algorithm::Lrn => "elementwise/lrn.cu",
            Algorithm::Softmax => "elementwise/softmax.cu",
            Algorithm::Tanh => "elementwise/tanh.cu",
            Algorithm::Subsample => "pool/subsample.cu",
        }
    }

    /// The family that the algorithm belongs to.
    pub(crate) const fn family(self) -> Family {
        match self {
            Algorithm::Direct
            | Algorithm::DirectFewChannels
            | Algorithm::Pointwise
            | Algorithm::Grouped
            | Algorithm::SmallGroups
            | Algorithm::Depthwise => Family::Simt,
            Algorithm::Mma | Algorithm::MmaFewChannels | Algorithm::MmaSmallGroups => Family::Mma,
            Algorithm::Wgmma | Algorithm::WgmmaGather => Family::Wgmma,
            Algorithm::BottleneckSimt | Algorithm::Bottleneck | Algorithm::BottleneckWgmma => {
                Family::Bottleneck
            }
            Algorithm::MmaMultiConv => Family::MultiConv,
            Algorithm::MaxPool | Algorithm::AvgPool | Algorithm::GlobalPool => Family::Pool,
            Algorithm::PackFilter
            | Algorithm::Relu
            | Algorithm::Lrn
            | Algorithm::Softmax
            | Algorithm::Tanh
            | Algorithm::Subsample => Family::Elementwise,
        }
    }

    /// Returns whether it computes on tensor cores.
    #[doc(hidden)]
    pub const fn tensor(self) -> bool {
        matches!(
            self,
            Algorithm::Mma
                | Algorithm::MmaFewChannels
                | Algorithm::MmaSmallGroups
                | Algorithm::Wgmma
                | Algorithm::WgmmaGather
                | Algorithm::Bottleneck
                | Algorithm::BottleneckWgmma
                | Algorithm::MmaMultiConv
        )
    }

    /// Returns whether it computes a whole bottleneck, and an entry's tile reads as
    /// `bottleneck/entries.rs` says.
    #[doc(hidden)]
    pub const fn bottleneck(self) -> bool {
        matches!(self.family(), Family::Bottleneck)
    }
}

/// The folders of `kernels` that acceptance, estimate and arguments of an algorithm stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Convolutions on CUDA cores.
    Simt,
    /// Convolutions by `mma.sync`.
    Mma,
    /// Convolutions by `wgmma`.
    Wgmma,
    /// Whole bottlenecks.
    Bottleneck,
    /// Several convolutions in one launch.
    MultiConv,
    /// Poolings.
    Pool,
    /// The operations between convolutions, and the packing of filters.
    Elementwise,
}

/// The instruction set that a module was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// compute_75: the baseline, no `cp.async`; `mma.sync` for f16.
    Sm75,
    /// compute_80: `cp.async`, `mma.sync` for bf16 and tf32.
    Sm80,
    /// compute_90a: `wgmma`, bulk tensor copies. Runs on compute capability 9.0 and on nothing
    /// else.
    Sm90a,
}

impl Arch {
    /// The lowest compute capability that runs the architecture, as (major, minor).
    pub(crate) const fn capability(self) -> (u32, u32) {
        match self {
            Arch::Sm75 => (7, 5),
            Arch::Sm80 => (8, 0),
            Arch::Sm90a => (9, 0),
        }
    }

    /// Returns whether a device of this compute capability, (major, minor), runs the architecture's
    /// modules.
    pub(crate) fn runs_on(self, capability: (u32, u32)) -> bool {
        match self {
            Arch::Sm75 | Arch::Sm80 => capability >= self.capability(),
            // What is specific to an architecture stays with it.
            Arch::Sm90a => capability == self.capability(),
        }
    }

    /// `sm75`, `sm80` or `sm90a`: the suffix of kernel ids.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Arch::Sm75 => "sm75",
            Arch::Sm80 => "sm80",
            Arch::Sm90a => "sm90a",
        }
    }

    /// nvcc's `-arch` for the architecture.
    #[allow(dead_code, reason = "for build.rs, which includes this file")]
    pub(crate) const fn nvcc_arch(self) -> &'static str {
        match self {
            Arch::Sm75 => "compute_75",
            Arch::Sm80 => "compute_80",
            Arch::Sm90a => "compute_90a",
        }
    }
}

/// The longest sum (c * r * s) that [`Algorithm::DirectFewChannels`] and
/// [`Algorithm::MmaFewChannels`] take: they keep a table of its terms in shared memory.
pub(crate) const FEW_CHANNELS_MAX_GEMM_K: u32 = 512;

/// One compiled kernel: an entry of the catalog, a PTX module with one entry point of the same name
/// as [`Kernel::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Algorithm that the kernel implements.
    pub algorithm: Algorithm,
    /// Storage of activations, filters and bias.
    pub dtype: DType,
    /// The layout of its activations; `None` if the kernel takes both.
    pub layout: Option<Layout>,
    /// Architecture that the module is compiled for.
    pub arch: Arch,
    /// The tile of the matrix product that a block computes (gemm_m = filters, gemm_n = output
    /// pixels, gemm_k = channels of one filter tap per step); for kernels that are no matrix
    /// product, as their header states. Of a bottleneck: output rows and columns of one image, and
    /// channels of the intermediates, rounded up.
    pub tile_m: u32,
    /// See [`Kernel::tile_m`].
    pub tile_n: u32,
    /// See [`Kernel::tile_m`].
    pub tile_k: u32,
    /// Mode of f32 multiplication.
    pub math: Math,
    /// Bytes of one copy of x: 16, 8, 4 or 2, to which x's address and all strides of its copies
    /// must be aligned; 0 for copies of single elements, and for TMA, which needs 16.
    pub vector: u32,
    /// Stride of a bottleneck's 3x3 that the kernel is compiled for; 0 if it takes any, or has no
    /// 3x3.
    pub stride: u32,
    /// Threads per block.
    pub threads: u32,
    /// Stages of the shared-memory pipeline; 1 without one.
    pub stages: u32,
    /// Blocks that an SM is meant to hold: the second argument of `__launch_bounds__`.
    pub min_blocks: u32,
}

impl Kernel {
    /// The unique name: `direct_f32_nchw_128x128x8_sm80`, `mma_tf32_nhwc_128x128x32_v16_sm80`; also
    /// the PTX entry point.
    pub fn name(&self) -> String {
        let mut id = String::from(self.algorithm.name());
        if id.starts_with(|c: char| c.is_ascii_digit()) {
            // A PTX symbol may not start with a digit.
            id.insert_str(0, "conv");
        }
        id.push('_');
        id.push_str(match self.math {
            Math::Strict => self.dtype.name(),
            math => math.name(),
        });
        if let Some(layout) = self.layout {
            id.push('_');
            id.push_str(layout.name());
        }
        if self.tile_n > 1 || self.tile_m > 1 {
            id.push_str(&format!("_{}x{}x{}", self.tile_m, self.tile_n, self.tile_k));
        }
        if self.vector > 0 {
            id.push_str(&format!("_v{}", self.vector));
        }
        if self.stride > 1 {
            id.push_str(&format!("_s{}", self.stride));
        }
        if self.streams_filters() {
            id.push_str("_streamed");
        }
        id.push('_');
        id.push_str(self.arch.name());
        id
    }

    /// The lowest PTX ISA version that has the kernel's instructions.
    #[allow(dead_code, reason = "for build.rs, which includes this file")]
    pub(crate) const fn ptx_version(&self) -> &'static str {
        match self.arch {
            // ldmatrix and mma.sync of 16x8x8.
            Arch::Sm75 if self.algorithm.tensor() => "6.5",
            Arch::Sm75 => "6.3",
            Arch::Sm80 => "7.0",
            Arch::Sm90a => "8.0",
        }
    }

    /// Bytes of shared memory that a launch must ask for, beyond what the module declares.
    #[doc(hidden)]
    pub fn dynamic_shared(&self) -> u32 {
        match self.algorithm.family() {
            Family::Mma => mma::dynamic_shared(self),
            Family::Wgmma => wgmma::dynamic_shared(self),
            Family::MultiConv => multi_conv::dynamic_shared(self),
            Family::Bottleneck => bottleneck::dynamic_shared(self),
            Family::Simt | Family::Pool | Family::Elementwise => 0,
        }
    }

    /// Returns whether a bottleneck's kernel loads its filters anew for each tile, because shared
    /// memory cannot hold them all.
    pub(crate) fn streams_filters(&self) -> bool {
        self.algorithm.bottleneck() && bottleneck::streams_filters(self)
    }

    /// The most channels that a bottleneck may have at either end; `None` if the kernel takes any
    /// number.
    pub(crate) fn max_channels(&self) -> Option<u32> {
        bottleneck::max_channels(self)
    }

    /// The definitions that nvcc is given (`-D CONFIG_NAME=VALUE`); `kernels/config.cuh` makes a
    /// documented constant of each.
    #[allow(dead_code, reason = "for build.rs, which includes this file")]
    pub(crate) fn defines(&self) -> Vec<(&'static str, String)> {
        let dtype = match self.dtype {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::Bf16 => 2,
        };
        let math = match self.math {
            Math::Strict => 0,
            Math::Tf32 => 1,
            Math::Tf32x3 => 2,
        };
        let (major, minor) = self.arch.capability();
        let nhwc = self.layout == Some(Layout::Nhwc);
        vec![
            ("CONFIG_KERNEL_NAME", self.name()),
            ("CONFIG_DTYPE", dtype.to_string()),
            ("CONFIG_MATH", math.to_string()),
            ("CONFIG_LAYOUT_NHWC", nhwc.to_string()),
            ("CONFIG_SM", (10 * major + minor).to_string()),
            ("CONFIG_TILE_M", self.tile_m.to_string()),
            ("CONFIG_TILE_N", self.tile_n.to_string()),
            ("CONFIG_TILE_K", self.tile_k.to_string()),
            ("CONFIG_STRIDE", self.stride.to_string()),
            (
                "CONFIG_GROUPS_PER_TILE",
                mma::groups_per_tile(self).to_string(),
            ),
            ("CONFIG_VECTOR_BYTES", self.vector.to_string()),
            ("CONFIG_THREADS", self.threads.to_string()),
            ("CONFIG_MIN_BLOCKS", self.min_blocks.to_string()),
            ("CONFIG_STAGES", self.stages.to_string()),
            ("CONFIG_SHARED_BYTES", self.dynamic_shared().to_string()),
            (
                "CONFIG_FEW_CHANNELS_MAX_GEMM_K",
                FEW_CHANNELS_MAX_GEMM_K.to_string(),
            ),
        ]
    }
}

/// Lists every kernel, in a fixed order. build.rs makes a table of the list, which the library
/// reads: no program computes it again.
#[allow(dead_code, reason = "build.rs and a test call it")]
pub(super) fn entries() -> Vec<Kernel> {
    let mut all = Vec::new();
    simt::convolution(&mut all);
    simt::depthwise(&mut all);
    pool::kernels(&mut all);
    elementwise::relu(&mut all);
    elementwise::kernels(&mut all);
    mma::kernels(&mut all);
    wgmma::kernels(&mut all);
    bottleneck::kernels(&mut all);
    multi_conv::kernels(&mut all);
    helpers(&mut all);
    all
}

/// Kernels that prepare what others read.
fn helpers(all: &mut Vec<Kernel>) {
    // Bits are moved: bf16 is served by the module for f16.
    for dtype in [DType::F32, DType::F16] {
        all.push(Kernel {
            algorithm: Algorithm::PackFilter,
            dtype,
            layout: None,
            arch: Arch::Sm75,
            // Filters, channels and taps of a block.
            tile_m: 1,
            tile_n: 64,
            tile_k: 32,
            math: Math::Strict,
            vector: 0,
            stride: 0,
            threads: 256,
            stages: 1,
            min_blocks: 4,
        });
    }
}
