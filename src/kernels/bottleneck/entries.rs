//! The kernels that compute a whole bottleneck: 1x1, 3x3, 1x1 and the residual in one launch.
//!
//! An entry's tile has another meaning than a convolution's: `tile_m` x `tile_n` (`TILE_P` x
//! `TILE_Q`) are the output pixels of one image that a block takes, `tile_k` (`MID_CHANNELS`) the
//! channels of both intermediates, rounded up; `stride` is that of the 3x3.

use super::{Algorithm, Arch, Kernel};
use super::{DType, Layout, Math};

/// Adds the family's kernels in a fixed order.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    all.extend(
        SIMT.iter()
            .map(|entry| of(Algorithm::BottleneckSimt, entry)),
    );
    mma(all);
    all.extend(
        WGMMA
            .iter()
            .map(|entry| of(Algorithm::BottleneckWgmma, entry)),
    );
}

/// Fields in which the entries differ.
struct Entry {
    arch: Arch,
    dtype: DType,
    math: Math,
    layout: Layout,
    /// Rows, columns and middle channels of a tile.
    tile: [u32; 3],
    stride: u32,
    /// Bytes per copy of x.
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
        arch: entry.arch,
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

/// The most channels of input and output. Those on tensor cores that keep all filters of the two
/// 1x1s in shared memory have room for so many (MAX_C and MAX_K, or BLOCKS of 64, in the
/// kernels).
pub(super) fn max_channels(kernel: &Kernel) -> Option<u32> {
    match kernel.algorithm {
        Algorithm::Bottleneck if streams_filters(kernel) => None,
        Algorithm::Bottleneck => Some(MAX),
        Algorithm::BottleneckWgmma => Some(WGMMA_CHANNELS),
        _ => None,
    }
}

/// Bytes of dynamic shared memory of a block.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    match kernel.algorithm {
        Algorithm::BottleneckSimt => simt_shared(kernel),
        Algorithm::BottleneckWgmma => wgmma_shared(kernel),
        _ => mma_shared(kernel),
    }
}

// -------------------------------------------------------------------------------------------------
// CUDA cores: kernels/bottleneck/simt.cu

/// f32 as the CPU has it. 8x28 outputs leave no lane idle and divide 56x56; 8x8 are for small
/// images, few of them, and a stride of 2, whose halo is four times as large.
const SIMT: [Entry; 17] = [
    simt(Layout::Nchw, [8, 28, 64], 1, 16),
    simt(Layout::Nchw, [8, 28, 64], 1, 4),
    simt(Layout::Nchw, [8, 8, 64], 2, 4),
    simt(Layout::Nchw, [8, 28, 32], 1, 4),
    simt(Layout::Nchw, [8, 8, 32], 2, 4),
    simt(Layout::Nchw, [8, 28, 16], 1, 4),
    simt(Layout::Nchw, [8, 8, 16], 2, 4),
    simt(Layout::Nchw, [8, 8, 64], 1, 4),
    cores_75(Layout::Nchw, [8, 8, 64]),
    simt(Layout::Nhwc, [8, 28, 64], 1, 4),
    simt(Layout::Nhwc, [8, 8, 64], 2, 4),
    simt(Layout::Nhwc, [8, 28, 32], 1, 4),
    simt(Layout::Nhwc, [8, 8, 32], 2, 4),
    simt(Layout::Nhwc, [8, 28, 16], 1, 4),
    simt(Layout::Nhwc, [8, 8, 16], 2, 4),
    simt(Layout::Nhwc, [8, 8, 64], 1, 4),
    cores_75(Layout::Nhwc, [8, 8, 64]),
];

/// Entry on CUDA cores, with as many blocks per SM as shared memory of compute capability 9.0 and
/// the registers of the accumulators allow.
const fn simt(layout: Layout, tile: [u32; 3], stride: u32, vector: u32) -> Entry {
    Entry {
        arch: Arch::Sm80,
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

/// Entry without `cp.async`, where a third stage would gain nothing.
const fn cores_75(layout: Layout, tile: [u32; 3]) -> Entry {
    Entry {
        arch: Arch::Sm75,
        stages: 2,
        ..simt(layout, tile, 1, 4)
    }
}

/// Bytes of shared memory, laid out as in `kernels/bottleneck/simt_tile.cuh`: area A, area B,
/// places.
fn simt_shared(kernel: &Kernel) -> u32 {
    let (wide, mid_channels) = (kernel.vector == 16, kernel.tile_k);
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
    let mid_row = mid_channels * mid_q + if out == 7 * 32 { 4 } else { 8 };
    let step_1 = if wide { 16 } else { 8 };
    let stage_1 = (step_1 * (x_pitch + mid_channels + 4)).next_multiple_of(4);
    let stage_2 = 4 * 9 * (mid_channels + 8);
    let stage_3 = 16 * (64 + 4);
    let area_a = (halo_p * mid_row)
        .max(mid_channels * out)
        .max(kernel.stages * stage_1);
    let area_b = kernel.stages * stage_2.max(stage_3);
    let places = if wide { 0 } else { halo_p * x_q };
    4 * (area_a.next_multiple_of(4) + area_b + places)
}

// -------------------------------------------------------------------------------------------------
// mma.sync: kernels/bottleneck/mma.cu

/// A tile (rows, columns, middle channels), its stride, bytes per copy of x, threads, blocks per
/// SM.
type Patch = ([u32; 3], u32, u32, u32, u32);

/// Tiles of f16 and bf16. Two groups of four warps keep all filters in shared memory, of which only
/// the largest cards have enough; one group streams them for each patch. None takes copies of 2
/// bytes at stride 2: it would spill registers.
const HALF: [Patch; 12] = [
    ([8, 14, 64], 1, 16, RESIDENT, 1),
    ([8, 14, 64], 1, 8, RESIDENT, 1),
    ([8, 14, 64], 1, 16, STREAMED, 2),
    ([8, 14, 64], 1, 8, STREAMED, 2),
    ([8, 14, 64], 1, 2, STREAMED, 2),
    ([7, 7, 64], 1, 16, STREAMED, 2),
    ([8, 14, 32], 1, 16, STREAMED, 2),
    ([4, 14, 128], 1, 16, STREAMED, 2),
    ([4, 14, 128], 1, 2, STREAMED, 2),
    ([4, 14, 64], 2, 8, STREAMED, 2),
    ([4, 14, 32], 2, 16, STREAMED, 2),
    ([4, 14, 128], 2, 16, STREAMED, 1),
];

/// Tiles of tf32, whose filters never all fit.
const TF32: [Patch; 4] = [
    ([8, 14, 64], 1, 16, STREAMED, 2),
    ([8, 14, 64], 1, 4, STREAMED, 2),
    ([8, 14, 32], 1, 16, STREAMED, 2),
    ([4, 14, 64], 2, 4, STREAMED, 1),
];

const RESIDENT: u32 = 256;
const STREAMED: u32 = 128;

/// Lifetime of resident filters.
const MAX: u32 = 256;

fn mma(all: &mut Vec<Kernel>) {
    let kinds = [
        (DType::F16, Math::Strict, &HALF[..]),
        (DType::Bf16, Math::Strict, &HALF[..]),
        (DType::F32, Math::Tf32, &TF32[..]),
    ];
    for (dtype, math, patches) in kinds {
        all.extend(
            patches
                .iter()
                .map(|&(tile, stride, vector, threads, min_blocks)| {
                    let entry = Entry {
                        arch: Arch::Sm80,
                        dtype,
                        math,
                        layout: Layout::Nhwc,
                        tile,
                        stride,
                        vector,
                        threads,
                        stages: 4,
                        min_blocks,
                    };
                    of(Algorithm::Bottleneck, &entry)
                }),
        );
    }
}

/// Returns whether a kernel loads its filters anew for each patch.
pub(super) fn streams_filters(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::Bottleneck && kernel.threads == STREAMED
}

/// Bytes of shared memory, laid out as in `kernels/bottleneck/mma_patch.cuh`.
fn mma_shared(kernel: &Kernel) -> u32 {
    let (size, mid_channels) = (kernel.dtype.size() as u32, kernel.tile_k);
    let halo = |outputs: u32| (outputs - 1) * kernel.stride + 3;
    let halo = halo(kernel.tile_m) * halo(kernel.tile_n);
    let narrow_bytes = mid_channels * size;
    let row = narrow_bytes.min(128);
    // The first product goes over the halo in passes.
    let column_warps = if narrow_bytes >= 128 { 2 } else { 1 };
    let rows = 16 * 4 / column_warps;
    let columns = mid_channels / 8 / column_warps;
    let most = if columns < 4 { 6 } else { 24 / columns };
    let blocks = halo.div_ceil(rows);
    let pass = blocks.div_ceil(blocks.div_ceil(most)) * rows;
    let (groups, biases, filters, stage) = if streams_filters(kernel) {
        let slot = mid_channels.max(64) * row;
        (1, 2 * mid_channels, 3 * slot, (pass + mid_channels) * 32)
    } else {
        let filters = mid_channels * size * (MAX + 9 * mid_channels + MAX);
        (2, 2 * mid_channels + MAX, filters, pass * 32)
    };
    let mid = (halo * narrow_bytes.max(128)).next_multiple_of(256);
    // Eight pixels of a warp, 64 filters each.
    let output = if size == 2 { 4 * 8 * 64 * size } else { 0 };
    (4 * biases).next_multiple_of(256) + filters + groups * (mid + kernel.stages * stage + output)
}

// -------------------------------------------------------------------------------------------------
// wgmma: kernels/bottleneck/wgmma.cu

/// The most channels and filters: those of both 1x1 stay in shared memory.
const WGMMA_CHANNELS: u32 = 256;

/// f16 and bf16 on compute capability 9.0, NHWC: pixels whose channels begin at multiples of 16
/// bytes (256) or of 8 (252).
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
    // A row of outputs is a group of eight; either way the patch needs 160 pixels of the first
    // intermediate.
    let (rows, stages) = if stride == 1 { (14, 3) } else { (4, 5) };
    Entry {
        arch: Arch::Sm90a,
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

/// As `kernels/bottleneck/wgmma_tile.cuh` lays it out, in rows of 128 bytes: stages of 160 pixels;
/// three copies of the first intermediate, eight pixels a row of the patch (at stride 2 the last
/// copy has 16 rows), and 32 spare lines; the second one and two buffers for y; the filters of the
/// two 1x1. Then the last bias and the barriers.
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
