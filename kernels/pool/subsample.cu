// LeNet-5's trainable subsampling (LeCun et al. 1998, section II.B, S2 and S4):
//
//   y[c][p][q] = act(coefficient[c] * (sum_{r,s} x[c][p * stride_h + r][q * stride_w + s]) /
//     divisor + bias[c])
//
// The sum is in f32 in row-major order; divisor 1 is the paper's, r * s takes the mean. act: none,
// ReLU with NaN kept, or amplitude * tanh(slope * .), tanhf without fast math. Windows lie within
// the image.
//
// A thread makes one output, or (NHWC, aligned) those of VECTOR_ELEMENTS neighbouring channels with
// 16-byte accesses. common/units.cuh numbers the units.
// NCHW: inner: columns; middle: rows; outer: channels; neighbouring threads read neighbouring
// windows, so all of a line is used, from the L1 cache where windows overlap or are wider than one
// element.
// NHWC: inner: channels or vectors of them; middle: columns; outer: rows.
//
// Grid: ceil(units / THREADS) blocks of THREADS. No shared memory, no barrier.
#include "common/wide_units.cuh"
#include "pool/args.cuh"

template <int WIDTH>
DEVICE void window(const SubsampleArgs& a, int image, int channel, int p, int q) {
    const storage_t* x = static_cast<const storage_t*>(a.x) + image * a.x_strides.image +
                         channel * channel_step(a.h, a.width) +
                         (static_cast<long long>(p) * a.stride_h * a.width + q * a.stride_w) *
                             a.x_strides.pixel;
    float sum[WIDTH];
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        sum[v] = 0.0f;
    }
#pragma unroll 2
    for (int r = 0; r < a.r; r++) {
#pragma unroll 2
        for (int s = 0; s < a.s; s++) {
            long long at = (static_cast<long long>(r) * a.width + s) * a.x_strides.pixel;
            Vec<WIDTH> cell = *reinterpret_cast<const Vec<WIDTH>*>(x + at);
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                sum[v] += to_float(cell.v[v]);
            }
        }
    }
    auto coefficient = *reinterpret_cast<const Vec<WIDTH>*>(
        static_cast<const storage_t*>(a.coefficient) + channel);
    auto bias = *reinterpret_cast<const Vec<WIDTH>*>(static_cast<const storage_t*>(a.bias) +
                                                     channel);
    Vec<WIDTH> result;
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        float value = fmaf(to_float(coefficient.v[v]), sum[v] / a.divisor, to_float(bias.v[v]));
        if (a.activation == 1) {
            value = relu(value);
        } else if (a.activation == 2) {
            value = a.amplitude * tanhf(a.slope * value);
        }
        result.v[v] = from_float(value);
    }
    storage_t* y = static_cast<storage_t*>(a.y) + image * a.y_strides.image +
                   channel * channel_step(a.p, a.q) +
                   (static_cast<long long>(p) * a.q + q) * a.y_strides.pixel;
    *reinterpret_cast<Vec<WIDTH>*>(y) = result;
}

KERNEL(SubsampleArgs a) {
    WideUnit unit;
    if (!find_wide_unit(a.n, a.by_image, a.by_inner, a.by_middle, unit)) {
        return;
    }
    if constexpr (!LAYOUT_NHWC) {
        window<1>(a, unit.image, unit.outer, unit.middle, unit.inner);
    } else if (a.vector) {
        window<VECTOR_ELEMENTS>(a, unit.image, static_cast<int>(unit.inner) * VECTOR_ELEMENTS,
                                unit.outer, unit.middle);
    } else {
        window<1>(a, unit.image, unit.inner, unit.outer, unit.middle);
    }
}
