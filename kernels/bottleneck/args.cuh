// The argument struct of the fused bottleneck kernels (1x1, 3x3, 1x1 and the residual in one
// launch), passed by value. The library mirrors it field by field; the size is
// asserted on both sides.
//
//   mid1[n][j][y][x] = T(relu(b1[j] + sum_c w1[j][c] * x[n][c][y][x]))               inside the
//       image, 0 outside of it
//   mid2[n][j][p][q] = T(relu(b2[j] + sum_{i,r,s} w2[j][i][r][s] * mid1[n][i][p * STRIDE - 1 + r][q
//     * STRIDE - 1 + s]))
//   y[n][k][p][q]    = T(act(b3[k] + sum_j w3[k][j] * mid2[n][j][p][q] + residual[n][k][p][q]))
//
// T is the storage type: both intermediates are rounded to it, as three launches would. relu keeps
// NaN.
//
// Pointers already include the channel offset of a slice. Strides are in elements; everything
// inside one image fits 31 bits (the host refuses what does not). Channels of x beyond c belong to
// another tensor (a slice) and must never enter a product; the same holds for filter rows beyond
// mid_channels or k. Both operands have zeros there.
// Configuration of a module: TILE_P x TILE_Q output pixels of one image a block takes, MID_CHANNELS
// >= mid_channels, STRIDE of the 3x3 (1 or 2).
// Grid: min(tiles, blocks that the card holds at once); block b takes the tiles b, b + gridDim.x,
// ...
#pragma once

#include "common/conv_args.cuh"

struct BottleneckArgs {
    const void* x;
    const void* w1;  // mid_channels x c
    const void* w2;  // mid_channels x mid_channels x 3 x 3
    const void* w3;  // k x mid_channels
    const void* b1;  // mid_channels elements, or null: no bias
    const void* b2;  // mid_channels elements, or null
    const void* b3;  // k elements, or null
    // Null or a tensor of y's shape; its strides are residual_strides. May be x itself, never y.
    const void* residual;
    void* y;
    Strides x_strides;
    Strides residual_strides;
    Strides y_strides;
    int n, c, h, width;   // input
    int mid_channels, k;  // channels of both intermediates, of the output
    // Output rows, columns: (h - 1) / STRIDE + 1, (width - 1) / STRIDE + 1.
    int p, q;
    int w1_k, w1_c;  // element (j, c) of w1: j * w1_k + c * w1_c
    // Element (j, i, r, s) of w2: j * w2_k + i * w2_c + (r * 3 + s) * w2_tap.
    int w2_k, w2_c, w2_tap;
    // Element (k, j) of w3: k * w3_k + j * w3_c. The three w?_c are 1 unless the filters are KCRS.
    int w3_k, w3_c;
    // 1: rows (all channels of one filter and tap) of all three filters are whole 16-byte chunks,
    // zero filled beyond their channels, and the three pointers are aligned to 16 bytes.
    int w_vector;
    // 1: y and residual may be accessed 4 elements at a time, as in ConvArgs.
    int y_vector;
    int relu;                // of y: 1: act is max(., 0) with NaN kept; 0: identity
    unsigned tiles;          // n * tiles_p * tiles_q, under 2^31
    unsigned tiles_q;        // tiles along a row of the image: ceil(q / TILE_Q)
    FastDiv by_tiles_q;      // tile of an image -> row of tiles (quotient), column (remainder)
    FastDiv by_tiles_image;  // tile -> image (quotient), tile of that image (remainder)
};
static_assert(sizeof(BottleneckArgs) == 9 * 8 + 3 * 16 + 20 * 4 + 2 * 12,
              "the library mirrors this struct");
