//! The kernels that compute on CUDA cores.

use super::{Algorithm, Arch, Kernel};
use super::{DType, Layout, Math};

/// Tiles, as (tile_m, tile_n), with the types and architectures they are compiled for. cp.async
/// cannot convert, so f16 and bf16 have the baseline architecture only.
struct Tiles {
    algorithm: Algorithm,
    f32_sm80: &'static [(u32, u32)],
    f32_sm75: &'static [(u32, u32)],
    half_sm75: &'static [(u32, u32)],
}

/// Adds the kernels of direct, 1x1 and grouped convolution.
pub(super) fn convolution(all: &mut Vec<Kernel>) {
    let products = [
        Tiles {
            algorithm: Algorithm::Direct,
            f32_sm80: &[(128, 128), (64, 128), (64, 64), (32, 128)],
            f32_sm75: &[(128, 128), (64, 64)],
            half_sm75: &[(128, 128), (64, 64)],
        },
        Tiles {
            algorithm: Algorithm::DirectFewChannels,
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
            let mut push = |dtype, arch, sizes: &[(u32, u32)]| {
                for &(tile_m, tile_n) in sizes {
                    let kernel = matrix_product(tile_m, tile_n, arch);
                    all.push(Kernel {
                        algorithm: tiles.algorithm,
                        dtype,
                        layout: Some(layout),
                        ..kernel
                    });
                }
            };
            push(DType::F32, Arch::Sm80, tiles.f32_sm80);
            push(DType::F32, Arch::Sm75, tiles.f32_sm75);
            push(DType::F16, Arch::Sm75, tiles.half_sm75);
            push(DType::Bf16, Arch::Sm75, tiles.half_sm75);
        }
    }
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            // A thread makes eight filters at four pixels.
            all.push(Kernel {
                algorithm: Algorithm::SmallGroups,
                dtype,
                layout: Some(layout),
                arch: Arch::Sm75,
                tile_m: 8,
                tile_n: 256,
                tile_k: 1,
                math: Math::Strict,
                vector: 0,
                stride: 0,
                threads: 64,
                stages: 1,
                min_blocks: 8,
            });
        }
    }
}

/// A tile of `kernels/simt/implicit_gemm.cuh`, of an algorithm, type and layout to be filled in.
/// Every thread owns 8x8 sums, or 4x8 where there are 32 filters, so that 128 registers a thread
/// and 512 threads per SM fit each other; 168 and 384 where 64 threads share out a 64x64 tile and
/// each loads 16 elements per step through registers.
fn matrix_product(tile_m: u32, tile_n: u32, arch: Arch) -> Kernel {
    let sums = if tile_m < 64 { 32 } else { 64 };
    let threads = tile_m * tile_n / sums;
    Kernel {
        algorithm: Algorithm::Direct,
        dtype: DType::F32,
        layout: None,
        arch,
        tile_m,
        tile_n,
        tile_k: 8,
        math: Math::Strict,
        vector: 0,
        stride: 0,
        threads,
        // cp.async keeps several steps in flight; through registers there is one read and one
        // filled.
        stages: if arch == Arch::Sm80 { 4 } else { 2 },
        min_blocks: if arch == Arch::Sm75 && threads == 64 && sums == 64 {
            6
        } else {
            512 / threads
        },
    }
}

/// Adds the kernels of depthwise convolution. `tile_k` is the filter that a module is made for
/// (`tile_k` x `tile_k`, vertical stride 1 or 2, no vertical dilation), or 1 for any; `tile_m` is
/// the output rows per thread.
pub(super) fn depthwise(all: &mut Vec<Kernel>) {
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

/// A kernel that is no matrix product and needs nothing newer than the baseline.
pub(super) fn one_by_one(
    algorithm: Algorithm,
    dtype: DType,
    layout: Option<Layout>,
    threads: u32,
) -> Kernel {
    Kernel {
        algorithm,
        dtype,
        layout,
        arch: Arch::Sm75,
        tile_m: 1,
        tile_n: 1,
        tile_k: 1,
        math: Math::Strict,
        vector: 0,
        stride: 0,
        threads,
        stages: 1,
        min_blocks: 2,
    }
}
