// The second half of the fused bottleneck on wgmma: the warpgroup of the 3x3, and the one of the last 1x1 that writes y.
#pragma once

#include "bottleneck_wgmma_tile.cuh"

// Lane l's address for put_pixels and take_pixels of two groups of pixels, 16 filters of its warp: pixel l % 8 of group l / 16.
DEVICE unsigned pair_at(int thread) {
    unsigned lane = thread % 32;
    return lane / 16 * 1024 + piece_at(lane % 8, thread / 32 * 2 + lane / 8 % 2);
}

// mid2 = relu(w2 * mid1 + b2) of a patch; w2 stays in registers.
struct Second {
    const BottleneckArgs& args;
    Shared shared;
    int thread;
    float bias[2];       // of the thread's filters
    unsigned phase = 0;  // of mid1 and mid2

    DEVICE void take_w2(unsigned (&w)[9][4][4]) const {
        unsigned lane = thread % 32, filter = thread / 32 * 16 + lane % 16;
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k) take_filters(shared.w2(tap) + piece_at(filter, 2 * k + lane / 16), w[tap][k]);
    }
    DEVICE void multiply(float (&sums)[OUTPUTS / 2], const unsigned (&w)[9][4][4]) const {
        unsigned long long b = with_group_distance(matrix_descriptor(shared.mid1(0), 128), STRIDE * 1024);
        products_fence();
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                product(sums, w[tap][k], b + (tap % 3 * COPY_BYTES + tap / 3 * 1024) / 16 + 2 * k, tap > 0 || k > 0);
        products_commit();
    }
    DEVICE void put(const float (&sums)[OUTPUTS / 2]) const {
        unsigned to = shared.mid2() + pair_at(thread);
#pragma unroll
        for (int group = 0; group < OUTPUTS / 8; group += 2) {
            unsigned v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* s = sums + 4 * group + 2 * i;
                v[i] = pack_relu(s[0] + bias[i % 2], s[1] + bias[i % 2]);
            }
            put_pixels(to + group * 1024, v);
        }
    }

    DEVICE void run(const unsigned (&w)[9][4][4]) {
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            float sums[OUTPUTS / 2];
            barrier_wait(shared.mid1_full(), phase);
            multiply(sums, w);
            products_wait<0>();
            warp_arrive(shared.mid1_empty());
            settle(sums);
            barrier_wait(shared.mid2_empty(), phase ^ 1);
            phase ^= 1;
            put(sums);
            warp_arrive_written(shared.mid2_full());
        }
    }
};

// y = act(w3 mid2 + b3 + residual) of a patch, 64 filters at a time.
//
// The residual of the next 64 filters comes into one staging buffer while those of this time pass through the other: residual,
// then y as stored, then rows of 128 bytes to memory, while the next products are under way. Barriers of the warpgroup, each
// time: one when the residual has come for all (and y of the time before has left the other buffer), one when y is there.
struct Last {
    const BottleneckArgs& args;
    Shared shared;
    int thread;
    unsigned phase = 0;  // of mid2
    int buffer = 0;

    static constexpr int GROUPS_OUT = OUTPUTS / 8;
    DEVICE void meet() const { named_barrier(2, 128); }

    // Lanes along channels, four each; threads 16 i .. 16 i + 15 have pixel i of each group.
    DEVICE int channel() const { return thread % 16 * 4; }
    DEVICE unsigned staged(int buffer) const {
        return shared.staging(buffer) + piece_at(thread / 16, thread % 16 / 2) + thread % 2 * 8;
    }
    // Where the thread's pixels of a patch are: its first channels of the first group, and how many groups have one.
    struct Place {
        const storage_t* residual;
        storage_t* y;
        int rows;
    };
    DEVICE Place place(unsigned tile) const {
        Patch patch(args, tile);
        int column = patch.q + thread / 16;
        long long first = static_cast<long long>(patch.p) * args.q + column;
        long long residual = patch.image * args.residual_strides.image + first * args.residual_strides.pixel + channel();
        long long y = patch.image * args.y_strides.image + first * args.y_strides.pixel + channel();
        return Place{static_cast<const storage_t*>(args.residual) + residual, static_cast<storage_t*>(args.y) + y,
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
                copy_later<8>(to + group * 1024, from, group < exist ? 8 : 0);
        } else {
#pragma unroll 1
            for (int group = 0; group < GROUPS_OUT; ++group, from += row)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    unsigned short value = load_16(from + i, group < exist && i < left);
                    asm volatile("st.shared.u16 [%0], %1;" ::"r"(to + group * 1024 + 2 * i), "h"(value) : "memory");
                }
        }
        copies_commit();
    }

    // One group of products; their operands may not change, nor the sums be touched, before they are waited for.
    DEVICE void multiply(float (&sums)[OUTPUTS / 2], int block) const {
        unsigned long long a = matrix_descriptor(shared.w3(block), 128), b = matrix_descriptor(shared.mid2(), 128);
        products_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) product(sums, a + 2 * k, b + 2 * k, k > 0);
        products_commit();
    }

    template <bool RESIDUAL, bool RELU>
    DEVICE void put(const float (&sums)[OUTPUTS / 2], int block) const {
        unsigned at = shared.staging(buffer) + pair_at(thread);
        float bias[2];
#pragma unroll
        for (int half = 0; half < 2; ++half)
            asm volatile("ld.shared.f32 %0, [%1];"
                         : "=f"(bias[half])
                         : "r"(shared.b3(64 * block + thread / 32 * 16 + 8 * half + thread % 32 / 4))
                         : "memory");
        constexpr int PAIRS = GROUPS_OUT / 2, BATCH = (PAIRS + 1) / 2;  // so many loads are under way together
#pragma unroll
        for (int first = 0; first < PAIRS; first += BATCH) {
            unsigned v[BATCH][4];
#pragma unroll
            for (int i = 0; i < BATCH; ++i)
                if (RESIDUAL && first + i < PAIRS) take_pixels(at + (first + i) * 2048, v[i]);
#pragma unroll
            for (int i = 0; i < BATCH; ++i) {
                if (first + i >= PAIRS) continue;
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const float* s = sums + 8 * (first + i) + 2 * j;
                    float low = s[0] + bias[j % 2], high = s[1] + bias[j % 2];
                    if (RESIDUAL) {
                        float2 old = unpack(v[i][j]);
                        low += old.x;
                        high += old.y;
                    }
                    v[i][j] = RELU ? pack_relu(low, high) : pack(low, high);
                }
                put_pixels(at + (first + i) * 2048, v[i]);
            }
        }
    }

    DEVICE static uint2 take_four(unsigned from) {
        uint2 v;
        asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from) : "memory");
        return v;
    }
    DEVICE static void put_four(storage_t* to, uint2 v, bool exists) {
        asm volatile("{.reg .pred p; setp.ne.s32 p, %3, 0; @p st.global.v2.u32 [%0], {%1, %2};}" ::"l"(__cvta_generic_to_global(to)),
                     "r"(v.x), "r"(v.y), "r"(static_cast<int>(exists))
                     : "memory");
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
                for (int i = 0; i < HALF; ++i) v[i] = take_four(from + (first + i) * 1024);
#pragma unroll
                for (int i = 0; i < HALF; ++i, to += row) put_four(to, v[i], first + i < exist);
            }
        } else {
#pragma unroll 1
            for (int group = 0; group < exist; ++group, to += row) {
                uint2 v = take_four(from + group * 1024);
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
        Place here = place(blockIdx.x);
        if (residual) fetch_residual(here, 0, buffer);
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            Place next = here;  // whose residual comes next
            float sums[OUTPUTS / 2];
            barrier_wait(shared.mid2_full(), phase);
            phase ^= 1;
            multiply(sums, 0);
#pragma unroll 1
            for (int block = 0; 64 * block < args.k; ++block) {
                bool end = 64 * (block + 1) >= args.k;
                products_wait<0>();
                settle(sums);
                if (end) warp_arrive(shared.mid2_empty());
                copies_wait<0>();
                meet();
                bool more = !end || tile + gridDim.x < args.tiles;
                if (end && more) next = place(tile + gridDim.x);
                if (residual && more) fetch_residual(next, end ? 0 : block + 1, buffer ^ 1);
                if (residual)
                    args.relu ? put<true, true>(sums, block) : put<true, false>(sums, block);
                else
                    args.relu ? put<false, true>(sums, block) : put<false, false>(sums, block);
                if (!end) multiply(sums, block + 1);
                meet();
                write(here, block);
                buffer ^= 1;
            }
            here = next;
        }
    }
};
