// The tile of the kernels by mma.sync, and its place in shared memory.
//
//   D[pixel][filter] = sum_k X[pixel][k] * W[filter][k]
//
// A block computes TILE_N pixels (n, p, q flattened) by TILE_M filters, in f32. Pixels are the rows
// of mma's product and filters its columns, for both layouts: the accumulators reach y through
// shared memory, which transposes them for NCHW (mma/epilogue.cuh). Both operands lie in shared
// memory with k contiguous, as ldmatrix reads them: f16, bf16 in rows of 16 terms per instruction
// (m16n8k16; m16n8k8 twice on compute_75), f32 as tf32 in rows of 8 (m16n8k8): 32 bytes either way,
// so one code serves all types.
//
// Threads: a warp computes WARP_ROWS pixels by WARP_COLUMNS filters; warps lie row by row, along
// filters first.
//
// Shared memory, dynamic, SHARED_BYTES of it: stages[STAGES] of x[TILE_N][X_ROW bytes],
// w[TILE_M][W_ROW bytes], then the tables of the loaders. Rows are swizzled (common/swizzle.cuh):
// ldmatrix (eight rows, one chunk) and the stores of the loaders have no bank conflicts.
#pragma once

#include "common/swizzle.cuh"
#include "common/tensor_args.cuh"
#include "common/tile_scheduler.cuh"
#include "mma/operand.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/special_registers.cuh"

constexpr int W_ROW = TILE_K * ELEMENT_BYTES;
constexpr int X_ROW = W_ROW * GROUPS_PER_TILE;
constexpr int X_BYTES = TILE_N * X_ROW;
constexpr int W_BYTES = TILE_M * W_ROW;
constexpr int STAGE_BYTES = X_BYTES + W_BYTES;

constexpr int WARPS = THREADS / 32;
// The warps along pixels: as many as leave a warp's part no narrower than long.
constexpr int warps_along_pixels() {
    int warps = 1;
    while (2 * warps <= WARPS && TILE_N / (2 * warps) >= TILE_M / (WARPS / (2 * warps))) warps *= 2;
    return warps;
}
constexpr int WARPS_ROWS = warps_along_pixels();
constexpr int WARPS_COLUMNS = WARPS / WARPS_ROWS;
constexpr int WARP_ROWS = TILE_N / WARPS_ROWS;
constexpr int WARP_COLUMNS = TILE_M / WARPS_COLUMNS;
constexpr int MMA_ROWS = WARP_ROWS / 16;
constexpr int MMA_COLUMNS = WARP_COLUMNS / 8;

static_assert(X_ROW <= 128 && W_ROW >= 16 && 128 % X_ROW == 0 && 128 % W_ROW == 0,
              "rows that the swizzle covers");
static_assert(WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0,
              "whole instructions, filters by pairs of them");
static_assert(X_BYTES % 128 == 0 && W_BYTES % 128 == 0, "stages keep the swizzle's alignment");
static_assert((DTYPE == DType::F32) == (MATH != Math::STRICT), "tf32 is for f32, and f32 for tf32");

static_assert(!HAS_CP_ASYNC || STAGES >= 3,
              "cp.async: one stage read, one being waited for, one in flight");
static_assert(HAS_CP_ASYNC || STAGES == 2, "through registers: one stage read, one filled");
static_assert(HAS_CP_ASYNC || DTYPE == DType::F16, "compute_75 has f16 only");

extern __shared__ __align__(128) unsigned char shared_bytes[];

typedef float MmaAcc[MMA_ROWS][MMA_COLUMNS][4];

// The lane's address for ldmatrix in rows of X_ROW or W_ROW bytes, of chunks 0 and 1: chunks 2 k
// and 2 k + 1 of the row are at that address ^ 32 k, since only k decides those bits. Pixels: rows
// 0-7 and 8-15 of the first chunk, then of the second: the order of mma's first operand.
DEVICE unsigned pixels_at(unsigned row, unsigned lane) {
    return swizzled<X_ROW>(row + lane % 16, lane / 16);
}
// Filters: rows 0-7 of the first and the second chunk, then rows 8-15: two of mma's second operand.
DEVICE unsigned filters_at(unsigned row, unsigned lane) {
    return X_BYTES + swizzled<W_ROW>(row + lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

DEVICE void clear(MmaAcc& acc) {
#pragma unroll
    for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) acc[i][j][e] = 0.0f;
}

// A scheduler maps blocks to tiles: `Scheduler::tile(args)`, read anew where it is needed, so that
// no register is held. This one: one block per unit of work, common/tile_scheduler.cuh. Where
// several groups share a tile, tiles are numbered as of one group, by their first group.
struct ConvScheduler {
    static DEVICE WorkTile tile(const TensorArgs& args) {
        WorkTile tile = work_tile(args, ctaid_x(), args.conv.by_groups.divisor);
        if (GROUPS_PER_TILE > 1) {
            tile.group = tile.m / TILE_M * GROUPS_PER_TILE;
            tile.m = 0;
        }
        return tile;
    }
};

// The first pixel and filter of the warp's part of the tile.
DEVICE int warp_row(unsigned thread) { return thread / 32 / WARPS_COLUMNS * WARP_ROWS; }
DEVICE int warp_column(unsigned thread) { return thread / 32 % WARPS_COLUMNS * WARP_COLUMNS; }
