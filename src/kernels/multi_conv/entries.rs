//! The kernels that compute several convolutions in one launch: tiles of
//! `kernels/mma/multi_conv.cu`.

use super::tile::{Tile, tile};
use super::{Algorithm, Arch, Kernel};
use super::{DType, Layout, Math};

/// Tiles of f16 and bf16. Copies of x are of 16 bytes or, for odd channels, go through registers.
const HALF_NHWC: [Tile; 4] = [
    tile(128, 128, 64).vector(16).stages(3).blocks(2),
    tile(64, 128, 64).vector(16).stages(3).blocks(3),
    tile(64, 64, 64).vector(16).stages(4).blocks(3),
    tile(64, 64, 64).vector(2).stages(4).blocks(3),
];
const HALF_NCHW: [Tile; 1] = [tile(64, 64, 64).vector(2).stages(4).blocks(3)];

/// Tiles of tf32.
const TF32_NHWC: [Tile; 3] = [
    tile(128, 128, 32).vector(16).stages(3).blocks(2),
    tile(64, 64, 32).vector(16).stages(4).blocks(3),
    tile(64, 64, 32).vector(4).stages(4).blocks(3),
];
const TF32_NCHW: [Tile; 1] = [tile(64, 64, 32).vector(4).stages(4).blocks(3)];

/// Adds the family's kernels in a fixed order.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in [DType::F16, DType::Bf16] {
        add(all, dtype, Math::Strict, Layout::Nhwc, &HALF_NHWC);
        add(all, dtype, Math::Strict, Layout::Nchw, &HALF_NCHW);
    }
    add(all, DType::F32, Math::Tf32, Layout::Nhwc, &TF32_NHWC);
    add(all, DType::F32, Math::Tf32, Layout::Nchw, &TF32_NCHW);
}

fn add(all: &mut Vec<Kernel>, dtype: DType, math: Math, layout: Layout, tiles: &[Tile]) {
    all.extend(tiles.iter().map(|tile| {
        tile.of(Kernel {
            algorithm: Algorithm::MmaMultiConv,
            dtype,
            layout: Some(layout),
            arch: Arch::Sm80,
            math,
            stride: 0,
            tile_m: 0,
            tile_n: 0,
            tile_k: 0,
            vector: 0,
            threads: 0,
            stages: 0,
            min_blocks: 0,
        })
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
