// The common part of bottleneck/mma.cu: groups of warps, their patches, and shared memory.
//
// Patches and their halos: bottleneck/patch.cuh; halo pixels are counted row by row. A block has
// WARP_GROUPS groups of four warps. Each group takes patches of its own and has barriers of its
// own, so that one group loads and multiplies x while another is at the 3x3; the filters are
// shared.
//
// THREADS decides where the filters are. 256, two groups: RESIDENT, all of them in shared memory,
// once per block; that needs c <= MAX_C and k <= MAX_K. 128, one group: streamed for each patch: w1
// comes with x, the others through SLOTS slots.
//
// Shared memory (SHARED_BYTES, dynamic), W_ROW being min(128, MID_CHANNEL_BYTES) bytes:
//   b1[MID_CHANNELS], b2[MID_CHANNELS]                  f32, in the order of the rows of w1 and w2
//   resident: b3[MAX_K] likewise, w1[C_BLOCKS][MID_CHANNELS][128 bytes],
//             w2[9][MID_CHANNEL_BLOCKS][MID_CHANNELS][W_ROW], w3[MAX_K /
//             64][MID_CHANNEL_BLOCKS][64][W_ROW], blocks of 128 or W_ROW bytes of channels each
//   streamed: slots[SLOTS][max(MID_CHANNELS, 64)][W_ROW], blocks of w2 and w3 in the same order
//   and for each group: mid1[HALO][MID_ROW], stages[STAGES] of x[PASS_ROWS][32 bytes], streamed:
//             and w1[MID_CHANNELS][32 bytes]; 16-bit types: output[4 warps][8 pixels][64 filters]
// Rows of filters and of x are swizzled (common/swizzle.cuh): ldmatrix's eight rows are neighbours
// there. In mid1 they are not: eight neighbouring outputs read halo pixels that lie STRIDE apart
// and jump from row to row of the patch. So chunk c of a halo pixel lies at c ^ key, where the key
// counts outputs: a tap adds the same number to the keys of all outputs, so the keys of eight
// neighbouring outputs are eight different numbers modulo 8 at every tap.
#pragma once

#include "bottleneck/patch.cuh"
#include "common/swizzle.cuh"
#include "mma/operand.cuh"
#include "ptx/bar.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/ld_st.cuh"

extern __shared__ __align__(128) unsigned char shared_bytes[];

constexpr __host__ DEVICE int ceil_div(int n, int by) { return (n + by - 1) / by; }

constexpr int GROUP_WARPS = 4;
constexpr int GROUP_THREADS = GROUP_WARPS * 32;
constexpr int WARP_GROUPS = THREADS / GROUP_THREADS;
constexpr bool RESIDENT = WARP_GROUPS > 1;

constexpr int HALO = HALO_P * HALO_Q;
constexpr int PIXELS = TILE_P * TILE_Q;

constexpr int MID_CHANNEL_BYTES = MID_CHANNELS * ELEMENT_BYTES;
constexpr int MID_CHUNKS = MID_CHANNEL_BYTES / 16;
constexpr int W_BLOCK_ROW = MID_CHANNEL_BYTES < 128 ? MID_CHANNEL_BYTES : 128;
constexpr int MID_CHANNEL_BLOCKS = MID_CHANNEL_BYTES / W_BLOCK_ROW;
constexpr int MID_ROW = MID_CHANNEL_BYTES < 128 ? 128 : MID_CHANNEL_BYTES;
constexpr int SPREAD = MID_ROW / MID_CHANNEL_BYTES;  // a short row's chunks lie that far apart

// The first product: the halo's pixels by MID_CHANNELS channels, in passes of PASS_ROWS pixels,
// shared out among the group's warps.
constexpr int FIRST_COLUMN_WARPS = MID_CHUNKS >= 8 ? 2 : 1;
constexpr int FIRST_ROW_WARPS = GROUP_WARPS / FIRST_COLUMN_WARPS;
constexpr int FIRST_COLUMNS = MID_CHANNELS / 8 / FIRST_COLUMN_WARPS;  // of 8 channels, a warp
// Of 16 pixels, a warp.
constexpr int HALO_BLOCKS = ceil_div(HALO, 16 * FIRST_ROW_WARPS);
// At most: its registers hold the accumulators of so many.
constexpr int MAX_BLOCKS = FIRST_COLUMNS < 4 ? 6 : 24 / FIRST_COLUMNS;
constexpr int PASSES = ceil_div(HALO_BLOCKS, MAX_BLOCKS);
constexpr int FIRST_BLOCKS = ceil_div(HALO_BLOCKS, PASSES);  // of a pass
constexpr int PASS_ROWS = FIRST_BLOCKS * 16 * FIRST_ROW_WARPS;

// The others: a warp has whole rows of channels of its pixels.
constexpr int PIXEL_BLOCKS = ceil_div(PIXELS, 16);
// The last warp may have fewer.
constexpr int WARP_BLOCKS = ceil_div(PIXEL_BLOCKS, GROUP_WARPS);
constexpr int LAST_BLOCKS = PIXEL_BLOCKS - WARP_BLOCKS * (GROUP_WARPS - 1);
constexpr int MID_COLUMNS = MID_CHANNELS / 8;

constexpr int STEP_BYTES = 32;           // of channels of x that a step takes: one instruction's
constexpr int MAX_C = 256, MAX_K = 256;  // what the resident filters leave room for
constexpr int BLOCK_K = 64;              // filters of w3 in one go
constexpr int C_BLOCKS = MAX_C * ELEMENT_BYTES / 128;
constexpr int STEPS_PER_BLOCK = 128 / STEP_BYTES;

constexpr int W1_BLOCK_BYTES = MID_CHANNELS * 128;
constexpr int W2_BLOCK_BYTES = MID_CHANNELS * W_BLOCK_ROW;
constexpr int W2_TAP_BYTES = MID_CHANNEL_BLOCKS * W2_BLOCK_BYTES;
constexpr int W3_BLOCK_BYTES = BLOCK_K * W_BLOCK_ROW;
constexpr int SLOTS = 3;
constexpr int SLOT_BYTES = W2_BLOCK_BYTES > W3_BLOCK_BYTES ? W2_BLOCK_BYTES : W3_BLOCK_BYTES;

constexpr int B1_AT = 0;
constexpr int B2_AT = B1_AT + MID_CHANNELS * 4;
constexpr int B3_AT = B2_AT + MID_CHANNELS * 4;
// streamed: the slots.
constexpr int W1_AT = (B3_AT + (RESIDENT ? MAX_K * 4 : 0) + 255) / 256 * 256;
constexpr int W2_AT = W1_AT + (RESIDENT ? C_BLOCKS * W1_BLOCK_BYTES : 0);
constexpr int W3_AT = W2_AT + (RESIDENT ? 9 * W2_TAP_BYTES : 0);
constexpr int GROUPS_AT = RESIDENT ? W3_AT + MAX_K / BLOCK_K * MID_CHANNEL_BLOCKS * W3_BLOCK_BYTES
                                   : W1_AT + SLOTS * SLOT_BYTES;
constexpr int MID_BYTES = HALO * MID_ROW;
constexpr int W1_STAGE_AT = PASS_ROWS * STEP_BYTES;
constexpr int INPUT_STAGE_BYTES = W1_STAGE_AT + (RESIDENT ? 0 : MID_CHANNELS * STEP_BYTES);
constexpr int STAGES_AT = (MID_BYTES + 255) / 256 * 256;  // in the group's part
constexpr int OUTPUT_AT = STAGES_AT + STAGES * INPUT_STAGE_BYTES;
// Of a warp: eight pixels.
constexpr int OUTPUT_BYTES = ELEMENT_BYTES == 2 ? 8 * BLOCK_K * ELEMENT_BYTES : 0;
constexpr int GROUP_BYTES = OUTPUT_AT + GROUP_WARPS * OUTPUT_BYTES;

static_assert(MATH != Math::TF32X3, "tf32x3 has no room");
static_assert(LAYOUT_NHWC, "pixels are rows");
static_assert(THREADS % GROUP_THREADS == 0, "whole groups");
static_assert(MID_CHUNKS == 4 || MID_CHUNKS == 8 || MID_CHUNKS == 16,
              "how lanes share the channels of mid1");
static_assert(LAST_BLOCKS >= 1, "no warp is idle");
static_assert(SHARED_BYTES >= GROUPS_AT + WARP_GROUPS * GROUP_BYTES, "everything fits");

// The number added to the key of an output where it reads halo pixel (row, column) of its own 3x3;
// also the key of a halo pixel, counted from the patch's first.
constexpr DEVICE int key_of(int row, int column) {
    return STRIDE == 1 ? row * TILE_Q + column : row / 2 * TILE_Q + column / 2 + column % 2;
}

// Barrier of the group's four warps; 0 is __syncthreads'.
DEVICE void group_barrier(int group) { bar_sync<GROUP_THREADS>(group + 1); }

// A mask of a word's valid elements: channel `first`, and for 16-bit types the next in the upper
// half.
DEVICE unsigned valid_mask(int first, int channels) {
    if (ELEMENT_BYTES == 4) return first < channels ? 0xffffffffu : 0u;
    return (first < channels ? 0xffffu : 0u) | (first + 1 < channels ? 0xffff0000u : 0u);
}
