//! The kernels that compute several convolutions in one launch: tiles of
//! `kernels/mma/multi_conv.cu`.

use super::{Algorithm, Arch, Kernel};
use super::{DType, Layout, Math};

/// A tile: filters, pixels, channels per step, bytes of a copy of x, threads, stages, blocks a
/// multiprocessor.
type Tile = (u32, u32, u32, u32, u32, u32, u32);

/// Tiles of f16 and bf16. Copies of x are of 16 bytes or, for odd channels, go through registers.
const HALF_NHWC: [Tile; 4] = [
    (128, 128, 64, 16, 128, 3, 2),
    (64, 128, 64, 16, 128, 3, 3),
    (64, 64, 64, 16, 128, 4, 3),
    (64, 64, 64, 2, 128, 4, 3),
];
const HALF_NCHW: [Tile; 1] = [(64, 64, 64, 2, 128, 4, 3)];

/// Tiles of tf32.
const TF32_NHWC: [Tile; 3] = [
    (128, 128, 32, 16, 128, 3, 2),
    (64, 64, 32, 16, 128, 4, 3),
    (64, 64, 32, 4, 128, 4, 3),
];
const TF32_NCHW: [Tile; 1] = [(64, 64, 32, 4, 128, 4, 3)];

/// Adds them in a fixed order.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in [DType::F16, DType::Bf16] {
        add(all, dtype, Math::Strict, Layout::Nhwc, &HALF_NHWC);
        add(all, dtype, Math::Strict, Layout::Nchw, &HALF_NCHW);
    }
    add(all, DType::F32, Math::Tf32, Layout::Nhwc, &TF32_NHWC);
    add(all, DType::F32, Math::Tf32, Layout::Nchw, &TF32_NCHW);
}

fn add(all: &mut Vec<Kernel>, dtype: DType, math: Math, layout: Layout, tiles: &[Tile]) {
    all.extend(tiles.iter().map(|&tile| {
        let (tile_m, tile_n, tile_k, vector, threads, stages, min_blocks) = tile;
        Kernel {
            algorithm: Algorithm::MmaMultiConv,
            dtype,
            layout: Some(layout),
            arch: Arch::Sm80,
            tile_m,
            tile_n,
            tile_k,
            math,
            vector,
            stride: 0,
            threads,
            stages,
            min_blocks,
        }
    }));
}

/// Bytes of dynamic shared memory of a block: as the other kernels by `mma.sync`, and a table of
/// where filters begin; of NCHW a table of pixels too, for those that pool.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    let pixels = match kernel.layout {
        Some(Layout::Nchw) => 16 * kernel.tile_n,
        _ => 0,
    };
    super::mma::dynamic_shared(kernel) + 8 * kernel.tile_m + pixels
}
