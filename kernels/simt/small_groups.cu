// Grouped convolution with few channels per group, on CUDA cores, all groups in one launch.
//
//   y[n][g * group_k + k][p][q] =
//       act(sum_{c,r,s} x[n][g * group_c + c][p * stride_h - pad_top + r * dilation_h]
//                                            [q * stride_w - pad_left + s * dilation_w]
//                       * w[g * group_k + k][c][r][s]
//           + bias[g * group_k + k] + residual[n][g * group_k + k][p][q])
//
// A tile of the matrix product would be mostly padding here. Instead a block computes TILE_M
// filters of one group at TILE_N output pixels (n, p, q flattened), a thread TILE_M filters at
// PIXELS pixels, THREADS apart, so that neighbouring lanes have neighbouring pixels. x comes
// straight from global memory: each element serves all the thread's filters, and the taps that
// share it find it in L1. x, y, residual NCHW or NHWC (LAYOUT_NHWC), w KCRS or KRSC by its strides.
// Padding is zero and multiplied, as in simt/tap_loader.cuh: an infinity or NaN in w gives NaN at
// the border.
//
// Shared memory: weights[CHUNK][TILE_M], f32: some taps of some channels, in rows of the group's
// filters (zero beyond the last). All lanes read the same 16 bytes of a row: a broadcast. Written
// with consecutive words by consecutive threads. Later the same words are
// accumulators[TILE_M][ACC_PITCH], on their way to y: written along pixels; read along pixels
// (NCHW), or by 16 pixels times the two fours of filters (NHWC), which lie 4 * ACC_PITCH = 16 banks
// apart. No bank conflict anywhere, but for single filters in NHWC (2 ways).
// Barriers: one between filling a chunk and using it, one before the next is filled, one around the
// accumulators on either side. Any group size is taken: many channels only make more chunks.
//
// Constraints: group_c >= 1, group_c * r * s < 2^31, one image of x, y, residual under 2^31
// elements.
// Grid: tiles_n * groups * tiles_m blocks, block = tile_n * (groups * tiles_m) + group * tiles_m +
// tile_m; tiles_m = ceil(group_k / TILE_M), tiles_n = ceil(n * p * q / TILE_N).
#include "common/epilogue.cuh"
#include "common/tile_scheduler.cuh"

constexpr int PIXELS = TILE_N / THREADS;
constexpr int CHUNK = TILE_N;
constexpr int ACC_PITCH = TILE_N + 4;

static_assert(TILE_M == 8, "two 16-byte reads of shared memory per row of weights");
static_assert(PIXELS * THREADS == TILE_N, "whole pixels per thread");
static_assert(THREADS % TILE_M == 0, "a thread fills one column of the weights");

typedef float SmallGroupsAcc[TILE_M][PIXELS];

// One tap: `count` channels from `values` on (the thread's pixels; outside the image the pointer is
// some element of the image, which is read and dropped), with the first FILTERS filters.
template <int FILTERS>
DEVICE void add_tap(const storage_t* const (&values)[PIXELS], const bool (&in_bounds)[PIXELS],
                    int channel_stride, int count, const float* weights, SmallGroupsAcc& acc) {
#pragma unroll 4
    for (int c = 0; c < count; ++c) {
        float x[PIXELS], w[FILTERS];
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) x[i] = to_float(values[i][c * channel_stride]);
#pragma unroll
        for (int k = 0; k < FILTERS; k += 4)
            *reinterpret_cast<float4*>(w + k) = *reinterpret_cast<const float4*>(weights +
                                                                                 c * TILE_M + k);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            float value = in_bounds[i] ? x[i] : 0.0f;
#pragma unroll
            for (int k = 0; k < FILTERS; ++k) acc[k][i] = fmaf(w[k], value, acc[k][i]);
        }
    }
}

// Fills weights with `taps` taps from `first_tap` on of `channels` channels from `first_channel`
// on.
DEVICE void fill(const ConvArgs& args, const WorkTile& tile, float* weights, int first_tap,
                 int taps, int first_channel, int channels) {
    int filter = threadIdx.x % TILE_M;
    bool valid = tile.m + filter < args.group_k;
    const storage_t* w = static_cast<const storage_t*>(args.w) +
                         (static_cast<long long>(tile.group) * args.group_k + tile.m +
                          (valid ? filter : 0)) *
                             args.w_k;
    for (int row = threadIdx.x / TILE_M; row < taps * channels; row += THREADS / TILE_M) {
        int tap = row / channels, c = row - tap * channels;
        float value = to_float(w[(first_channel + c) * args.w_c + (first_tap + tap) * args.w_tap]);
        weights[row * TILE_M + filter] = valid ? value : 0.0f;
    }
}

template <int FILTERS>
DEVICE void add_chunk(const ConvArgs& args, const WorkTile& tile, const float* weights,
                      int first_tap, int taps, int first_channel, int channels,
                      SmallGroupsAcc& acc) {
    const storage_t* x = static_cast<const storage_t*>(args.x);
    int stride = LAYOUT_NHWC ? 1 : args.x_strides.channel;
    const storage_t* images[PIXELS];
    int rows[PIXELS], columns[PIXELS];
#pragma unroll
    for (int i = 0; i < PIXELS; ++i) {
        unsigned n = tile.n + i * THREADS;
        n = n < args.gemm_n ? n : args.gemm_n - 1;
        unsigned image = fast_div(n, args.by_pq);
        unsigned rest = n - image * (args.p * args.q);
        unsigned p = fast_div(rest, args.by_q);
        rows[i] = static_cast<int>(p) * args.stride_h - args.pad_top;
        columns[i] = static_cast<int>(rest - p * args.q) * args.stride_w - args.pad_left;
        images[i] = x + image * args.x_strides.image +
                    static_cast<long long>(tile.group * args.group_c + first_channel) * stride;
    }
    int r = first_tap / args.s, s = first_tap - r * args.s;
#pragma unroll 1
    for (int tap = 0; tap < taps; ++tap) {
        const storage_t* values[PIXELS];
        bool in_bounds[PIXELS];
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            unsigned h = rows[i] + r * args.dilation_h, w = columns[i] + s * args.dilation_w;
            in_bounds[i] = h < static_cast<unsigned>(args.h) &&
                           w < static_cast<unsigned>(args.width);
            unsigned place = in_bounds[i] ? h * args.width + w : 0;
            values[i] = images[i] + place * x_pixel(args);
        }
        add_tap<FILTERS>(values, in_bounds, stride, channels, weights + tap * channels * TILE_M,
                         acc);
        s += 1;
        if (s == args.s) {
            s = 0;
            r += 1;
        }
    }
}

// Writes the accumulators to y from shared memory, accumulators[TILE_M][ACC_PITCH], in a loop: from
// registers each would need code of its own.
template <int WIDTH>
DEVICE void write(const ConvArgs& args, const WorkTile& tile, const float* shared) {
    // Accesses per row of y: filters or pixels.
    constexpr int ACROSS = LAYOUT_NHWC ? TILE_M / WIDTH : TILE_N / WIDTH;
    int first_k = tile.group * args.group_k + tile.m;
    unsigned first_n = tile.n - threadIdx.x;
#pragma unroll 1
    for (int i = threadIdx.x; i < TILE_M * TILE_N / WIDTH; i += THREADS) {
        int inner = i % ACROSS * WIDTH, outer = i / ACROSS;
        int m = LAYOUT_NHWC ? inner : outer, place = LAYOUT_NHWC ? outer : inner;
        unsigned n = first_n + place;
        if (tile.m + m >= args.group_k || n >= args.gemm_n) continue;
        FloatVec<WIDTH> values;
#pragma unroll
        for (int j = 0; j < WIDTH; ++j)
            values.v[j] = LAYOUT_NHWC ? shared[(m + j) * ACC_PITCH + place]
                                      : shared[m * ACC_PITCH + place + j];
        finish<WIDTH>(args, values, OutputPixel(args, n), first_k + m);
    }
}

KERNEL(ConvArgs args) {
    __shared__ alignas(16) float weights[TILE_M * ACC_PITCH];
    WorkTile tile = output_tile(args, blockIdx.x, args.groups);
    tile.n += threadIdx.x;  // the thread's first pixel
    SmallGroupsAcc acc;
#pragma unroll
    for (int m = 0; m < TILE_M; ++m)
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) acc[m][i] = 0.0f;

    int channels_per_fill = args.group_c < CHUNK ? args.group_c : CHUNK;
    int taps_per_fill = CHUNK / channels_per_fill;
    int all_taps = args.r * args.s;
#pragma unroll 1
    for (int c = 0; c < args.group_c; c += channels_per_fill) {
        int channels = args.group_c - c < channels_per_fill ? args.group_c - c : channels_per_fill;
#pragma unroll 1
        for (int tap = 0; tap < all_taps; tap += taps_per_fill) {
            int taps = all_taps - tap < taps_per_fill ? all_taps - tap : taps_per_fill;
            __syncthreads();
            fill(args, tile, weights, tap, taps, c, channels);
            __syncthreads();
            if (args.group_k - tile.m <= 4)
                add_chunk<4>(args, tile, weights, tap, taps, c, channels, acc);
            else
                add_chunk<8>(args, tile, weights, tap, taps, c, channels, acc);
        }
    }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < TILE_M; ++m)
#pragma unroll
        for (int i = 0; i < PIXELS; ++i)
            weights[m * ACC_PITCH + threadIdx.x + i * THREADS] = acc[m][i];
    __syncthreads();
    if (args.y_vector)
        write<4>(args, tile, weights);
    else
        write<1>(args, tile, weights);
}
