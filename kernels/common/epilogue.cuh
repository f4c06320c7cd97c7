// The epilogue of a convolution: y = act((sum + bias) + residual), in f32, rounded once.
//
// bias[k] and residual may be null; residual has y's shape and strides of its own. It may be y
// itself: each element is read by the thread that then writes it. Only elements of the k filters
// are touched, so y may be a slice of a wider tensor.
#pragma once

#include "common/conv_args.cuh"

// An output pixel: its image and its place in the plane.
struct OutputPixel {
    unsigned image, place;

    DEVICE OutputPixel(const ConvArgs& args, unsigned n) {
        image = fast_div(n, args.by_pq);
        place = n - image * (args.p * args.q);
    }
    DEVICE long long offset(const Strides& strides) const {
        return image * strides.image + static_cast<long long>(place) * strides.pixel;
    }
};

// Finishes WIDTH elements of y: filter `k` of `pixel`, and for NHWC the filters after it, for NCHW
// the pixels after it.
template <int WIDTH>
DEVICE void finish(const ConvArgs& args, FloatVec<WIDTH> values, const OutputPixel& pixel, int k) {
    if (args.bias) {
        const storage_t* bias = static_cast<const storage_t*>(args.bias) + k;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) values.v[i] += to_float(bias[LAYOUT_NHWC ? i : 0]);
    }
    if (args.residual) {
        long long offset = pixel.offset(args.residual_strides) +
                           static_cast<long long>(k) * args.residual_strides.channel;
        auto residual = *reinterpret_cast<const Vec<WIDTH>*>(
            static_cast<const storage_t*>(args.residual) + offset);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) values.v[i] += to_float(residual.v[i]);
    }
    Vec<WIDTH> result;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
        result.v[i] = from_float(args.relu ? relu(values.v[i]) : values.v[i]);
    long long offset = pixel.offset(args.y_strides) +
                       static_cast<long long>(k) * args.y_strides.channel;
    *reinterpret_cast<Vec<WIDTH>*>(static_cast<storage_t*>(args.y) + offset) = result;
}
