// The second half of the fused bottleneck on wgmma: the warpgroup of the 3x3, and the one of the
// last 1x1 that writes y.
#pragma once

#include "bottleneck/wgmma_tile.cuh"

// Lane l's address for stmatrix_x4_trans and ldmatrix_x4_trans of two groups of pixels, 16 filters
// of its warp:
// pixel l % 8 of group l / 16.
DEVICE unsigned pair_at(int thread) {
    unsigned lane = thread % 32;
    return lane / 16 * SWIZZLE_ATOM_BYTES +
           swizzled<ROW_BYTES>(lane % 8, thread / 32 * 2 + lane / 8 % 2);
}

// mid2 = relu(w2 * mid1 + b2) of a patch; w2 stays in registers.
struct SecondConsumer {
    const BottleneckArgs& args;
    BottleneckShared shared;
    int thread;
    float bias[2];       // of the thread's filters
    unsigned phase = 0;  // of mid1 and mid2

    DEVICE void load_w2(unsigned (&w)[9][4][4]) const {
        unsigned lane = thread % 32, filter = thread / 32 * 16 + lane % 16;
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                ldmatrix_x4(w[tap][k],
                            shared.w2(tap) + swizzled<ROW_BYTES>(filter, 2 * k + lane / 16));
    }
    DEVICE void multiply(float (&acc)[OUTPUTS / 2], const unsigned (&w)[9][4][4]) const {
        unsigned long long b = wgmma_descriptor_stride(wgmma_descriptor(shared.mid1(0), ROW_BYTES),
                                                       STRIDE * SWIZZLE_ATOM_BYTES);
        wgmma_fence();
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                wgmma(acc, w[tap][k],
                      b + (tap % 3 * MID1_COPY_BYTES + tap / 3 * SWIZZLE_ATOM_BYTES) / 16 + 2 * k,
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
            stmatrix_x4_trans(to + group * SWIZZLE_ATOM_BYTES, v);
        }
    }

    DEVICE void run(const unsigned (&w)[9][4][4]) {
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            float acc[OUTPUTS / 2];
            shared.mid1_barriers().consumer_wait(phase);
            multiply(acc, w);
            wgmma_wait_group<0>();
            consumer_release(shared.mid1_barriers().empty);
            wgmma_fence_operand(acc);
            shared.mid2_barriers().producer_acquire(phase);
            phase ^= 1;
            store(acc);
            producer_commit(shared.mid2_barriers().full);
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
struct LastConsumer {
    const BottleneckArgs& args;
    BottleneckShared shared;
    int thread;
    unsigned phase = 0;  // of mid2
    int buffer = 0;

    static constexpr int GROUPS_OUT = OUTPUTS / 8;
    DEVICE void bar_sync() const { barrier_sync(LAST_BARRIER, WARPGROUP_THREADS); }

    // Lanes along channels, four each; threads 16 i .. 16 i + 15 have pixel i of each group.
    DEVICE int channel() const { return thread % 16 * 4; }
    DEVICE unsigned staged(int buffer) const {
        return shared.staging(buffer) + swizzled<ROW_BYTES>(thread / 16, thread % 16 / 2) +
               thread % 2 * 8;
    }
    // Where the thread's pixels of a patch are: its first channels of the first group, and how many
    // groups have one.
    struct PatchRows {
        const storage_t* residual;
        storage_t* y;
        int count;
    };
    DEVICE PatchRows rows_of(unsigned tile) const {
        Patch patch(args, tile);
        int column = patch.q + thread / 16;
        long long first = static_cast<long long>(patch.p) * args.q + column;
        long long residual = image_offset(patch, args.residual_strides) +
                             first * args.residual_strides.pixel + channel();
        long long y = image_offset(patch, args.y_strides) + first * args.y_strides.pixel +
                      channel();
        return PatchRows{static_cast<const storage_t*>(args.residual) + residual,
                         static_cast<storage_t*>(args.y) + y,
                         column < args.q ? min(GROUPS_OUT, args.p - patch.p) : 0};
    }

    DEVICE void fetch_residual(const PatchRows& rows, int block, int buffer) const {
        int left = args.k - 64 * block - channel(), exist = left > 0 ? rows.count : 0;
        const storage_t* from = rows.residual + 64 * block;
        unsigned to = staged(buffer);
        long long row = static_cast<long long>(args.q) * args.residual_strides.pixel;
        if (args.y_vector) {
#pragma unroll
            for (int group = 0; group < GROUPS_OUT; ++group, from += row)
                cp_async_zfill<8>(to + group * SWIZZLE_ATOM_BYTES, from, group < exist ? 8 : 0);
        } else {
#pragma unroll 1
            for (int group = 0; group < GROUPS_OUT; ++group, from += row)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    unsigned short value = ld_global_u16(from + i, group < exist && i < left);
                    st_shared_u16(to + group * SWIZZLE_ATOM_BYTES + 2 * i, value);
                }
        }
        cp_async_commit_group();
    }

    // One group of products; their operands may not change, nor the accumulators be touched, before
    // they are waited for.
    DEVICE void multiply(float (&acc)[OUTPUTS / 2], int block) const {
        unsigned long long a = wgmma_descriptor(shared.w3(block), ROW_BYTES),
                           b = wgmma_descriptor(shared.mid2(), ROW_BYTES);
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
                if (RESIDUAL && first + i < PAIRS)
                    ldmatrix_x4_trans(v[i], at + (first + i) * 2 * SWIZZLE_ATOM_BYTES);
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
                stmatrix_x4_trans(at + (first + i) * 2 * SWIZZLE_ATOM_BYTES, v[i]);
            }
        }
    }

    // y of the buffer to memory; the loads of HALF groups are under way together.
    DEVICE void write(const PatchRows& rows, int block) const {
        constexpr int HALF = GROUPS_OUT / 2;
        int left = args.k - 64 * block - channel(), exist = left > 0 ? rows.count : 0;
        storage_t* to = rows.y + 64 * block;
        unsigned from = staged(buffer);
        long long row = static_cast<long long>(args.q) * args.y_strides.pixel;
        if (args.y_vector) {
#pragma unroll
            for (int first = 0; first < GROUPS_OUT; first += HALF) {
                uint2 v[HALF];
#pragma unroll
                for (int i = 0; i < HALF; ++i)
                    v[i] = ld_shared_v2(from + (first + i) * SWIZZLE_ATOM_BYTES);
#pragma unroll
                for (int i = 0; i < HALF; ++i, to += row)
                    st_global_v2_if(global_address(to), v[i], first + i < exist);
            }
        } else {
#pragma unroll 1
            for (int group = 0; group < exist; ++group, to += row) {
                uint2 v = ld_shared_v2(from + group * SWIZZLE_ATOM_BYTES);
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
        PatchRows current = rows_of(blockIdx.x);
        if (residual) fetch_residual(current, 0, buffer);
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            PatchRows next = current;  // whose residual comes next
            float acc[OUTPUTS / 2];
            shared.mid2_barriers().consumer_wait(phase);
            phase ^= 1;
            multiply(acc, 0);
#pragma unroll 1
            for (int block = 0; 64 * block < args.k; ++block) {
                bool end = 64 * (block + 1) >= args.k;
                wgmma_wait_group<0>();
                wgmma_fence_operand(acc);
                if (end) consumer_release(shared.mid2_barriers().empty);
                cp_async_wait_group<0>();
                bar_sync();
                bool more = !end || tile + gridDim.x < args.tiles;
                if (end && more) next = rows_of(tile + gridDim.x);
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
