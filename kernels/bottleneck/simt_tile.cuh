// The common part of bottleneck/simt.cu: the geometry of a tile, the layout of
// shared memory, copies.
//
// Lanes are pixels and warps are channels: warp w of the 8 owns channels [w * MID, (w + 1) * MID)
// of both intermediates, and 8 channels of each 64 of the output; its lanes divide the pixels.
// The operand that comes from filters is then one address for the whole warp (a broadcast), the one
// that comes from pixels consecutive words.
//
// Words of a tile, all f32:
//   halo     HALO_P x HALO_Q pixels of mid1 that the tile's outputs read. Kept as HALO_P rows
//            of MID_Q, of which column 0 is
//            image column q0 * STRIDE - LEFT (VECTOR_BYTES 16: LEFT = 2, so that pairs of pixels
//              are aligned in the stage as well)
//   stage 1  x[STEP_1][X_PITCH], w[STEP_1][W1_PITCH]: a step of channels of x over the halo (rows
//            of X_Q, from column
//            q0 * STRIDE - X_LEFT on), filters beside them
//   stage 2  w[STEP_2][9][W2_PITCH]; stage 3: w[STEP_3][W3_PITCH]
//   mid1     [HALO_P][MID_CHANNELS][MID_Q], rows MID_ROW apart; mid2: [MID_CHANNELS][OUT], OUT =
//            TILE_P * TILE_Q
//
// Shared memory, bytes in this order:
//   area A   mid1; before it the stages of phase 1, after it mid2: the accumulators of a phase are
//            in
//            registers until every warp has
//            left it, so what it reads may be overwritten
//   area B   the stages of phases 2 and 3, which are filled while area A is in use
//   places   VECTOR_BYTES 4: where each pixel of the halo lies in x
#pragma once

#include "bottleneck/patch.cuh"
#include "common/address.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/special_registers.cuh"

constexpr int WARPS = 8;
constexpr int MID = MID_CHANNELS / WARPS;  // channels of an intermediate that a warp owns
constexpr int LAST = 8;                    // channels of y that a warp owns of a chunk
constexpr int CHUNK = WARPS * LAST;

constexpr int OUT = TILE_P * TILE_Q;
constexpr int LANE_OUT = OUT / 32;  // output pixels per lane: neighbours in a row (phase 2)
constexpr int ROW_LANES = TILE_Q / LANE_OUT;

constexpr int round_up(int value, int to, int rest = 0) {
    return (value - rest + to - 1) / to * to + rest;
}
constexpr int larger(int a, int b) { return a > b ? a : b; }

constexpr bool X_BY_FOURS = VECTOR_BYTES == 16;  // x is copied four pixels at a time
constexpr int LEFT = X_BY_FOURS ? 2 : 1;
constexpr int MID_Q = round_up(LEFT - 1 + HALO_Q, 2);
constexpr int X_LEFT = X_BY_FOURS ? 4 : LEFT;
constexpr int X_Q = X_BY_FOURS ? round_up(X_LEFT - 1 + HALO_Q, 4) : MID_Q;
constexpr int PAIRS = HALO_P * MID_Q / 2;
// Pairs of neighbours in the halo that a lane has in phase 1.
constexpr int LANE_PAIRS = (PAIRS + 31) / 32;

// Channels per step; wide copies are few enough for 16.
constexpr int STEP_1 = X_BY_FOURS ? 16 : 8, STEP_2 = 4, STEP_3 = 16;
// Fills of x from NHWC: a warp writes 4 channels of 8 pixels, so 8 modulo 32 words; from NCHW rows
// of consecutive words.
constexpr int X_PITCH = LAYOUT_NHWC ? round_up(HALO_P * X_Q, 32, 8) : HALO_P * X_Q;
// Fills of filters: a warp writes 8 channels of 4 filters (stages 1 and 3: 4 modulo 32 words, or 20
// where MID_CHANNELS is 16), or 4 channels of 8 filters (stage 2: channels are 9 pitches apart, 8
// or 24 modulo 32 words).
constexpr int W1_PITCH = MID_CHANNELS + 4, W2_PITCH = MID_CHANNELS + 8, W3_PITCH = CHUNK + 4;
// Lanes of different rows must not share a bank when they read mid1, see phase 2.
constexpr int MID_ROW = MID_CHANNELS * MID_Q + (LANE_OUT == 7 ? 4 : 8);

struct alignas(16) Stage1 {
    float x[STEP_1][X_PITCH];
    float w[STEP_1][W1_PITCH];
};
struct alignas(16) Stage2 {
    float w[STEP_2][9][W2_PITCH];
};
struct alignas(16) Stage3 {
    float w[STEP_3][W3_PITCH];
};

constexpr int MIDDLES = 4 * larger(HALO_P * MID_ROW, MID_CHANNELS* OUT);
constexpr int AREA_A = round_up(larger(MIDDLES, STAGES* static_cast<int>(sizeof(Stage1))), 16);
constexpr int AREA_B = STAGES * static_cast<int>(larger(sizeof(Stage2), sizeof(Stage3)));
constexpr int PLACES = X_BY_FOURS ? 0 : HALO_P * X_Q;

static_assert(THREADS == 32 * WARPS, "warps own channels");
static_assert(MID_CHANNELS == 16 || MID_CHANNELS == 32 || MID_CHANNELS == 64,
              "a warp owns 2, 4 or 8 channels, which are one or two accesses");
static_assert(OUT % 32 == 0 && TILE_Q % LANE_OUT == 0, "a lane's outputs lie in one row");
static_assert(DTYPE == DType::F32 && MATH == Math::STRICT, "f32 as it is");
static_assert(VECTOR_BYTES == 4 || (VECTOR_BYTES == 16 && !LAYOUT_NHWC && TILE_Q * STRIDE % 4 == 0),
              "four pixels are neighbours in NCHW");
static_assert(X_Q >= X_LEFT - LEFT + MID_Q, "the stage has all columns of the halo");
static_assert(X_BY_FOURS || STEP_1 == WARPS, "from NCHW a warp fills a channel, from NHWC 4 + 4");
static_assert(STAGES >= 2, "one stage read, the others filled");
static_assert(SHARED_BYTES == AREA_A + AREA_B + 4 * PLACES, "src/kernels/bottleneck/entries.rs");

// Read anew at each use: kept through a tile, what follows from it would take registers from the
// accumulators.
DEVICE int thread_index() { return static_cast<int>(tid_x()); }
DEVICE int lane_index() { return thread_index() % 32; }
DEVICE int warp_index() { return thread_index() / 32; }

// -------------------------------------------------------------------------------------------------
// Copies to shared memory

// The address `count` elements further on.
DEVICE address_t further(address_t base, int count) {
    return base + static_cast<long long>(count) * 4;
}

// Copies one f32; where it is not valid, nothing is read and a zero is written. compute_75 has no
// cp.async: there the thread copies at once, and a stage is as well visible to others after the
// next barrier.
DEVICE void copy_f32(unsigned to, address_t from, bool valid) {
    if constexpr (HAS_CP_ASYNC)
        cp_async<4>(to, from, valid);
    else
        ld_global_st_shared_b32(to, from, valid);
}

// Closes the stage that this thread filled.
DEVICE void commit() {
    if constexpr (HAS_CP_ASYNC) cp_async_commit_group();
}
// Waits until the oldest stage in flight is there: STAGES - 2 later ones may still be under way.
DEVICE void wait_for_stage() {
    if constexpr (HAS_CP_ASYNC) cp_async_wait_group<STAGES - 2>();
}
// Waits for all of them: zeros may be on their way to stages past the last step, into words that
// something else takes over.
DEVICE void wait_for_all() {
    if constexpr (HAS_CP_ASYNC) cp_async_wait_group<0>();
}

// WIDTH consecutive words of shared memory, in the widest accesses that their alignment (ALIGN
// words) allows.
template <int WIDTH, int ALIGN>
DEVICE void load_row(float* to, const float* from) {
    constexpr int FOURS = ALIGN % 4 == 0 ? WIDTH / 4 : 0;
    constexpr int TWOS = ALIGN % 2 == 0 ? (WIDTH - 4 * FOURS) / 2 : 0;
#pragma unroll
    for (int i = 0; i < FOURS; ++i) {
        float4 v = *reinterpret_cast<const float4*>(from + 4 * i);
        to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
    }
#pragma unroll
    for (int i = 4 * FOURS; i < 4 * FOURS + 2 * TWOS; i += 2) {
        float2 v = *reinterpret_cast<const float2*>(from + i);
        to[i] = v.x, to[i + 1] = v.y;
    }
#pragma unroll
    for (int i = 4 * FOURS + 2 * TWOS; i < WIDTH; ++i) to[i] = from[i];
}

// The patch with number `index`, computed again at each use, so that a phase keeps the index alone:
// the compiler cannot reuse an earlier one.
DEVICE Patch patch_again(const BottleneckArgs& args, unsigned index) {
    asm volatile("" : "+r"(index));
    return Patch(args, index);
}
