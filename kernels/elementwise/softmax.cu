// Softmax over channels: y[c] = exp(x[c] - max) / sum_j exp(x[j] - max) at each pixel, max being
// the row's largest x.
//
// In f32 throughout, expf and division without fast math. As in PyTorch a NaN or a +inf in a row
// makes all of it NaN, so does a row of nothing but -inf; any other -inf becomes 0. In place if x
// and y are the same elements: each element is read and written by one thread alone.
//
// A team shares a row; its threads take cells (VECTOR_ELEMENTS neighbours, or one element) a team's
// width apart, in three passes: the largest, the sum, the quotients. Up to HELD cells per thread
// stay in registers, so that rows that fit are read once; what is beyond is read again, by the same
// thread, from the caches.
//
// `neighbours` (NHWC, or one pixel): the team is a warp, several to a block, or a whole block for
// long rows.
//   Grid: ceil(rows / (THREADS / team)) blocks of THREADS.
// Else (NCHW): a block takes 32 neighbouring pixels, a warp reads one channel of them, the GROUPS
// warps share the channels.
//   Grid: n * ceil(pixels / 32) blocks of THREADS.
//
// Shared memory: shared[2][THREADS], one half for the maxima and one for the sums, so that one
// barrier between writing and reading each is enough. A warp writes 32 neighbours (or one word a
// warp) and reads 32 neighbours (or one word): no bank conflict.
#include "elementwise/channel_args.cuh"
#include "common/units.cuh"

constexpr int GROUPS = THREADS / 32;
static_assert(THREADS % 32 == 0 && GROUPS >= 1, "teams are whole warps");

// Cells of a thread that stay in registers.
template <int WIDTH>
constexpr int HELD = WIDTH == 1 ? 8 : 4;

struct RowMaximum {
    static DEVICE float join(float a, float b) { return fmaxf(a, b); }
};

struct RowSum {
    static DEVICE float join(float a, float b) { return a + b; }
};

// Joins the values of a warp's or a block's threads; all of them have the result. All threads of
// the team call it.
struct AlongRow {
    int team;

    template <typename Op>
    DEVICE float join(float value, float* shared) const {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            value = Op::join(value, __shfl_xor_sync(0xffffffffu, value, step));
        }
        if (team > 32) {
            if (threadIdx.x % 32 == 0) {
                shared[threadIdx.x / 32] = value;
            }
            __syncthreads();
            value = shared[0];
#pragma unroll
            for (int warp = 1; warp < GROUPS; warp++) {
                value = Op::join(value, shared[warp]);
            }
        }
        return value;
    }
};

// Joins the values of the threads that share a pixel: one per warp. All threads of the block call
// it.
struct AcrossPixels {
    template <typename Op>
    DEVICE float join(float value, float* shared) const {
        int pixel = threadIdx.x % 32;
        shared[threadIdx.x] = value;
        __syncthreads();
        value = shared[pixel];
#pragma unroll
        for (int group = 1; group < GROUPS; group++) {
            value = Op::join(value, shared[group * 32 + pixel]);
        }
        return value;
    }
};

template <int WIDTH>
struct Row {
    const storage_t* x;
    storage_t* y;
    long long x_step, y_step;  // elements from one cell to the next
    int cells;

    DEVICE void load(float (&values)[WIDTH], int cell) const {
        Vec<WIDTH> stored = *reinterpret_cast<const Vec<WIDTH>*>(x + cell * x_step);
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            values[v] = to_float(stored.v[v]);
        }
    }
    DEVICE void store(const float (&values)[WIDTH], int cell, float total) const {
        Vec<WIDTH> stored;
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            stored.v[v] = from_float(values[v] / total);
        }
        *reinterpret_cast<Vec<WIDTH>*>(y + cell * y_step) = stored;
    }
};

// The row's cells lane, lane + lanes, ... A thread without a row has no cells.
template <int WIDTH, typename Team>
DEVICE void softmax(const Row<WIDTH>& row, int lane, int lanes, const Team& team, float* shared) {
    float held[HELD<WIDTH>][WIDTH], cell[WIDTH];
    float largest = minus_infinity();
    int beyond = lane + HELD<WIDTH> * lanes;
#pragma unroll
    for (int i = 0; i < HELD<WIDTH>; i++) {
        if (lane + i * lanes < row.cells) {
            row.load(held[i], lane + i * lanes);
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                largest = fmaxf(largest, held[i][v]);
            }
        }
    }
#pragma unroll 2
    for (int at = beyond; at < row.cells; at += lanes) {
        row.load(cell, at);
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            largest = fmaxf(largest, cell[v]);
        }
    }
    largest = team.template join<RowMaximum>(largest, shared);
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD<WIDTH>; i++) {
        if (lane + i * lanes < row.cells) {
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                held[i][v] = expf(held[i][v] - largest);
                total += held[i][v];
            }
        }
    }
#pragma unroll 2
    for (int at = beyond; at < row.cells; at += lanes) {
        row.load(cell, at);
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            total += expf(cell[v] - largest);
        }
    }
    total = team.template join<RowSum>(total, shared + THREADS);
#pragma unroll
    for (int i = 0; i < HELD<WIDTH>; i++) {
        if (lane + i * lanes < row.cells) {
            row.store(held[i], lane + i * lanes, total);
        }
    }
#pragma unroll 1
    for (int at = beyond; at < row.cells; at += lanes) {
        row.load(cell, at);
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            cell[v] = expf(cell[v] - largest);
        }
        row.store(cell, at, total);
    }
}

template <int WIDTH>
DEVICE void along_rows(const SoftmaxArgs& a, float* shared) {
    int lane = threadIdx.x & (a.team - 1);
    long long index = a.team == 32 ? static_cast<long long>(blockIdx.x) * GROUPS + threadIdx.x / 32
                                   : blockIdx.x;
    // Whole warps have no row, so that the shuffles stay whole; a team that is a block always has
    // one.
    if (index >= static_cast<long long>(a.n) * a.pixels) {
        return;
    }
    // A plane of 2^31 pixels or more has the largest divisor, whose quotient of what is below is 0
    // as well.
    long long image = index < 0x7fffffff ? fast_div(static_cast<unsigned>(index), a.by_image)
                                         : index / a.pixels;
    long long pixel = index - image * a.pixels;
    Row<WIDTH> row;
    row.x = static_cast<const storage_t*>(a.x) + image * a.x_strides.image +
            pixel * a.x_strides.pixel;
    row.y = static_cast<storage_t*>(a.y) + image * a.y_strides.image + pixel * a.y_strides.pixel;
    row.x_step = row.y_step = WIDTH;
    row.cells = a.c / WIDTH;
    softmax(row, lane, a.team, AlongRow{a.team}, shared);
}

DEVICE void across_pixels(const SoftmaxArgs& a, float* shared) {
    unsigned image = fast_div(blockIdx.x, a.by_image);
    unsigned tile = blockIdx.x - image * a.by_image.divisor;
    long long pixel = static_cast<long long>(tile) * 32 + threadIdx.x % 32;
    Row<1> row;
    row.x = static_cast<const storage_t*>(a.x) + image * a.x_strides.image +
            pixel * a.x_strides.pixel;
    row.y = static_cast<storage_t*>(a.y) + image * a.y_strides.image + pixel * a.y_strides.pixel;
    row.x_step = row.y_step = a.pixels;
    row.cells = pixel < a.pixels ? a.c : 0;
    softmax(row, threadIdx.x / 32, GROUPS, AcrossPixels{}, shared);
}

KERNEL(SoftmaxArgs a) {
    __shared__ float shared[2 * THREADS];
    if (!a.neighbours) {
        across_pixels(a, shared);
    } else if (a.vector) {
        along_rows<VECTOR_ELEMENTS>(a, shared);
    } else {
        along_rows<1>(a, shared);
    }
}
