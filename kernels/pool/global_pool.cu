// The mean or the maximum of each plane, of any size; the maximum of a plane with a NaN is NaN.
//
// Sums are in f32: each thread adds short runs, then the runs' sums, then the threads' sums join in
// a tree, so that long sums stay accurate. The order is fixed: the same input gives the same bits.
//
// NCHW: `team` threads (a warp, or a block for large planes) share a plane and read it in 16-byte
// accesses if it is aligned. by_image: plane -> image.
// Grid: ceil(n * c / (THREADS / team)) blocks of THREADS.
// NHWC: `team` neighbouring threads take neighbouring channels (VECTOR_ELEMENTS each with 16-byte
// accesses, or one), the THREADS / team groups divide the pixels. by_image: block -> image;
// tiles of team channel vectors within.
// Grid: n * ceil(channel vectors / team) blocks of THREADS.
//
// Shared memory: NCHW: warps[THREADS / 32], written by one lane per warp, read at one address by
// all threads (a broadcast). NHWC: shared[VECTOR_ELEMENTS][THREADS]: consecutive threads access
// consecutive words. No bank conflict.
// Barriers: NCHW: one between writing and reading, where a team is a block. NHWC: one before each
// level of the tree.
//
// Constraints: team is a power of two; NCHW: 32 or THREADS.
#include "common/wide_units.cuh"
#include "pool/args.cuh"

// Terms that are added one after the other before their sum joins the total.
constexpr int RUN = 64;

struct MeanPooling {
    static DEVICE float neutral() { return 0.0f; }
    static DEVICE float join(float a, float b) { return a + b; }
    static DEVICE float finish(float sum, long long count) {
        return sum / static_cast<float>(count);
    }
};

struct MaxPooling {
    static DEVICE float neutral() { return minus_infinity(); }
    static DEVICE float join(float a, float b) { return b > a || b != b ? b : a; }
    static DEVICE float finish(float maximum, long long) { return maximum; }
};

// Joins pixels lane, lane + lanes, lane + 2 * lanes, ... of `pixels`, WIDTH channels or neighbours
// side by side.
template <typename Op, int WIDTH>
DEVICE void walk(const storage_t* x, int lane, int lanes, long long pixels, long long pitch,
                 float (&total)[WIDTH]) {
    const storage_t* at = x + lane * pitch;
    const long long step = lanes * pitch;
    // A count, since an index that runs past the last pixel could overflow. `lanes` is a power of
    // two.
    int left = lane < pixels ? static_cast<int>((pixels - lane + lanes - 1) >> (31 - __clz(lanes)))
                             : 0;
    while (left > 0) {
        float run[WIDTH];
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            run[v] = Op::neutral();
        }
        int count = min(left, RUN);
        left -= count;
#pragma unroll 4
        for (int i = 0; i < count; i++) {
            Vec<WIDTH> cell = *reinterpret_cast<const Vec<WIDTH>*>(at);
            at += step;
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                run[v] = Op::join(run[v], to_float(cell.v[v]));
            }
        }
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            total[v] = Op::join(total[v], run[v]);
        }
    }
}

namespace nchw {

// Joins the values of a team of `team` threads; the team's first thread has the result.
template <typename Op>
DEVICE float join_team(float value, int team) {
    __shared__ float warps[THREADS / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        value = Op::join(value, __shfl_down_sync(0xffffffffu, value, step));
    }
    if (team > 32) {
        if (threadIdx.x % 32 == 0) {
            warps[threadIdx.x / 32] = value;
        }
        __syncthreads();
        value = warps[0];
#pragma unroll
        for (int warp = 1; warp < THREADS / 32; warp++) {
            value = Op::join(value, warps[warp]);
        }
    }
    return value;
}

template <typename Op>
DEVICE void pool(const PoolArgs& a) {
    int lane = threadIdx.x & (a.team - 1);
    long long plane = a.team == 32
                          ? static_cast<long long>(blockIdx.x) * (THREADS / 32) + threadIdx.x / 32
                          : blockIdx.x;
    // n * c planes: whole warps have none, so that the shuffles stay whole.
    if (plane >= static_cast<long long>(a.n) * a.c) {
        return;
    }
    long long image = plane < (1ll << 31) ? fast_div(static_cast<unsigned>(plane), a.by_image)
                                          : plane / a.c;
    int channel = static_cast<int>(plane - image * a.c);
    long long pixels = static_cast<long long>(a.h) * a.width;
    const storage_t* x = static_cast<const storage_t*>(a.x) + image * a.x_strides.image +
                         channel * pixels;
    float value = Op::neutral();
    if (a.vector) {
        float total[VECTOR_ELEMENTS];
#pragma unroll
        for (int v = 0; v < VECTOR_ELEMENTS; v++) {
            total[v] = Op::neutral();
        }
        walk<Op, VECTOR_ELEMENTS>(x, lane, a.team, pixels / VECTOR_ELEMENTS, VECTOR_ELEMENTS,
                                  total);
#pragma unroll
        for (int v = 0; v < VECTOR_ELEMENTS; v++) {
            value = Op::join(value, total[v]);
        }
    } else {
        float total[1] = {value};
        walk<Op, 1>(x, lane, a.team, pixels, 1, total);
        value = total[0];
    }
    value = join_team<Op>(value, a.team);
    if (lane == 0) {
        storage_t* y = static_cast<storage_t*>(a.y) + image * a.y_strides.image;
        y[static_cast<long long>(channel) * a.y_strides.channel] = from_float(
            Op::finish(value, pixels));
    }
}

}  // namespace nchw

namespace nhwc {

template <typename Op, int WIDTH>
DEVICE void columns(const PoolArgs& a, float* shared) {
    int lane = threadIdx.x & (a.team - 1);
    int group = threadIdx.x / a.team;
    unsigned image = fast_div(blockIdx.x, a.by_image);
    int tile = blockIdx.x - image * a.by_image.divisor;
    int channel = (tile * a.team + lane) * WIDTH;
    long long pixels = static_cast<long long>(a.h) * a.width;
    float total[WIDTH];
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        total[v] = Op::neutral();
    }
    if (channel < a.c) {
        const storage_t* x = static_cast<const storage_t*>(a.x) + image * a.x_strides.image +
                             channel;
        walk<Op, WIDTH>(x, group, THREADS / a.team, pixels, a.x_strides.pixel, total);
    }
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        shared[v * THREADS + threadIdx.x] = total[v];
    }
    for (int half = THREADS / 2; half >= a.team; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                float* at = shared + v * THREADS + threadIdx.x;
                total[v] = Op::join(total[v], at[half]);
                *at = total[v];
            }
        }
    }
    if (group == 0 && channel < a.c) {
        Vec<WIDTH> result;
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            result.v[v] = from_float(Op::finish(total[v], pixels));
        }
        storage_t* y = static_cast<storage_t*>(a.y) + image * a.y_strides.image + channel;
        *reinterpret_cast<Vec<WIDTH>*>(y) = result;
    }
}

template <typename Op>
DEVICE void pool(const PoolArgs& a) {
    __shared__ float shared[VECTOR_ELEMENTS * THREADS];
    if (a.vector) {
        columns<Op, VECTOR_ELEMENTS>(a, shared);
    } else {
        columns<Op, 1>(a, shared);
    }
}

}  // namespace nhwc

template <typename Op>
DEVICE void pool(const PoolArgs& a) {
    if constexpr (LAYOUT_NHWC) {
        nhwc::pool<Op>(a);
    } else {
        nchw::pool<Op>(a);
    }
}

KERNEL(PoolArgs a) {
    if (a.maximum) {
        pool<MaxPooling>(a);
    } else {
        pool<MeanPooling>(a);
    }
}
