// The argument struct of the wgmma kernels, passed by value (its address is a multiple of 64, as
// the maps need). The library mirrors it field by field; the size is asserted on both sides.
//
// ---- Tensor maps.
//
// size = bytes of an element; all strides are bytes, all dimensions run from the innermost.
// Common to all: no interleave, OOB fill = zeros, element strides 1 unless given, addresses
// multiples of 16 bytes.
// Type: FLOAT16, BFLOAT16; f32 storage: FLOAT32, for x and w too: TFLOAT32 would round on the way,
// finite numbers near the largest to infinity, where FLOAT32 leaves the last bits for the tensor
// core to cut off.
//
// SWIZZLE(b) = the swizzle of rows of b bytes: 128 -> 128B, 64 -> 64B, 32 -> 32B.
//
// x: cuTensorMapEncodeIm2col, rank 4. Wgmma only; all zero bytes for WgmmaGather.
//     address         conv.x (offset of the slice included)
//     dimensions      { c, width, h, n }                      c = channels of all groups
//     strides         { pixel * size, width * pixel * size, image * size }  (conv.x_strides)
//     lower corner    { -pad_left, -pad_top }                 order {W, H}, as the driver expects
//     upper corner    { (q - 1) * stride_w - pad_left - (width - 1), (p - 1) * stride_h - pad_top
//                     - (h - 1) }
//     channels per pixel TILE_K, pixels per column TILE_N
//     element strides { 1, stride_w, stride_h, 1 }
//     swizzle         SWIZZLE(TILE_K * size), L2 promotion 128B
//   The bounding box so has exactly p * q positions per image: position (q', p') of it is x's
//   column q' * stride_w - pad_left, row p' * stride_h - pad_top, and the offsets of an
//   instruction, {s' * dilation_w, r' * dilation_h}, make it tap (r', s'). Pixels beyond the last
//   image, channels beyond c and all that lies in the padding arrive as zeros.
//
// w: cuTensorMapEncodeTiled, rank 3.
//     address         conv.w, filters as in TensorArgs: [k][tap][w_channels]
//     dimensions      { w_channels, r * s, k }                k = filters of all groups
//     strides         { w_channels * size, r * s * w_channels * size }
//     box             { TILE_K, 1, TILE_M }
//     swizzle         SWIZZLE(TILE_K * size), L2 promotion 256B
//
// y, residual: cuTensorMapEncodeTiled, rank 3, each with its own strides and address. Used only
// where y_bulk is 1 (residual: and conv.residual is not null); all zero bytes where not.
//     address         conv.y, conv.residual (offset of the slice included)
//     dimensions      { group_k, groups, gemm_n }
//     strides         { groups > 1 ? group_k * size : pixel * size, pixel * size }
//     box             { 128 / size, 1, 64 }    64 pixels of 64 (16-bit) or 32 (f32) filters
//     swizzle         128B, L2 promotion none
//   y_bulk = 1 where all of these hold, for y and, if there is one, for residual:
//     NHWC, address % 16 == 0, pixel * size % 16 == 0, image == p * q * pixel, groups == 1 or
//       group_k * size % 16 == 0.
//   Elsewhere (pitches such as 252 or 63 elements of 16 bits) y is written by ordinary stores, and
//     nothing of this is needed.
//
// ---- Constraints.
//
// Both algorithms: f16 and bf16 (exact products, f32 accumulators), and f32 with Math::Tf32:
//   operands reach the tensor core as tf32, truncated, so each is off by less than 2^-10 of itself
//   (mma.sync's rounding: 2^-11). Filters packed as in TensorArgs, their address a multiple of 16.
//   conv.gemm_n < 2^31. No split is empty: (split_k - 1) * steps_per_split < steps.
// Wgmma: NHWC; x's address and pitch (pixel * size) multiples of 16 bytes; groups == 1 or
//   group_c % TILE_K == 0 (a box would else load channels of the next group); 1 <= stride <= 8;
//   every corner in [-128, 127]; (r - 1) * dilation_h and (s - 1) * dilation_w <= 255;
//   strides < 2^40.
// WgmmaGather: NHWC: x's address and pitch, and group_c * size if groups > 1, multiples of
//   VECTOR_BYTES bytes. NCHW: VECTOR_BYTES = size. Any groups (sensible where group_c and group_k
//   are not small against the tile), stride, padding and dilation.
//
// ---- Launch.
// Grid: min(tiles * split_k, MIN_BLOCKS * SMs) blocks of THREADS threads, one dimension; block b
// takes work tiles b, b + grid, ...; work tile = tile * split_k + split. Dynamic shared memory:
// SHARED_BYTES. Tiles are numbered as in ConvArgs.
#pragma once

#include "common/tensor_args.cuh"
#include "ptx/tma.cuh"

struct WgmmaArgs {
    TensorMap x, w, y, residual;
    // steps = ceil(group_c / TILE_K) * r * s; a step is (block of channels) * r * s + tap.
    TensorArgs tensor;
    FastDiv by_taps;  // step -> block of channels; divisor r * s
    FastDiv by_s;     // tap -> row of the filter; divisor s
    int y_bulk;
    int reserved;  // 0
};
static_assert(sizeof(WgmmaArgs) == 512 + sizeof(TensorArgs) + 32 && alignof(WgmmaArgs) == 64,
              "the library mirrors this struct");
