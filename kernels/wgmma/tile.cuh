// The common part of the two wgmma kernels: tile, shared memory, work and pipeline stages.
//
// Orientation: the 64-row side of wgmma ("rows") is pixels for NHWC and filters for NCHW, the other
// side ("columns") filters and pixels: a row of accumulators is then contiguous in y. Both operands
// lie in shared memory with the channels of a pixel or filter in a row, so the main loop is the
// same.
//
// Block: CONSUMERS warpgroups that compute, then PRODUCERS that load x and w. Rows are
// divided among the consumers: consumer i has ROW_TILES times 64 rows from i * CONSUMER_ROWS on.
//
// Shared memory (SHARED_BYTES, aligned to SWIZZLE_ATOM_BYTES):
//   stages[STAGES] of x[STEPS_PER_STAGE][TILE_N][TILE_K], w[STEPS_PER_STAGE][TILE_M][TILE_K],
//     swizzled, 128 bytes of each row in all:
//     of channel blocks of 64 or 32 bytes, several taps per stage;
//   staging[CONSUMERS][2] of 64 rows x 128 bytes, swizzled: for the epilogue;
//   bias[CONSUMERS][TILE_M] f32 (NHWC);
//   pixels[PRODUCERS][TILE_N] (wgmma/gather.cu);
//   barriers: full[STAGES], empty[STAGES], residual[CONSUMERS][2]; a word.
#pragma once

#include "common/address.cuh"
#include "common/pipeline.cuh"
#include "common/tile_scheduler.cuh"
#include "ptx/bar.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/fence.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/setmaxnreg.cuh"
#include "ptx/wgmma.cuh"
#include "wgmma/args.cuh"

constexpr int ROW_BYTES = TILE_K * ELEMENT_BYTES;
constexpr int STEPS_PER_STAGE = 128 / ROW_BYTES;
constexpr int X_STEP_BYTES = TILE_N * ROW_BYTES;
constexpr int W_STEP_BYTES = TILE_M * ROW_BYTES;
constexpr int STEP_BYTES = X_STEP_BYTES + W_STEP_BYTES;
constexpr int STAGE_BYTES = STEPS_PER_STAGE * STEP_BYTES;

constexpr int ROWS = LAYOUT_NHWC ? TILE_N : TILE_M;
constexpr int COLUMNS = LAYOUT_NHWC ? TILE_M : TILE_N;
constexpr int CONSUMERS = ROWS > 64 ? 2 : 1;
constexpr int CONSUMER_THREADS = CONSUMERS * WARPGROUP_THREADS;
constexpr int PRODUCERS = THREADS / WARPGROUP_THREADS - CONSUMERS;
constexpr int CONSUMER_ROWS = ROWS / CONSUMERS;
constexpr int ROW_TILES = CONSUMER_ROWS / 64;

constexpr int STAGING_BYTES = 64 * 128;
constexpr int STAGING_AT = STAGES * STAGE_BYTES;
constexpr int BIAS_AT = STAGING_AT + CONSUMERS * 2 * STAGING_BYTES;
constexpr int PIXELS_AT = BIAS_AT + CONSUMERS * TILE_M * 4;
// Of wgmma/gather.cu, where VECTOR_BYTES is the size of its copies; TMA has no table.
constexpr int PIXEL_BYTES = VECTOR_BYTES > 0 ? 16 : 0;
constexpr int BARRIERS_AT = PIXELS_AT + PRODUCERS * TILE_N * PIXEL_BYTES;
constexpr int BARRIERS = 2 * STAGES + 2 * CONSUMERS;

// Named barriers (bar.sync): all consumers; each consumer; each producer.
constexpr int CONSUMERS_BARRIER = 1, CONSUMER_BARRIER = 2, PRODUCER_BARRIER = 4;

static_assert(ROW_BYTES == 128 || ROW_BYTES == 64 || ROW_BYTES == 32, "rows as wide as a swizzle");
static_assert(X_STEP_BYTES % SWIZZLE_ATOM_BYTES == 0 && W_STEP_BYTES % SWIZZLE_ATOM_BYTES == 0,
              "operands start where the swizzle's pattern does");
static_assert(PRODUCERS >= 1 && THREADS % WARPGROUP_THREADS == 0, "whole warpgroups");
static_assert(CONSUMERS * ROW_TILES * 64 == ROWS, "rows are divided among the consumers");
static_assert(COLUMNS == 64 || COLUMNS == 128 || COLUMNS == 256, "the widths of wgmma()");
static_assert(BARRIERS_AT + 8 * (BARRIERS + 1) <= SHARED_BYTES && BARRIERS_AT % 8 == 0,
              "shared memory as the catalog has it");
static_assert(TILE_M <= 256 && TILE_N <= 256, "at most 256 elements per dimension of a TMA box");

// Registers per thread: those of the launch, and their distribution to the warpgroups by
// setmaxnreg.
constexpr int registers_down(int registers, int most) {
    return (registers < most ? registers : most) / 8 * 8;
}
constexpr int LAUNCH_REGISTERS = registers_down(SM_REGISTERS / (THREADS * MIN_BLOCKS), 255);
// Registers left for a consumer if each producer keeps KEPT.
template <int KEPT>
constexpr int CONSUMER_REGISTERS = registers_down(
    (LAUNCH_REGISTERS * (CONSUMERS + PRODUCERS) - KEPT * PRODUCERS) / CONSUMERS, 240);

// Shared byte addresses.
struct WgmmaShared {
    unsigned base;

    DEVICE unsigned x(int stage) const { return base + stage * STAGE_BYTES; }
    DEVICE unsigned w(int stage) const { return x(stage) + STEPS_PER_STAGE * X_STEP_BYTES; }
    DEVICE unsigned staging(int consumer, int buffer) const {
        return base + STAGING_AT + (2 * consumer + buffer) * STAGING_BYTES;
    }
    DEVICE unsigned bias(int consumer) const { return base + BIAS_AT + consumer * (TILE_M * 4); }
    DEVICE unsigned pixels(int producer) const {
        return base + PIXELS_AT + producer * (TILE_N * PIXEL_BYTES);
    }
    DEVICE unsigned full(int stage) const { return base + BARRIERS_AT + 8 * stage; }
    DEVICE unsigned empty(int stage) const { return full(STAGES + stage); }
    DEVICE unsigned residual(int consumer, int buffer) const {
        return full(2 * STAGES + 2 * consumer + buffer);
    }
    // A word: 1 if this block adds up the partial tiles.
    DEVICE unsigned last_split() const { return full(BARRIERS); }
};

// The unit of work `unit`: its tile, and the split of it.
DEVICE WorkTile work_tile(const WgmmaArgs& args, unsigned unit) {
    return work_tile(args.tensor, unit, args.tensor.conv.groups);
}
// Its steps of gemm_k.
DEVICE KRange k_range(const WgmmaArgs& args, const WorkTile& work) {
    int first = work.split * args.tensor.steps_per_split;
    return {first, min(args.tensor.steps, first + args.tensor.steps_per_split)};
}

// A step of the sum: a block of channels and a tap of the filter.
struct WgmmaKIterator {
    int channel;  // first channel, counted in the group
    int tap, r, s;

    DEVICE WgmmaKIterator(const WgmmaArgs& args, int step) {
        const ConvArgs& conv = args.tensor.conv;
        unsigned block = fast_div(step, args.by_taps);
        channel = block * TILE_K;
        tap = step - block * (conv.r * conv.s);
        r = fast_div(tap, args.by_s);
        s = tap - r * conv.s;
    }
    DEVICE void next(const ConvArgs& conv) {
        ++tap;
        if (++s == conv.s) {
            s = 0;
            if (++r == conv.r) {
                r = tap = 0;
                channel += TILE_K;
            }
        }
    }
};
