// The argument structs of the kernels that normalise over channels. The library
// mirrors them field by field; the sizes are asserted on both sides. Pointers include the channel
// offset of a slice, as in common/conv_args.cuh.
#pragma once

#include "common/conv_args.cuh"

// y[c] = x[c] / (k + scale * sum_{j = c - before}^{c - before + size - 1} x[j]^2)^beta for each
// pixel, j within the channels.
struct LrnArgs {
    const void* x;
    void* y;
    Strides x_strides;
    Strides y_strides;
    long long pixels;  // rows times columns: NCHW: also from one channel to the next
    int n, c;
    // Channels of a window, and how many of them come before the centre: size / 2.
    int size, before;
    float scale;  // alpha / size
    float k, beta;
    int vector;         // 1: 16-byte accesses (x and y are aligned for it, and the rows whole)
    int segment;        // NCHW: channels that a thread makes
    FastDiv by_image;   // unit of work -> image
    FastDiv by_inner;   // unit of an image -> units outside the innermost dimension
    FastDiv by_middle;  // by the number of those, so that nothing lies further out
};
static_assert(sizeof(LrnArgs) == 16 + 2 * 16 + 8 + 4 * 9 + 3 * 12,
              "the library mirrors this struct");

// y[c] = exp(x[c] - max) / sum_j exp(x[j] - max) for each pixel. A row is the channels of one
// pixel.
struct SoftmaxArgs {
    const void* x;
    void* y;
    Strides x_strides;
    Strides y_strides;
    // Rows times columns: where pixels are neighbours, also from one channel to the next.
    long long pixels;
    int n, c;
    int neighbours;  // 1: the channels of a row are neighbours in memory; 0: pixels are
    // 1: 16-byte accesses along a row (x and y are aligned for it, and the rows whole).
    int vector;
    int team;          // neighbours: threads per row, a warp or a block
    FastDiv by_image;  // neighbours: row -> image; else: tile of pixels -> image
};
static_assert(sizeof(SoftmaxArgs) == 16 + 2 * 16 + 8 + 4 * 5 + 12,
              "the library mirrors this struct");
