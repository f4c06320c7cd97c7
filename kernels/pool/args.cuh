// The argument structs of the poolings and of LeNet-5's subsampling, passed by value. The library
// mirrors them field by field; the sizes are asserted on both sides. Pointers include the channel
// offset of a slice.
#pragma once

#include "common/conv_args.cuh"

// Windowed and global pooling. `vector`, `team` and the divisors map outputs to threads; see the
// header of each kernel. The library computes them (PoolArgs::schedule).
struct PoolArgs {
    const void* x;
    void* y;
    // null, or one byte an output: r * S + s of the maximum; layout of y, channel pitch = c.
    unsigned char* indices;
    Strides x_strides;
    Strides y_strides;
    Strides index_strides;
    int n, c, h, width;
    int p, q;
    int r, s;  // window
    int stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, dilation_h, dilation_w;
    // average: 1: the divisor counts padding (but no cell beyond it), 0: real cells only.
    int count_include_pad;
    int divisor_override;  // average: the divisor if not 0
    int adaptive;          // average: 1: window of row p is floor(p*h/P) .. ceil((p+1)*h/P)
    int maximum;           // global: 1: maximum, 0: mean
    // 1: 16-byte accesses (x, y and indices are aligned for it, and the rows whole).
    int vector;
    // global: threads per plane (NCHW) or channel lanes per block (NHWC), a power of two.
    int team;
    FastDiv by_image;   // unit of work -> image
    FastDiv by_inner;   // unit of an image -> units outside the innermost dimension
    FastDiv by_middle;  // then -> outermost dimension
};
static_assert(sizeof(PoolArgs) == 24 + 3 * 16 + 4 * 22 + 3 * 12 + 4,
              "the library mirrors this struct");

// y[c][p][q] = act(coefficient[c] * (sum_{r,s} x[c][p * stride_h + r][q * stride_w + s]) / divisor
// + bias[c]).
struct SubsampleArgs {
    const void* x;
    const void* coefficient;  // c elements
    const void* bias;         // c elements
    void* y;
    Strides x_strides;
    Strides y_strides;
    int n, c, h, width;
    int p, q;
    int r, s;  // window
    int stride_h, stride_w;
    float divisor;  // 1: the window's sum counts; r * s: its mean
    // 0: none, 1: max(., 0) with NaN kept, 2: amplitude * tanh(slope * .).
    int activation;
    float amplitude, slope;
    // NHWC: 1: 16-byte accesses (all operands are aligned for it, and the rows whole).
    int vector;
    FastDiv by_image;   // unit of work -> image
    FastDiv by_inner;   // unit of an image -> units outside the innermost dimension
    FastDiv by_middle;  // then -> outermost dimension
};
static_assert(sizeof(SubsampleArgs) == 32 + 2 * 16 + 4 * 15 + 3 * 12,
              "the library mirrors this struct");
