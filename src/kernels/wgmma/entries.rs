//! The kernels that compute on tensor cores by `wgmma`.

use super::{Algorithm, Arch, Kernel};
use super::{DType, Layout, Math};

/// Adds the family's kernels in a fixed order.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in [DType::Bf16, DType::F16, DType::F32] {
        copied(all, dtype);
        gathered(all, dtype);
    }
}

/// Filters, pixels, channels of 16 bits, stages and blocks per SM of a tile whose x TMA loads.
/// Stages fill shared memory.
const COPIED: [[u32; 5]; 8] = [
    [128, 128, 64, 6, 1],
    [256, 128, 64, 4, 1],
    [128, 256, 64, 4, 1],
    [64, 256, 64, 4, 1],
    [64, 128, 64, 3, 2],
    [64, 64, 64, 4, 2],
    [64, 128, 32, 3, 2],
    [64, 128, 16, 3, 2],
];

fn copied(all: &mut Vec<Kernel>, dtype: DType) {
    for [tile_m, tile_n, channels, stages, min_blocks] in COPIED {
        all.push(Kernel {
            tile_m,
            tile_n,
            tile_k: channels * 2 / dtype.size() as u32,
            threads: if tile_n > 64 { 384 } else { 256 },
            stages,
            min_blocks,
            ..kernel(Algorithm::Wgmma, dtype, Layout::Nhwc)
        });
    }
}

/// Layout, bytes per copy, filters, pixels, threads, stages and blocks per SM of a tile whose x is
/// gathered. Two warpgroups take turns where x passes through registers.
const GATHERED: [(Layout, u32, [u32; 5]); 10] = [
    (Layout::Nhwc, 16, [128, 128, 384, 5, 1]),
    (Layout::Nhwc, 16, [64, 128, 384, 3, 2]),
    (Layout::Nhwc, 8, [128, 128, 384, 5, 1]),
    (Layout::Nhwc, 8, [64, 128, 384, 3, 2]),
    (Layout::Nhwc, 4, [128, 128, 384, 5, 1]),
    (Layout::Nhwc, 4, [64, 128, 384, 3, 2]),
    (Layout::Nhwc, 2, [128, 128, 512, 5, 1]),
    (Layout::Nhwc, 2, [64, 128, 512, 5, 1]),
    (Layout::Nchw, 0, [128, 128, 512, 5, 1]),
    (Layout::Nchw, 0, [64, 128, 384, 5, 1]),
];

fn gathered(all: &mut Vec<Kernel>, dtype: DType) {
    let size = dtype.size() as u32;
    for (layout, vector, [tile_m, tile_n, threads, stages, min_blocks]) in GATHERED {
        // Neighbouring pixels of NCHW need not be neighbours in x.
        let vector = if layout == Layout::Nchw { size } else { vector };
        if vector < size {
            continue;
        }
        // cp.async, which f32 always has, keeps its copies in flight without a second warpgroup.
        let spare = if vector == size && size == 4 && layout == Layout::Nchw {
            128
        } else {
            0
        };
        all.push(Kernel {
            tile_m,
            tile_n,
            tile_k: 128 / size,
            threads: threads - spare,
            stages,
            min_blocks,
            vector,
            ..kernel(Algorithm::WgmmaGather, dtype, layout)
        });
    }
}

/// A kernel, of a tile to be filled in.
fn kernel(algorithm: Algorithm, dtype: DType, layout: Layout) -> Kernel {
    Kernel {
        algorithm,
        dtype,
        layout: Some(layout),
        arch: Arch::Sm90a,
        math: match dtype {
            DType::F32 => Math::Tf32,
            _ => Math::Strict,
        },
        vector: 0,
        stride: 0,
        tile_m: 0,
        tile_n: 0,
        tile_k: 0,
        threads: 0,
        stages: 0,
        min_blocks: 0,
    }
}

/// Bytes of dynamic shared memory of a block, as `kernels/wgmma/tile.cuh` lays it out. A stage
/// holds 128 bytes of channels of each filter and pixel of the tile: narrow channel blocks come
/// several taps at a time. Each warpgroup that computes has two staging buffers of 8 KiB and the
/// biases of the tile; each that gathers x has 16 bytes per pixel.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    let consumers = consumers(kernel);
    let stages = kernel.stages * (kernel.tile_m + kernel.tile_n) * 128;
    let gathered = match kernel.algorithm {
        Algorithm::WgmmaGather => (kernel.threads / 128 - consumers) * kernel.tile_n * 16,
        _ => 0,
    };
    stages + consumers * (2 * 8192 + kernel.tile_m * 4) + gathered + BARRIERS
}

/// Warpgroups that compute: the side of the tile that is the instruction's 64 rows is shared out
/// among them.
fn consumers(kernel: &Kernel) -> u32 {
    let rows = match kernel.layout {
        Some(Layout::Nchw) => kernel.tile_m,
        _ => kernel.tile_n,
    };
    if rows > 64 { 2 } else { 1 }
}

/// Bytes reserved for barriers.
const BARRIERS: u32 = 256;
