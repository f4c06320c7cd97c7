// The argument structs of the squashing function and of LeNet-5's subsampling. src/launch/squash_args.rs mirrors them field
// by field; the sizes are asserted on both sides. Pointers include the channel offset of a slice, as in args.cuh.
#pragma once

#include "args.cuh"

// y = amplitude * tanh(slope * x), element by element.
struct TanhArgs {
    ReluArgs run;
    float amplitude, slope;
};
static_assert(sizeof(TanhArgs) == sizeof(ReluArgs) + 8, "src/launch/squash_args.rs mirrors this struct");

// y[c][p][q] = act(coefficient[c] * (sum_{r,s} x[c][p * stride_h + r][q * stride_w + s]) / divisor + bias[c]).
struct SubsampleArgs {
    const void* x;
    const void* coefficient;  // c elements
    const void* bias;         // c elements
    void* y;
    Strides x_strides;
    Strides y_strides;
    int n, c, h, width;
    int p, q;
    int r, s;                 // window
    int stride_h, stride_w;
    float divisor;            // 1: the window's sum counts; r * s: its mean
    int activation;           // 0: none, 1: max(., 0) with NaN kept, 2: amplitude * tanh(slope * .)
    float amplitude, slope;
    int vector;               // NHWC: 1: 16-byte accesses (all operands are aligned for it, and the rows whole)
    FastDiv by_image;         // unit of work -> image
    FastDiv by_inner;         // unit of an image -> what lies outside the innermost dimension
    FastDiv by_middle;        // then -> outermost dimension
};
static_assert(sizeof(SubsampleArgs) == 32 + 2 * 16 + 4 * 15 + 3 * 12, "src/launch/squash_args.rs mirrors this struct");
