// Pixels that are maxima, NHWC by pieces of 16 bytes: each cell is brought into shared memory once a step and a tile, and the maxima
// are taken from there. For images of a width up to which the cells fit; mma_pooled.cuh has those beyond.
//
// The pixels of a tile follow each other, so their 3x3 neighbours are the cells from width + 1 before the first to width + 1 after
// the last, in the order of the pixels: cell i of the tile is pixel n - (width + 1) + i. A thread takes a piece of STRIP pixels that
// follow each other: the maximum of each column of three cells once, then that of three columns. Where a pixel has no neighbour,
// because it lies at the edge of the image, its own cell, or no column, takes its place: padding of -infinity. A NaN gives NaN.
//
// Shared memory, in place of the stages: x[TILE_N][X_ROW], w[2][TILE_M][W_ROW], cells[2][CELLS][X_ROW], then the table of
// mma_multi_conv.cuh and rows[CELLS], 8 bytes each: where each cell's channels begin, 0 where there is none. Rows of cells are not
// swizzled: eight lanes copy, and read, the eight pieces of one row. They write a row of x, swizzled, the same way.
// Barriers, two a step: one after the wait for the copies: the step's cells and filters can be read, and those of the step before,
// and x, are read; and one between the maxima's stores into x and its reading.
#pragma once

#include "mma_multi_conv_product.cuh"
#include "mma_pooled.cuh"

struct PooledTile {
    static constexpr int PIECES = X_ROW / 16;
    static constexpr int STEP = THREADS / PIECES;  // cells between two copies of a thread
    static constexpr int STRIP = TILE_N / STEP;    // pixels of a thread
    static constexpr int CELL_BYTES = (STAGES * STAGE_BYTES - X_BYTES - 2 * W_BYTES) / 2 / 128 * 128;
    static constexpr int CELLS = CELL_BYTES / X_ROW;
    static constexpr int UP = 1, DOWN = 2, LEFT = 4, RIGHT = 8;
    static_assert(TILE_N % STEP == 0 && STRIP <= 8, "four bits a pixel in a register");
    static_assert(CELLS * 8 <= PIXEL_TABLES, "the table of cells");
    static_assert(X_ROW == 128 && W_ROW == 128, "eight pieces a row");
    static_assert(CELLS == (STAGES * (TILE_N + TILE_M) - TILE_N - 2 * TILE_M) / 2, "src/plan/branches.rs: pooled_cells");

    unsigned stages;
    unsigned edges;  // the neighbours that the thread's pixels have, four bits a pixel
    int count;       // cells that are brought
    int bytes;       // from the thread's piece of block 0 to the end of the channels
    int row;         // bytes from a cell to the one below

    // Whether all cells have room; src/plan/branches.rs asks the same.
    static DEVICE bool fits(const ConvArgs& conv) { return TILE_N + 2 * (conv.width + 1) <= CELLS; }
    static DEVICE unsigned table() { return shared_address(shared_bytes) + SHARED_BYTES - PIXEL_TABLES; }
    DEVICE unsigned cells(int turn) const { return stages + X_BYTES + 2 * W_BYTES + turn * CELL_BYTES; }

    // The caller's next barrier makes the table readable.
    DEVICE PooledTile(const TensorArgs& args, const Tile& tile) {
        const ConvArgs& conv = args.conv;
        stages = shared_address(shared_bytes);
        count = TILE_N + 2 * (conv.width + 1);
        bytes = conv.group_c * ELEMENT - threadIdx.x % PIECES * 16;
        row = conv.width * X_ROW;
        address_t x = global_address(conv.x);
#pragma unroll 1
        for (int i = threadIdx.x; i < count; i += THREADS) {
            unsigned n = tile.n + i - (conv.width + 1);  // before the first it wraps to what is beyond the last
            address_t from = 0;
            if (n < conv.gemm_n) {
                unsigned image = fast_div(n, conv.by_pq);
                from = element(x + static_cast<long long>(image) * conv.x_strides.image * ELEMENT,
                               (n - image * (conv.p * conv.q)) * conv.x_strides.pixel);
            }
            asm volatile("st.shared.u64 [%0], %1;" ::"r"(table() + i * 8), "l"(from) : "memory");
        }
        edges = 0;
#pragma unroll 1
        for (int i = 0; i < STRIP; ++i) {
            Pixel pixel(conv, x, tile.n + threadIdx.x / PIECES * STRIP + i);
            unsigned flags = 0;
            if (pixel.row != Pixel::NONE)
                flags = (pixel.row > 0 ? UP : 0) | (pixel.row + 1 < conv.h ? DOWN : 0) | (pixel.column > 0 ? LEFT : 0) |
                        (pixel.column + 1 < conv.width ? RIGHT : 0);
            edges |= flags << (4 * i);
        }
    }
    DEVICE void copy(int channel, int turn) const {
        int piece = threadIdx.x % PIECES, left = min(max(bytes - channel * ELEMENT, 0), 16);
#pragma unroll 4
        for (int i = threadIdx.x / PIECES; i < count; i += STEP) {
            address_t from;
            asm volatile("ld.shared.u64 %0, [%1];" : "=l"(from) : "r"(table() + i * 8) : "memory");
            copy_part_async<16>(cells(turn) + i * X_ROW + piece * 16, element(from, channel) + piece * 16, from != 0 ? left : 0);
        }
    }
    static DEVICE uint4 load(unsigned from) {
        uint4 value;
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                     : "r"(from)
                     : "memory");
        return value;
    }
    static DEVICE uint4 larger_of(uint4 a, uint4 b) {
        return make_uint4(larger(a.x, b.x), larger(a.y, b.y), larger(a.z, b.z), larger(a.w, b.w));
    }
    // Of the cell and those above and below that its pixel, or the neighbour in whose place it stands, has.
    DEVICE uint4 column(unsigned cell, unsigned flags) const {
        uint4 up = load(flags & UP ? cell - row : cell), here = load(cell), down = load(flags & DOWN ? cell + row : cell);
        return larger_of(larger_of(up, here), down);
    }
    DEVICE void pool(int turn) const {
        int first = threadIdx.x / PIECES * STRIP, piece = threadIdx.x % PIECES;
        unsigned cell = cells(turn) + first * X_ROW + row + X_ROW + piece * 16;
        uint4 before = column(cell - X_ROW, edges), here = column(cell, edges);
#pragma unroll
        for (int i = 0; i < STRIP; ++i) {
            unsigned flags = edges >> (4 * i);
            cell += X_ROW;
            uint4 after = column(cell, i + 1 < STRIP ? flags >> 4 : flags);
            uint4 best = here;
            if (flags & LEFT) best = larger_of(best, before);
            if (flags & RIGHT) best = larger_of(best, after);
            store_16(stages + swizzled<X_ROW>(first + i, piece), best);
            before = here;
            here = after;
        }
    }
};

// sums = the whole product of a pooled tile.
DEVICE void pooled_product(const TensorArgs& args, const Tile& tile, Sums& sums) {
    Steps steps(args, tile);
    Extent extent(args, tile, steps);
    PooledTile pixels(args, tile);
    BranchFilters filters(args, tile);
    Walk walk(args, steps);
    auto fill = [&](int turn) {
        pixels.copy(walk.channel, turn);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) filters.part(args, walk, part, pixels.stages + turn * W_BYTES);
        commit();
        walk.next(args.conv);
    };
    clear(sums);
    __syncthreads();
    fill(0);
    PairReader reader;
    int turn = 0;
#pragma unroll 1
    for (int step = 0; step < steps.count; ++step) {
        int along_k = extent.along_k(step);
        wait<0>();
        __syncthreads();
        if (walk.left > 0) fill(turn ^ 1);
        pixels.pool(turn);
        __syncthreads();
        PairReader from = reader;
        from.w += turn * W_BYTES;
#pragma unroll 1
        for (int k = 0; k < along_k; ++k) {
            Fragment fragment;
            from.load(fragment, k, extent.pairs);
            multiply_pairs(fragment, sums, extent.pairs);
        }
        turn ^= 1;
    }
}
