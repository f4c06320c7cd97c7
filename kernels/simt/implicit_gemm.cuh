// The main loop of the matrix-product kernels: direct, direct_few_channels, pointwise, grouped.
//
//   D[m][n] = sum_k A[k][m] * B[k][n]     m: a filter of the group, n: an output pixel (n, p, q
//                                         flattened), k: see the loader
//
// A block computes TILE_M x TILE_N of D with f32 accumulators, TILE_K of gemm_k per step. A
// *loader* has the addresses of the elements of a step; a *copy* policy moves them to shared
// memory: AsyncCopy with 4-byte cp.async (compute_80 and later, f32), RegisterCopy through
// registers, widened to f32 on the way (compute_75, f16, bf16).
//
// Threads: a thread owns THREAD_M x THREAD_N of D as 4x4 squares, so that its operands are 128-bit
// shared loads. A warp is LANES_M x LANES_N threads, and its squares interleave: square (g, h) of
// lane (i, j) starts at m = g * 4 * LANES_M + 4 * i, n = h * 4 * LANES_N + 4 * j. The dimension
// that is contiguous in y (n for NCHW, m for NHWC) gets 8 lanes: 128 bytes in a row. On the 8-lane
// side lane bits 1-3 choose the lane, on the 4-lane side bits 4 and 0: the 8 lanes of a
// quarter-warp (one phase of a 128-bit access) then read 4 + 2 different 16-byte words that lie
// side by side, so there is no bank conflict, and both halves of the quarter share words, which
// the hardware merges.
//
// Shared memory: stages[STAGES] of a[TILE_K][PITCH_M], b[TILE_K][PITCH_N], f32, k-major.
//   FmaFragment loads: a row is contiguous, see above. Fills: a warp writes, all 32 banks once,
//     A: 8 consecutive k by 4 consecutive m; the pitch is 4 modulo 32 words, so (k, m) lies in bank
//        (4 k + m) mod 32;
//     B from NHWC: 4 consecutive k by 8 consecutive n; the pitch is 8 modulo 32, so (k, n) lies in
//        bank (8 k + n) mod 32;
//     B from NCHW: 32 consecutive n of one row.
//   On the global side these are sectors of 8 channels (half a sector, then the other half, for
//   NHWC x: fewer pixels per thread save address arithmetic) or rows of pixels.
//
// Barriers: one per step, between the last fragment read of a stage (its k = TILE_K - 1 was fetched
// into registers one k earlier) and the refill of that stage; the same barrier, after the wait for
// the copies, makes the next stage readable.
#pragma once

#include "common/address.cuh"
#include "common/conv_args.cuh"
#include "common/tile_scheduler.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/special_registers.cuh"

constexpr int THREAD_N = 8;
constexpr int THREAD_M = TILE_M * TILE_N / (THREADS * THREAD_N);
constexpr int LANES_M = LAYOUT_NHWC && TILE_M >= 8 * THREAD_M ? 8 : 4;
constexpr int LANES_N = 32 / LANES_M;
constexpr int WARPS_M = TILE_M / (LANES_M * THREAD_M);
constexpr int WARPS_N = TILE_N / (LANES_N * THREAD_N);
constexpr int PITCH_M = TILE_M + 4;
constexpr int PITCH_N = TILE_N + (LAYOUT_NHWC ? 8 : 4);

static_assert(TILE_K == 8, "the fills have 8 lanes along gemm_k");
static_assert(TILE_M % 32 == 0 && TILE_N % 32 == 0, "the pitches must be 4 modulo 32 words");
static_assert(THREAD_M == 4 || THREAD_M == 8, "a thread owns 4x8 or 8x8");
static_assert(WARPS_M * WARPS_N * 32 == THREADS, "the warps must cover the tile exactly");
static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");

struct alignas(16) Stage {
    float a[TILE_K][PITCH_M];
    float b[TILE_K][PITCH_N];
};
constexpr int STAGE_FLOATS = sizeof(Stage) / sizeof(float);
static_assert(STAGES * sizeof(Stage) <= 44 * 1024,
              "static shared memory ends at 48 KiB, tables included");

// f32 on compute_80 and later: cp.async, which cannot convert. Else through registers.
constexpr bool ASYNC_COPY = HAS_CP_ASYNC && DTYPE == DType::F32;
static_assert(!ASYNC_COPY || STAGES >= 3,
              "cp.async: one stage read, one being waited for, one in flight");
static_assert(ASYNC_COPY || STAGES == 2, "through registers: one stage read, one filled");

// Distribution of the elements of A: 8 lanes along k, the rest along m.
constexpr int A_ROWS = THREADS / TILE_K;  // m between two loads of a thread
constexpr int A_LOADS = TILE_M / A_ROWS;
// Distribution of the elements of B: a thread loads B_CHANNELS elements, B_STEP_K apart, of each
// of its PIXELS columns, B_STEP_N apart.
constexpr int B_LANES_K = LAYOUT_NHWC ? 4 : (THREADS > TILE_N ? THREADS / TILE_N : 1);
constexpr int B_STEP_K = B_LANES_K;
constexpr int B_STEP_N = THREADS / B_LANES_K;
constexpr int B_CHANNELS = TILE_K / B_LANES_K;
constexpr int PIXELS = TILE_N / B_STEP_N;

static_assert(A_LOADS * THREADS == TILE_M * TILE_K, "every element of A once");
static_assert(B_CHANNELS * PIXELS * THREADS == TILE_N * TILE_K, "every element of B once");

// The thread's first element in each operand.
DEVICE int a_lane_k() { return threadIdx.x % TILE_K; }
DEVICE int a_lane_m() { return threadIdx.x / TILE_K; }
DEVICE int b_lane_k() { return LAYOUT_NHWC ? threadIdx.x % B_LANES_K : threadIdx.x / B_STEP_N; }
DEVICE int b_lane_n() { return LAYOUT_NHWC ? threadIdx.x / B_LANES_K : threadIdx.x % B_STEP_N; }
// Offsets of its other elements, in floats from the first.
constexpr DEVICE int a_step(int i) { return i * A_ROWS; }
constexpr DEVICE int b_step(int pixel, int i) { return i * B_STEP_K * PITCH_N + pixel * B_STEP_N; }

// With cp.async a loader can instead copy four pixels of one channel at a time: the thread's first
// group of four is group threadIdx.x of the tile, row by row, and the others are V_STEP_K rows
// further on. A warp then reads and writes consecutive 16-byte words.
constexpr int V_LANES_N = TILE_N / 4;
constexpr int V_STEP_K = THREADS / V_LANES_N;
constexpr int V_LOADS = TILE_K / V_STEP_K;
DEVICE int v_lane_k() { return threadIdx.x / V_LANES_N; }
DEVICE int v_lane_n() { return threadIdx.x % V_LANES_N * 4; }

// Fills stages with cp.async: an element that is not valid is written as zero and nothing is read.
struct AsyncCopy {
    // Shared byte addresses of this thread's first elements in the stage being filled.
    unsigned a_to, b_to;

    DEVICE AsyncCopy(Stage* stages, bool vector) {
        a_to = shared_address(&stages[0].a[a_lane_k()][a_lane_m()]);
        const float* b = vector ? &stages[0].b[v_lane_k()][v_lane_n()]
                                : &stages[0].b[b_lane_k()][b_lane_n()];
        b_to = shared_address(b);
    }
    DEVICE void a(int i, address_t from, bool valid) {
        cp_async<4>(a_to + 4 * a_step(i), from, valid);
    }
    DEVICE void b(int pixel, int i, address_t from, bool valid) {
        cp_async<4>(b_to + 4 * b_step(pixel, i), from, valid);
    }
    DEVICE void b_vector(int i, address_t from, bool valid) {
        cp_async<16>(b_to + i * (V_STEP_K * PITCH_N * 4), from, valid);
    }
    // Closes the stage and turns to the next, or from the last to stage 0.
    DEVICE void commit(bool last) {
        cp_async_commit_group();
        int step = last ? -(STAGES - 1) * static_cast<int>(sizeof(Stage))
                        : static_cast<int>(sizeof(Stage));
        a_to += step;
        b_to += step;
    }
};

// Keeps a step's elements in registers until they are stored: the loads overlap a whole step's
// arithmetic.
struct RegisterCopy {
    storage_t a_values[A_LOADS];
    storage_t b_values[PIXELS * B_CHANNELS];

    DEVICE RegisterCopy(Stage*, bool) {}
    template <DType T>
    static DEVICE auto load(address_t from, bool valid) {
        if constexpr (T == DType::F32)
            return ld_global_f32(from, valid);
        else
            return ld_global_u16(from, valid);
    }
    DEVICE void a(int i, address_t from, bool valid) { a_values[i] = load<DTYPE>(from, valid); }
    DEVICE void b(int pixel, int i, address_t from, bool valid) {
        b_values[pixel * B_CHANNELS + i] = load<DTYPE>(from, valid);
    }
    DEVICE void b_vector(int, address_t, bool) {}
    DEVICE void store(Stage& stage) const {
        float* a_first = &stage.a[a_lane_k()][a_lane_m()];
#pragma unroll
        for (int i = 0; i < A_LOADS; ++i) a_first[a_step(i)] = to_float(a_values[i]);
        float* b_first = &stage.b[b_lane_k()][b_lane_n()];
#pragma unroll
        for (int pixel = 0; pixel < PIXELS; ++pixel)
#pragma unroll
            for (int i = 0; i < B_CHANNELS; ++i)
                b_first[b_step(pixel, i)] = to_float(b_values[pixel * B_CHANNELS + i]);
    }
};

typedef Select<ASYNC_COPY, AsyncCopy, RegisterCopy>::type StageCopy;

// The part of the tile that a thread owns.
struct Owner {
    int m, n;  // its first filter and pixel in the tile

    DEVICE Owner() {
        int thread = tid_x(), lane = thread % 32, warp = thread / 32;
        int eight = (lane >> 1) & 7, four = (lane >> 4) * 2 + (lane & 1);
        m = warp % WARPS_M * (LANES_M * THREAD_M) + 4 * (LANES_M == 8 ? eight : four);
        n = warp / WARPS_M * (LANES_N * THREAD_N) + 4 * (LANES_M == 8 ? four : eight);
    }
    // Row i and column j of the thread's accumulators, counted in the tile.
    DEVICE int row(int i) const { return m + i / 4 * (4 * LANES_M) + i % 4; }
    DEVICE int column(int j) const { return n + j / 4 * (4 * LANES_N) + j % 4; }
};

// The operands of one k.
struct FmaFragment {
    float a[THREAD_M], b[THREAD_N];

    // From rows of A and B, at the thread's first element.
    DEVICE void load(const float* a_row, const float* b_row) {
#pragma unroll
        for (int g = 0; g < THREAD_M / 4; ++g)
            *reinterpret_cast<float4*>(a + 4 * g) = *reinterpret_cast<const float4*>(
                a_row + g * 4 * LANES_M);
#pragma unroll
        for (int h = 0; h < THREAD_N / 4; ++h)
            *reinterpret_cast<float4*>(b + 4 * h) = *reinterpret_cast<const float4*>(
                b_row + h * 4 * LANES_N);
    }
};

typedef float SimtAcc[THREAD_M][THREAD_N];

// At which k of a step A is fetched, B being fetched at 0. cp.async goes best in one run. Through
// registers it is late: the filters are near (L1, L2), and until then they take no registers, which
// are short.
constexpr int FETCH_A = ASYNC_COPY ? 0 : TILE_K - 2;

DEVICE void multiply(const FmaFragment& f, SimtAcc& acc) {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) acc[i][j] = fmaf(f.a[i], f.b[j], acc[i][j]);
}

// accumulators = the whole product. `loader.fetch_b(copy)` and `fetch_a` pass the elements of the
// next step; past the last step none of them is valid. `loader.vector()`: B comes in groups of four
// pixels.
template <class Copy, class Loader>
DEVICE void main_loop(Loader& loader, Stage* stages, int steps, SimtAcc& acc) {
    Owner owner;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) acc[i][j] = 0.0f;

    Copy copy(stages, loader.vector());
    if constexpr (ASYNC_COPY) {
#pragma unroll 1
        for (int i = 0; i < STAGES - 1; ++i) {
            loader.fetch_b(copy);
            loader.fetch_a(copy);
            copy.commit(false);
        }
        cp_async_wait_group<STAGES - 2>();
    } else {
        loader.fetch_b(copy);
        loader.fetch_a(copy);
        copy.store(stages[0]);
    }
    __syncthreads();

    // The thread's operands in the stage being read, which is `left` stages before the last.
    const float* a_row = &stages[0].a[0][owner.m];
    const float* b_row = &stages[0].b[0][owner.n];
    int left = STAGES - 1;
    FmaFragment fragments[2];
    fragments[0].load(a_row, b_row);

#pragma unroll 1
    for (; steps > 0; --steps) {
#pragma unroll
        for (int k = 0; k < TILE_K; ++k) {
            if (k == TILE_K - 1) {
                if constexpr (ASYNC_COPY)
                    cp_async_wait_group<STAGES - 2>();
                else
                    copy.store(stages[left]);
                int step = left > 0 ? STAGE_FLOATS : -(STAGES - 1) * STAGE_FLOATS;
                left = left > 0 ? left - 1 : STAGES - 1;
                a_row += step;
                b_row += step;
                __syncthreads();
            }
            int next = (k + 1) % TILE_K;
            fragments[(k + 1) % 2].load(a_row + next * PITCH_M, b_row + next * PITCH_N);
            if (k == 0) loader.fetch_b(copy);
            if (k == FETCH_A) {
                loader.fetch_a(copy);
                // It fills the stage before the one being read.
                if constexpr (ASYNC_COPY) copy.commit(left == STAGES - 1);
            }
            multiply(fragments[k % 2], acc);
        }
    }
    if constexpr (ASYNC_COPY) cp_async_wait_group<0>();
}

// The tile of the block, read anew where it is needed, so that no register is held.
DEVICE WorkTile block_tile(const ConvArgs& args) {
    return output_tile(args, ctaid_x(), args.groups);
}
