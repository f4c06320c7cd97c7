//! The kernels that were compiled: one [`Kernel`] a PTX module.
//!
//! This is the one source of truth for tiles and constraints. `build.rs` includes this file too and hands each
//! entry to nvcc as definitions ([`Kernel::defines`]), so a kernel's tile stands here once. It must therefore depend
//! on nothing but `core` and `std`.

use std::sync::OnceLock;

/// How an element is stored. Arithmetic is always in f32.
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

    /// Bytes an element takes.
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

/// The instruction set that a module was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// compute_75, PTX ISA 6.3: the baseline, no `cp.async`.
    Sm75,
    /// compute_80, PTX ISA 7.0: `cp.async`.
    Sm80,
}

impl Tier {
    /// The lowest compute capability that runs the tier, as (major, minor).
    pub const fn capability(self) -> (u32, u32) {
        match self {
            Tier::Sm75 => (7, 5),
            Tier::Sm80 => (8, 0),
        }
    }

    /// `sm75` or `sm80`: the suffix of kernel ids.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Sm75 => "sm75",
            Tier::Sm80 => "sm80",
        }
    }

    /// nvcc's `-arch` for the tier.
    pub const fn arch(self) -> &'static str {
        match self {
            Tier::Sm75 => "compute_75",
            Tier::Sm80 => "compute_80",
        }
    }

    /// The lowest PTX ISA version whose instructions the tier's modules keep to.
    pub const fn ptx_version(self) -> &'static str {
        match self {
            Tier::Sm75 => "6.3",
            Tier::Sm80 => "7.0",
        }
    }
}

/// The algorithm that a kernel implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Convolution as an implicit matrix product, any filter, groups = 1.
    Direct,
    /// Convolution of few channels, groups = 1: an implicit matrix product whose gemm_k runs through channels and
    /// filter taps in one go, so that no channel block is padded. Needs c * r * s <= [`FLAT_GEMM_K`].
    DirectFlat,
    /// 1x1 convolution as a plain matrix product, strided included, groups = 1, no padding.
    Pointwise,
    /// Convolution with 1 < groups, many channels a group: an implicit matrix product a group.
    Grouped,
    /// Convolution with 1 < groups, few channels a group: one thread a pixel and a few filters.
    GroupedNarrow,
    /// Convolution with groups = channels, channel multiplier included.
    Depthwise,
    /// Windowed maximum, with the index of each maximum if asked.
    MaxPool,
    /// Windowed mean; adaptive windows included.
    AvgPool,
    /// Mean or maximum over the whole plane.
    GlobalPool,
    /// `max(x, 0)`, NaN kept.
    Relu,
}

impl Algorithm {
    /// The first part of kernel ids.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct",
            Algorithm::DirectFlat => "direct_flat",
            Algorithm::Pointwise => "1x1",
            Algorithm::Grouped => "grouped",
            Algorithm::GroupedNarrow => "grouped_narrow",
            Algorithm::Depthwise => "depthwise",
            Algorithm::MaxPool => "max_pool",
            Algorithm::AvgPool => "avg_pool",
            Algorithm::GlobalPool => "global_pool",
            Algorithm::Relu => "relu",
        }
    }

    /// The file in `kernels/` that holds the template.
    pub const fn source(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct.cu",
            Algorithm::DirectFlat => "direct_flat.cu",
            Algorithm::Pointwise => "pointwise.cu",
            Algorithm::Grouped => "grouped.cu",
            Algorithm::GroupedNarrow => "grouped_narrow.cu",
            Algorithm::Depthwise => "depthwise.cu",
            Algorithm::MaxPool => "max_pool.cu",
            Algorithm::AvgPool => "avg_pool.cu",
            Algorithm::GlobalPool => "global_pool.cu",
            Algorithm::Relu => "relu.cu",
        }
    }
}

/// The longest sum (c * r * s) that [`Algorithm::DirectFlat`] takes: it keeps a table of its terms in shared memory.
pub const FLAT_GEMM_K: u32 = 512;

/// One compiled kernel: an entry of the catalog, a PTX module with one entry point of the same name as [`Kernel::id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// What it computes and how.
    pub algorithm: Algorithm,
    /// How its activations, filters and bias are stored.
    pub dtype: DType,
    /// The layout of its activations; `None` where the kernel does not care.
    pub layout: Option<Layout>,
    /// The instruction set it needs.
    pub tier: Tier,
    /// The tile of the matrix product that a block computes (gemm_m = filters, gemm_n = output pixels, gemm_k = the
    /// channels of one filter tap taken a step); for kernels that are no matrix product, what their header says.
    pub tile_m: u32,
    /// See [`Kernel::tile_m`].
    pub tile_n: u32,
    /// See [`Kernel::tile_m`].
    pub tile_k: u32,
    /// Threads a block.
    pub threads: u32,
    /// Buffers of the shared-memory pipeline (1 where there is none).
    pub stages: u32,
    /// Blocks that a multiprocessor is meant to hold: `__launch_bounds__`' second argument.
    pub min_blocks: u32,
}

impl Kernel {
    /// The unique name: `direct_f32_nchw_128x128x8_sm80`, also the PTX entry point.
    pub fn id(&self) -> String {
        let mut id = String::from(self.algorithm.name());
        if id.starts_with(|c: char| c.is_ascii_digit()) {
            // A PTX symbol may not start with a digit.
            id.insert_str(0, "conv");
        }
        id.push('_');
        id.push_str(self.dtype.name());
        if let Some(layout) = self.layout {
            id.push('_');
            id.push_str(layout.name());
        }
        if self.tile_n > 1 || self.tile_m > 1 {
            id.push_str(&format!("_{}x{}x{}", self.tile_m, self.tile_n, self.tile_k));
        }
        id.push('_');
        id.push_str(self.tier.name());
        id
    }

    /// The definitions that nvcc is given (`-D NAME=VALUE`).
    pub fn defines(&self) -> Vec<(&'static str, String)> {
        let dtype = match self.dtype {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::Bf16 => 2,
        };
        let mut defines = vec![
            ("KERNEL_NAME", self.id()),
            ("KERNEL_DTYPE", dtype.to_string()),
            ("TILE_M", self.tile_m.to_string()),
            ("TILE_N", self.tile_n.to_string()),
            ("TILE_K", self.tile_k.to_string()),
            ("THREADS", self.threads.to_string()),
            ("STAGES", self.stages.to_string()),
            ("MIN_BLOCKS", self.min_blocks.to_string()),
        ];
        if self.algorithm == Algorithm::DirectFlat {
            defines.push(("FLAT_GEMM_K", FLAT_GEMM_K.to_string()));
        }
        if let Some(layout) = self.layout {
            defines.push(("LAYOUT_NHWC", u32::from(layout == Layout::Nhwc).to_string()));
        }
        defines
    }
}

/// A kernel's place in [`kernels`]; the PTX table of the build has the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId(pub usize);

impl KernelId {
    /// The catalog's entry.
    ///
    /// # Panics
    /// If there is no kernel of that number. Those that this crate gives out exist.
    pub fn kernel(self) -> &'static Kernel {
        &kernels()[self.0]
    }
}

/// Every kernel, in a fixed order.
pub fn kernels() -> &'static [Kernel] {
    static KERNELS: OnceLock<Vec<Kernel>> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let mut all = Vec::new();
        convolution(&mut all);
        depthwise(&mut all);
        pooling_and_relu(&mut all);
        all
    })
}

/// Tiles, as (tile_m, tile_n), with the types and tiers they are compiled for. cp.async cannot convert, so f16 and bf16
/// have the baseline tier only.
struct Tiles {
    algorithm: Algorithm,
    f32_sm80: &'static [(u32, u32)],
    f32_sm75: &'static [(u32, u32)],
    half_sm75: &'static [(u32, u32)],
}

/// Direct, 1x1 and grouped convolution.
fn convolution(all: &mut Vec<Kernel>) {
    let products = [
        Tiles {
            algorithm: Algorithm::Direct,
            f32_sm80: &[(128, 128), (64, 128), (64, 64), (32, 128)],
            f32_sm75: &[(128, 128), (64, 64)],
            half_sm75: &[(128, 128), (64, 64)],
        },
        Tiles {
            algorithm: Algorithm::DirectFlat,
            f32_sm80: &[(64, 128), (32, 128)],
            f32_sm75: &[(64, 128)],
            half_sm75: &[(64, 128)],
        },
        Tiles {
            algorithm: Algorithm::Pointwise,
            f32_sm80: &[(128, 128), (64, 64), (32, 128)],
            f32_sm75: &[(128, 128), (64, 64)],
            half_sm75: &[(128, 128), (64, 64)],
        },
        Tiles {
            algorithm: Algorithm::Grouped,
            f32_sm80: &[(64, 64), (32, 64)],
            f32_sm75: &[(64, 64), (32, 64)],
            half_sm75: &[(32, 64)],
        },
    ];
    for tiles in products {
        for layout in Layout::ALL {
            let mut push = |dtype, tier, sizes: &[(u32, u32)]| {
                for &(tile_m, tile_n) in sizes {
                    let kernel = matrix_product(tile_m, tile_n, tier);
                    all.push(Kernel {
                        algorithm: tiles.algorithm,
                        dtype,
                        layout: Some(layout),
                        ..kernel
                    });
                }
            };
            push(DType::F32, Tier::Sm80, tiles.f32_sm80);
            push(DType::F32, Tier::Sm75, tiles.f32_sm75);
            push(DType::F16, Tier::Sm75, tiles.half_sm75);
            push(DType::Bf16, Tier::Sm75, tiles.half_sm75);
        }
    }
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            // A thread makes eight filters at four pixels.
            all.push(Kernel {
                algorithm: Algorithm::GroupedNarrow,
                dtype,
                layout: Some(layout),
                tier: Tier::Sm75,
                tile_m: 8,
                tile_n: 256,
                tile_k: 1,
                threads: 64,
                stages: 1,
                min_blocks: 8,
            });
        }
    }
}

/// A tile of `kernels/implicit_gemm.cuh`, of an algorithm, type and layout to be filled in. Every thread owns 8x8 sums, or
/// 4x8 where there are 32 filters, so that 128 registers a thread and 512 threads a multiprocessor fit each other; 168 and
/// 384 where 64 threads share out a 64x64 tile and each brings 16 elements a step through registers.
fn matrix_product(tile_m: u32, tile_n: u32, tier: Tier) -> Kernel {
    let sums = if tile_m < 64 { 32 } else { 64 };
    let threads = tile_m * tile_n / sums;
    Kernel {
        algorithm: Algorithm::Direct,
        dtype: DType::F32,
        layout: None,
        tier,
        tile_m,
        tile_n,
        tile_k: 8,
        threads,
        // cp.async keeps several steps in flight; through registers there is one read and one filled.
        stages: if tier == Tier::Sm80 { 4 } else { 2 },
        min_blocks: if tier == Tier::Sm75 && threads == 64 && sums == 64 {
            6
        } else {
            512 / threads
        },
    }
}

/// Depthwise convolution. `tile_k` is the filter that a module is made for (`tile_k` x `tile_k`, vertical stride 1 or 2, no
/// vertical dilation), or 1 for any; `tile_m` the output rows a thread makes.
fn depthwise(all: &mut Vec<Kernel>) {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            // Four channels of a 7x7 filter would not fit the registers.
            let filters: &[u32] = if layout == Layout::Nchw {
                &[3, 5, 7, 1]
            } else {
                &[3, 5, 1]
            };
            for &tile_k in filters {
                all.push(Kernel {
                    tile_m: if tile_k == 1 { 4 } else { 8 },
                    tile_k,
                    ..one_by_one(Algorithm::Depthwise, dtype, Some(layout), 128)
                });
            }
        }
    }
}

/// Max, average and global pooling, and ReLU.
fn pooling_and_relu(all: &mut Vec<Kernel>) {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            all.push(Kernel {
                // Output rows a thread makes.
                tile_m: if layout == Layout::Nchw { 8 } else { 1 },
                ..one_by_one(Algorithm::MaxPool, dtype, Some(layout), 256)
            });
            all.push(one_by_one(Algorithm::AvgPool, dtype, Some(layout), 256));
            all.push(one_by_one(Algorithm::GlobalPool, dtype, Some(layout), 256));
        }
    }
    for dtype in DType::ALL {
        all.push(Kernel {
            // Elements a block makes: four 16-byte vectors a thread.
            tile_n: 16384 / dtype.size() as u32,
            ..one_by_one(Algorithm::Relu, dtype, None, 256)
        });
    }
}

/// A kernel that is no matrix product and needs nothing newer than the baseline.
fn one_by_one(algorithm: Algorithm, dtype: DType, layout: Option<Layout>, threads: u32) -> Kernel {
    Kernel {
        algorithm,
        dtype,
        layout,
        tier: Tier::Sm75,
        tile_m: 1,
        tile_n: 1,
        tile_k: 1,
        threads,
        stages: 1,
        min_blocks: 2,
    }
}
