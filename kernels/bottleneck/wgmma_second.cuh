// The second half of the fused bottleneck on wgmma: the warpgroup of the 3x3, and the one of the
// last 1x1 that writes y.
#pragma once

#include "bottleneck/wgmma_tile.cuh"

// Lane l's address for stmatrix_x4_trans and ldmatrix_x4_trans of two groups of pixels, 16 filters
// of its warp:
// pixel l % 8 of group l / 16.
DEVICE unsigned pair_at(int thread) {
    unsigned lane = thread % 32;
    return lane / 16 * 1024 + swizzled<128>(lane % 8, thread / 32 * 2 + lane / 8 % 2);
}

// mid2 = relu(w2 * mid1 + b2) of a patch; w2 stays in registers.
struct Second {
    const BottleneckArgs& args;
    Shared shared;
    int thread;
    float bias[2];       // of the thread's filters
    unsigned phase = 0;  // of mid1 and mid2

    DEVICE void load_w2(unsigned (&w)[9][4][4]) const {
        unsigned lane = thread % 32, filter = thread / 32 * 16 + lane % 16;
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                ldmatrix_x4(w[tap][k], shared.w2(tap) + swizzled<128>(filter, 2 * k + lane / 16));
    }
    DEVICE void multiply(float (&acc)[OUTPUTS / 2], const unsigned (&w)[9][4][4]) const {
        unsigned long long b = wgmma_descriptor_stride(wgmma_descriptor(shared.mid1(0), 128),
                                                       STRIDE * 1024);
        wgmma_fence();
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                wgmma(acc, w[tap][k], b + (tap % 3 * COPY_BYTES + tap / 3 * 1024) / 16 + 2 * k,
                      tap > 0 || k > 0);
        wgmma_commit_group();
    }
    DEVICE void store(const float (&acc)[OUTPUTS / 2]) const {
        unsigned to = shared.mid2() + pair_at(thread);
#pragma unroll
        for (int group = 0; group < OUTPUTS / 8; group += 2) {
            unsigned v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* s = acc + 4 * group + 2 * i;
                v[i] = cvt_rn_relu_x2(s[0] + bias[i % 2], s[1] + bias[i % 2]);
            }
            stmatrix_x4_trans(to + group * 1024, v);
        }
    }

    DEVICE void run(const unsigned (&w)[9][4][4]) {
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            float acc[OUTPUTS / 2];
            mbarrier_wait(shared.mid1_full(), phase);
            multiply(acc, w);
            wgmma_wait_group<0>();
            warp_arrive(shared.mid1_empty());
            wgmma_fence_operand(acc);
            mbarrier_wait(shared.mid2_empty(), phase ^ 1);
            phase ^= 1;
            store(acc);
            warp_arrive_written(shared.mid2_full());
        }
    }
};

// y = act(w3 mid2 + b3 + residual) of a patch, 64 filters at a time.
//
// The residual of the next 64 filters comes into one staging buffer while those of this time pass
// through the other: residual, then y as stored, then rows of 128 bytes to memory, while the next
// products are under way.
// Barriers of the warpgroup, each time: one when the residual has come for all (and y of the time
// before has left the other buffer), one when y is there.
struct Last {
    const BottleneckArgs& args;
    Shared shared;
    int thread;
    unsigned phase = 0;  // of mid2
    int buffer = 0;

    static constexpr int GROUPS_OUT = OUTPUTS / 8;
    DEVICE void bar_sync() const { barrier_sync(2, 128); }

    // Lanes along channels, four each; threads 16 i .. 16 i + 15 have pixel i of each group.
    DEVICE int channel() const { return thread % 16 * 4; }
    DEVICE unsigned staged(int buffer) const {
        return shared.staging(buffer) + swizzled<128>(thread / 16, thread % 16 / 2) +
               thread % 2 * 8;
    }
    // Where the thread's pixels of a patch are: its first channels of the first group, and how many
    // groups have one.
    struct Place {
        const storage_t* residual;
        storage_t* y;
        int rows;
    };
    DEVICE Place place(unsigned tile) const {
        Patch patch(args, tile);
        int column = patch.q + thread / 16;
        long long first = static_cast<long long>(patch.p) * args.q + column;
        long long residual = patch.image * args.residual_strides.image +
                             first * args.residual_strides.pixel + channel();
        long long y = patch.image * args.y_strides.image + first * args.y_strides.pixel + channel();
        return Place{static_cast<const storage_t*>(args.residual) + residual,
                     static_cast<storage_t*>(args.y) + y,
                     column < args.q ? min(GROUPS_OUT, args.p - patch.p) : 0};
    }

    DEVICE void fetch_residual(const Place& place, int block, int buffer) const {
        int left = args.k - 64 * block - channel(), exist = left > 0 ? place.rows : 0;
        const storage_t* from = place.residual + 64 * block;
        unsigned to = staged(buffer);
        long long row = static_cast<long long>(args.q) * args.residual_strides.pixel;
        if (args.y_vector) {
#pragma unroll
            for (int group = 0; group < GROUPS_OUT; ++group, from += row)
                cp_async_zfill<8>(to + group * 1024, from, group < exist ? 8 : 0);
        } else {
#pragma unroll 1
            for (int group = 0; group < GROUPS_OUT; ++group, from += row)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    unsigned short value = ld_global_u16(from + i, group < exist && i < left);
                    st_shared_u16(to + group * 1024 + 2 * i, value);
                }
        }
        cp_async_commit_group();
    }

    // One group of products; their operands may not change, nor the accumulators be touched, before
    // they are waited for.
    DEVICE void multiply(float (&acc)[OUTPUTS / 2], int block) const {
        unsigned long long a = wgmma_descriptor(shared.w3(block), 128),
                           b = wgmma_descriptor(shared.mid2(), 128);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) wgmma(acc, a + 2 * k, b + 2 * k, k > 0);
        wgmma_commit_group();
    }

    template <bool RESIDUAL, bool RELU>
    DEVICE void store(const float (&acc)[OUTPUTS / 2], int block) const {
        unsigned at = shared.staging(buffer) + pair_at(thread);
        float bias[2];
#pragma unroll
        for (int half = 0; half < 2; ++half)
            bias[half] = ld_shared_f32(
                shared.b3(64 * block + thread / 32 * 16 + 8 * half + thread % 32 / 4));
        // So many loads are under way together.
        constexpr int PAIRS = GROUPS_OUT / 2, BATCH = (PAIRS + 1) / 2;
#pragma unroll
        for (int first = 0; first < PAIRS; first += BATCH) {
            unsigned v[BATCH][4];
#pragma unroll
            for (int i = 0; i < BATCH; ++i)
                if (RESIDUAL && first + i < PAIRS) ldmatrix_x4_trans(v[i], at + (first + i) * 2048);
#pragma unroll
            for (int i = 0; i < BATCH; ++i) {
                if (first + i >= PAIRS) continue;
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const float* s = acc + 8 * (first + i) + 2 * j;
                    float low = s[0] + bias[j % 2], high = s[1] + bias[j % 2];
                    if (RESIDUAL) {
                        float2 old = to_float2(v[i][j]);
                        low += old.x;
                        high += old.y;
                    }
                    v[i][j] = RELU ? cvt_rn_relu_x2(low, high) : cvt_rn_x2(low, high);
                }
                stmatrix_x4_trans(at + (first + i) * 2048, v[i]);
            }
        }
    }

    // y of the buffer to memory; the loads of HALF groups are under way together.
    DEVICE void write(const Place& place, int block) const {
        constexpr int HALF = GROUPS_OUT / 2;
        int left = args.k - 64 * block - channel(), exist = left > 0 ? place.rows : 0;
        storage_t* to = place.y + 64 * block;
        unsigned from = staged(buffer);
        long long row = static_cast<long long>(args.q) * args.y_strides.pixel;
        if (args.y_vector) {
#pragma unroll
            for (int first = 0; first < GROUPS_OUT; first += HALF) {
                uint2 v[HALF];
#pragma unroll
                for (int i = 0; i < HALF; ++i) v[i] = ld_shared_v2(from + (first + i) * 1024);
#pragma unroll
                for (int i = 0; i < HALF; ++i, to += row)
                    st_global_v2_if(global_address(to), v[i], first + i < exist);
            }
        } else {
#pragma unroll 1
            for (int group = 0; group < exist; ++group, to += row) {
                uint2 v = ld_shared_v2(from + group * 1024);
                to[0] = static_cast<storage_t>(v.x);
                if (left > 1) to[1] = static_cast<storage_t>(v.x >> 16);
                if (left > 2) to[2] = static_cast<storage_t>(v.y);
                if (left > 3) to[3] = static_cast<storage_t>(v.y >> 16);
            }
        }
    }

    DEVICE void run() {
        bool residual = args.residual;
        if (blockIdx.x >= args.tiles) return;
        Place current = place(blockIdx.x);
        if (residual) fetch_residual(current, 0, buffer);
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            Place next = current;  // whose residual comes next
            float acc[OUTPUTS / 2];
            mbarrier_wait(shared.mid2_full(), phase);
            phase ^= 1;
            multiply(acc, 0);
#pragma unroll 1
            for (int block = 0; 64 * block < args.k; ++block) {
                bool end = 64 * (block + 1) >= args.k;
                wgmma_wait_group<0>();
                wgmma_fence_operand(acc);
                if (end) warp_arrive(shared.mid2_empty());
                cp_async_wait_group<0>();
                bar_sync();
                bool more = !end || tile + gridDim.x < args.tiles;
                if (end && more) next = place(tile + gridDim.x);
                if (residual && more) fetch_residual(next, end ? 0 : block + 1, buffer ^ 1);
                if (residual)
                    args.relu ? store<true, true>(acc, block) : store<true, false>(acc, block);
                else
                    args.relu ? store<false, true>(acc, block) : store<false, false>(acc, block);
                if (!end) multiply(acc, block + 1);
                bar_sync();
                write(current, block);
                buffer ^= 1;
            }
            current = next;
        }
    }
};
