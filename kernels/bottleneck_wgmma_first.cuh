// The first half of the fused bottleneck on wgmma: the warpgroup that brings x, and the one of the first 1x1.
#pragma once

#include "bottleneck_wgmma_tile.cuh"

// Brings a patch's pixels, 64 channels a stage; what does not exist as zeros. Lanes along a pixel's channels: 128 / VECTOR of
// them write 128 contiguous bytes but for the order of their pieces. A thread has a pixel of each pass: always the same one of a
// group, so that all passes lie at distances that are the same for all threads.
struct Loader {
    const BottleneckArgs& args;
    Shared shared;
    int thread;       // of the warpgroup
    Ring ring;        // of the stage that comes next
    Ring behind;      // the oldest stage that is not announced
    int pending = 0;  // stages that are not announced

    static constexpr int LANES = 128 / VECTOR;
    static constexpr int GROUPS_A_PASS = VECTOR / 8;
    static constexpr int PASSES = GROUPS / GROUPS_A_PASS, MAIN_PASSES = MAIN_GROUPS / GROUPS_A_PASS;
    static_assert(GROUPS % GROUPS_A_PASS == 0 && MAIN_GROUPS % GROUPS_A_PASS == 0, "whole passes");
    static constexpr int LAG = STAGES - 1;  // stages that are under way while others are free

    DEVICE void announce_oldest() {
        warp_arrive_written(shared.full(behind.stage));
        behind.next();
        --pending;
    }
    DEVICE void announce_all() {
        if (pending == 2) {
            copies_wait<1>();
            announce_oldest();
        }
        copies_wait<0>();
        while (pending > 0) announce_oldest();
    }
    // Waits until the next stage is free; if that takes time, what is under way is announced meanwhile.
    DEVICE void begin() {
        unsigned empty = shared.empty(ring.stage), phase = ring.phase ^ 1;
        if (__all_sync(0xffffffff, barrier_done(empty, phase))) return;
        announce_all();
        barrier_wait(empty, phase);
    }

    DEVICE int channel() const { return thread % LANES * (VECTOR / 2); }
    DEVICE InnerPixel pixel(int pass) const {
        int i = thread / LANES;
        return InnerPixel(pass * GROUPS_A_PASS + i / 8, i % 8);
    }
    // Bit `pass`: the thread's pixel exists.
    DEVICE unsigned find_inside(const Patch& patch) const {
        unsigned inside = 0;
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            InnerPixel at = pixel(pass);
            inside |= (at.inside(args, patch) && at.row < HALO_P ? 1u : 0u) << pass;
        }
        return inside;
    }
    DEVICE const storage_t* at(const Patch& patch, int pass) const {
        InnerPixel first = pixel(pass);
        long long place = static_cast<long long>(patch.row() + first.row) * args.width + patch.column() + first.column;
        return static_cast<const storage_t*>(args.x) + patch.image * args.x_strides.image + place * args.x_strides.pixel + channel();
    }

    // The thread's channels of its pixels: `main`, `last`: of the first pass, of the first one of the last columns.
    // WHOLE: all VECTOR bytes of a copy exist or none does.
    template <bool WHOLE>
    DEVICE void bring(unsigned to, const storage_t* main, const storage_t* last, unsigned inside, int bytes) const {
        long long pixel = args.x_strides.pixel, row = pixel * args.width;
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const storage_t* from = pass < MAIN_PASSES ? main : last;
            bool exists = inside >> pass & 1;
            copy_later<VECTOR>(to + pass * (GROUPS_A_PASS * 1024), from, exists ? (WHOLE ? VECTOR : bytes) : 0);
            if (pass >= MAIN_PASSES)
                last += row * (GROUPS_A_PASS * (STRIDE == 1 ? 4 : 8));
            else if (STRIDE == 1)
                main += row * GROUPS_A_PASS;
            else
                main += GROUPS_A_PASS == 2 ? row : pass % 2 ? row - pixel : pixel;
        }
        copies_commit();
    }

    DEVICE void run() {
        int i = thread / LANES;
        unsigned first = i / 8 * 1024 + piece_at(i % 8, channel() / 8) + channel() % 8 * 2;
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            Patch patch(args, tile);
            unsigned inside = find_inside(patch);
            const storage_t *main = at(patch, 0), *last = at(patch, MAIN_PASSES);
#pragma unroll 1
            for (int block = 0; block < args.c; block += 64, main += 64, last += 64) {
                int bytes = max(0, min(VECTOR, (args.c - block - channel()) * 2));
                begin();
                unsigned to = shared.x(ring.stage) + first;
                if (args.c % (VECTOR / 2) == 0)
                    bring<true>(to, main, last, bytes ? inside : 0, VECTOR);
                else
                    bring<false>(to, main, last, inside, bytes);
                ring.next();
                if (++pending > LAG) {
                    copies_wait<LAG>();
                    announce_oldest();
                }
            }
        }
        announce_all();
    }
};

// mid1 = relu(w1 x + b1) of a patch, zero outside the image.
struct First {
    const BottleneckArgs& args;
    Shared shared;
    int thread;      // of the warpgroup
    float bias[2];   // of the thread's filters
    Ring ring;
    unsigned phase = 0;  // of mid1

    DEVICE void multiply(float (&sums)[INNER / 2], int block) const {
        unsigned long long a = matrix_descriptor(shared.w1(block), 128), b = matrix_descriptor(shared.x(ring.stage), 128);
        products_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) product(sums, a + 2 * k, b + 2 * k, block > 0 || k > 0);
        products_commit();
    }
    DEVICE void main_loop(float (&sums)[INNER / 2]) {
        barrier_wait(shared.full(ring.stage), ring.phase);
        multiply(sums, 0);
        int previous = ring.stage;
        ring.next();
#pragma unroll 1
        for (int block = 1; 64 * block < args.c; ++block) {
            barrier_wait(shared.full(ring.stage), ring.phase);
            multiply(sums, block);
            products_wait<1>();
            warp_arrive(shared.empty(previous));
            previous = ring.stage;
            ring.next();
        }
        products_wait<0>();
        warp_arrive(shared.empty(previous));
        settle(sums);
    }

    // Two groups' sums, finished: [group][half of the filters].
    DEVICE void finish(const float* sums, const Patch& patch, int group, unsigned (&v)[4]) const {
#pragma unroll
        for (int g = 0; g < 2; ++g) {
            int i = thread % 4 * 2;
            unsigned low = InnerPixel(group + g, i).inside(args, patch) ? 0x0000ffffu : 0;
            unsigned high = InnerPixel(group + g, i + 1).inside(args, patch) ? 0xffff0000u : 0;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float* s = sums + 4 * (group + g) + 2 * half;
                v[2 * g + half] = pack_relu(s[0] + bias[half], s[1] + bias[half]) & (low | high);
            }
        }
    }
    // Lane l gives stmatrix the address of pixel l % 8 of group l / 16, filters 16 * warp + 8 * (l / 8 % 2) ... A pixel that a
    // copy lacks goes to spare places of the banks that the others leave free, each lane's its own.
    DEVICE void put(const float* sums, const Patch& patch) const {
        unsigned lane = thread % 32, i = lane % 8, second = lane / 16, piece = thread / 32 * 2 + lane / 8 % 2;
        unsigned at0 = shared.mid1(0), at1 = shared.mid1(1), at2 = shared.mid1(2);
        unsigned v[4];
#if STRIDE == 1
        unsigned to0 = at0 + second * 1024 + piece_at(i, piece);
        unsigned spare1 = shared.spare(0) + second * 1024, spare2 = shared.spare(1) + second * 1024;
        unsigned to1 = i >= 1 ? at1 + second * 1024 + piece_at(i - 1, piece) : spare1 + piece_at(7, piece);
        unsigned to2 = i >= 2 ? at2 + second * 1024 + piece_at(i - 2, piece) : spare2 + piece_at(6 + i, piece);
        unsigned last = (second * 4 + i / 2) * 1024, last2 = at2 + last + piece_at(6 + i % 2, piece);
        unsigned last1 = i % 2 ? spare1 + piece_at(i - 1, piece) : at1 + last + piece_at(7, piece);
        unsigned step1 = i >= 1 ? 1024 : 0, step2 = i >= 2 ? 1024 : 0, step_last1 = i % 2 ? 0 : 1024;
#pragma unroll
        for (int group = 0; group < GROUPS; group += 2) {
            finish(sums, patch, group, v);
            if (group < MAIN_GROUPS) {
                put_pixels(to0 + group * 1024, v);
                put_pixels(to1 + group * step1, v);
                put_pixels(to2 + group * step2, v);
            } else {
                put_pixels(last1 + (group - MAIN_GROUPS) * 4 * step_last1, v);
                put_pixels(last2 + (group - MAIN_GROUPS) * 4096, v);
            }
        }
#else
        unsigned to = (second ? at1 : at0) + piece_at(i, piece);
        unsigned again = second ? to : i == 0 ? shared.spare(0) + piece_at(7, piece) : at2 + piece_at(i - 1, piece);
        unsigned again_step = second || i > 0 ? 512 : 0;
        unsigned last = at2 + (second * 8 + i) * 1024 + piece_at(7, piece);
#pragma unroll
        for (int group = 0; group < GROUPS; group += 2) {
            finish(sums, patch, group, v);
            if (group < MAIN_GROUPS) {
                put_pixels(to + group * 512, v);
                put_pixels(again + group * again_step, v);
            } else {
                put_pixels(last + (group - MAIN_GROUPS) * 8192, v);
            }
        }
#endif
    }

    DEVICE void run() {
#pragma unroll 1
        for (unsigned tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
            Patch patch(args, tile);
            float sums[INNER / 2];
            main_loop(sums);
            barrier_wait(shared.mid1_empty(), phase ^ 1);
            phase ^= 1;
            put(sums, patch);
            warp_arrive_written(shared.mid1_full());
        }
    }
};
