// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3):
//
//   y[c] = x[c] / (k + scale * sum_{j = c - size / 2}^{c - size / 2 + size - 1} x[j]^2)^beta,
//       scale = alpha / size,
//
// at each pixel, channels outside the tensor left out. As in PyTorch a window of even size has one
// channel more before its centre than after it, and alpha is divided by the size of the whole
// window everywhere.
//
// The sum is in f32, one fused multiply-add per term, in the order of the channels; a square beyond
// f32 is infinite and the result 0. beta = 3/4 (of AlexNet and GoogLeNet) is two square
// roots, r = rsqrtf(d), r * sqrtf(r); any other is powf.
//
// A thread makes the outputs of VECTOR_ELEMENTS neighbouring elements with 16-byte accesses, or of
// one. common/units.cuh numbers the units.
//
// NCHW: neighbours are pixels. A thread computes `segment` channels of its pixels, four at a time,
// whose loads are in flight together; a window of SIZE = 5 channels stays in registers, so each x
// is loaded once a segment and size - 1 of them twice. inner: vectors of a plane; middle: segments.
// NHWC: neighbours are channels. With SIZE = 5 a thread loads its vector and those beside it, which
// other threads of its warp load too: they come from the L1 cache. inner: vectors of a pixel;
// middle: pixels. Windows of another size are summed term by term, from the L1 cache; then NHWC
// takes no vectors.
//
// Grid: ceil(units / THREADS) blocks of THREADS. No shared memory, no barrier. x and y are
// different elements.
#include "elementwise/channel_args.cuh"
#include "common/wide_units.cuh"

// The window that stays in registers.
constexpr int SIZE = 5;
constexpr int BEFORE = SIZE / 2;
constexpr int AFTER = SIZE - 1 - BEFORE;
static_assert(BEFORE <= VECTOR_ELEMENTS && AFTER <= VECTOR_ELEMENTS,
              "a vector's window ends within the vectors beside it");

// Kept out of line: it is long, and unrolled loops call it often. A plain name, which no path of a
// machine goes into.
extern "C" __device__ __noinline__ float divide_by_power(float x, float base, float exponent) {
    return x / powf(base, exponent);
}

// x becomes y, given the sums of squares around it.
template <int WIDTH>
DEVICE void normalise(float (&x)[WIDTH], const float (&squares)[WIDTH], const LrnArgs& a) {
    float d[WIDTH];
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        d[v] = fmaf(a.scale, squares[v], a.k);
    }
    if (a.beta == 0.75f) {
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            float r = rsqrtf(d[v]);
            x[v] *= r * sqrtf(r);
        }
    } else {
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            x[v] = divide_by_power(x[v], d[v], a.beta);
        }
    }
}

template <int WIDTH>
DEVICE void load(float (&values)[WIDTH], const storage_t* from) {
    Vec<WIDTH> cell = *reinterpret_cast<const Vec<WIDTH>*>(from);
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        values[v] = to_float(cell.v[v]);
    }
}

template <int WIDTH>
DEVICE void store(storage_t* to, const float (&values)[WIDTH]) {
    Vec<WIDTH> cell;
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        cell.v[v] = from_float(values[v]);
    }
    *reinterpret_cast<Vec<WIDTH>*>(to) = cell;
}

namespace nchw {

// Channels whose loads are in flight together.
constexpr int STEP = 4;

template <int WIDTH>
DEVICE void zero(float (&values)[WIDTH]) {
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        values[v] = 0.0f;
    }
}

// Channels first .. end of WIDTH pixels, with windows of SIZE in registers: window[i] is channel c
// - BEFORE + i.
template <int WIDTH>
DEVICE void walk(const LrnArgs& a, const storage_t* x, storage_t* y, int first, int end) {
    float window[SIZE - 1 + STEP][WIDTH];
#pragma unroll
    for (int i = 0; i < SIZE - 1; i++) {
        int channel = first - BEFORE + i;
        zero(window[i]);
        if (channel >= 0 && channel < a.c) {
            load(window[i], x + static_cast<long long>(channel) * a.pixels);
        }
    }
#pragma unroll 1
    for (int c = first; c < end; c += STEP) {
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            int channel = c + AFTER + i;
            zero(window[SIZE - 1 + i]);
            if (channel < a.c && channel < end + AFTER) {
                load(window[SIZE - 1 + i], x + static_cast<long long>(channel) * a.pixels);
            }
        }
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            if (c + i < end) {
                float result[WIDTH], squares[WIDTH];
#pragma unroll
                for (int v = 0; v < WIDTH; v++) {
                    result[v] = window[i + BEFORE][v];
                    squares[v] = 0.0f;
#pragma unroll
                    for (int j = 0; j < SIZE; j++) {
                        squares[v] = fmaf(window[i + j][v], window[i + j][v], squares[v]);
                    }
                }
                normalise(result, squares, a);
                store(y + static_cast<long long>(c + i) * a.pixels, result);
            }
        }
#pragma unroll
        for (int i = 0; i < SIZE - 1; i++) {
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                window[i][v] = window[i + STEP][v];
            }
        }
    }
}

// The same with windows of any size, which are loaded anew for each channel.
template <int WIDTH>
DEVICE void walk_any(const LrnArgs& a, const storage_t* x, storage_t* y, int first, int end) {
#pragma unroll 1
    for (int c = first; c < end; c++) {
        float squares[WIDTH], cell[WIDTH];
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            squares[v] = 0.0f;
        }
        int from = max(c - a.before, 0), to = min(c - a.before + a.size, a.c);
#pragma unroll 4
        for (int j = from; j < to; j++) {
            load(cell, x + static_cast<long long>(j) * a.pixels);
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                squares[v] = fmaf(cell[v], cell[v], squares[v]);
            }
        }
        load(cell, x + static_cast<long long>(c) * a.pixels);
        normalise(cell, squares, a);
        store(y + static_cast<long long>(c) * a.pixels, cell);
    }
}

template <int WIDTH>
DEVICE void unit_of(const LrnArgs& a, const WideUnit& unit) {
    const storage_t* x = static_cast<const storage_t*>(a.x) + unit.image * a.x_strides.image +
                         unit.inner * WIDTH;
    storage_t* y = static_cast<storage_t*>(a.y) + unit.image * a.y_strides.image +
                   unit.inner * WIDTH;
    int first = static_cast<int>(unit.middle) * a.segment;
    int end = min(first + a.segment, a.c);
    if (a.size == SIZE) {
        walk<WIDTH>(a, x, y, first, end);
    } else {
        walk_any<WIDTH>(a, x, y, first, end);
    }
}

}  // namespace nchw

namespace nhwc {

// Channels c .. c + VECTOR_ELEMENTS of a pixel, with a window of SIZE.
DEVICE void vector_of(const LrnArgs& a, const storage_t* x, storage_t* y, int c) {
    float around[3 * VECTOR_ELEMENTS];
#pragma unroll
    for (int part = 0; part < 3; part++) {
        int channel = c + (part - 1) * VECTOR_ELEMENTS;
        float values[VECTOR_ELEMENTS];
#pragma unroll
        for (int v = 0; v < VECTOR_ELEMENTS; v++) {
            values[v] = 0.0f;
        }
        if (channel >= 0 && channel < a.c) {
            load(values, x + channel);
        }
#pragma unroll
        for (int v = 0; v < VECTOR_ELEMENTS; v++) {
            around[part * VECTOR_ELEMENTS + v] = values[v];
        }
    }
    float result[VECTOR_ELEMENTS], squares[VECTOR_ELEMENTS];
#pragma unroll
    for (int v = 0; v < VECTOR_ELEMENTS; v++) {
        result[v] = around[VECTOR_ELEMENTS + v];
        squares[v] = 0.0f;
#pragma unroll
        for (int j = 0; j < SIZE; j++) {
            float value = around[VECTOR_ELEMENTS + v - BEFORE + j];
            squares[v] = fmaf(value, value, squares[v]);
        }
    }
    normalise(result, squares, a);
    store(y + c, result);
}

template <int WIDTH>
DEVICE void unit_of(const LrnArgs& a, const WideUnit& unit) {
    const storage_t* x = static_cast<const storage_t*>(a.x) + unit.image * a.x_strides.image +
                         static_cast<long long>(unit.middle) * a.x_strides.pixel;
    storage_t* y = static_cast<storage_t*>(a.y) + unit.image * a.y_strides.image +
                   static_cast<long long>(unit.middle) * a.y_strides.pixel;
    int c = static_cast<int>(unit.inner) * WIDTH;
    if (WIDTH == VECTOR_ELEMENTS) {
        vector_of(a, x, y, c);
        return;
    }
    float result[1] = {to_float(x[c])}, squares[1] = {0.0f};
    int from = max(c - a.before, 0), to = min(c - a.before + a.size, a.c);
#pragma unroll 4
    for (int j = from; j < to; j++) {
        float value = to_float(x[j]);
        squares[0] = fmaf(value, value, squares[0]);
    }
    normalise(result, squares, a);
    y[c] = from_float(result[0]);
}

}  // namespace nhwc

template <int WIDTH>
DEVICE void unit_of(const LrnArgs& a, const WideUnit& unit) {
    if constexpr (LAYOUT_NHWC) {
        nhwc::unit_of<WIDTH>(a, unit);
    } else {
        nchw::unit_of<WIDTH>(a, unit);
    }
}

KERNEL(LrnArgs a) {
    WideUnit unit;
    if (!find_wide_unit(a.n, a.by_image, a.by_inner, a.by_middle, unit)) {
        return;
    }
    if (a.vector) {
        unit_of<VECTOR_ELEMENTS>(a, unit);
    } else {
        unit_of<1>(a, unit);
    }
}
