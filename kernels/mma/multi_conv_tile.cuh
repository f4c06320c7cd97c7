// The scheduler, filters and epilogue of mma/multi_conv.cu, whose blocks work on one product of
// several: filters that come from several buffers, and results that go to several.
//
// Shared memory, beside what mma/tile.cuh and mma/pixel_loader_nhwc.cuh lay out: rows[TILE_M], 8
// bytes each, before the tables of the pixels: where each filter of the tile begins, 0 beyond the
// last. A filter's 16-byte chunks are copied by neighbouring lanes, which read the same word: at
// most four words per warp, neighbours or STEP apart in one row of banks.
#pragma once

#include "mma/epilogue.cuh"
#include "mma/main_loop.cuh"
#include "mma/multi_conv_args.cuh"

// Bytes of the pixels' tables: entries of two steps (NHWC), or those of mma/pooled_pixels.cuh.
constexpr int PIXEL_TABLES = (LAYOUT_NHWC ? 2 : 1) * TILE_N * 16;

static_assert(HAS_CP_ASYNC, "compute_80 and later");
static_assert(SHARED_BYTES >= STAGES * STAGE_BYTES + TILE_M * 8 + PIXEL_TABLES,
              "stages and tables");
static_assert(GROUPS_PER_TILE == 1, "products of one group");

DEVICE const ProductArgs& product_of(const TensorArgs& args) {
    return reinterpret_cast<const ProductArgs&>(args);  // its first member
}

// Grid: columns of tiles, one after the other: the blocks of all products that have the same pixels
// are neighbours and share x through L2. In a column the products follow each other, in a product
// the tiles along its filters, each as split_k blocks.
struct MultiConvScheduler {
    static DEVICE WorkTile tile(const TensorArgs& args) {
        const ProductArgs& product = product_of(args);
        unsigned block = ctaid_x();
        unsigned column = fast_div(block, product.by_column);
        unsigned place = block - column * product.by_column.divisor - product.first_block;
        unsigned tile_m = fast_div(place, args.by_split_k);
        WorkTile tile;
        tile.split = place - tile_m * args.split_k;
        tile.index = column * args.conv.tiles_m + tile_m;
        tile.group = 0;
        tile.m = tile_m * TILE_M;
        tile.n = column * TILE_N;
        return tile;
    }
};

// Pairs of columns of instructions that a warp multiplies: as many as the tile's filters need if
// all warps have equally many.
DEVICE int pairs_of(const TensorArgs& args, const WorkTile& tile) {
    constexpr int FILTERS = WARPS_COLUMNS * 16;
    return min((args.conv.group_k - tile.m + FILTERS - 1) / FILTERS, MMA_COLUMNS / 2);
}

// The convolution that a valid filter of the product belongs to.
DEVICE const MergedConv& merged_conv_of(const ProductArgs& product, int filter) {
    int i = 0;
#pragma unroll 1
    while (i + 1 < product.convolutions && filter >= product.merged[i].end) ++i;
    return product.merged[i];
}

// Filters, in place of mma/loader.cuh's: rows of w_channels wherever they lie.
struct MultiConvFilterLoader {
    static constexpr int CHUNKS = W_ROW / 16;
    static constexpr int STEP = THREADS / CHUNKS;  // filters between two copies of a thread
    static constexpr int COPIES = (TILE_M + STEP - 1) / STEP;
    static_assert(COPIES == 1 || STEP % 8 == 0,
                  "the swizzle is the same for all of a thread's filters");

    unsigned table;  // shared byte address of the row of the thread's first filter
    unsigned to;     // in a stage
    int channel;     // of its chunk, in a block
    int filters;     // of the tile that are multiplied; whole pairs of all warps

    // The caller's next barrier makes the table readable.
    DEVICE MultiConvFilterLoader(const TensorArgs& args, const WorkTile& tile) {
        const ProductArgs& product = product_of(args);
        unsigned rows = shared_address(shared_bytes) + SHARED_BYTES - PIXEL_TABLES - TILE_M * 8;
#pragma unroll 1
        for (int i = threadIdx.x; i < TILE_M; i += THREADS) {
            int filter = tile.m + i;
            address_t from = 0;
            if (filter < args.conv.group_k) {
                const MergedConv& merged = merged_conv_of(product, filter);
                from = global_address(static_cast<const storage_t*>(merged.w) +
                                      static_cast<long long>(filter - merged.first) *
                                          args.conv.w_k);
            }
            st_shared_u64(rows + i * 8, from);
        }
        int chunk = threadIdx.x % CHUNKS, row = threadIdx.x / CHUNKS;
        channel = chunk * CHUNK_ELEMENTS;
        filters = pairs_of(args, tile) * WARPS_COLUMNS * 16;
        to = X_BYTES + swizzled<W_ROW>(row, chunk);
        table = rows + row * 8;
    }
    static DEVICE bool in_tile(int i) {
        return i * STEP + STEP <= TILE_M || threadIdx.x / CHUNKS + i * STEP < TILE_M;
    }

    DEVICE void part(const TensorArgs& args, const MmaKIterator& now, int part, unsigned stage) {
        bool valid = now.left > 0 && now.channel + channel < args.w_channels;
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if (i >= share(COPIES, part) && i < share(COPIES, part + 1) && in_tile(i) &&
                i * STEP < filters) {
                address_t row = ld_shared_u64(table + i * STEP * 8);
                cp_async<16>(stage + to + i * STEP * W_ROW,
                             element(row, now.tap_offset + now.channel + channel),
                             valid && row != 0);
            }
    }
};

// Both operands.
template <class Pixels>
struct MultiConvLoader {
    const TensorArgs& args;
    MmaKIterator now;    // the step being filled
    MmaKIterator ahead;  // the next
    MultiConvFilterLoader filters;
    Pixels pixels;

    DEVICE MultiConvLoader(const TensorArgs& args, const WorkTile& tile)
        : args(args),
          now(args, k_range(args, tile)),
          ahead(now),
          filters(args, tile),
          pixels(args, tile) {
        pixels.start(args, now);
        __syncthreads();
        ahead.next(args.conv);
    }
    DEVICE void part(int part, unsigned stage) {
        pixels.part(args, now, ahead, part, stage);
        filters.part(args, now, part, stage);
    }
    DEVICE void end(unsigned stage) {
        pixels.end(stage);
        now = ahead;
        ahead.next(args.conv);
    }
};

// Finishes WIDTH elements of a convolution: filter `k` of it at `pixel`, and for NHWC the filters
// after it, for NCHW the pixels after it. As finish() of common/epilogue.cuh, whose operands are
// those of one convolution.
template <int WIDTH>
DEVICE void finish_merged(const MergedConv& to, FloatVec<WIDTH> values, const OutputPixel& pixel,
                          int k) {
    if (to.bias) {
        const storage_t* bias = static_cast<const storage_t*>(to.bias) + k;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) values.v[i] += to_float(bias[LAYOUT_NHWC ? i : 0]);
    }
    Vec<WIDTH> result;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
        result.v[i] = from_float(to.relu ? relu(values.v[i]) : values.v[i]);
    long long offset = pixel.offset(to.y_strides) +
                       static_cast<long long>(k) * to.y_strides.channel;
    *reinterpret_cast<Vec<WIDTH>*>(static_cast<storage_t*>(to.y) + offset) = result;
}

// As write_round() of mma/epilogue.cuh, all rows at once, each filter to its convolution.
template <int WIDTH>
DEVICE void write_product_rows(const ProductArgs& product, const WorkTile& tile, unsigned thread) {
    constexpr int ACROSS = TILE_INNER / WIDTH < THREADS ? TILE_INNER / WIDTH : THREADS;
    const ConvArgs& conv = product.tensor.conv;
    const float* rows = reinterpret_cast<const float*>(shared_bytes);
#pragma unroll 1
    for (int inner = thread % ACROSS * WIDTH; inner < TILE_INNER; inner += ACROSS * WIDTH) {
#pragma unroll 1
        for (int outer = thread / ACROSS; outer < TILE_OUTER; outer += THREADS / ACROSS) {
            int m = tile.m + (LAYOUT_NHWC ? inner : outer);
            unsigned n = tile.n + (LAYOUT_NHWC ? outer : inner);
            if (m >= conv.group_k || n >= conv.gemm_n) continue;
            const MergedConv& to = merged_conv_of(product, m);
            finish_merged<WIDTH>(
                to, *reinterpret_cast<const FloatVec<WIDTH>*>(rows + outer * PITCH + inner),
                OutputPixel(conv, n), m - to.first);
        }
    }
}
