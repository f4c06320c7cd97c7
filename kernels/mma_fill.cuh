// How filters and pixels come into the stages of mma.cu and mma_small_groups.cu.
//
// gemm_k runs through blocks of TILE_K channels, and in each block through all filter taps (r, s), one tap of one block a
// step: what the taps of a block share of x stays in the caches. Both operands are zero where the channel is beyond the
// group's last; x is zero in the padding and the product still formed, so an infinity or NaN in w gives NaN at the border, as
// in PyTorch. Filters and pixels beyond the last are zero, and their sums are dropped. Beyond the last step everything is zero
// and nothing is read.
//
// A filler has part(i, stage), called with i = 0 .. PARTS - 1 in each step, which starts copies into the stage at `stage` (a
// shared byte address) or loads into registers, and end(stage), the last call of a step. What goes through registers is loaded
// in halves where there is more than one part: a half is stored where the next is loaded, the last of a step in the step after
// it, of which a pipeline of three stages or more knows nothing. With two stages it is stored by end().
#pragma once

#include "mma_tile.cuh"

constexpr int PARTS = W_ROW / K_BYTES > 1 ? W_ROW / K_BYTES - 1 : 1;
constexpr bool LATE = STAGES >= 3;                     // stores of a step may come in the next
constexpr int HALVES = PARTS > 1 && LATE ? 2 : 1;

// The share of part `i` in `count` things: share(count, i) .. share(count, i + 1).
constexpr DEVICE int share(int count, int i) { return count * i / PARTS; }
// The half that part `i` loads, or -1.
constexpr DEVICE int half_of(int i) { return i == 0 ? 0 : HALVES == 2 && i == PARTS - 1 ? 1 : -1; }

// Where the walk through gemm_k is.
struct Walk {
    int row, column;  // r * dilation_h, s * dilation_w
    int channel;      // first of the block
    int tap_offset;   // of w: the tap
    int left;         // steps to go

    DEVICE Walk() {}
    DEVICE Walk(const TensorArgs& args, const Steps& steps) {
        const ConvArgs& conv = args.conv;
        int taps = conv.r * conv.s, block = steps.first / taps, tap = steps.first - block * taps;
        int r = tap / conv.s, s = tap - r * conv.s;
        row = r * conv.dilation_h;
        column = s * conv.dilation_w;
        channel = block * TILE_K;
        tap_offset = tap * conv.w_tap;
        left = steps.count;
    }
    DEVICE void next(const ConvArgs& conv) {
        --left;
        tap_offset += conv.w_tap;
        column += conv.dilation_w;
        if (column == conv.s * conv.dilation_w) {
            column = 0;
            row += conv.dilation_h;
            if (row == conv.r * conv.dilation_h) {
                row = 0;
                tap_offset = 0;
                channel += TILE_K;
            }
        }
    }
};

// What must be known of an output pixel.
struct Pixel {
    address_t image;  // of x[n][first channel of the group][0][0]
    int row, column;  // of tap (0, 0), negative in the padding; beyond the last pixel no tap is inside

    static constexpr int NONE = -0x7fffffff - 1;  // no padded image has as many rows

    DEVICE Pixel() {}
    DEVICE Pixel(const ConvArgs& conv, address_t x, unsigned n) {
        bool exists = n < conv.gemm_n;
        n = exists ? n : 0;
        unsigned index = fast_div(n, conv.by_pq);
        unsigned rest = n - index * (conv.p * conv.q);
        unsigned p = fast_div(rest, conv.by_q);
        unsigned q = rest - p * conv.q;
        image = x + static_cast<long long>(index) * conv.x_strides.image * ELEMENT;
        row = exists ? static_cast<int>(p) * conv.stride_h - conv.pad_top : NONE;
        column = static_cast<int>(q) * conv.stride_w - conv.pad_left;
    }
    // Whether the tap lies in the image, and where: the offset from the image's first element of a channel.
    DEVICE bool inside(const ConvArgs& conv, int tap_row, int tap_column, unsigned& place) const {
        unsigned h = row + tap_row, w = column + tap_column;
        place = (h * conv.width + w) * (LAYOUT_NHWC ? conv.x_strides.pixel : 1);
        return h < static_cast<unsigned>(conv.h) && w < static_cast<unsigned>(conv.width);
    }
};

// x[0][first channel of the tile's first group][0][0].
DEVICE address_t first_of_group(const ConvArgs& conv, const Tile& tile) {
    long long channel = static_cast<long long>(tile.group) * conv.group_c;
    return global_address(static_cast<const storage_t*>(conv.x) + channel * (LAYOUT_NHWC ? 1 : conv.x_strides.channel));
}

// Filters: rows of w_channels, copied by 16 bytes, neighbouring lanes along a row: whole sectors, no bank twice.
struct FilterFiller {
    static constexpr int PIECES = W_ROW / 16;
    static constexpr int STEP = THREADS / PIECES;  // filters between two copies of a thread
    static constexpr int COPIES = (TILE_M + STEP - 1) / STEP;

    address_t from;  // the thread's chunk of its first filter, at tap and channel 0
    unsigned to;     // in a stage
    int channel;     // of its chunk, in a block
    int filters;     // how many of its COPIES filters exist
    int stride;      // from one to the next
    uint4 values[ASYNC_COPY ? 1 : COPIES];

    DEVICE FilterFiller(const TensorArgs& args, const Tile& tile) {
        const ConvArgs& conv = args.conv;
        int piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
        int group = tile.group, m = tile.m + row;
        if (GROUPS_A_TILE > 1) {
            // The tile's rows are the filters of its groups, TILE_K a group; a thread's are of the same number each.
            static_assert(GROUPS_A_TILE == 1 || COPIES == 1 || STEP % TILE_K == 0, "whole groups between a thread's filters");
            constexpr int GROUPS = STEP / TILE_K > 1 ? STEP / TILE_K : 1;
            group += row / TILE_K;
            m = row % TILE_K;
            filters = m < conv.group_k ? (conv.groups - group + GROUPS - 1) / GROUPS : 0;
            stride = GROUPS * conv.group_k * conv.w_k;
        } else {
            filters = (conv.group_k - m + STEP - 1) / STEP;
            stride = STEP * conv.w_k;
        }
        channel = piece * CHUNK;
        from = global_address(static_cast<const storage_t*>(conv.w) +
                              (static_cast<long long>(group) * conv.group_k + m) * conv.w_k + channel);
        to = X_BYTES + swizzled<W_ROW>(row, piece);
    }
    // Whether the thread has an i-th copy.
    static DEVICE bool in_tile(int i) { return i * STEP + STEP <= TILE_M || threadIdx.x / PIECES + i * STEP < TILE_M; }

    DEVICE void part(const TensorArgs& args, const Walk& now, int part, unsigned stage) {
        int here = now.left > 0 && now.channel + channel < args.w_channels ? filters : 0;
        address_t first = element(from, now.tap_offset + now.channel);
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if (i >= share(COPIES, part) && i < share(COPIES, part + 1) && in_tile(i)) {
                address_t at = strided(first, stride, i);
#if ASYNC_COPY
                copy_async<16>(stage + to + i * STEP * W_ROW, at, i < here);
#else
                values[i] = load_16(at, i < here);
#endif
            }
    }
    DEVICE void end(unsigned stage) {
#if !ASYNC_COPY
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if (in_tile(i)) store_16(stage + to + i * STEP * W_ROW, values[i]);
#endif
    }

    static_assert(COPIES == 1 || STEP % 8 == 0, "the swizzle is the same for all of a thread's filters");
};

// The place in a stage `rows` rows further on, of an address in row 0 .. rows - 1; `rows` is a power of two times anything.
template <int ROW>
constexpr DEVICE unsigned further(unsigned address, unsigned rows) {
    return (address ^ (rows / (128 / ROW) % (ROW / 16) << 4)) + rows * ROW;
}

#ifndef CUSTOM_FILLER  // mma_few_channels.cu has its own
#if LAYOUT_NHWC
#include "mma_fill_nhwc.cuh"
#else
#include "mma_fill_nchw.cuh"
#endif

// Both operands.
struct Filler {
    const TensorArgs& args;
    Walk now;    // the step being filled
    Walk ahead;  // the next
    FilterFiller filters;
    PixelFiller pixels;

    DEVICE Filler(const TensorArgs& args, const Tile& tile)
        : args(args), now(args, Steps(args, tile)), ahead(now), filters(args, tile), pixels(args, tile) {
        pixels.start(args, now);
        ahead.next(args.conv);
    }
    DEVICE void part(int part, unsigned stage) {
        pixels.part(args, now, ahead, part, stage);
        filters.part(args, now, part, stage);
    }
    // Ends a step and turns to the next.
    DEVICE void end(unsigned stage) {
        pixels.end(stage);
        filters.end(stage);
        now = ahead;
        ahead.next(args.conv);
    }
};
#endif
