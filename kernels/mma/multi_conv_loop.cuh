// The main loop of mma/multi_conv.cu: as mma/main_loop.cuh, but the padding of a partial tile is
// not multiplied. Filters are distributed to the warps by sixteens, so that all warps share those
// of a partial tile: warp column v of V has the sixteens v, v + V, v + 2 V, ... A warp skips rows
// of V sixteens beyond the last filter, and in the last block of channels the instructions beyond
// the last channel.
//
// Shared memory: as mma/main_loop.cuh and mma/epilogue.cuh; sixteen filters begin at a multiple of
// sixteen rows either way, so that neither ldmatrix nor the accumulators on their way out have a
// bank conflict.
// Barriers: as mma/main_loop.cuh. All conditions are the same in the whole block.
#pragma once

#include "mma/multi_conv_tile.cuh"

static_assert(ROUNDS == 1, "the accumulators of a tile in one round");
static_assert(WARPS_COLUMNS == 2 && K_BYTES == 32, "src/kernels/multi_conv: FILTERS");

// The valid part of a product's tile.
struct Extent {
    int pairs;  // of columns of the warps' instructions
    // Steps before the last block of channels, from the first of the block's on; may be negative.
    int whole;
    int last;  // instructions along k of a step of the last block

    DEVICE Extent(const TensorArgs& args, const WorkTile& tile, const KRange& steps) {
        const ConvArgs& conv = args.conv;
        pairs = pairs_of(args, tile);
        int before = (conv.group_c + TILE_K - 1) / TILE_K - 1;
        whole = before * conv.r * conv.s - steps.first;
        last = ((conv.group_c - before * TILE_K) * ELEMENT_BYTES + K_BYTES - 1) / K_BYTES;
    }
    // Instructions along k of a step of the block's.
    DEVICE int along_k(int step) const { return step < whole ? K_STEPS : last; }
};

// The first filter of a pair of columns of the thread's warp, in the tile.
DEVICE int pair_column(unsigned thread, int pair) {
    return (pair * WARPS_COLUMNS + thread / 32 % WARPS_COLUMNS) * 16;
}

// As Reader and MmaFragment of mma/main_loop.cuh.
struct PairReader {
    unsigned x, w;

    DEVICE PairReader() {
        unsigned lane = threadIdx.x % 32, stages = shared_address(shared_bytes);
        x = stages + pixels_at(warp_row(threadIdx.x), lane);
        w = stages + filters_at(pair_column(threadIdx.x, 0), lane);
    }
    DEVICE void load(MmaFragment& fragment, int k, int pairs) const {
        unsigned x_at = x ^ (k * K_BYTES), w_at = w ^ (k * K_BYTES);
#pragma unroll
        for (int i = 0; i < MMA_ROWS; ++i) ldmatrix_x4(fragment.x[i], x_at + i * 16 * X_ROW);
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS / 2; ++j)
            if (j < pairs) ldmatrix_x4(fragment.w.v[j], w_at + j * WARPS_COLUMNS * 16 * W_ROW);
    }
    DEVICE void move(int bytes) {
        x += bytes;
        w += bytes;
    }
};

DEVICE void multiply_pairs(MmaFragment& fragment, MmaAcc& acc, int pairs) {
    if constexpr (MATH == Math::TF32) {
#pragma unroll
        for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e) fragment.x[i][e] = cvt_rna_tf32(fragment.x[i][e]);
    }
#pragma unroll
    for (int j = 0; j < MMA_COLUMNS / 2; ++j)
        if (j < pairs) {
            unsigned (&w)[4] = fragment.w.v[j];
            if constexpr (MATH == Math::TF32) {
#pragma unroll
                for (int e = 0; e < 4; ++e) w[e] = cvt_rna_tf32(w[e]);
            }
#pragma unroll
            for (int i = 0; i < MMA_ROWS; ++i) {
                mma(acc[i][2 * j], fragment.x[i], w[0], w[1]);
                mma(acc[i][2 * j + 1], fragment.x[i], w[2], w[3]);
            }
        }
}

// accumulators = the whole product.
template <class Loader>
DEVICE void multi_conv_main_loop(Loader& loader, const Extent& extent, int steps, MmaAcc& acc) {
    clear(acc);
    unsigned to = shared_address(shared_bytes);
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; ++i) {
#pragma unroll
        for (int part = 0; part < PARTS; ++part) loader.part(part, to);
        cp_async_commit_group();
        loader.end(to);
        to += STAGE_BYTES;
        __syncthreads();  // of the loaders' tables
    }
    cp_async_wait_group<STAGES - 2>();
    __syncthreads();

    PairReader reader;
    MmaFragment fragments[2];
    reader.load(fragments[0], 0, extent.pairs);
    int left = STAGES - 1;  // stages from the one being read to the last
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        int along_k = extent.along_k(step);
#pragma unroll
        for (int k = 0; k < K_STEPS; ++k) {
            if (k == K_STEPS - 1) {
                loader.end(to);
                cp_async_wait_group<STAGES - 2>();
                reader.move(left > 0 ? STAGE_BYTES : -(STAGES - 1) * STAGE_BYTES);
                left = left > 0 ? left - 1 : STAGES - 1;
                // The stage before the one being read: the one that this step has read.
                to += left == STAGES - 2 ? -(STAGES - 1) * STAGE_BYTES : STAGE_BYTES;
                __syncthreads();
            }
            if (k == K_STEPS - 1 || k + 1 < along_k)
                reader.load(fragments[(k + 1) % 2], (k + 1) % K_STEPS, extent.pairs);
            if (k < K_STEPS - 1) loader.part(k, to);
            if (k == K_STEPS - 2) cp_async_commit_group();
            if (k < along_k) multiply_pairs(fragments[k % 2], acc, extent.pairs);
        }
    }
}

// As store_round() of mma/epilogue.cuh.
DEVICE void store_pairs(const MmaAcc& acc, unsigned thread) {
    float* rows = reinterpret_cast<float*>(shared_bytes);
    int pixel = thread % 32 / 4 + warp_row(thread), filter = thread % 4 * 2;
#pragma unroll
    for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS; ++j) {
            const float (&s)[4] = acc[i][j];
            int n = i * 16 + pixel, m = pair_column(thread, j / 2) + j % 2 * 8 + filter;
            if (LAYOUT_NHWC) {
                unsigned at = shared_address(rows + n * PITCH + m);
                st_shared_v2_f32(at, s[0], s[1]);
                st_shared_v2_f32(at + 8 * PITCH * 4, s[2], s[3]);
            } else {
                float* at = rows + m * PITCH + n;
                at[0] = s[0];
                at[PITCH] = s[1];
                at[8] = s[2];
                at[PITCH + 8] = s[3];
            }
        }
}

// Writes the tile; barriers as epilogue() of mma/epilogue.cuh.
DEVICE void multi_conv_epilogue(const TensorArgs& args, MmaAcc& acc) {
    cp_async_wait_group<0>();
    if (!add_split_k<MultiConvScheduler>(args, acc)) return;
    WorkTile tile = MultiConvScheduler::tile(args);
    unsigned thread = tid_x();
    __syncthreads();
    store_pairs(acc, thread);
    __syncthreads();
    if (args.conv.y_vector)
        write_product_rows<4>(product_of(args), tile, thread);
    else
        write_product_rows<1>(product_of(args), tile, thread);
}
