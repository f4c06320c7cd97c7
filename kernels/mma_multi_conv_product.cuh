// The main loop of mma_multi_conv.cu: as mma_loop.cuh, but what of a tile does not exist is not multiplied. The filters of a tile are
// dealt out to the warps by sixteens, so that those of a tile that is not full are shared by all of them: warp column v of V has
// the sixteens v, v + V, v + 2 V, ... Whoever multiplies leaves out rows of V sixteens beyond the last filter, and of the last
// block of channels the instructions beyond the last channel.
//
// Shared memory: as mma_loop.cuh and mma_epilogue.cuh; sixteen filters begin at a multiple of sixteen rows either way, so that
// neither ldmatrix nor the sums on their way out meet a bank twice.
// Barriers: as mma_loop.cuh. All conditions are the same in the whole block.
#pragma once

#include "mma_multi_conv.cuh"

static_assert(ROUNDS == 1, "the sums of a tile in one round");
static_assert(WARPS_COLUMNS == 2 && K_BYTES == 32, "src/plan/branches.rs: FILTERS, ROW_BYTES");

// What of a product's tile exists.
struct Extent {
    int pairs;   // of columns of the warps' instructions
    int whole;   // steps before the last block of channels, from the first of the block's on; may be negative
    int last;    // instructions along k of a step of the last block

    DEVICE Extent(const TensorArgs& args, const Tile& tile, const Steps& steps) {
        const ConvArgs& conv = args.conv;
        pairs = pairs_of(args, tile);
        int before = (conv.group_c + TILE_K - 1) / TILE_K - 1;
        whole = before * conv.r * conv.s - steps.first;
        last = ((conv.group_c - before * TILE_K) * ELEMENT + K_BYTES - 1) / K_BYTES;
    }
    // Instructions along k of a step of the block's.
    DEVICE int along_k(int step) const { return step < whole ? K_STEPS : last; }
};

// The first filter of a pair of columns of the thread's warp, in the tile.
DEVICE int pair_column(unsigned thread, int pair) { return (pair * WARPS_COLUMNS + thread / 32 % WARPS_COLUMNS) * 16; }

// As Reader and Fragment of mma_loop.cuh.
struct PairReader {
    unsigned x, w;

    DEVICE PairReader() {
        unsigned lane = threadIdx.x % 32, stages = shared_address(shared_bytes);
        x = stages + pixels_at(warp_row(threadIdx.x), lane);
        w = stages + filters_at(pair_column(threadIdx.x, 0), lane);
    }
    DEVICE void load(Fragment& fragment, int k, int pairs) const {
        unsigned x_at = x ^ (k * K_BYTES), w_at = w ^ (k * K_BYTES);
#pragma unroll
        for (int i = 0; i < MMA_ROWS; ++i) load_matrices(fragment.x[i], x_at + i * 16 * X_ROW);
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS / 2; ++j)
            if (j < pairs) load_matrices(fragment.w.v[j], w_at + j * WARPS_COLUMNS * 16 * W_ROW);
    }
    DEVICE void move(int bytes) {
        x += bytes;
        w += bytes;
    }
};

DEVICE void multiply_pairs(Fragment& fragment, Sums& sums, int pairs) {
#if KERNEL_MATH == 1
#pragma unroll
    for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) fragment.x[i][e] = to_tf32(fragment.x[i][e]);
#endif
#pragma unroll
    for (int j = 0; j < MMA_COLUMNS / 2; ++j)
        if (j < pairs) {
            unsigned(&w)[4] = fragment.w.v[j];
#if KERNEL_MATH == 1
#pragma unroll
            for (int e = 0; e < 4; ++e) w[e] = to_tf32(w[e]);
#endif
#pragma unroll
            for (int i = 0; i < MMA_ROWS; ++i) {
                multiply_add(sums[i][2 * j], fragment.x[i], w[0], w[1]);
                multiply_add(sums[i][2 * j + 1], fragment.x[i], w[2], w[3]);
            }
        }
}

// sums = the whole product.
template <class Filler>
DEVICE void branch_product(Filler& filler, const Extent& extent, int steps, Sums& sums) {
    clear(sums);
    unsigned to = shared_address(shared_bytes);
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; ++i) {
#pragma unroll
        for (int part = 0; part < PARTS; ++part) filler.part(part, to);
        commit();
        filler.end(to);
        to += STAGE_BYTES;
        __syncthreads();  // of the fillers' tables
    }
    wait<STAGES - 2>();
    __syncthreads();

    PairReader reader;
    Fragment fragments[2];
    reader.load(fragments[0], 0, extent.pairs);
    int left = STAGES - 1;  // stages from the one being read to the last
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        int along_k = extent.along_k(step);
#pragma unroll
        for (int k = 0; k < K_STEPS; ++k) {
            if (k == K_STEPS - 1) {
                filler.end(to);
                wait<STAGES - 2>();
                reader.move(left > 0 ? STAGE_BYTES : -(STAGES - 1) * STAGE_BYTES);
                left = left > 0 ? left - 1 : STAGES - 1;
                // The stage before the one being read: the one that this step has read.
                to += left == STAGES - 2 ? -(STAGES - 1) * STAGE_BYTES : STAGE_BYTES;
                __syncthreads();
            }
            if (k == K_STEPS - 1 || k + 1 < along_k) reader.load(fragments[(k + 1) % 2], (k + 1) % K_STEPS, extent.pairs);
            if (k < K_STEPS - 1) filler.part(k, to);
            if (k == K_STEPS - 2) commit();
            if (k < along_k) multiply_pairs(fragments[k % 2], sums, extent.pairs);
        }
    }
}

// As put_round() of mma_epilogue.cuh.
DEVICE void put_pairs(const Sums& sums, unsigned thread) {
    float* rows = reinterpret_cast<float*>(shared_bytes);
    int pixel = thread % 32 / 4 + warp_row(thread), filter = thread % 4 * 2;
#pragma unroll
    for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS; ++j) {
            const float(&s)[4] = sums[i][j];
            int n = i * 16 + pixel, m = pair_column(thread, j / 2) + j % 2 * 8 + filter;
            if (LAYOUT_NHWC) {
                unsigned at = shared_address(rows + n * PITCH + m);
                store_8(at, s[0], s[1]);
                store_8(at + 8 * PITCH * 4, s[2], s[3]);
            } else {
                float* at = rows + m * PITCH + n;
                at[0] = s[0];
                at[PITCH] = s[1];
                at[8] = s[2];
                at[PITCH + 8] = s[3];
            }
        }
}

// Writes the tile; barriers as epilogue() of mma_epilogue.cuh.
DEVICE void branch_epilogue(const TensorArgs& args, Sums& sums) {
    wait<0>();
    if (!add_parts(args, sums)) return;
    Tile tile(args);
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));  // read anew: the main loop has the registers for itself
    __syncthreads();
    put_pairs(sums, thread);
    __syncthreads();
    if (args.conv.y_vector)
        take_branch_rows<4>(branch_of(args), tile, thread);
    else
        take_branch_rows<1>(branch_of(args), tile, thread);
}
