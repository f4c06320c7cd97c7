//! The kernels that compute on tensor cores by `mma.sync`: tiles of `kernels/mma/tile.cuh`.

use super::tile::{Tile, tile};
use super::{Algorithm, Arch, FEW_CHANNELS_MAX_GEMM_K, Kernel};
use super::{DType, Layout, Math};

/// Adds the family's kernels in a fixed order.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in [DType::F16, DType::Bf16] {
        half(all, dtype);
    }
    single(all);
    few_channels(all);
    small_groups(all);
    turing(all);
}

/// Tiles of f16 and bf16 on compute capability 8.0 and later. Four warps with accumulators of 64x64
/// each take all registers of two blocks per SM. Copies of 4 and 2 bytes need more threads to load
/// x than to multiply it.
const HALF_NHWC: [Tile; 11] = [
    tile(128, 256, 64).vector(16).threads(256).stages(3),
    tile(128, 128, 64).vector(16).stages(3).blocks(2),
    tile(64, 128, 64).vector(16).stages(3).blocks(3),
    tile(64, 64, 64).vector(16).stages(4).blocks(3),
    tile(64, 128, 32).vector(16).stages(4).blocks(3),
    tile(64, 64, 32).vector(16).stages(4).blocks(4),
    tile(128, 128, 64).vector(8).stages(3).blocks(2),
    tile(64, 64, 64).vector(8).stages(4).blocks(3),
    tile(64, 64, 64).vector(4).stages(4).blocks(3),
    tile(128, 128, 64).vector(2).threads(256).stages(3),
    tile(64, 64, 64).vector(2).stages(4).blocks(3),
];
const HALF_NCHW: [Tile; 2] = [
    tile(128, 128, 64).vector(2).threads(256).stages(3),
    tile(64, 64, 64).vector(2).stages(4).blocks(3),
];

/// Tiles of tf32.
const TF32_NHWC: [Tile; 4] = [
    tile(128, 128, 32).vector(16).stages(3).blocks(2),
    tile(64, 64, 32).vector(16).stages(4).blocks(3),
    tile(128, 128, 32).vector(4).threads(256).stages(3),
    tile(64, 64, 32).vector(4).stages(4).blocks(3),
];
const TF32_NCHW: [Tile; 2] = [
    tile(128, 128, 32).vector(4).threads(256).stages(3),
    tile(64, 64, 32).vector(4).stages(4).blocks(3),
];

/// Tiles of 3xTF32, whose operands take three times the registers.
const TF32X3_NHWC: [Tile; 3] = [
    tile(64, 128, 32).vector(16).threads(256).stages(3),
    tile(64, 64, 32).vector(16).stages(4).blocks(2),
    tile(64, 64, 32).vector(4).threads(256).stages(4),
];
const TF32X3_NCHW: [Tile; 2] = [
    tile(64, 128, 32).vector(4).threads(256).stages(3),
    tile(64, 64, 32).vector(4).stages(4).blocks(2),
];

fn kernel(algorithm: Algorithm, dtype: DType, math: Math, layout: Layout, tile: Tile) -> Kernel {
    tile.of(Kernel {
        algorithm,
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
}

fn half(all: &mut Vec<Kernel>, dtype: DType) {
    let of = |layout, tile: &Tile| kernel(Algorithm::Mma, dtype, Math::Strict, layout, *tile);
    all.extend(HALF_NHWC.iter().map(|tile| of(Layout::Nhwc, tile)));
    all.extend(HALF_NCHW.iter().map(|tile| of(Layout::Nchw, tile)));
}

fn single(all: &mut Vec<Kernel>) {
    let mut add = |math, layout, tiles: &[Tile]| {
        all.extend(
            tiles
                .iter()
                .map(|tile| kernel(Algorithm::Mma, DType::F32, math, layout, *tile)),
        );
    };
    add(Math::Tf32, Layout::Nhwc, &TF32_NHWC);
    add(Math::Tf32, Layout::Nchw, &TF32_NCHW);
    add(Math::Tf32x3, Layout::Nhwc, &TF32X3_NHWC);
    add(Math::Tf32x3, Layout::Nchw, &TF32X3_NCHW);
}

/// Every type and mode of products that tensor cores have.
const PRODUCTS: [(DType, Math); 4] = [
    (DType::F16, Math::Strict),
    (DType::Bf16, Math::Strict),
    (DType::F32, Math::Tf32),
    (DType::F32, Math::Tf32x3),
];

/// Adds kernels whose gemm_k runs through all taps and channels. They load x element by element,
/// whatever its alignment.
fn few_channels(all: &mut Vec<Kernel>) {
    for (dtype, math) in PRODUCTS {
        for layout in Layout::ALL {
            let tiles: &[Tile] = match math {
                Math::Strict => {
                    const {
                        &[
                            tile(128, 128, 32).threads(256).stages(4),
                            tile(64, 64, 32).stages(4).blocks(3),
                        ]
                    }
                }
                Math::Tf32 => const { &[tile(64, 128, 32).stages(3).blocks(2)] },
                Math::Tf32x3 => const { &[tile(64, 128, 32).threads(256).stages(3)] },
            };
            for &tile in tiles {
                all.push(kernel(Algorithm::MmaFewChannels, dtype, math, layout, tile));
            }
        }
    }
}

/// Adds kernels for groups of up to 8, 16 and, of 16-bit types, 32 channels and filters: `tile_k`.
/// A pixel's row is 128 bytes of groups.
fn small_groups(all: &mut Vec<Kernel>) {
    for (dtype, math) in PRODUCTS {
        let (tile_m, least) = match dtype {
            DType::F32 => (32, 4),
            DType::F16 | DType::Bf16 => (64, 2),
        };
        for tile_k in [8, 16, 32] {
            match (math, tile_k) {
                // 32 channels of f32 fill a row: that is one group, and `Mma`'s.
                (Math::Tf32 | Math::Tf32x3, 32) => continue,
                // Half of a tile of 16 costs little where little is multiplied.
                (Math::Tf32x3, 8) => continue,
                _ => {}
            }
            let vectors: &[u32] = match (dtype, math, tile_k) {
                (DType::F32, Math::Tf32x3, _) => &[4],
                (DType::F32, _, _) => &[16, 4],
                // Groups of four channels.
                (_, _, 8) => &[16, 8, 2],
                _ => &[16, 2],
            };
            let mut add = |layout, vector| {
                // What passes through registers has fewer elements per thread.
                let (threads, blocks) = if vector == 2 { (256, 2) } else { (128, 3) };
                let tile = tile(tile_m, 128, tile_k);
                let tile = tile
                    .vector(vector)
                    .threads(threads)
                    .stages(4)
                    .blocks(blocks);
                all.push(kernel(Algorithm::MmaSmallGroups, dtype, math, layout, tile));
            };
            for &vector in vectors {
                add(Layout::Nhwc, vector);
            }
            add(Layout::Nchw, least);
        }
    }
}

/// Adds kernels of f16 on compute capability 7.5, which copy through registers.
fn turing(all: &mut Vec<Kernel>) {
    for (layout, vectors) in [(Layout::Nhwc, &[16, 2][..]), (Layout::Nchw, &[2])] {
        for &vector in vectors {
            for (side, threads, min_blocks) in [(128, 256, 1), (64, 128, 3)] {
                let tile = tile(side, side, 32).vector(vector).threads(threads);
                let tile = tile.stages(2).blocks(min_blocks);
                all.push(Kernel {
                    arch: Arch::Sm75,
                    ..kernel(Algorithm::Mma, DType::F16, Math::Strict, layout, tile)
                });
            }
        }
    }
}

/// Groups that share a tile.
pub(super) fn groups_per_tile(kernel: &Kernel) -> u32 {
    match kernel.algorithm {
        Algorithm::MmaSmallGroups => kernel.tile_m / kernel.tile_k,
        _ => 1,
    }
}

/// Bytes of dynamic shared memory of a block. Stages hold the tile's pixels, a row for each with
/// all groups of the tile, and its filters; the sums pass through the same memory on their way out,
/// in two halves where it is short. What places in x are looked up in comes after them: 16 bytes a
/// term, or two times 16 a pixel.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    let Kernel {
        tile_m,
        tile_n,
        tile_k,
        ..
    } = *kernel;
    let nhwc = kernel.layout == Some(Layout::Nhwc);
    let groups = groups_per_tile(kernel);
    let row = tile_k * kernel.dtype.size() as u32;
    let stages = kernel.stages * (tile_n * groups + tile_m) * row;
    let sums = match nhwc {
        true => 4 * tile_n * (tile_m + 8),
        false => 4 * tile_m * (tile_n + 4),
    };
    let rounds = if kernel.arch == Arch::Sm75 { 2 } else { 1 };
    let table = match kernel.algorithm {
        Algorithm::MmaFewChannels => 16 * (FEW_CHANNELS_MAX_GEMM_K + kernel.stages * tile_k),
        _ if nhwc => 2 * 16 * tile_n,
        _ => 0,
    };
    stages.max(sums / rounds).next_multiple_of(16) + table
}
