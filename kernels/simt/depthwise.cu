// Convolution with one group per channel: y[k] = act(x[k / multiplier] * w[k] + bias[k] +
// residual[k]), multiplier = k / c. KCRS and KRSC filters are the same then.
//
// Memory bound. Each thread makes a strip of TILE_M output rows in one column, so that each input
// row is read once for all outputs that use it; neighbours along the row share the first-level
// cache. Padding is a zero that is multiplied, as in every convolution of the crate: an infinite
// weight over padding gives NaN.
//
// TILE_K is the filter that the module is made for: 3 or 5 for TILE_K x TILE_K filters with
// vertical stride 1 or 2 and no vertical dilation (weights in registers, the next row on its way
// while one is added up), 1 for any. Horizontally everything is free.
//
// NCHW: neighbouring threads make neighbouring columns. Units: filter (outer), strip (middle),
// column (inner); by_pq: unit -> image, by_q: -> column, by_tiles_m: -> strip, by_groups: filter ->
// channel.
// Grid: ceil(n * k * ceil(p / TILE_M) * q / THREADS) blocks of THREADS.
//
// NHWC: neighbouring threads take neighbouring filters, four each (x_vector and y_vector;
// multiplier 1 only) or one. A block has tiles of up to 32 such lanes, evenly cut: lanes =
// ceil(ceil(k / width) / tiles_m); THREADS / lanes strips side by side. The filters of the tile are
// in shared memory. by_tiles_m: block -> tile, by_pq: strip -> image, by_q: -> column, by_groups:
// filter -> channel.
// Grid: tiles_m * ceil(n * ceil(p / TILE_M) * q / (THREADS / lanes)) blocks of THREADS;
// ConvArgs::schedule_depthwise.
//
// Shared memory, NHWC: shared[taps][SHARED_PITCH], f32, the filters of the tile with the taps
// outermost. The pitch is 4 modulo 32 words, so that eight consecutive taps, which consecutive
// threads store, lie in different banks; lanes load consecutive words. Filters of more than
// SHARED_TAPS taps are read from global memory.
// Barrier: one after the filters are stored.
//
// Constraints: group_c = 1; one image of x, y, residual under 2^31 elements.
#include "common/conv_args.cuh"
#include "common/units.cuh"

// A strip of outputs and its windows.
struct Strip {
    const storage_t* x;  // the image's first pixel, at the channels read
    int top, left;       // of the first output's window; negative in the padding
    int rows;            // outputs, up to TILE_M
};

// WIDTH f32 in registers, without the alignment of FloatVec.
template <int WIDTH>
struct Floats {
    float v[WIDTH];
};

// The stored zero is the same in every type.
template <int WIDTH>
DEVICE Vec<WIDTH> input(const ConvArgs& a, const Strip& strip, int row, int column,
                        bool in_bounds) {
    Vec<WIDTH> result = {};
    if (in_bounds) {
        const storage_t* x = strip.x + static_cast<long long>(row * a.width + column) * x_pixel(a);
        result = *reinterpret_cast<const Vec<WIDTH>*>(x);
    }
    return result;
}

template <int WIDTH>
DEVICE void add(Floats<WIDTH>& sum, const Vec<WIDTH>& x, const Floats<WIDTH>& w) {
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        sum.v[v] = fmaf(to_float(x.v[v]), w.v[v], sum.v[v]);
    }
}

// Writes a thread's accumulators to y, row by row.
template <int WIDTH>
struct StripOutput {
    const ConvArgs& a;
    Floats<WIDTH> bias;
    storage_t* y;
    const storage_t* residual;

    DEVICE StripOutput(const ConvArgs& args, int image, int k, int p, int q) : a(args), bias() {
        if (a.bias != nullptr) {
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                bias.v[v] = to_float(static_cast<const storage_t*>(a.bias)[k + v]);
            }
        }
        y = static_cast<storage_t*>(a.y) + offset(a.y_strides, image, k, p, q);
        residual = static_cast<const storage_t*>(a.residual) +
                   offset(a.residual_strides, image, k, p, q);
    }

    DEVICE long long offset(const Strides& strides, int image, int k, int p, int q) const {
        return image * strides.image + static_cast<long long>(k) * strides.channel +
               static_cast<long long>(p * a.q + q) * strides.pixel;
    }

    // Finishes and writes row `row` of the strip.
    DEVICE void store(int row, const Floats<WIDTH>& acc) const {
        long long pixel = row * a.q;
        Vec<WIDTH> added = {};
        if (a.residual != nullptr) {
            added = *reinterpret_cast<const Vec<WIDTH>*>(residual +
                                                         pixel * a.residual_strides.pixel);
        }
        Vec<WIDTH> result;
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            float value = acc.v[v];
            // A null bias or residual adds nothing, not even a zero: -0 stays.
            value = a.bias != nullptr ? value + bias.v[v] : value;
            value = a.residual != nullptr ? value + to_float(added.v[v]) : value;
            result.v[v] = from_float(a.relu ? relu(value) : value);
        }
        *reinterpret_cast<Vec<WIDTH>*>(y + pixel * a.y_strides.pixel) = result;
    }
};

// A step takes STRIDE input rows. Output m's window begins with step m, so SLOTS outputs are in the
// making at a time: the one that began j steps ago has slot j, and the oldest is finished.
template <int WIDTH, int STRIDE, typename Weights>
DEVICE void fixed_filter(const ConvArgs& a, const Strip& strip, const Weights& weights,
                         const StripOutput<WIDTH>& output) {
    constexpr int SLOTS = (TILE_K + STRIDE - 1) / STRIDE;
    Floats<WIDTH> w[TILE_K * TILE_K];
#pragma unroll
    for (int tap = 0; tap < TILE_K * TILE_K; tap++) {
        w[tap] = weights(tap);
    }
    // Rows that only serve outputs beyond the last are not read.
    int end = min(a.h, strip.top + (strip.rows - 1) * STRIDE + TILE_K);
    Vec<WIDTH> next[STRIDE][TILE_K];
    auto fetch = [&](int step) {
#pragma unroll
        for (int t = 0; t < STRIDE; t++) {
            int row = strip.top + step * STRIDE + t;
#pragma unroll
            for (int s = 0; s < TILE_K; s++) {
                int column = strip.left + s * a.dilation_w;
                next[t][s] = input<WIDTH>(a, strip, row, column,
                                          row >= 0 && row < end && column >= 0 && column < a.width);
            }
        }
    };
    fetch(0);
    Floats<WIDTH> acc[SLOTS] = {};
#pragma unroll 1
    for (int step = 0; step < strip.rows + SLOTS - 1; step++) {
        Vec<WIDTH> x[STRIDE][TILE_K];
#pragma unroll
        for (int t = 0; t < STRIDE; t++) {
#pragma unroll
            for (int s = 0; s < TILE_K; s++) {
                x[t][s] = next[t][s];
            }
        }
        fetch(step + 1);
#pragma unroll
        for (int r = 0; r < TILE_K; r++) {
#pragma unroll
            for (int s = 0; s < TILE_K; s++) {
                add(acc[r / STRIDE], x[r % STRIDE][s], w[r * TILE_K + s]);
            }
        }
        if (step >= SLOTS - 1) {
            output.store(step - (SLOTS - 1), acc[SLOTS - 1]);
        }
#pragma unroll
        for (int slot = SLOTS - 1; slot > 0; slot--) {
            acc[slot] = acc[slot - 1];
        }
        acc[0] = {};
    }
}

template <int WIDTH, typename Weights>
DEVICE void any_filter(const ConvArgs& a, const Strip& strip, const Weights& weights,
                       const StripOutput<WIDTH>& output) {
    Floats<WIDTH> acc[TILE_M] = {};
#pragma unroll 1
    for (int r = 0; r < a.r; r++) {
        int row = strip.top + r * a.dilation_h;
#pragma unroll 1
        for (int s = 0; s < a.s; s++) {
            int column = strip.left + s * a.dilation_w;
            bool across = column >= 0 && column < a.width;
            Floats<WIDTH> w = weights(r * a.s + s);
            Vec<WIDTH> x[TILE_M];
#pragma unroll
            for (int m = 0; m < TILE_M; m++) {
                // Unsigned, as beyond the strip's last output it may pass 2^31.
                int at = static_cast<int>(row + m * static_cast<unsigned>(a.stride_h));
                x[m] = input<WIDTH>(a, strip, at, column,
                                    across && at >= 0 && at < a.h && m < strip.rows);
            }
#pragma unroll
            for (int m = 0; m < TILE_M; m++) {
                add(acc[m], x[m], w);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < TILE_M; m++) {
        if (m < strip.rows) {
            output.store(m, acc[m]);
        }
    }
}

template <int WIDTH, typename Weights>
DEVICE void convolve(const ConvArgs& a, const Strip& strip, const Weights& weights,
                     const StripOutput<WIDTH>& output) {
    if constexpr (TILE_K == 1) {
        any_filter<WIDTH>(a, strip, weights, output);
    } else if (a.stride_h == 1) {
        fixed_filter<WIDTH, 1>(a, strip, weights, output);
    } else {
        fixed_filter<WIDTH, 2>(a, strip, weights, output);
    }
}

namespace nchw {

// A filter in global memory: all threads of a plane read the same element.
struct GlobalWeights {
    const storage_t* w;

    DEVICE Floats<1> operator()(int tap) const { return {{to_float(w[tap])}}; }
};

DEVICE void kernel(const ConvArgs& a) {
    Unit unit;
    if (!find_unit(a.n, a.by_pq, a.by_q, a.by_tiles_m, unit)) {
        return;
    }
    int k = unit.outer;
    int p = unit.middle * TILE_M;
    int q = unit.inner;
    Strip strip;
    strip.x = static_cast<const storage_t*>(a.x) + unit.image * a.x_strides.image +
              static_cast<long long>(fast_div(k, a.by_groups)) * a.x_strides.channel;
    strip.top = p * a.stride_h - a.pad_top;
    strip.left = q * a.stride_w - a.pad_left;
    strip.rows = min(TILE_M, a.p - p);
    GlobalWeights weights = {static_cast<const storage_t*>(a.w) +
                             static_cast<long long>(k) * (a.r * a.s)};
    convolve<1>(a, strip, weights, StripOutput<1>(a, unit.image, k, p, q));
}

}  // namespace nchw

namespace nhwc {

// Filters of a tile and the taps that shared memory holds of each; longer ones are read from global
// memory.
constexpr int TILE_FILTERS = 32 * 4;
constexpr int SHARED_TAPS = TILE_K > 1 ? TILE_K* TILE_K : 49;
// 4 modulo 32 words, see above.
constexpr int SHARED_PITCH = TILE_FILTERS + 4;

// The filters of a tile, the taps outermost.
template <int WIDTH>
struct TileWeights {
    const float* shared;  // at the thread's first filter, or null
    const storage_t* w;   // the thread's first filter
    int taps;

    DEVICE Floats<WIDTH> operator()(int tap) const {
        Floats<WIDTH> result;
        if (TILE_K > 1 || shared != nullptr) {
            auto row = *reinterpret_cast<const FloatVec<WIDTH>*>(shared + tap * SHARED_PITCH);
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                result.v[v] = row.v[v];
            }
        } else {
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                result.v[v] = to_float(w[v * taps + tap]);
            }
        }
        return result;
    }
};

// Copies `filters` filters of `taps` to shared memory, transposed.
DEVICE void share(float* shared, const storage_t* w, int filters, int taps) {
    unsigned by = TILE_K > 1 ? TILE_K * TILE_K : taps;
    for (unsigned i = threadIdx.x; i < filters * by; i += THREADS) {
        unsigned filter = i / by;
        shared[(i - filter * by) * SHARED_PITCH + filter] = to_float(w[i]);
    }
    __syncthreads();
}

template <int WIDTH>
DEVICE void tile(const ConvArgs& a, float* shared) {
    unsigned strips = fast_div(blockIdx.x, a.by_tiles_m);
    unsigned lanes = ((a.k + WIDTH - 1u) / WIDTH + a.tiles_m - 1) / a.tiles_m;
    int first = (blockIdx.x - strips * a.tiles_m) * lanes * WIDTH;
    unsigned group = threadIdx.x / lanes;
    int own = (threadIdx.x - group * lanes) * WIDTH;
    int k = first + own;
    const storage_t* w = static_cast<const storage_t*>(a.w);
    int taps = a.r * a.s;
    bool fits = TILE_K > 1 || taps <= SHARED_TAPS;
    if (fits) {
        int filters = min(static_cast<int>(lanes) * WIDTH, a.k - first);
        share(shared, w + static_cast<long long>(first) * taps, filters, taps);
    }
    unsigned groups = THREADS / lanes;
    unsigned unit = strips * groups + group;
    if (group >= groups || k >= a.k || unit >= a.n * a.by_pq.divisor) {
        return;
    }
    int image = fast_div(unit, a.by_pq);
    unsigned rest = unit - image * a.by_pq.divisor;
    unsigned strip_row = fast_div(rest, a.by_q);
    int p = strip_row * TILE_M;
    int q = rest - strip_row * a.q;
    int channel = WIDTH > 1 ? k : fast_div(k, a.by_groups);
    Strip strip;
    strip.x = static_cast<const storage_t*>(a.x) + image * a.x_strides.image + channel;
    strip.top = p * a.stride_h - a.pad_top;
    strip.left = q * a.stride_w - a.pad_left;
    strip.rows = min(TILE_M, a.p - p);
    TileWeights<WIDTH> weights = {fits ? shared + own : nullptr,
                                  w + static_cast<long long>(k) * taps, taps};
    convolve<WIDTH>(a, strip, weights, StripOutput<WIDTH>(a, image, k, p, q));
}

DEVICE void kernel(const ConvArgs& a) {
    __shared__ __align__(16) float shared[SHARED_TAPS * SHARED_PITCH];
    if (a.x_vector) {
        tile<4>(a, shared);
    } else {
        tile<1>(a, shared);
    }
}

}  // namespace nhwc

KERNEL(ConvArgs a) {
    if constexpr (LAYOUT_NHWC) {
        nhwc::kernel(a);
    } else {
        nchw::kernel(a);
    }
}
