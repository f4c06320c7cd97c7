// Pixels that are maxima: x is loaded into the stages of mma/multi_conv.cu as the maximum of the
// 3x3 cells around each pixel (stride 1, padding of -infinity; a NaN among them gives NaN), for a
// 1x1 convolution behind such a pooling. For NCHW, for copies under 16 bytes (VECTOR_BYTES 2 or 4)
// and for images too wide for PooledTile::fits; mma/pooled_tile.cuh has the others, by fewer loads.
//
// A thread loads the nine cells of a copy of channels into registers, takes the maximum and stores
// it into the stage.
// NHWC: copies of 16 bytes (VECTOR_BYTES 16, wide images) or of 4, neighbouring lanes along a
// pixel's row.
// NCHW: a thread has the channels of a chunk, neighbouring lanes have neighbouring pixels. The
// stores have no bank conflict, as those of PixelLoaderNhwc. Neighbours' cells come from the L1
// cache.
//
// Shared memory: entries[TILE_N], 16 bytes each, the last of the block's: where a pixel's row
// begins and which of its neighbours exist. They do not change, as there is one tap; the barrier
// after start() makes them readable.
#pragma once

#include "mma/multi_conv_tile.cuh"
#include "ptx/max.cuh"

struct PooledPixels {
    static constexpr int COPY_BYTES = LAYOUT_NHWC ? (VECTOR_BYTES < 4 ? 4 : VECTOR_BYTES) : 16;
    static constexpr int COPIES_PER_ROW = X_ROW / COPY_BYTES;
    // NHWC: pixels between two of a thread's copies.
    static constexpr int STEP = LAYOUT_NHWC ? THREADS / COPIES_PER_ROW : THREADS;
    static constexpr int COPIES = TILE_N * COPIES_PER_ROW / THREADS;
    static constexpr int WORDS = COPY_BYTES / 4;        // registers of a copy
    static constexpr int PER_WORD = 4 / ELEMENT_BYTES;  // elements of a register
    static constexpr int UP = 1, DOWN = 2, LEFT = 4, RIGHT = 8, HERE = 16;
    static_assert(COPY_BYTES == 4 || COPY_BYTES == 16, "through registers: 4 or 16 bytes");
    static_assert(TILE_N * COPIES_PER_ROW % THREADS == 0, "every column once");
    static_assert(LAYOUT_NHWC || TILE_N % 32 == 0, "a warp's pixels are neighbours");

    int channels;  // elements of the product's channels

    static DEVICE unsigned table() {
        return shared_address(shared_bytes) + SHARED_BYTES - TILE_N * 16;
    }

    DEVICE PooledPixels(const TensorArgs& args, const WorkTile& tile) {
        const ConvArgs& conv = args.conv;
        channels = conv.group_c;
#pragma unroll 1
        for (int i = threadIdx.x; i < TILE_N; i += THREADS) {
            Pixel pixel(conv, global_address(conv.x), tile.n + i);
            unsigned flags = 0;
            if (pixel.row != Pixel::NONE)
                flags = HERE | (pixel.row > 0 ? UP : 0) | (pixel.row + 1 < conv.h ? DOWN : 0) |
                        (pixel.column > 0 ? LEFT : 0) | (pixel.column + 1 < conv.width ? RIGHT : 0);
            unsigned place = (pixel.row * conv.width + pixel.column) * x_pixel(conv);
            st_shared_v2_u64(table() + i * 16, element(pixel.image, place), flags);
        }
    }
    DEVICE void start(const TensorArgs&, const MmaKIterator&) {}
    DEVICE void end(unsigned) {}

    DEVICE void part(const TensorArgs& args, const MmaKIterator& now, const MmaKIterator&, int part,
                     unsigned stage) {
#pragma unroll 1
        for (int i = share(COPIES, part); i < share(COPIES, part + 1); ++i) {
            int index = threadIdx.x + i * THREADS;
            int row = LAYOUT_NHWC ? index / COPIES_PER_ROW : index % TILE_N,
                column = LAYOUT_NHWC ? index % COPIES_PER_ROW : index / TILE_N;
            ulonglong2 words = ld_shared_v2_u64(table() + row * 16);
            address_t from = words.x;
            unsigned long long flags = words.y;
            int channel = now.channel + column * (COPY_BYTES / ELEMENT_BYTES);
            // Channels of the copy and after it.
            int left = now.left > 0 && (flags & HERE) ? channels - channel : 0;
            unsigned best[WORDS] = {};
            if (LAYOUT_NHWC && COPY_BYTES == 16 && left >= COPY_BYTES / ELEMENT_BYTES)
                max_of_vector(args.conv, from + channel * ELEMENT_BYTES,
                              static_cast<unsigned>(flags), best);
            else if (left > 0)
                max_of_elements(args.conv, strided(from, args.conv.x_strides.channel, channel),
                                static_cast<unsigned>(flags), left, best);
            unsigned at = stage + swizzled<X_ROW>(row, column * COPY_BYTES / 16) +
                          column * COPY_BYTES % 16;
            if (COPY_BYTES == 16)
                st_shared_v4(at, make_uint4(best[0], best[WORDS > 1 ? 1 : 0],
                                            best[WORDS > 2 ? 2 : 0], best[WORDS > 3 ? 3 : 0]));
            else
                st_shared_u32(at, best[0]);
        }
    }
    static DEVICE bool valid(unsigned flags, int down, int right) {
        unsigned needs = (down < 0   ? UP
                          : down > 0 ? DOWN
                                     : 0) |
                         (right < 0   ? LEFT
                          : right > 0 ? RIGHT
                                      : 0);
        return (flags & needs) == needs;
    }
    // From a cell to a neighbour, in bytes.
    static DEVICE long long away(const ConvArgs& conv, int down, int right) {
        return static_cast<long long>(down * conv.width + right) * (x_pixel(conv) * ELEMENT_BYTES);
    }
    // All channels of the copy, 16 bytes, at once.
    DEVICE void max_of_vector(const ConvArgs& conv, address_t from, unsigned flags,
                              unsigned (&best)[WORDS]) const {
        uint4 top = make_uint4(MINUS_INFINITY, MINUS_INFINITY, MINUS_INFINITY, MINUS_INFINITY);
        address_t row = from + away(conv, -1, 0);
        int column = away(conv, 0, 1);
#pragma unroll 1  // nine cells at once are more registers than the accumulators leave
        for (int down = -1; down <= 1; ++down, row += away(conv, 1, 0)) {
            uint4 cells[3];
#pragma unroll
            for (int right = -1; right <= 1; ++right)
                cells[right + 1] = ld_global_v4_or<MINUS_INFINITY>(row + right * column,
                                                                   valid(flags, down, right));
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                top.x = max_nan(top.x, cells[i].x);
                top.y = max_nan(top.y, cells[i].y);
                top.z = max_nan(top.z, cells[i].z);
                top.w = max_nan(top.w, cells[i].w);
            }
        }
        const unsigned all[4] = {top.x, top.y, top.z, top.w};
#pragma unroll
        for (int i = 0; i < WORDS; ++i) best[i] = all[i];
    }
    // Channel by channel; those beyond the last are zero.
    DEVICE void max_of_elements(const ConvArgs& conv, address_t from, unsigned flags, int left,
                                unsigned (&best)[WORDS]) const {
#pragma unroll
        for (int word = 0; word < WORDS; ++word) {
            unsigned parts[PER_WORD];
#pragma unroll
            for (int e = 0; e < PER_WORD; ++e) {
                int channel = word * PER_WORD + e;
                address_t at = strided(from, conv.x_strides.channel, channel);
                unsigned top = MINUS_INFINITY;
#pragma unroll 1
                for (int down = -1; down <= 1; ++down)
#pragma unroll
                    for (int right = -1; right <= 1; ++right)
                        top = max_nan(top, ld_global_element_or<MINUS_INFINITY>(
                                               at + away(conv, down, right),
                                               channel < left && valid(flags, down, right)));
                parts[e] = channel < left ? top : 0;
            }
            best[word] = PER_WORD == 1 ? parts[0] : pack_u16(parts[0], parts[PER_WORD - 1]);
        }
    }
};
