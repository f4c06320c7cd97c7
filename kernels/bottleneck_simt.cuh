// What the parts of bottleneck_simt.cu share: the geometry of a tile, where everything lies in shared memory, copies.
//
// Lanes are pixels and warps are channels: warp w of the 8 owns channels [w * MID, (w + 1) * MID) of both intermediates, and 8
// channels of each 64 of the output; its lanes share out the pixels. The operand that comes from filters is then one address
// for the whole warp (a broadcast), the one that comes from pixels consecutive words.
//
// Words of a tile, all f32:
//   halo     HALO_P x HALO_Q pixels of mid1 that the tile's outputs look at. Kept as HALO_P rows of MID_Q, of which column 0 is
//            image column q0 * STRIDE - LEFT (VECTOR 16: LEFT = 2, so that pairs of pixels are aligned in the stage as well)
//   stage 1  x[STEP_1][X_PITCH], w[STEP_1][W1_PITCH]: a step of channels of x over the halo (rows of X_Q, from column
//            q0 * STRIDE - X_LEFT on), filters beside them
//   stage 2  w[STEP_2][9][W2_PITCH]; stage 3: w[STEP_3][W3_PITCH]
//   mid1     [HALO_P][NARROW][MID_Q], rows MID_ROW apart; mid2: [NARROW][OUT], OUT = TILE_P * TILE_Q
//
// Shared memory, bytes in this order:
//   area A   mid1; before it the stages of phase 1, after it mid2: the sums of a phase are in registers until every warp has
//            left it, so what it reads may be overwritten
//   area B   the stages of phases 2 and 3, which are filled while area A is in use
//   places   VECTOR 4: where each pixel of the halo lies in x
#pragma once

#include "bottleneck_args.cuh"
#include "common.cuh"

constexpr int WARPS = 8;
constexpr int MID = NARROW / WARPS;  // channels of an intermediate that a warp owns
constexpr int LAST = 8;              // channels of y that a warp owns of a chunk
constexpr int CHUNK = WARPS * LAST;

constexpr int HALO_P = (TILE_P - 1) * STRIDE + 3;
constexpr int HALO_Q = (TILE_Q - 1) * STRIDE + 3;
constexpr int OUT = TILE_P * TILE_Q;
constexpr int LANE_OUT = OUT / 32;  // output pixels a lane: neighbours in a row (phase 2)
constexpr int ROW_LANES = TILE_Q / LANE_OUT;

constexpr int round_up(int value, int to, int rest = 0) { return (value - rest + to - 1) / to * to + rest; }
constexpr int larger(int a, int b) { return a > b ? a : b; }

constexpr bool WIDE = VECTOR == 16;  // x is copied four pixels at a time
constexpr int LEFT = WIDE ? 2 : 1;
constexpr int MID_Q = round_up(LEFT - 1 + HALO_Q, 2);
constexpr int X_LEFT = WIDE ? 4 : LEFT;
constexpr int X_Q = WIDE ? round_up(X_LEFT - 1 + HALO_Q, 4) : MID_Q;
constexpr int PAIRS = HALO_P * MID_Q / 2;
constexpr int LANE_PAIRS = (PAIRS + 31) / 32;  // pairs of neighbours in the halo that a lane has in phase 1

constexpr int STEP_1 = WIDE ? 16 : 8, STEP_2 = 4, STEP_3 = 16;  // channels a step; wide copies are few enough for 16
// Fills of x from NHWC: a warp writes 4 channels of 8 pixels, so 8 modulo 32 words; from NCHW rows of consecutive words.
constexpr int X_PITCH = LAYOUT_NHWC ? round_up(HALO_P * X_Q, 32, 8) : HALO_P * X_Q;
// Fills of filters: a warp writes 8 channels of 4 filters (stages 1 and 3: 4 modulo 32 words, or 20 where NARROW is 16), or 4
// channels of 8 filters (stage 2: channels are 9 pitches apart, 8 or 24 modulo 32 words).
constexpr int W1_PITCH = NARROW + 4, W2_PITCH = NARROW + 8, W3_PITCH = CHUNK + 4;
// Lanes of different rows must not meet in a bank when they read mid1, see phase 2.
constexpr int MID_ROW = NARROW * MID_Q + (LANE_OUT == 7 ? 4 : 8);

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

constexpr int MIDDLES = 4 * larger(HALO_P * MID_ROW, NARROW * OUT);
constexpr int AREA_A = round_up(larger(MIDDLES, STAGES * static_cast<int>(sizeof(Stage1))), 16);
constexpr int AREA_B = STAGES * static_cast<int>(larger(sizeof(Stage2), sizeof(Stage3)));
constexpr int PLACES = WIDE ? 0 : HALO_P * X_Q;

static_assert(THREADS == 32 * WARPS, "warps own channels");
static_assert(NARROW == 16 || NARROW == 32 || NARROW == 64, "a warp owns 2, 4 or 8 channels, which are one or two accesses");
static_assert(OUT % 32 == 0 && TILE_Q % LANE_OUT == 0, "a lane's outputs lie in one row");
static_assert(STRIDE == 1 || STRIDE == 2, "of the 3x3");
static_assert(KERNEL_DTYPE == 0 && KERNEL_MATH == 0, "f32 as it is");
static_assert(VECTOR == 4 || (VECTOR == 16 && !LAYOUT_NHWC && TILE_Q * STRIDE % 4 == 0), "four pixels are neighbours in NCHW");
static_assert(X_Q >= X_LEFT - LEFT + MID_Q, "the stage has all columns of the halo");
static_assert(WIDE || STEP_1 == WARPS, "from NCHW a warp fills a channel, from NHWC 4 + 4");
static_assert(STAGES >= 2, "one stage read, the others filled");
static_assert(SHARED_BYTES == AREA_A + AREA_B + 4 * PLACES, "src/catalog/bottleneck.rs: cores_shared");

// Read anew at each use: kept through a tile, what follows from it would take registers from the sums.
DEVICE int thread_index() {
    int index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}
DEVICE int lane_index() { return thread_index() % 32; }
DEVICE int warp_index() { return thread_index() / 32; }

// -----------------------------------------------------------------------------------------------------------------
// Copies to shared memory

#if __CUDA_ARCH__ >= 800
#define ASYNC_COPY 1
#else
#define ASYNC_COPY 0
#endif

typedef unsigned long long address_t;  // a byte address in global memory

DEVICE address_t global_address(const void* pointer) {
    return static_cast<address_t>(__cvta_generic_to_global(pointer));
}
DEVICE unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
// The address `count` elements further on.
DEVICE address_t further(address_t base, int count) {
    return base + static_cast<long long>(count) * 4;
}

// Copies one f32; where it does not exist, nothing is read and a zero is written. compute_75 has no copies behind the back of
// a thread: there it is made at once, and a stage is as well visible to others after the next barrier.
DEVICE void copy4(unsigned to, address_t from, bool exists) {
#if ASYNC_COPY
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(exists ? 4 : 0) : "memory");
#else
    asm volatile(
        "{.reg .pred p; .reg .b32 v; setp.ne.s32 p, %2, 0; mov.b32 v, 0; @p ld.global.b32 v, [%1]; st.shared.b32 [%0], v;}"
        :: "r"(to), "l"(from), "r"(static_cast<int>(exists))
        : "memory");
#endif
}
#if ASYNC_COPY
DEVICE void copy16(unsigned to, address_t from, bool exists) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
}
#endif

// Closes the stage that this thread filled.
DEVICE void commit() {
#if ASYNC_COPY
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until the oldest stage in flight is there: STAGES - 2 later ones may still be under way.
DEVICE void wait_for_stage() {
#if ASYNC_COPY
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
#endif
}
// Waits for all of them: zeros may be on their way to stages past the last step, into words that something else takes over.
DEVICE void wait_for_all() {
#if ASYNC_COPY
    asm volatile("cp.async.wait_group 0;" ::: "memory");
#endif
}

// WIDTH consecutive words of shared memory, in the widest accesses that their alignment (ALIGN words) allows.
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

// Where a tile lies. Worked out anew wherever it is asked for, so that a phase keeps the index alone.
struct Tile {
    unsigned image;
    int p0, q0;  // its first output row, column

    DEVICE Tile(const BottleneckArgs& args, unsigned index) {
        asm volatile("" : "+r"(index));  // or the compiler finds that it has been done before, and keeps it
        image = fast_div(index, args.by_tiles_image);
        unsigned rest = index - image * args.by_tiles_image.divisor;
        unsigned row = fast_div(rest, args.by_tiles_q);
        p0 = row * TILE_P;
        q0 = (rest - row * args.tiles_q) * TILE_Q;
    }
};
