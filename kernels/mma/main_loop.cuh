// The main loop of mma/mma.cu and mma/few_channels.cu: each step multiplies the TILE_K terms of one
// stage while the next are on their way.
//
// Barriers: one per step, between the last fragment read of a stage (its last terms were fetched
// into registers one instruction's worth earlier) and the refill of that stage; the same barrier,
// after the wait for the copies, makes the next stage readable.
#pragma once

#include "mma/loader.cuh"

constexpr int K_STEPS = W_ROW / K_BYTES;
static_assert(K_STEPS >= 2 && K_STEPS % 2 == 0, "operands alternate between two sets of registers");

// The operands of 32 bytes of k.
struct MmaFragment {
    unsigned x[MMA_ROWS][4];
    FilterOperand<MMA_COLUMNS> w;

    DEVICE void multiply(MmaAcc& acc) {
        w.convert();
#pragma unroll
        for (int i = 0; i < MMA_ROWS; ++i)
            multiply_row<MMA_COLUMNS>(acc[i], x[i], w, 0, MMA_COLUMNS);
    }
};

// The addresses that the warp's lanes read in a stage.
struct Reader {
    unsigned x, w;

    DEVICE Reader() {
        unsigned lane = threadIdx.x % 32, stages = shared_address(shared_bytes);
        x = stages + pixels_at(warp_row(threadIdx.x), lane);
        w = stages + filters_at(warp_column(threadIdx.x), lane);
    }
    DEVICE void load(MmaFragment& fragment, int k) const {
        unsigned x_at = x ^ (k * K_BYTES), w_at = w ^ (k * K_BYTES);
#pragma unroll
        for (int i = 0; i < MMA_ROWS; ++i) ldmatrix_x4(fragment.x[i], x_at + i * 16 * X_ROW);
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS / 2; ++j)
            ldmatrix_x4(fragment.w.v[j], w_at + j * 16 * W_ROW);
    }
    DEVICE void move(int bytes) {
        x += bytes;
        w += bytes;
    }
};

// accumulators = the whole product.
template <class Loader>
DEVICE void main_loop(Loader& loader, int steps, MmaAcc& acc) {
    clear(acc);
    unsigned to = shared_address(shared_bytes);
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; ++i) {
#pragma unroll
        for (int part = 0; part < PARTS; ++part) loader.part(part, to);
        if constexpr (HAS_CP_ASYNC) cp_async_commit_group();
        loader.end(to);
        to += STAGE_BYTES;
        __syncthreads();  // of the loaders' tables
    }
    if constexpr (HAS_CP_ASYNC) cp_async_wait_group<STAGES - 2>();
    __syncthreads();

    Reader reader;
    MmaFragment fragments[2];
    reader.load(fragments[0], 0);
    int left = STAGES - 1;  // stages from the one being read to the last
#pragma unroll 1
    for (; steps > 0; --steps) {
#pragma unroll
        for (int k = 0; k < K_STEPS; ++k) {
            if (k == K_STEPS - 1) {
                loader.end(to);
                if constexpr (HAS_CP_ASYNC) cp_async_wait_group<STAGES - 2>();
                reader.move(left > 0 ? STAGE_BYTES : -(STAGES - 1) * STAGE_BYTES);
                left = left > 0 ? left - 1 : STAGES - 1;
                // The stage before the one being read: the one that this step has read.
                to += left == STAGES - 2 ? -(STAGES - 1) * STAGE_BYTES : STAGE_BYTES;
                __syncthreads();
            }
            reader.load(fragments[(k + 1) % 2], (k + 1) % K_STEPS);
            if (k < K_STEPS - 1) loader.part(k, to);
            if (HAS_CP_ASYNC && k == K_STEPS - 2) cp_async_commit_group();
            fragments[k % 2].multiply(acc);
        }
    }
}
