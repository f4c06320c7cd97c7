//! The kernels that compute a whole bottleneck: 1x1, 3x3, 1x1 and the residual in one launch.
//!
//! An entry's tile reads otherwise than a convolution's: `tile_m` x `tile_n` (`TILE_P` x `TILE_Q`) are the output pixels of
//! one image that a block takes, `tile_k` (`NARROW`) the channels of both intermediates, rounded up; `stride` is that of
//! the 3x3.

use super::{Algorithm, DType, Kernel, Layout, Math, Tier};

/// Adds them in a fixed order.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    all.extend(
        CORES
            .iter()
            .map(|entry| of(Algorithm::BottleneckCores, entry)),
    );
    all.extend(MMA.iter().map(|entry| of(Algorithm::Bottleneck, entry)));
    all.extend(
        WGMMA
            .iter()
            .map(|entry| of(Algorithm::BottleneckWgmma, entry)),
    );
}

/// What entries differ in.
struct Entry {
    tier: Tier,
    dtype: DType,
    math: Math,
    layout: Layout,
    /// Rows, columns, narrow channels.
    tile: [u32; 3],
    stride: u32,
    /// Bytes of a copy of x.
    vector: u32,
    threads: u32,
    stages: u32,
    min_blocks: u32,
}

fn of(algorithm: Algorithm, entry: &Entry) -> Kernel {
    let [tile_m, tile_n, tile_k] = entry.tile;
    Kernel {
        algorithm,
        dtype: entry.dtype,
        layout: Some(entry.layout),
        tier: entry.tier,
        tile_m,
        tile_n,
        tile_k,
        math: entry.math,
        vector: entry.vector,
        stride: entry.stride,
        threads: entry.threads,
        stages: entry.stages,
        min_blocks: entry.min_blocks,
    }
}

/// The most channels of input and output. Those on tensor cores keep all filters of the two 1x1s in shared memory, which has
/// room for so many (MOST_C and MOST_K, or BLOCKS of 64, in the kernels).
pub(super) fn most_channels(kernel: &Kernel) -> Option<u32> {
    match kernel.algorithm {
        Algorithm::Bottleneck | Algorithm::BottleneckWgmma => Some(256),
        _ => None,
    }
}

/// Bytes of dynamic shared memory of a block.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    match kernel.algorithm {
        Algorithm::BottleneckCores => cores_shared(kernel),
        Algorithm::BottleneckWgmma => wgmma_shared(kernel),
        _ => mma_shared(kernel),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// CUDA cores: kernels/bottleneck_cores.cu

/// f32 as the CPU has it.
const CORES: [Entry; 0] = [];

fn cores_shared(_: &Kernel) -> u32 {
    0
}

// ---------------------------------------------------------------------------------------------------------------------
// mma.sync: kernels/bottleneck.cu

/// f16, bf16 and tf32 on compute capability 8.0 and later.
const MMA: [Entry; 0] = [];

fn mma_shared(_: &Kernel) -> u32 {
    0
}

// ---------------------------------------------------------------------------------------------------------------------
// wgmma: kernels/bottleneck_wgmma.cu

/// f16, bf16 and tf32 on compute capability 9.0.
const WGMMA: [Entry; 0] = [];

fn wgmma_shared(_: &Kernel) -> u32 {
    0
}
