// Convolution as an implicit matrix product on CUDA cores, groups = 1; no im2col buffer.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h]
//                                         [q * stride_w - pad_left + s * dilation_w]
//                                   * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
//
// gemm_m = filters, gemm_n = output pixels (n, p, q flattened), gemm_k = blocks of TILE_K channels,
// all taps of a block (simt/tap_loader.cuh).
// Threads, shared memory and barriers: simt/implicit_gemm.cuh. x, y, residual NCHW or NHWC
// (LAYOUT_NHWC), w KCRS or KRSC by its strides. Any filter size, stride, dilation and padding; any
// alignment.
//
// Constraints: groups = 1, c * r * s < 2^31, one image of x, y, residual under 2^31 elements.
// Grid: tiles_n * tiles_m blocks, tile_m runs fastest; tiles_m = ceil(k / TILE_M), tiles_n = ceil(n
// * p * q / TILE_N).
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
