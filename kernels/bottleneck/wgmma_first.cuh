// The first half of the fused bottleneck on wgmma: the warpgroup that loads x, and the one of the
// first 1x1.
#pragma once

#include "bottleneck/wgmma_tile.cuh"

// Loads a patch's pixels, 64 channels per stage; zeros beyond the image and the channels. Lanes lie
// along a pixel's channels: 128 / VECTOR_BYTES of them write 128 contiguous bytes but for the order
// of their chunks. A thread has a pixel of each pass, always the same one of a group, so that the
// distances between passes are the same for all threads.
struct PatchProducer {
    const BottleneckArgs& args;
    BottleneckShared shared;
    int thread;            // of the warpgroup
    PipelineState state;   // of the stage that comes next
    PipelineState behind;  // the oldest stage that is not committed
    int pending = 0;       // stages that are not committed

    static constexpr int LANES = 128 / VECTOR_BYTES;
    static constexpr int GROUPS_PER_PASS = VECTOR_BYTES / 8;
    static constexpr int PASSES = PIXEL_GROUPS / GROUPS_PER_PASS,
                         MAIN_PASSES = MAIN_GROUPS / GROUPS_PER_PASS;
    static_assert(PIXEL_GROUPS % GROUPS_PER_PASS == 0 && MAIN_GROUPS % GROUPS_PER_PASS == 0,
                  "whole passes");
    static constexpr int LAG = STAGES - 1;  // stages that are under way while others are free

    DEVICE void commit_oldest() {
        producer_commit(shared.full(behind.stage));
        behind.next();
        --pending;
    }
    DEVICE void commit_all() {
        if (pending == 2) {
            cp_async_wait_group<1>();
            commit_oldest();
        }
        cp_async_wait_group<0>();
        while (pending > 0) commit_oldest();
    }
    // Waits until the next stage is free. If it is not yet, commits the stages in flight first.
    DEVICE void acquire() {
        if (__all_sync(0xffffffff, producer_try_acquire(shared, state))) return;
        commit_all();
        producer_acquire(shared, state);
    }

    DEVICE int channel() const { return thread % LANES * (VECTOR_BYTES / 2); }
    DEVICE InnerPixel pixel(int pass) const {
        int i = thread / LANES;
        return InnerPixel(pass * GROUPS_PER_PASS + i / 8, i % 8);
    }
    // Bit `pass`: the thread's pixel exists.
    DEVICE unsigned find_inside(const Patch& patch) const {
        unsigned in_bounds = 0;
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            InnerPixel at = pixel(pass);
            in_bounds |= (at.in_bounds(args, patch) && at.row < HALO_P ? 1u : 0u) << pass;
        }
        return in_bounds;
    }
    DEVICE const storage_t* at(const Patch& patch, int pass) const {
        InnerPixel first = pixel(pass);
        long long place = static_cast<long long>(patch.top() + first.row) * args.width +
                          patch.left() + first.column;
        return static_cast<const storage_t*>(args.x) + image_offset(patch, args.x_strides) +
               place * args.x_strides.pixel + channel();
    }

    // The thread's channels of its pixels: `main`, `last`: of the first pass, of the first one of
    // the last columns. WHOLE: all VECTOR_BYTES bytes of a copy exist or none does.
    template <bool WHOLE>
    DEVICE void load(unsigned to, const storage_t* main, const storage_t* last, unsigned in_bounds,
                     int bytes) const {
        long long pixel = args.x_strides.pixel, row = pixel * args.width;
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const storage_t* from = pass < MAIN_PASSES ? main : last;
            bool valid = in_bounds >> pass & 1;
            cp_async_zfill<VECTOR_BYTES>(to + pass * (GROUPS_PER_PASS * SWIZZLE_ATOM_BYTES), from,
                                         valid ? (WHOLE ? VECTOR_BYTES : bytes) : 0);
            if (pass >= MAIN_PASSES)
                last += row * (GROUPS_PER_PASS * (STRIDE == 1 ? 4 : 8));
            else if (STRIDE == 1)
                main += row * GROUPS_PER_PASS;
            else
                main += GROUPS_PER_PASS == 2 ? row : pass % 2 ? row - pixel : pixel;
        }
        cp_async_commit_group();
    }

    DEVICE void run() {
        int i = thread / LANES;
        unsigned first = i / 8 * SWIZZLE_ATOM_BYTES + swizzled<ROW_BYTES>(i % 8, channel() / 8) +
                         channel() % 8 * 2;
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            Patch patch(args, tile);
            unsigned in_bounds = find_inside(patch);
            const storage_t *main = at(patch, 0), *last = at(patch, MAIN_PASSES);
#pragma unroll 1
            for (int block = 0; block < args.c; block += 64, main += 64, last += 64) {
                int bytes = max(0, min(VECTOR_BYTES, (args.c - block - channel()) * 2));
                acquire();
                unsigned to = shared.x(state.stage) + first;
                if (args.c % (VECTOR_BYTES / 2) == 0)
                    load<true>(to, main, last, bytes ? in_bounds : 0, VECTOR_BYTES);
                else
                    load<false>(to, main, last, in_bounds, bytes);
                state.next();
                if (++pending > LAG) {
                    cp_async_wait_group<LAG>();
                    commit_oldest();
                }
            }
        }
        commit_all();
    }
};

// mid1 = relu(w1 x + b1) of a patch, zero outside the image.
struct FirstConsumer {
    const BottleneckArgs& args;
    BottleneckShared shared;
    int thread;     // of the warpgroup
    float bias[2];  // of the thread's filters
    PipelineState state;
    unsigned phase = 0;  // of mid1

    DEVICE void multiply(float (&acc)[INNER / 2], int block) const {
        unsigned long long a = wgmma_descriptor(shared.w1(block), ROW_BYTES),
                           b = wgmma_descriptor(shared.x(state.stage), ROW_BYTES);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) wgmma(acc, a + 2 * k, b + 2 * k, block > 0 || k > 0);
        wgmma_commit_group();
    }
    DEVICE void main_loop(float (&acc)[INNER / 2]) {
        consumer_wait(shared, state);
        multiply(acc, 0);
        int previous = state.stage;
        state.next();
#pragma unroll 1
        for (int block = 1; 64 * block < args.c; ++block) {
            consumer_wait(shared, state);
            multiply(acc, block);
            wgmma_wait_group<1>();
            consumer_release(shared.empty(previous));
            previous = state.stage;
            state.next();
        }
        wgmma_wait_group<0>();
        consumer_release(shared.empty(previous));
        wgmma_fence_operand(acc);
    }

    // Two groups' accumulators, finished: [group][half of the filters].
    DEVICE void finish(const float* acc, const Patch& patch, int group, unsigned (&v)[4]) const {
#pragma unroll
        for (int g = 0; g < 2; ++g) {
            int i = thread % 4 * 2;
            unsigned low = InnerPixel(group + g, i).in_bounds(args, patch) ? 0x0000ffffu : 0;
            unsigned high = InnerPixel(group + g, i + 1).in_bounds(args, patch) ? 0xffff0000u : 0;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float* s = acc + 4 * (group + g) + 2 * half;
                v[2 * g + half] = cvt_rn_relu_x2(s[0] + bias[half], s[1] + bias[half]) &
                                  (low | high);
            }
        }
    }
    // Lane l gives stmatrix the address of pixel l % 8 of group l / 16, filters 16 * warp + 8 * (l
    // / 8 % 2) ... A pixel that a copy lacks goes to spare places of the banks that the others
    // leave free, each lane's its own.
    DEVICE void store(const float* acc, const Patch& patch) const {
        unsigned lane = thread % 32, i = lane % 8, second = lane / 16,
                 chunk = thread / 32 * 2 + lane / 8 % 2;
        unsigned at0 = shared.mid1(0), at1 = shared.mid1(1), at2 = shared.mid1(2);
        unsigned v[4];
        if constexpr (STRIDE == 1) {
            unsigned to0 = at0 + second * SWIZZLE_ATOM_BYTES + swizzled<ROW_BYTES>(i, chunk);
            unsigned spare1 = shared.spare(0) + second * SWIZZLE_ATOM_BYTES,
                     spare2 = shared.spare(1) + second * SWIZZLE_ATOM_BYTES;
            unsigned to1 = i >= 1 ? at1 + second * SWIZZLE_ATOM_BYTES +
                                        swizzled<ROW_BYTES>(i - 1, chunk)
                                  : spare1 + swizzled<ROW_BYTES>(7, chunk);
            unsigned to2 = i >= 2 ? at2 + second * SWIZZLE_ATOM_BYTES +
                                        swizzled<ROW_BYTES>(i - 2, chunk)
                                  : spare2 + swizzled<ROW_BYTES>(6 + i, chunk);
            unsigned last = (second * 4 + i / 2) * SWIZZLE_ATOM_BYTES,
                     last2 = at2 + last + swizzled<ROW_BYTES>(6 + i % 2, chunk);
            unsigned last1 = i % 2 ? spare1 + swizzled<ROW_BYTES>(i - 1, chunk)
                                   : at1 + last + swizzled<ROW_BYTES>(7, chunk);
            unsigned step1 = i >= 1 ? SWIZZLE_ATOM_BYTES : 0,
                     step2 = i >= 2 ? SWIZZLE_ATOM_BYTES : 0,
                     step_last1 = i % 2 ? 0 : SWIZZLE_ATOM_BYTES;
#pragma unroll
            for (int group = 0; group < PIXEL_GROUPS; group += 2) {
                finish(acc, patch, group, v);
                if (group < MAIN_GROUPS) {
                    stmatrix_x4_trans(to0 + group * SWIZZLE_ATOM_BYTES, v);
                    stmatrix_x4_trans(to1 + group * step1, v);
                    stmatrix_x4_trans(to2 + group * step2, v);
                } else {
                    stmatrix_x4_trans(last1 + (group - MAIN_GROUPS) * 4 * step_last1, v);
                    stmatrix_x4_trans(last2 + (group - MAIN_GROUPS) * 4 * SWIZZLE_ATOM_BYTES, v);
                }
            }
        } else {
            unsigned to = (second ? at1 : at0) + swizzled<ROW_BYTES>(i, chunk);
            unsigned again = second   ? to
                             : i == 0 ? shared.spare(0) + swizzled<ROW_BYTES>(7, chunk)
                                      : at2 + swizzled<ROW_BYTES>(i - 1, chunk);
            unsigned again_step = second || i > 0 ? SWIZZLE_ATOM_BYTES / 2 : 0;
            unsigned last = at2 + (second * 8 + i) * SWIZZLE_ATOM_BYTES +
                            swizzled<ROW_BYTES>(7, chunk);
#pragma unroll
            for (int group = 0; group < PIXEL_GROUPS; group += 2) {
                finish(acc, patch, group, v);
                if (group < MAIN_GROUPS) {
                    stmatrix_x4_trans(to + group * SWIZZLE_ATOM_BYTES / 2, v);
                    stmatrix_x4_trans(again + group * again_step, v);
                } else {
                    stmatrix_x4_trans(last + (group - MAIN_GROUPS) * 8 * SWIZZLE_ATOM_BYTES, v);
                }
            }
        }
    }

    DEVICE void run() {
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            Patch patch(args, tile);
            float acc[INNER / 2];
            main_loop(acc);
            shared.mid1_barriers().producer_acquire(phase);
            phase ^= 1;
            store(acc, patch);
            producer_commit(shared.mid1_barriers().full);
        }
    }
};
