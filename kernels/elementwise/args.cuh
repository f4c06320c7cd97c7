// The argument structs of the elementwise kernels, passed by value. The library mirrors them field
// by field; the sizes are asserted on both sides. Pointers include the channel offset of a slice.
#pragma once

#include "types.cuh"

// Both tensors are `rows` runs of `length` elements each: an image (NCHW slice), a pixel (NHWC
// slice), or all of a tensor that has no gaps.
struct ReluArgs {
    const void* x;
    void* y;
    long long elements;  // rows * length
    long long length;    // under 2^31, or equal to elements
    long long x_pitch;   // from one run to the next, elements
    long long y_pitch;
    // 1: 16-byte accesses: both pointers are aligned, length and pitches whole (or one run).
    int vector;
    FastDiv by_length;  // where length < TILE_N
};
static_assert(sizeof(ReluArgs) == 16 + 4 * 8 + 4 + 12, "the library mirrors this struct");

// y = amplitude * tanh(slope * x), element by element.
struct TanhArgs {
    ReluArgs run;
    float amplitude, slope;
};
static_assert(sizeof(TanhArgs) == sizeof(ReluArgs) + 8, "the library mirrors this struct");
