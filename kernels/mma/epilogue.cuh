// The end of the kernels on tensor cores: the accumulators of a tile, of all its partial tiles,
// become elements of y (common/epilogue.cuh).
//
// split_k > 1: each block writes its accumulators to partials, 16 bytes per thread in a row, and
// counts itself in; the last to arrive adds all partial tiles in the order of their numbers,
// whatever the order of arrival, finishes the tile and sets the counter back.
//
// The accumulators pass through shared memory, so that a warp writes rows that are contiguous in y
// whatever their alignment: *inner* is the contiguous dimension (NCHW: pixels; NHWC: filters),
// *outer* the other. y_vector: a thread writes four elements in one access (the host has checked
// that four never straddle an image or the end of the filters), else one.
//
// Shared memory: rows[TILE_OUTER / ROUNDS][PITCH], f32, over the stages of the main loop. A quad of
// lanes has eight neighbouring filters of a pixel.
// NHWC: stored as words of 8 bytes, the pitch is 8 modulo 32 words, so four pixels take all banks
// once.
// NCHW: stored word by word, the pitch is 4 modulo 32, so eight pixels of every other filter take
// all banks once. They are read in rows of consecutive words.
// Barriers: one before the first round (the stages are read, and no copy into them is in flight),
// and in each round one between stores and loads, one between loads and the next stores.
#pragma once

#include "common/epilogue.cuh"
#include "mma/tile.cuh"

constexpr int TILE_INNER = LAYOUT_NHWC ? TILE_M : TILE_N;
constexpr int TILE_OUTER = LAYOUT_NHWC ? TILE_N : TILE_M;
constexpr int PITCH = TILE_INNER + (LAYOUT_NHWC ? 8 : 4);
constexpr int WARP_OUTER = LAYOUT_NHWC ? WARP_ROWS : WARP_COLUMNS;
constexpr int MMA_OUTER = LAYOUT_NHWC ? 16 : 8;
constexpr int ROUNDS = TILE_OUTER * PITCH * 4 > SHARED_BYTES ? 2 : 1;
constexpr int ROUND_OUTER = WARP_OUTER / ROUNDS;  // a warp's lines of a round

static_assert(TILE_OUTER * PITCH * 4 / ROUNDS <= SHARED_BYTES, "the accumulators must fit");
static_assert(ROUND_OUTER % MMA_OUTER == 0, "whole instructions per round");
static_assert(TILE_INNER % 32 == 0, "the pitch of the rows");

// Adds up the partial tiles. False for the blocks whose work ends here.
template <class Scheduler>
DEVICE bool add_split_k(const TensorArgs& args, MmaAcc& acc) {
    if (args.split_k == 1) return true;
    __shared__ bool last;
    WorkTile tile = Scheduler::tile(args);
    constexpr int QUADS = MMA_ROWS * MMA_COLUMNS;
    float4* parts = reinterpret_cast<float4*>(args.partials) +
                    static_cast<long long>(tile.index) * args.split_k * (TILE_M * TILE_N / 4) +
                    threadIdx.x;
    float4* own = parts + static_cast<long long>(tile.split) * (TILE_M * TILE_N / 4);
#pragma unroll
    for (int i = 0; i < QUADS; ++i) {
        const float (&s)[4] = acc[i / MMA_COLUMNS][i % MMA_COLUMNS];
        own[i * THREADS] = make_float4(s[0], s[1], s[2], s[3]);
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        last = atomicAdd(args.counters + tile.index, 1u) == static_cast<unsigned>(args.split_k) - 1;
    __syncthreads();
    if (!last) return false;
    __threadfence();
    if (threadIdx.x == 0) args.counters[tile.index] = 0;
#pragma unroll
    for (int i = 0; i < QUADS; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i / MMA_COLUMNS][i % MMA_COLUMNS][e] = 0.0f;
#pragma unroll 1
    for (int split = 0; split < args.split_k; ++split, parts += TILE_M * TILE_N / 4) {
#pragma unroll
        for (int i = 0; i < QUADS; ++i) {
            float4 part = __ldcg(parts + i * THREADS);
            float (&s)[4] = acc[i / MMA_COLUMNS][i % MMA_COLUMNS];
            s[0] += part.x;
            s[1] += part.y;
            s[2] += part.z;
            s[3] += part.w;
        }
    }
    return true;
}

// Stores the thread's accumulators of a round to shared memory.
DEVICE void store_round(const MmaAcc& acc, unsigned thread, int round) {
    float* rows = reinterpret_cast<float*>(shared_bytes);
    int pixel = thread % 32 / 4, filter = thread % 4 * 2;  // of an instruction's product
#pragma unroll
    for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS; ++j) {
            int line = LAYOUT_NHWC ? i * 16 : j * 8;  // along outer, in the warp's part
            if (ROUNDS > 1 && line / ROUND_OUTER != round) continue;
            const float (&s)[4] = acc[i][j];
            if (LAYOUT_NHWC) {
                int outer = warp_row(thread) / ROUNDS + line % ROUND_OUTER + pixel,
                    inner = warp_column(thread) + j * 8 + filter;
                unsigned at = shared_address(rows + outer * PITCH + inner);
                st_shared_v2_f32(at, s[0], s[1]);
                st_shared_v2_f32(at + 8 * PITCH * 4, s[2], s[3]);
            } else {
                int outer = warp_column(thread) / ROUNDS + line % ROUND_OUTER + filter,
                    inner = warp_row(thread) + i * 16 + pixel;
                float* at = rows + outer * PITCH + inner;
                at[0] = s[0];
                at[PITCH] = s[1];
                at[8] = s[2];
                at[PITCH + 8] = s[3];
            }
        }
}

// Loads the rows of a round from shared memory and writes them to y. Threads lie along inner, then
// along rows.
template <int WIDTH>
DEVICE void write_round(const ConvArgs& conv, const WorkTile& tile, unsigned thread, int round) {
    constexpr int ACROSS = TILE_INNER / WIDTH < THREADS ? TILE_INNER / WIDTH : THREADS;
    const float* rows = reinterpret_cast<const float*>(shared_bytes);
#pragma unroll 1
    for (int inner = thread % ACROSS * WIDTH; inner < TILE_INNER; inner += ACROSS * WIDTH) {
#pragma unroll 2  // two loads of residual under way, and half the code of four
        for (int row = thread / ACROSS; row < TILE_OUTER / ROUNDS; row += THREADS / ACROSS) {
            int outer = row / ROUND_OUTER * WARP_OUTER + round * ROUND_OUTER + row % ROUND_OUTER;
            int m = LAYOUT_NHWC ? inner : outer;
            unsigned n = tile.n + (LAYOUT_NHWC ? outer : inner);
            int group = tile.group;
            if (GROUPS_PER_TILE > 1) {
                group += m / TILE_K;
                m %= TILE_K;
            } else {
                m += tile.m;
            }
            if (m < conv.group_k && n < conv.gemm_n &&
                (GROUPS_PER_TILE == 1 || group < conv.groups))
                finish<WIDTH>(conv,
                              *reinterpret_cast<const FloatVec<WIDTH>*>(rows + row * PITCH + inner),
                              OutputPixel(conv, n), group * conv.group_k + m);
        }
    }
}

// Writes the tile.
template <class Scheduler>
DEVICE void epilogue(const TensorArgs& args, MmaAcc& acc) {
    if constexpr (HAS_CP_ASYNC) cp_async_wait_group<0>();
    if (!add_split_k<Scheduler>(args, acc)) return;
    WorkTile tile = Scheduler::tile(args);
    unsigned thread = tid_x();
    __syncthreads();
#pragma unroll 1
    for (int round = 0; round < ROUNDS; ++round) {
        store_round(acc, thread, round);
        __syncthreads();
        if (args.conv.y_vector)
            write_round<4>(args.conv, tile, thread, round);
        else
            write_round<1>(args.conv, tile, thread, round);
        if (ROUNDS > 1) __syncthreads();
    }
}
