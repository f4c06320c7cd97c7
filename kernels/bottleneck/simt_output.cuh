// The end of bottleneck/simt.cu: a lane's accumulators become elements of y, (sum + bias) +
// residual, then ReLU, in registers; a warp writes rows of pixels (NCHW) or 32 bytes of each of 32
// pixels (NHWC: whole sectors).
#pragma once

#include "bottleneck/simt_tile.cuh"

// Finishes WIDTH neighbours, whose bias is in; `to` and `residual` (null: none) are at the first.
// Values below `least` become `least`: ReLU, with NaN kept, or nothing.
template <int WIDTH>
DEVICE void finish(float* to, const float* residual, FloatVec<WIDTH> values, float least) {
    if (residual) {
        FloatVec<WIDTH> more = *reinterpret_cast<const FloatVec<WIDTH>*>(residual);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) values.v[i] += more.v[i];
    }
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) values.v[i] = values.v[i] < least ? least : values.v[i];
    *reinterpret_cast<FloatVec<WIDTH>*>(to) = values;
}

DEVICE float least(const BottleneckArgs& args) { return args.relu ? 0.0f : minus_infinity(); }

// The place of a pixel of the tile: in y and in the residual at the chunk's first channel.
struct PatchPixel {
    bool valid;
    float* y;
    const float* residual;

    DEVICE PatchPixel(const BottleneckArgs& args, const Patch& patch, int pixel, int k) {
        int p = patch.p + pixel / TILE_Q, q = patch.q + pixel % TILE_Q;
        valid = p < args.p && q < args.q;
        int place = p * args.q + q;
        y = static_cast<float*>(args.y) + offset(args.y_strides, patch, place, k);
        residual = static_cast<const float*>(args.residual);
        if (residual) residual += offset(args.residual_strides, patch, place, k);
    }
    static DEVICE long long offset(const Strides& strides, const Patch& patch, int place, int k) {
        return patch.image * strides.image +
               static_cast<long long>(place) * (LAYOUT_NHWC ? strides.pixel : 1) +
               static_cast<long long>(k) * (LAYOUT_NHWC ? 1 : strides.channel);
    }
};

typedef float OutputAcc[LAST][LANE_OUT];

// WIDTH neighbours of a row of the tile, the lane's from its pixel `first` on, in all LAST channels
// from k on.
template <int WIDTH>
DEVICE void write_planes(const BottleneckArgs& args, const Patch& patch, int pixel, int k,
                         const OutputAcc& acc, int first) {
    PatchPixel at(args, patch, pixel, k);
    if (!at.valid) return;
#pragma unroll
    for (int i = 0; i < LAST; ++i) {
        if (k + i >= args.k) break;
        FloatVec<WIDTH> values;
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) values.v[j] = acc[i][first + j];
        finish(at.y, at.residual, values, least(args));
        at.y += args.y_strides.channel;
        if (at.residual) at.residual += args.residual_strides.channel;
    }
}

// All LAST channels of a pixel from k on, four at a time where y_vector allows.
DEVICE void write_pixel(const BottleneckArgs& args, const Patch& patch, int pixel, int k,
                        const OutputAcc& acc, int column) {
    PatchPixel at(args, patch, pixel, k);
    if (!at.valid) return;
#pragma unroll
    for (int i = 0; i < LAST; i += 4) {
        if (args.y_vector) {
            if (k + i >= args.k) break;
            FloatVec<4> values;
#pragma unroll
            for (int j = 0; j < 4; ++j) values.v[j] = acc[i + j][column];
            finish(at.y + i, at.residual ? at.residual + i : nullptr, values, least(args));
        } else {
#pragma unroll
            for (int j = i; j < i + 4; ++j) {
                if (k + j >= args.k) break;
                FloatVec<1> value = {{acc[j][column]}};
                finish(at.y + j, at.residual ? at.residual + j : nullptr, value, least(args));
            }
        }
    }
}
