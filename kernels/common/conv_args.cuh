// The argument struct of a convolution, passed by value. The library mirrors it field by
// field; the size is asserted on both sides.
//
// Pointers already include the channel offset of a slice, so a kernel never sees it. Strides are in
// elements. "image" strides are 64-bit; everything inside one image fits 31 bits (the host refuses
// what does not).
#pragma once

#include "types.cuh"

// Strides of an activation. Element (n, c, h, w) lies at n * image + c * channel + (h * width + w)
// * pixel.
//   NCHW: channel = height * width, pixel = 1.     NHWC: channel = 1, pixel = channel pitch.
struct Strides {
    long long image;
    int channel;
    int pixel;
};

//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h]
//                                         [q * stride_w - pad_left + s * dilation_w]
//                                   * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
struct ConvArgs {
    const void* x;
    const void* w;
    const void* bias;      // k elements, or null
    const void* residual;  // null or a tensor of y's shape; its strides are residual_strides
    void* y;
    Strides x_strides;
    Strides y_strides;
    Strides residual_strides;
    int n, c, h, width;  // input
    int k, r, s;         // filters
    int p, q;            // output rows, columns
    // Channels and filters per group: group_c = c / groups, group_k = k / groups.
    int groups, group_c, group_k;
    int stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    // Filter strides: KCRS {group_c*r*s, r*s, 1}, KRSC {r*s*group_c, 1, group_c}; tap = row r*S +
    // s.
    int w_k, w_c, w_tap;
    int relu;  // 1: act is max(., 0) with NaN kept; 0: identity
    // 1: y and residual may be accessed 4 elements at a time: pointers aligned to 4 elements, image
    // strides % 4 == 0 and NCHW: p * q % 4 == 0; NHWC: group_k % 4 == 0, pixel strides % 4 == 0.
    int y_vector;
    // 1: x may be read 4 pixels at a time (1x1 NCHW only): stride 1, h * width % 4 == 0, image
    // stride % 4 == 0, pointer aligned to 4 elements.
    int x_vector;
    unsigned gemm_n;  // n * p * q, under 2^31
    // Blocks along gemm_m (of one group); block = tile_n_index * (groups * tiles_m) + group *
    // tiles_m + tile_m_index.
    unsigned tiles_m;
    FastDiv by_pq;       // output pixel -> image
    FastDiv by_q;        // pixel of an image -> row
    FastDiv by_tiles_m;  // block -> tile of gemm_m
    FastDiv by_groups;   // then -> group
};
static_assert(sizeof(ConvArgs) == 40 + 3 * 16 + 4 * 26 + 4 * 12, "the library mirrors this struct");

// Strides of x that are known to be 1 for a layout.
DEVICE int x_channel(const ConvArgs& args) { return LAYOUT_NHWC ? 1 : args.x_strides.channel; }
DEVICE int x_pixel(const ConvArgs& args) { return LAYOUT_NHWC ? args.x_strides.pixel : 1; }
