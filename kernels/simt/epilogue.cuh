// The end of the matrix-product kernels: the accumulators of a tile become elements of y
// (common/epilogue.cuh).
//
// The accumulators pass through shared memory, so that a warp writes rows that are contiguous in y
// whatever their alignment: *inner* is the contiguous dimension (NCHW: pixels; NHWC: filters),
// *outer* the other. y_vector: a thread writes four elements in one access (the host has checked
// that four never straddle an image or the end of the filters), else one.
//
// Shared memory: rows[ROUND_ROWS][ROUND_PITCH], f32, over the stages of the main loop. In a round
// every thread stores ROUND of its outer lines there, each as 16-byte stores. Row = place of the
// thread along outer * ROUND + line; the pitch is 8 modulo 32 words, so the two threads along outer
// that share a quarter-warp are 16 banks apart and its four along inner take 16 banks: no bank
// conflict. They are read in rows of consecutive words.
// Barriers: one before the first round (the stages are read, and no copy into them is in flight),
// and in each round one between stores and loads, one between loads and the next stores.
#pragma once

#include "simt/implicit_gemm.cuh"
#include "common/epilogue.cuh"

constexpr int TILE_INNER = LAYOUT_NHWC ? TILE_M : TILE_N;
constexpr int TILE_OUTER = LAYOUT_NHWC ? TILE_N : TILE_M;
constexpr int THREAD_OUTER = LAYOUT_NHWC ? THREAD_N : THREAD_M;
constexpr int THREAD_INNER = LAYOUT_NHWC ? THREAD_M : THREAD_N;
constexpr int LANES_OUTER = LAYOUT_NHWC ? LANES_N : LANES_M;
constexpr int LANES_INNER = LAYOUT_NHWC ? LANES_M : LANES_N;
constexpr int ROUND = 2;
constexpr int ROUNDS = THREAD_OUTER / ROUND;
constexpr int ROUND_ROWS = TILE_OUTER / THREAD_OUTER * ROUND;
constexpr int ROUND_PITCH = TILE_INNER + 8;

// Shared memory of the main loop and of the epilogue.
union alignas(16) SharedTiles {
    Stage stages[STAGES];
    float rows[ROUND_ROWS][ROUND_PITCH];
};

// The outer index in the tile of a row of a round.
DEVICE int outer_of(int row, int round) {
    int thread = row / ROUND, line = round * ROUND + row % ROUND;
    return thread / LANES_OUTER * (LANES_OUTER * THREAD_OUTER) + line / 4 * (4 * LANES_OUTER) +
           thread % LANES_OUTER * 4 + line % 4;
}

DEVICE float acc_at(const SimtAcc& acc, int outer, int inner) {
    return LAYOUT_NHWC ? acc[inner][outer] : acc[outer][inner];
}

// Stores the thread's lines of a round to shared memory.
DEVICE void store_round(SharedTiles& shared, const Owner& owner, const SimtAcc& acc, int round) {
    // A multiple of 4; of the thread's place along outer, see Owner.
    int first = LAYOUT_NHWC ? owner.n : owner.m;
    int place = first / (LANES_OUTER * THREAD_OUTER) * LANES_OUTER +
                first % (LANES_OUTER * THREAD_OUTER) / 4;
    int column = LAYOUT_NHWC ? owner.m : owner.n;
#pragma unroll
    for (int r = 0; r < ROUNDS; ++r) {
        if (r != round) continue;  // accumulators are registers: their indices must be known here
#pragma unroll
        for (int line = 0; line < ROUND; ++line)
#pragma unroll
            for (int g = 0; g < THREAD_INNER; g += 4) {
                int outer = r * ROUND + line;
                *reinterpret_cast<float4*>(
                    &shared.rows[place * ROUND + line][column + g * LANES_INNER]) =
                    make_float4(acc_at(acc, outer, g), acc_at(acc, outer, g + 1),
                                acc_at(acc, outer, g + 2), acc_at(acc, outer, g + 3));
            }
    }
}

// Loads the rows of a round from shared memory and writes them to y. Threads lie along inner, then
// along rows.
template <int WIDTH>
DEVICE void write_round(const ConvArgs& args, const SharedTiles& shared, const WorkTile& tile,
                        int round, unsigned thread) {
    constexpr int ACROSS = TILE_INNER / WIDTH < THREADS ? TILE_INNER / WIDTH : THREADS;
#pragma unroll 1
    for (int inner = thread % ACROSS * WIDTH; inner < TILE_INNER; inner += ACROSS * WIDTH) {
#pragma unroll 2  // two loads of residual under way, and half the code of four
        for (int row = thread / ACROSS; row < ROUND_ROWS; row += THREADS / ACROSS) {
            int outer = outer_of(row, round);
            int m = tile.m + (LAYOUT_NHWC ? inner : outer);
            unsigned n = tile.n + (LAYOUT_NHWC ? outer : inner);
            if (m < args.group_k && n < args.gemm_n)
                finish<WIDTH>(args,
                              *reinterpret_cast<const FloatVec<WIDTH>*>(&shared.rows[row][inner]),
                              OutputPixel(args, n), tile.group * args.group_k + m);
        }
    }
}

// Writes the tile.
DEVICE void epilogue(const ConvArgs& args, SharedTiles& shared, const SimtAcc& acc) {
    Owner owner;
    WorkTile tile = block_tile(args);
    unsigned thread = tid_x();
    __syncthreads();
#pragma unroll 1
    for (int round = 0; round < ROUNDS; ++round) {
        store_round(shared, owner, acc, round);
        __syncthreads();
        if (args.y_vector)
            write_round<4>(args, shared, tile, round, thread);
        else
            write_round<1>(args, shared, tile, round, thread);
        __syncthreads();
    }
}
