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
        Algorithm::Bottleneck => Some(256),
        Algorithm::BottleneckWgmma => Some(WGMMA_CHANNELS),
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

/// f32 as the CPU has it. 8x28 outputs leave no lane idle and divide 56x56; 8x8 are for small images, few of them, and a
/// stride of 2, whose halo is four times as large.
const CORES: [Entry; 17] = [
    cores(Layout::Nchw, [8, 28, 64], 1, 16),
    cores(Layout::Nchw, [8, 28, 64], 1, 4),
    cores(Layout::Nchw, [8, 8, 64], 2, 4),
    cores(Layout::Nchw, [8, 28, 32], 1, 4),
    cores(Layout::Nchw, [8, 8, 32], 2, 4),
    cores(Layout::Nchw, [8, 28, 16], 1, 4),
    cores(Layout::Nchw, [8, 8, 16], 2, 4),
    cores(Layout::Nchw, [8, 8, 64], 1, 4),
    cores_75(Layout::Nchw, [8, 8, 64]),
    cores(Layout::Nhwc, [8, 28, 64], 1, 4),
    cores(Layout::Nhwc, [8, 8, 64], 2, 4),
    cores(Layout::Nhwc, [8, 28, 32], 1, 4),
    cores(Layout::Nhwc, [8, 8, 32], 2, 4),
    cores(Layout::Nhwc, [8, 28, 16], 1, 4),
    cores(Layout::Nhwc, [8, 8, 16], 2, 4),
    cores(Layout::Nhwc, [8, 8, 64], 1, 4),
    cores_75(Layout::Nhwc, [8, 8, 64]),
];

/// As many blocks a multiprocessor as shared memory of compute capability 9.0 holds while all of a tile's sums find registers.
const fn cores(layout: Layout, tile: [u32; 3], stride: u32, vector: u32) -> Entry {
    Entry {
        tier: Tier::Sm80,
        dtype: DType::F32,
        math: Math::Strict,
        layout,
        tile,
        stride,
        vector,
        threads: 256,
        stages: 3,
        min_blocks: if stride == 1 && tile[1] == 8 { 3 } else { 2 },
    }
}

/// Without copies behind the back of a thread a third stage would gain nothing.
const fn cores_75(layout: Layout, tile: [u32; 3]) -> Entry {
    Entry {
        tier: Tier::Sm75,
        stages: 2,
        ..cores(layout, tile, 1, 4)
    }
}

/// What `kernels/bottleneck_cores.cuh` lays out: area A, area B, places.
fn cores_shared(kernel: &Kernel) -> u32 {
    let (wide, narrow) = (kernel.vector == 16, kernel.tile_k);
    let halo = |outputs: u32| (outputs - 1) * kernel.stride + 3;
    let (halo_p, halo_q) = (halo(kernel.tile_m), halo(kernel.tile_n));
    let mid_q = (halo_q + u32::from(wide)).next_multiple_of(2);
    let x_q = if wide {
        (halo_q + 3).next_multiple_of(4)
    } else {
        mid_q
    };
    let x_pitch = match kernel.layout {
        Some(Layout::Nhwc) => (halo_p * x_q - 8).next_multiple_of(32) + 8,
        _ => halo_p * x_q,
    };
    let out = kernel.tile_m * kernel.tile_n;
    let mid_row = narrow * mid_q + if out == 7 * 32 { 4 } else { 8 };
    let step_1 = if wide { 16 } else { 8 };
    let stage_1 = (step_1 * (x_pitch + narrow + 4)).next_multiple_of(4);
    let stage_2 = 4 * 9 * (narrow + 8);
    let stage_3 = 16 * (64 + 4);
    let area_a = (halo_p * mid_row)
        .max(narrow * out)
        .max(kernel.stages * stage_1);
    let area_b = kernel.stages * stage_2.max(stage_3);
    let places = if wide { 0 } else { halo_p * x_q };
    4 * (area_a.next_multiple_of(4) + area_b + places)
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

/// The most channels and filters: those of both 1x1 stay in shared memory.
const WGMMA_CHANNELS: u32 = 256;

/// f16 and bf16 on compute capability 9.0, NHWC: pixels whose channels begin at multiples of 16 bytes (256) or of 8 (252).
const WGMMA: [Entry; 8] = [
    wgmma(DType::F16, 1, 16),
    wgmma(DType::F16, 1, 8),
    wgmma(DType::F16, 2, 16),
    wgmma(DType::F16, 2, 8),
    wgmma(DType::Bf16, 1, 16),
    wgmma(DType::Bf16, 1, 8),
    wgmma(DType::Bf16, 2, 16),
    wgmma(DType::Bf16, 2, 8),
];

const fn wgmma(dtype: DType, stride: u32, vector: u32) -> Entry {
    // A row of outputs is a group of eight; either way the patch needs 160 pixels of the first intermediate.
    let (rows, stages) = if stride == 1 { (14, 3) } else { (4, 5) };
    Entry {
        tier: Tier::Sm90a,
        dtype,
        math: Math::Strict,
        layout: Layout::Nhwc,
        tile: [rows, 8, 64],
        stride,
        vector,
        threads: 512,
        stages,
        min_blocks: 1,
    }
}

/// As `kernels/bottleneck_wgmma_tile.cuh` lays it out, in rows of 128 bytes: stages of 160 pixels; three copies of the
/// first intermediate, eight pixels a row of the patch (at stride 2 the last copy has 16 rows), and 32 spare lines; the
/// second one and two buffers for y; the filters of the two 1x1. Then the last bias and the barriers.
fn wgmma_shared(kernel: &Kernel) -> u32 {
    let (rows, stages) = (kernel.tile_m, kernel.stages);
    let copies = if kernel.stride == 1 {
        3 * (rows + 2)
    } else {
        2 * (2 * rows + 1) + 16
    };
    let outputs = rows * kernel.tile_n;
    let filters = 2 * WGMMA_CHANNELS;
    let lines = stages * 160 + copies * 8 + 32 + 3 * outputs + filters;
    lines * 128 + WGMMA_CHANNELS * 4 + (2 * stages + 4) * 8
}
