// Loads filters and pixels into the stages of mma/mma.cu and mma/small_groups.cu.
//
// gemm_k runs through blocks of TILE_K channels, and in each block through all filter taps (r, s),
// one tap of one block per step: what the taps of a block share of x stays in the caches. Both
// operands are zero where the channel is beyond the group's last; x is zero in the padding and the
// product still formed, so an infinity or NaN in w gives NaN at the border, as in PyTorch. Filters
// and pixels beyond the last are zero, and their accumulators are dropped. Beyond the last step
// everything is zero and nothing is read.
//
// A loader has part(i, stage), called with i = 0 .. PARTS - 1 in each step, which starts copies
// into the stage at `stage` (a shared byte address) or loads into registers, and end(stage), the
// last call of a step. What goes through registers is loaded in halves where there is more than one
// part: a half is stored where the next is loaded, the last of a step in the step after it, which
// a pipeline of three stages or more allows. With two stages it is stored by end().
#pragma once

#include "mma/tile.cuh"

constexpr int PARTS = W_ROW / K_BYTES > 1 ? W_ROW / K_BYTES - 1 : 1;
constexpr bool LATE = STAGES >= 3;  // stores of a step may come in the next
constexpr int HALVES = PARTS > 1 && LATE ? 2 : 1;

// The share of part `i` in `count` things: share(count, i) .. share(count, i + 1).
constexpr DEVICE int share(int count, int i) { return count * i / PARTS; }
// The half that part `i` loads, or -1.
constexpr DEVICE int half_of(int i) { return i == 0 ? 0 : HALVES == 2 && i == PARTS - 1 ? 1 : -1; }

// A position in gemm_k.
struct MmaKIterator {
    int row, column;  // r * dilation_h, s * dilation_w
    int channel;      // first of the block
    int tap_offset;   // of w: the tap
    int left;         // steps to go

    MmaKIterator() = default;
    DEVICE MmaKIterator(const TensorArgs& args, const KRange& steps) {
        const ConvArgs& conv = args.conv;
        int taps = conv.r * conv.s, block = steps.first / taps, tap = steps.first - block * taps;
        int r = tap / conv.s, s = tap - r * conv.s;
        row = r * conv.dilation_h;
        column = s * conv.dilation_w;
        channel = block * TILE_K;
        tap_offset = tap * conv.w_tap;
        left = steps.count();
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

// The window of an output pixel.
struct Pixel {
    address_t image;  // of x[n][first channel of the group][0][0]
    // Of tap (0, 0), negative in the padding; beyond the last pixel no tap is inside.
    int row, column;

    static constexpr int NONE = -0x7fffffff - 1;  // no padded image has as many rows

    Pixel() = default;
    DEVICE Pixel(const ConvArgs& conv, address_t x, unsigned n) {
        bool valid = n < conv.gemm_n;
        n = valid ? n : 0;
        unsigned index = fast_div(n, conv.by_pq);
        unsigned rest = n - index * (conv.p * conv.q);
        unsigned p = fast_div(rest, conv.by_q);
        unsigned q = rest - p * conv.q;
        image = x + static_cast<long long>(index) * conv.x_strides.image * ELEMENT_BYTES;
        row = valid ? static_cast<int>(p) * conv.stride_h - conv.pad_top : NONE;
        column = static_cast<int>(q) * conv.stride_w - conv.pad_left;
    }
    // True if the tap lies in the image, and where: the offset from the image's first element of a
    // channel.
    DEVICE bool in_bounds(const ConvArgs& conv, int tap_row, int tap_column,
                          unsigned& place) const {
        unsigned h = row + tap_row, w = column + tap_column;
        place = (h * conv.width + w) * x_pixel(conv);
        return h < static_cast<unsigned>(conv.h) && w < static_cast<unsigned>(conv.width);
    }
};

// x[0][first channel of the tile's first group][0][0].
DEVICE address_t first_of_group(const ConvArgs& conv, const WorkTile& tile) {
    long long channel = static_cast<long long>(tile.group) * conv.group_c;
    return global_address(static_cast<const storage_t*>(conv.x) + channel * x_channel(conv));
}

// Filters: rows of w_channels, copied by 16 bytes, neighbouring lanes along a row: whole sectors,
// no bank conflict.
struct FilterLoader {
    static constexpr int CHUNKS = W_ROW / 16;
    static constexpr int STEP = THREADS / CHUNKS;  // filters between two copies of a thread
    static constexpr int COPIES = (TILE_M + STEP - 1) / STEP;

    address_t from;  // the thread's chunk of its first filter, at tap and channel 0
    unsigned to;     // in a stage
    int channel;     // of its chunk, in a block
    int filters;     // how many of its COPIES filters exist
    int stride;      // from one to the next
    uint4 values[HAS_CP_ASYNC ? 1 : COPIES];

    DEVICE FilterLoader(const TensorArgs& args, const WorkTile& tile) {
        const ConvArgs& conv = args.conv;
        int chunk = threadIdx.x % CHUNKS, row = threadIdx.x / CHUNKS;
        int group = tile.group, m = tile.m + row;
        if (GROUPS_PER_TILE > 1) {
            // The tile's rows are the filters of its groups, TILE_K a group; a thread's are of the
            // same number each.
            static_assert(GROUPS_PER_TILE == 1 || COPIES == 1 || STEP % TILE_K == 0,
                          "whole groups between a thread's filters");
            constexpr int GROUPS = STEP / TILE_K > 1 ? STEP / TILE_K : 1;
            group += row / TILE_K;
            m = row % TILE_K;
            filters = m < conv.group_k ? (conv.groups - group + GROUPS - 1) / GROUPS : 0;
            stride = GROUPS * conv.group_k * conv.w_k;
        } else {
            filters = (conv.group_k - m + STEP - 1) / STEP;
            stride = STEP * conv.w_k;
        }
        channel = chunk * CHUNK_ELEMENTS;
        from = global_address(static_cast<const storage_t*>(conv.w) +
                              (static_cast<long long>(group) * conv.group_k + m) * conv.w_k +
                              channel);
        to = X_BYTES + swizzled<W_ROW>(row, chunk);
    }
    // True if the thread has an i-th copy.
    static DEVICE bool in_tile(int i) {
        return i * STEP + STEP <= TILE_M || threadIdx.x / CHUNKS + i * STEP < TILE_M;
    }

    DEVICE void part(const TensorArgs& args, const MmaKIterator& now, int part, unsigned stage) {
        int valid_filters = now.left > 0 && now.channel + channel < args.w_channels ? filters : 0;
        address_t first = element(from, now.tap_offset + now.channel);
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if (i >= share(COPIES, part) && i < share(COPIES, part + 1) && in_tile(i)) {
                address_t at = strided(first, stride, i);
                if constexpr (HAS_CP_ASYNC)
                    cp_async<16>(stage + to + i * STEP * W_ROW, at, i < valid_filters);
                else
                    values[i] = ld_global_v4(at, i < valid_filters);
            }
    }
    DEVICE void end(unsigned stage) {
        if constexpr (!HAS_CP_ASYNC) {
#pragma unroll
            for (int i = 0; i < COPIES; ++i)
                if (in_tile(i)) st_shared_v4(stage + to + i * STEP * W_ROW, values[i]);
        }
    }

    static_assert(COPIES == 1 || STEP % 8 == 0,
                  "the swizzle is the same for all of a thread's filters");
};
