// The main loop of the consumers, and the sum of splits.
#pragma once

#include "wgmma_tile.cuh"

typedef float RowSums[COLUMNS / 2];
typedef RowSums Sums[ROW_TILES];
constexpr int FOURS = COLUMNS / 8;  // of a row tile's sums, fours that a thread has

struct Consumer {
    const WgmmaArgs& args;
    Shared shared;
    int index;   // which consumer
    int thread;  // of the warpgroup
    Ring ring;

    // Operands of a stage as descriptors: the rows' side and the columns'.
    DEVICE unsigned long long rows(int stage) const {
        unsigned operand = LAYOUT_NHWC ? shared.x(stage) : shared.w(stage);
        return matrix_descriptor(operand + index * (CONSUMER_ROWS * ROW_BYTES), ROW_BYTES);
    }
    DEVICE unsigned long long columns(int stage) const {
        return matrix_descriptor(LAYOUT_NHWC ? shared.w(stage) : shared.x(stage), ROW_BYTES);
    }

    // Adds the products of `STEPS` steps of a stage, from `first` on, to the sums or to zero: one group.
    template <int STEPS, int ACCUMULATE>
    DEVICE void multiply_steps(Sums& sums, int first) const {
        constexpr int ROWS_STEP = (LAYOUT_NHWC ? X_STEP_BYTES : W_STEP_BYTES) / 16;
        constexpr int COLUMNS_STEP = (LAYOUT_NHWC ? W_STEP_BYTES : X_STEP_BYTES) / 16;
        unsigned long long a = rows(ring.stage) + first * ROWS_STEP, b = columns(ring.stage) + first * COLUMNS_STEP;
        products_fence();
#pragma unroll
        for (int step = 0; step < STEPS; ++step)
#pragma unroll
            for (int k = 0; k < ROW_BYTES / 32; ++k)
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i)
                    product(sums[i], a + step * ROWS_STEP + i * (64 * ROW_BYTES / 16) + 2 * k, b + step * COLUMNS_STEP + 2 * k,
                            step > 0 || k > 0 ? 1 : ACCUMULATE);
        products_commit();
    }

    // Adds a stage's products to the sums, or to zero. `steps`: how many of its steps exist, at least one.
    template <int ACCUMULATE>
    DEVICE void multiply(Sums& sums, int steps) const {
        if (STEPS_A_STAGE == 1 || steps >= STEPS_A_STAGE) {
            multiply_steps<STEPS_A_STAGE, ACCUMULATE>(sums, 0);
        } else {
            multiply_steps<1, ACCUMULATE>(sums, 0);
#pragma unroll 1
            for (int step = 1; step < steps; ++step) multiply_steps<1, 1>(sums, step);
        }
    }

    DEVICE void release(int stage) const {
        if (thread % 32 == 0) barrier_arrive(shared.empty(stage));
    }

    // The sums of an item, which has at least one step.
    DEVICE void main_loop(const Item& item, Sums& sums) {
        int left = item.end - item.begin;
        barrier_wait(shared.full(ring.stage), ring.phase);
        multiply<0>(sums, left);
        int previous = ring.stage;
        ring.next();
#pragma unroll 1
        while ((left -= STEPS_A_STAGE) > 0) {
            barrier_wait(shared.full(ring.stage), ring.phase);
            multiply<1>(sums, left);
            products_wait<1>();  // the stage before has been read
            release(previous);
            previous = ring.stage;
            ring.next();
        }
        products_wait<0>();
        release(previous);
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i) settle(sums[i]);
    }

    // Reads the sums that a block put at `from`, or adds them. A few at a time, for want of registers.
    template <bool ADD>
    DEVICE void take_partial(unsigned long long from, Sums& sums) const {
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int j = 0; j < FOURS; ++j) {
                float4 more;
                asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                             : "=f"(more.x), "=f"(more.y), "=f"(more.z), "=f"(more.w)
                             : "l"(from + (i * FOURS + j) * CONSUMER_THREADS * 16)
                             : "memory");
                float* v = &sums[i][4 * j];
                v[0] = ADD ? v[0] + more.x : more.x;
                v[1] = ADD ? v[1] + more.y : more.y;
                v[2] = ADD ? v[2] + more.z : more.z;
                v[3] = ADD ? v[3] + more.w : more.w;
            }
    }

    // Puts this split's sums into memory. True in the block that arrives last, whose sums are then those of all splits, added in
    // their order.
    DEVICE bool add_splits(const Item& item, Sums& sums) const {
        const TensorArgs& tensor = args.tensor;
        constexpr unsigned PARTIAL_BYTES = TILE_M * TILE_N * 4;
        unsigned long long first = __cvta_generic_to_global(tensor.partials) +
                                   static_cast<unsigned long long>(item.tile) * tensor.splits * PARTIAL_BYTES +
                                   (index * 128 + thread) * 16;
        unsigned long long mine = first + static_cast<unsigned long long>(item.split) * PARTIAL_BYTES;
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int j = 0; j < FOURS; ++j) {
                const float* v = &sums[i][4 * j];
                asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(mine + (i * FOURS + j) * CONSUMER_THREADS * 16),
                             "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3])
                             : "memory");
            }
        __threadfence();
        named_barrier(1, CONSUMER_THREADS);
        if (index == 0 && thread == 0) {
            unsigned before = atomicAdd(&tensor.counters[item.tile], 1u);
            bool last = before == static_cast<unsigned>(tensor.splits - 1);
            if (last) tensor.counters[item.tile] = 0;
            asm volatile("st.shared.u32 [%0], %1;" ::"r"(shared.last_split()), "r"(last ? 1u : 0u) : "memory");
        }
        named_barrier(1, CONSUMER_THREADS);
        unsigned last;
        asm volatile("ld.shared.u32 %0, [%1];" : "=r"(last) : "r"(shared.last_split()) : "memory");
        if (!last) return false;
        __threadfence();
        take_partial<false>(first, sums);
#pragma unroll 1
        for (int split = 1; split < tensor.splits; ++split) {
            first += PARTIAL_BYTES;
            take_partial<true>(first, sums);
        }
        return true;
    }
};
