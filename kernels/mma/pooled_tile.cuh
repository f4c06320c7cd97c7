// Pixels that are maxima, NHWC by chunks of 16 bytes: each cell is loaded into shared memory once
// per step and tile, and the maxima are taken from there. For images of a width up to which the
// cells fit; mma/pooled_pixels.cuh has those beyond.
//
// The pixels of a tile follow each other, so their 3x3 neighbours are the cells from width + 1
// before the first to width + 1 after the last, in the order of the pixels: cell i of the tile is
// pixel n - (width + 1) + i. A thread computes a chunk of STRIP pixels that follow each other: the
// maximum of each column of three cells once, then that of three columns. Where a pixel has no
// neighbour, because it lies at the edge of the image, its own cell, or no column, takes its place:
// padding of -infinity. A NaN gives NaN.
//
// Shared memory, in place of the stages: x[TILE_N][X_ROW], w[2][TILE_M][W_ROW],
// cells[2][CELLS][X_ROW], then the table of mma/multi_conv_tile.cuh and rows[CELLS], 8 bytes each:
// where each cell's channels begin, 0 where there is none. Rows of cells are not swizzled: eight
// lanes copy, and read, the eight chunks of one row. They write a row of x, swizzled, the same way.
// Barriers, two per step: one after the wait for the copies: the step's cells and filters can be
// read, and those of the step before, and x, are read; and one between the maxima's stores into x
// and its reading.
#pragma once

#include "mma/multi_conv_loop.cuh"
#include "mma/pooled_pixels.cuh"

template <int ROW>
struct PooledTile {
    static constexpr int CHUNKS = ROW / 16;
    static constexpr int STEP = THREADS / CHUNKS;  // cells between two copies of a thread
    static constexpr int STRIP = TILE_N / STEP;    // pixels of a thread
    static constexpr int CELL_BYTES = (STAGES * STAGE_BYTES - X_BYTES - 2 * W_BYTES) / 2 / 128 *
                                      128;
    static constexpr int CELLS = CELL_BYTES / ROW;
    static constexpr int UP = 1, DOWN = 2, LEFT = 4, RIGHT = 8;
    static_assert(TILE_N % STEP == 0 && STRIP <= 8, "four bits per pixel in a register");
    static_assert(CELLS * 8 <= PIXEL_TABLES, "the table of cells");
    static_assert(ROW == 128 && W_ROW == 128, "eight chunks per row");
    static_assert(CELLS == (STAGES * (TILE_N + TILE_M) - TILE_N - 2 * TILE_M) / 2,
                  "src/kernels/multi_conv: pooled_cells");

    unsigned stages;
    unsigned edges;  // the neighbours that the thread's pixels have, four bits per pixel
    int count;       // cells that are loaded
    int bytes;       // from the thread's chunk of block 0 to the end of the channels
    int row;         // bytes from a cell to the one below

    // True if all cells fit; the planner tests the same.
    static DEVICE bool fits(const ConvArgs& conv) { return TILE_N + 2 * (conv.width + 1) <= CELLS; }
    static DEVICE unsigned table() {
        return shared_address(shared_bytes) + SHARED_BYTES - PIXEL_TABLES;
    }
    DEVICE unsigned cells(int turn) const {
        return stages + X_BYTES + 2 * W_BYTES + turn * CELL_BYTES;
    }

    // The caller's next barrier makes the table readable.
    DEVICE PooledTile(const TensorArgs& args, const WorkTile& tile) {
        const ConvArgs& conv = args.conv;
        stages = shared_address(shared_bytes);
        count = TILE_N + 2 * (conv.width + 1);
        bytes = conv.group_c * ELEMENT_BYTES - threadIdx.x % CHUNKS * 16;
        row = conv.width * ROW;
        address_t x = global_address(conv.x);
#pragma unroll 1
        for (int i = threadIdx.x; i < count; i += THREADS) {
            // Before the first it wraps to what is beyond the last.
            unsigned n = tile.n + i - (conv.width + 1);
            address_t from = 0;
            if (n < conv.gemm_n) {
                unsigned image = fast_div(n, conv.by_pq);
                from = element(
                    x + static_cast<long long>(image) * conv.x_strides.image * ELEMENT_BYTES,
                    (n - image * (conv.p * conv.q)) * conv.x_strides.pixel);
            }
            st_shared_u64(table() + i * 8, from);
        }
        edges = 0;
#pragma unroll 1
        for (int i = 0; i < STRIP; ++i) {
            Pixel pixel(conv, x, tile.n + threadIdx.x / CHUNKS * STRIP + i);
            unsigned flags = 0;
            if (pixel.row != Pixel::NONE)
                flags = (pixel.row > 0 ? UP : 0) | (pixel.row + 1 < conv.h ? DOWN : 0) |
                        (pixel.column > 0 ? LEFT : 0) | (pixel.column + 1 < conv.width ? RIGHT : 0);
            edges |= flags << (4 * i);
        }
    }
    DEVICE void copy(int channel, int turn) const {
        int chunk = threadIdx.x % CHUNKS, left = min(max(bytes - channel * ELEMENT_BYTES, 0), 16);
#pragma unroll 4
        for (int i = threadIdx.x / CHUNKS; i < count; i += STEP) {
            address_t from = ld_shared_u64(table() + i * 8);
            cp_async_zfill<16>(cells(turn) + i * ROW + chunk * 16,
                               element(from, channel) + chunk * 16, from != 0 ? left : 0);
        }
    }
    static DEVICE uint4 max_nan_v4(uint4 a, uint4 b) {
        return make_uint4(max_nan(a.x, b.x), max_nan(a.y, b.y), max_nan(a.z, b.z),
                          max_nan(a.w, b.w));
    }
    // Of the cell and those above and below that its pixel, or the neighbour in whose place it
    // stands, has.
    DEVICE uint4 column(unsigned cell, unsigned flags) const {
        uint4 up = ld_shared_v4(flags & UP ? cell - row : cell), center = ld_shared_v4(cell),
              down = ld_shared_v4(flags & DOWN ? cell + row : cell);
        return max_nan_v4(max_nan_v4(up, center), down);
    }
    DEVICE void pool(int turn) const {
        int first = threadIdx.x / CHUNKS * STRIP, chunk = threadIdx.x % CHUNKS;
        unsigned cell = cells(turn) + first * ROW + row + ROW + chunk * 16;
        uint4 before = column(cell - ROW, edges), center = column(cell, edges);
#pragma unroll
        for (int i = 0; i < STRIP; ++i) {
            unsigned flags = edges >> (4 * i);
            cell += ROW;
            uint4 after = column(cell, i + 1 < STRIP ? flags >> 4 : flags);
            uint4 best = center;
            if (flags & LEFT) best = max_nan_v4(best, before);
            if (flags & RIGHT) best = max_nan_v4(best, after);
            st_shared_v4(stages + swizzled<ROW>(first + i, chunk), best);
            before = center;
            center = after;
        }
    }
};

// accumulators = the whole product of a pooled tile.
template <class Pooled>
DEVICE void pooled_main_loop(const TensorArgs& args, const WorkTile& tile, MmaAcc& acc) {
    KRange steps = k_range(args, tile);
    Extent extent(args, tile, steps);
    Pooled pixels(args, tile);
    MultiConvFilterLoader filters(args, tile);
    MmaKIterator walk(args, steps);
    auto fill = [&](int turn) {
        pixels.copy(walk.channel, turn);
#pragma unroll
        for (int part = 0; part < PARTS; ++part)
            filters.part(args, walk, part, pixels.stages + turn * W_BYTES);
        cp_async_commit_group();
        walk.next(args.conv);
    };
    clear(acc);
    __syncthreads();
    fill(0);
    PairReader reader;
    int turn = 0;
#pragma unroll 1
    for (int step = 0; step < steps.count(); ++step) {
        int along_k = extent.along_k(step);
        cp_async_wait_group<0>();
        __syncthreads();
        if (walk.left > 0) fill(turn ^ 1);
        pixels.pool(turn);
        __syncthreads();
        PairReader from = reader;
        from.w += turn * W_BYTES;
#pragma unroll 1
        for (int k = 0; k < along_k; ++k) {
            MmaFragment fragment;
            from.load(fragment, k, extent.pairs);
            multiply_pairs(fragment, acc, extent.pairs);
        }
        turn ^= 1;
    }
}
