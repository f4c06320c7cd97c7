// The common part of the warpgroups of the fused bottleneck on wgmma: the patch, the order of its
// pixels, shared memory, the filters.
//
// Patch: TILE_P x TILE_Q outputs, TILE_Q = 8: a group of eight pixels is a row of outputs. It needs
// HALO_P x HALO_Q pixels of the first intermediate (mid1), in this order (INNER of them, in groups
// of eight):
//   STRIDE 1: HALO_P rows of the columns 0 .. 7, then columns 8, 9 row by row;
//   STRIDE 2: HALO_P times the columns 0, 2 .. 14 and 1, 3 .. 15, then column 16 of all rows, then
//     pixels that do not exist.
//
// mid1 lies in shared memory three times, once for each column s of the 3x3: copy s has of each row
// the eight pixels that tap (., s) of eight outputs reads, STRIDE * q + s. So every tap's operand
// is made of whole, aligned groups of eight rows, which a matrix descriptor can address
// without a base offset.
//
// Shared memory (SHARED_BYTES, aligned to 1024), pixels and filters as rows of 128 bytes:
//   stages[STAGES][INNER]   64 channels of x of the patch's pixels
//   mid1[3][..][8]          see MID1_COPY_BYTES
//   spare[2][2][8]          where pixels go that a copy lacks
//   mid2[OUTPUTS]
//   staging[2][OUTPUTS]     64 channels of residual, then of y
//   w1[4][64]               64 channels each: c <= 256
//   w3[4][64]               64 filters each: k <= 256
//   b3[256] f32; barriers: full[STAGES], empty[STAGES], and full, empty of mid1 and mid2.
// The filters of the 3x3 pass through stages and mid1 into the registers of their warpgroup.
// Bank conflicts: rows of a matrix that ldmatrix or stmatrix moves are eight neighbours, whose
// chunks differ; but for mid1's last columns (4 of 20 groups at STRIDE 1, 2 at STRIDE 2), which lie
// 1024 bytes apart: four-fold, eight-fold.
//
// Products: filters lie along the 64 rows, pixels along the N columns (a multiple of 8):
// D[filter][pixel], value 4 * j + 2 * i + e of lane l of warp w is filter 16 * w + 8 * i + l / 4,
// pixel 8 * j + 2 * (l % 4) + e. So the filters of the 3x3 can stay in registers for good, and only
// pixels are read from shared memory. Pixels lie in shared memory as rows of 128 bytes (64
// channels), 16-byte chunk c of row r at chunk c ^ (r % 8). Eight rows (1024 bytes, aligned) are
// what a descriptor steps by; the transposing stmatrix makes such rows of accumulators, ldmatrix
// reads them.
#pragma once

#include "bottleneck/patch.cuh"
#include "common/address.cuh"
#include "common/pipeline.cuh"
#include "common/swizzle.cuh"
#include "ptx/bar.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/cvt.cuh"
#include "ptx/fence.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/setmaxnreg.cuh"
#include "ptx/stmatrix.cuh"
#include "ptx/wgmma.cuh"

constexpr int MAIN_GROUPS = HALO_P * STRIDE;
constexpr int LAST_COLUMNS = HALO_Q - 8 * STRIDE;
constexpr int PIXEL_GROUPS = MAIN_GROUPS + (HALO_P * LAST_COLUMNS + 7) / 8;
constexpr int INNER = PIXEL_GROUPS * 8;
constexpr int OUTPUTS = TILE_P * TILE_Q;
constexpr int BLOCKS = 4;  // of 64 channels of x, of 64 filters of the last 1x1, at most

constexpr int ROW_BYTES = 128;  // of 64 channels
constexpr int BLOCK_BYTES = 64 * ROW_BYTES;
constexpr int STAGE_BYTES = INNER * ROW_BYTES;
constexpr int MID1_COPY_BYTES = HALO_P * SWIZZLE_ATOM_BYTES;
// The last copy has room for the rows of column 16 that do not exist.
constexpr int MID1_BYTES = 2 * MID1_COPY_BYTES +
                           (STRIDE == 1 ? HALO_P : (PIXEL_GROUPS - MAIN_GROUPS) * 8) *
                               SWIZZLE_ATOM_BYTES;
constexpr int SPARE_BYTES = 2 * 2 * SWIZZLE_ATOM_BYTES;
constexpr int MID2_BYTES = OUTPUTS * ROW_BYTES;
constexpr int MID1_AT = STAGES * STAGE_BYTES;
constexpr int SPARE_AT = MID1_AT + MID1_BYTES;
constexpr int MID2_AT = SPARE_AT + SPARE_BYTES;
constexpr int STAGING_AT = MID2_AT + MID2_BYTES;
constexpr int W1_AT = STAGING_AT + 2 * MID2_BYTES;
constexpr int W3_AT = W1_AT + BLOCKS * BLOCK_BYTES;
constexpr int B3_AT = W3_AT + BLOCKS * BLOCK_BYTES;
constexpr int BARRIERS_AT = B3_AT + BLOCKS * 64 * 4;

// Named barriers (bar.sync): all threads; the last warpgroup.
constexpr int BLOCK_BARRIER = 1, LAST_BARRIER = 2;

static_assert(DTYPE != DType::F32, "rows of 128 bytes are 64 channels of 16 bits");
static_assert(THREADS == 4 * WARPGROUP_THREADS, "a warpgroup each: x, first 1x1, 3x3, last 1x1");
static_assert(MID_CHANNELS == 64, "rows of 128 bytes, 64 rows of a product");
static_assert((STRIDE == 1 && TILE_P % 2 == 0 && HALO_P % 8 == 0) ||
                  (STRIDE == 2 && TILE_P % 2 == 0),
              "pairs of groups");
static_assert(TILE_Q == 8 && INNER == 160 && (OUTPUTS == 112 || OUTPUTS == 32),
              "the widths of wgmma()");
static_assert(PIXEL_GROUPS % 2 == 0 && MAIN_GROUPS % 2 == 0, "stmatrix moves two groups");
static_assert(9 * BLOCK_BYTES <= MID2_AT, "the filters of the 3x3 pass through here");
static_assert(BARRIERS_AT + 8 * (2 * STAGES + 4) <= SHARED_BYTES,
              "shared memory as the catalog has it");
static_assert(VECTOR_BYTES == 16 || VECTOR_BYTES == 8,
              "cp.async of one or two groups of pixels at a time");
static_assert(STAGES >= 3, "stages to keep copies in flight");

// Shared byte addresses.
struct BottleneckShared {
    unsigned base;

    DEVICE unsigned x(int stage) const { return base + stage * STAGE_BYTES; }
    DEVICE unsigned w2(int tap) const { return base + tap * BLOCK_BYTES; }
    DEVICE unsigned mid1(int s) const { return base + MID1_AT + s * MID1_COPY_BYTES; }
    DEVICE unsigned spare(int i) const { return base + SPARE_AT + i * 2 * SWIZZLE_ATOM_BYTES; }
    DEVICE unsigned mid2() const { return base + MID2_AT; }
    DEVICE unsigned staging(int buffer) const { return base + STAGING_AT + buffer * MID2_BYTES; }
    DEVICE unsigned w1(int block) const { return base + W1_AT + block * BLOCK_BYTES; }
    DEVICE unsigned w3(int block) const { return base + W3_AT + block * BLOCK_BYTES; }
    DEVICE unsigned b3(int k) const { return base + B3_AT + k * 4; }
    DEVICE unsigned full(int stage) const { return base + BARRIERS_AT + 8 * stage; }
    DEVICE unsigned empty(int stage) const { return full(STAGES + stage); }
    DEVICE BufferBarriers mid1_barriers() const {
        return {full(2 * STAGES), full(2 * STAGES + 1), 1};
    }
    DEVICE BufferBarriers mid2_barriers() const {
        return {full(2 * STAGES + 2), full(2 * STAGES + 3), 2};
    }
};

// Elements from the first image to the patch's.
DEVICE long long image_offset(const Patch& patch, const Strides& strides) {
    return static_cast<int>(patch.image) * strides.image;
}

// Pixel `i` of group `group` of the patch: row and column, counted from the patch's first.
struct InnerPixel {
    int row, column;
    DEVICE InnerPixel(int group, int i) {
        if (group < MAIN_GROUPS) {
            row = STRIDE == 1 ? group : group / 2;
            column = STRIDE == 1 ? i : 2 * i + group % 2;
        } else {
            int rest = (group - MAIN_GROUPS) * 8 + i;
            row = STRIDE == 1 ? rest / 2 : rest;
            column = 8 * STRIDE + (STRIDE == 1 ? rest % 2 : 0);
        }
    }
    DEVICE bool in_bounds(const BottleneckArgs& args, const Patch& patch) const {
        return static_cast<unsigned>(patch.top() + row) < static_cast<unsigned>(args.h) &&
               static_cast<unsigned>(patch.left() + column) < static_cast<unsigned>(args.width);
    }
};

// A tile of 64 filters x 64 channels of a filter tensor: one 16-byte chunk per thread.
struct FilterBlock {
    const storage_t* at;    // of its first filter and channel
    int filters, channels;  // that exist, from there on
    int filter_stride, channel_stride;

    // The thread's chunk, zero beyond the filters and channels. vector: see BottleneckArgs.
    DEVICE uint4 load(bool vector) const {
        int filter = threadIdx.x / 8, channel = threadIdx.x % 8 * 8;
        const storage_t* from = at + static_cast<long long>(filter) * filter_stride +
                                static_cast<long long>(channel) * channel_stride;
        int left = filter < filters ? channels - channel : 0;
        if (vector)
            return left > 0 ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
        unsigned v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            unsigned low = ld_global_u16(from + 2 * i * channel_stride, 2 * i < left);
            v[i] = low | static_cast<unsigned>(
                             ld_global_u16(from + (2 * i + 1) * channel_stride, 2 * i + 1 < left))
                             << 16;
        }
        return make_uint4(v[0], v[1], v[2], v[3]);
    }
    static DEVICE void store(unsigned to, uint4 v) {
        st_shared_v4(to + swizzled<ROW_BYTES>(threadIdx.x / 8, threadIdx.x % 8), v);
    }
};

// Loads COUNT blocks; their loads are in flight together.
template <int COUNT, class Of>
DEVICE void fill_filters(unsigned to, bool vector, Of of) {
    uint4 v[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) v[i] = of(i).load(vector);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) FilterBlock::store(to + i * BLOCK_BYTES, v[i]);
}

DEVICE float bias_at(const void* bias, int i, int count) {
    return bias && i < count ? to_float(static_cast<const storage_t*>(bias)[i]) : 0.0f;
}

// All threads: filters and the last bias to shared memory, where the products may read them after a
// block barrier.
DEVICE void fill_all_filters(const BottleneckArgs& args, BottleneckShared shared) {
    const auto *w1 = static_cast<const storage_t*>(args.w1),
               *w2 = static_cast<const storage_t*>(args.w2);
    const auto* w3 = static_cast<const storage_t*>(args.w3);
    bool vector = args.w_vector;
    fill_filters<9>(shared.w2(0), vector, [&](int tap) {
        return FilterBlock{w2 + static_cast<long long>(tap) * args.w2_tap, args.mid_channels,
                           args.mid_channels, args.w2_k, args.w2_c};
    });
    fill_filters<BLOCKS>(shared.w1(0), vector, [&](int i) {
        return FilterBlock{w1 + static_cast<long long>(64 * i) * args.w1_c, args.mid_channels,
                           args.c - 64 * i, args.w1_k, args.w1_c};
    });
    fill_filters<BLOCKS>(shared.w3(0), vector, [&](int i) {
        return FilterBlock{w3 + static_cast<long long>(64 * i) * args.w3_k, args.k - 64 * i,
                           args.mid_channels, args.w3_k, args.w3_c};
    });
    if (threadIdx.x < BLOCKS * 64) {
        float b = bias_at(args.b3, threadIdx.x, args.k);
        st_shared_f32(shared.b3(threadIdx.x), b);
    }
    fence_proxy_async();
}

// One arrival of each warp of the warpgroup that fills or frees something.
DEVICE void start_barriers(BottleneckShared shared) {
    if (threadIdx.x == 0) {
#pragma unroll 1
        for (int i = 0; i < 2 * STAGES + 4; ++i) mbarrier_init(shared.full(i), 4);
        fence_mbarrier_init();
    }
}
// A warp's arrival at `empty` of a buffer that it has read. All its threads call it.
DEVICE void consumer_release(unsigned barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
}
// A warp's arrival at `full` of a buffer that wgmma will read. All its threads call it.
DEVICE void producer_commit(unsigned barrier) {
    fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
}
// A barrier of all threads, after the warpgroups have branched.
DEVICE void sync_block() { barrier_sync(BLOCK_BARRIER, THREADS); }
