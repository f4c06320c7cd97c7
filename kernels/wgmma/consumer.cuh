// The main loop of the consumers, and split-K: the sum of the partial tiles.
#pragma once

#include "wgmma/tile.cuh"

typedef float WgmmaRowAcc[COLUMNS / 2];
typedef WgmmaRowAcc WgmmaAcc[ROW_TILES];
constexpr int FOURS = COLUMNS / 8;  // of a row tile's accumulators, fours that a thread has

struct Consumer {
    const WgmmaArgs& args;
    WgmmaShared shared;
    int index;   // which consumer
    int thread;  // of the warpgroup
    PipelineState state;

    // Operands of a stage as descriptors: the rows' side and the columns'.
    DEVICE unsigned long long rows(int stage) const {
        unsigned operand = LAYOUT_NHWC ? shared.x(stage) : shared.w(stage);
        return wgmma_descriptor(operand + index * (CONSUMER_ROWS * ROW_BYTES), ROW_BYTES);
    }
    DEVICE unsigned long long columns(int stage) const {
        return wgmma_descriptor(LAYOUT_NHWC ? shared.w(stage) : shared.x(stage), ROW_BYTES);
    }

    // Adds the products of `STEPS` steps of a stage, from `first` on, to the accumulators or to
    // zero: one group.
    template <int STEPS, int ACCUMULATE>
    DEVICE void multiply_steps(WgmmaAcc& acc, int first) const {
        constexpr int ROWS_STEP = (LAYOUT_NHWC ? X_STEP_BYTES : W_STEP_BYTES) / 16;
        constexpr int COLUMNS_STEP = (LAYOUT_NHWC ? W_STEP_BYTES : X_STEP_BYTES) / 16;
        unsigned long long a = rows(state.stage) + first * ROWS_STEP,
                           b = columns(state.stage) + first * COLUMNS_STEP;
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < STEPS; ++step)
#pragma unroll
            for (int k = 0; k < ROW_BYTES / 32; ++k)
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i)
                    wgmma(acc[i], a + step * ROWS_STEP + i * (64 * ROW_BYTES / 16) + 2 * k,
                          b + step * COLUMNS_STEP + 2 * k, step > 0 || k > 0 ? 1 : ACCUMULATE);
        wgmma_commit_group();
    }

    // Adds a stage's products to the accumulators, or to zero. `steps`: how many of its steps
    // exist, at least one.
    template <int ACCUMULATE>
    DEVICE void multiply(WgmmaAcc& acc, int steps) const {
        if (STEPS_PER_STAGE == 1 || steps >= STEPS_PER_STAGE) {
            multiply_steps<STEPS_PER_STAGE, ACCUMULATE>(acc, 0);
        } else {
            multiply_steps<1, ACCUMULATE>(acc, 0);
#pragma unroll 1
            for (int step = 1; step < steps; ++step) multiply_steps<1, 1>(acc, step);
        }
    }

    DEVICE void consumer_release(int stage) const {
        if (thread % 32 == 0) mbarrier_arrive(shared.empty(stage));
    }

    // Computes the accumulators of the steps in `range`.
    DEVICE void main_loop(const KRange& range, WgmmaAcc& acc) {
        int left = range.count();
        consumer_wait(shared, state);
        multiply<0>(acc, left);
        int previous = state.stage;
        state.next();
#pragma unroll 1
        while ((left -= STEPS_PER_STAGE) > 0) {
            consumer_wait(shared, state);
            multiply<1>(acc, left);
            wgmma_wait_group<1>();  // the stage before has been read
            consumer_release(previous);
            previous = state.stage;
            state.next();
        }
        wgmma_wait_group<0>();
        consumer_release(previous);
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i) wgmma_fence_operand(acc[i]);
    }

    // Reads the accumulators that a block stored at `from`, or adds them, a few at a time:
    // registers are short.
    template <bool ADD>
    DEVICE void load_partial(unsigned long long from, WgmmaAcc& acc) const {
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int j = 0; j < FOURS; ++j) {
                float4 more = ld_global_cg_v4(from + (i * FOURS + j) * CONSUMER_THREADS * 16);
                float* v = &acc[i][4 * j];
                v[0] = ADD ? v[0] + more.x : more.x;
                v[1] = ADD ? v[1] + more.y : more.y;
                v[2] = ADD ? v[2] + more.z : more.z;
                v[3] = ADD ? v[3] + more.w : more.w;
            }
    }

    // Stores this split's accumulators to memory. True in the block that arrives last, whose
    // accumulators are then those of all partial tiles, added in their order.
    DEVICE bool add_split_k(const WorkTile& work, WgmmaAcc& acc) const {
        const TensorArgs& tensor = args.tensor;
        constexpr unsigned PARTIAL_BYTES = TILE_M * TILE_N * 4;
        unsigned long long first = __cvta_generic_to_global(tensor.partials) +
                                   static_cast<unsigned long long>(work.index) * tensor.split_k *
                                       PARTIAL_BYTES +
                                   (index * WARPGROUP_THREADS + thread) * 16;
        unsigned long long mine = first +
                                  static_cast<unsigned long long>(work.split) * PARTIAL_BYTES;
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int j = 0; j < FOURS; ++j) {
                const float* v = &acc[i][4 * j];
                st_global_v4(mine + (i * FOURS + j) * CONSUMER_THREADS * 16, v[0], v[1], v[2],
                             v[3]);
            }
        __threadfence();
        barrier_sync(CONSUMERS_BARRIER, CONSUMER_THREADS);
        if (index == 0 && thread == 0) {
            unsigned before = atomicAdd(&tensor.counters[work.index], 1u);
            bool last = before == static_cast<unsigned>(tensor.split_k - 1);
            if (last) tensor.counters[work.index] = 0;
            st_shared_u32(shared.last_split(), last ? 1u : 0u);
        }
        barrier_sync(CONSUMERS_BARRIER, CONSUMER_THREADS);
        if (!ld_shared_u32(shared.last_split())) return false;
        __threadfence();
        load_partial<false>(first, acc);
#pragma unroll 1
        for (int split = 1; split < tensor.split_k; ++split) {
            first += PARTIAL_BYTES;
            load_partial<true>(first, acc);
        }
        return true;
    }
};
