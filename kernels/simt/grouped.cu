// Grouped convolution as one implicit matrix product per group, on CUDA cores, all groups in one
// launch.
//
//   y[n][g * group_k + k][p][q] =
//       act(sum_{c,r,s} x[n][g * group_c + c][p * stride_h - pad_top + r * dilation_h]
//                                            [q * stride_w - pad_left + s * dilation_w]
//                       * w[g * group_k + k][c][r][s]
//           + bias[g * group_k + k] + residual[n][g * group_k + k][p][q])
//
// gemm_m = filters of a group, gemm_n = output pixels (n, p, q flattened), gemm_k = blocks of
// TILE_K channels of the group, all taps of a block (simt/tap_loader.cuh).
// Threads, shared memory and barriers: simt/implicit_gemm.cuh. x, y, residual NCHW or NHWC
// (LAYOUT_NHWC), w KCRS or KRSC by its strides. A tile never reaches into the next group: what a
// group lacks of TILE_M filters or TILE_K channels is zero.
//
// Constraints: group_c * r * s < 2^31, one image of x, y, residual under 2^31 elements.
// Grid: tiles_n * groups * tiles_m blocks, block = tile_n * (groups * tiles_m) + group * tiles_m +
// tile_m; tiles_m = ceil(group_k / TILE_M), tiles_n = ceil(n * p * q / TILE_N).
#include "simt/epilogue.cuh"
#include "simt/tap_loader.cuh"

KERNEL(ConvArgs args) {
    __shared__ SharedTiles shared;
    __shared__ InputPixel pixels[PIXEL_TABLE];
    WorkTile tile = block_tile(args);
    TapLoader loader(args, tile, pixels);
    SimtAcc acc;
    main_loop<StageCopy>(loader, shared.stages, TapLoader::steps(args), acc);
    epilogue(args, shared, acc);
}
