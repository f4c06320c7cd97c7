// How the producers of wgmma_gather.cu bring x: a table of the tile's pixels, and three ways to fill a step's operand with it.
//
// The operand is [TILE_N][TILE_K], rows of ROW_BYTES, swizzled as bulk copies would: bits 4.. of an offset xored with bits 7..
// What does not exist (padding, channels beyond the group's, pixels beyond the last) is written as zero and not read.
//   NHWC, VECTOR 16, 8, 4: cp.async of VECTOR bytes, lanes along a pixel's channels.
//   NHWC, VECTOR 2: two loads of 2 bytes and a store of 4, lanes along a pixel's channels.
//   NCHW, f32: cp.async of 4 bytes, a warp has 8 pixels x 4 channels.
//   NCHW, 16-bit: eight loads of 2 bytes and a store of 16, lanes along pixels.
// Bank conflicts: none. Lanes along channels write 128 contiguous bytes but for the order of their 16-byte pieces; 8 pixels x 16
// bytes are 8 different pieces.
#pragma once

#include "wgmma_tile.cuh"

constexpr bool THROUGH_REGISTERS = VECTOR == 2;
static_assert(VECTOR == 16 || VECTOR == 8 || VECTOR == 4 || (VECTOR == 2 && SIZE == 2), "the sizes of cp.async, or 16 bits");
static_assert(LAYOUT_NHWC || VECTOR == SIZE, "neighbouring pixels of NCHW need not be neighbours in x");
static_assert(!THROUGH_REGISTERS || ROW_BYTES == 128, "a thread has an even share of whole pieces");
static_assert(TILE_N % 64 == 0 && TILE_N * ROW_BYTES % (128 * 16) == 0, "an even share for each thread");

typedef unsigned long long address_t;  // a byte address in global memory

// Where tap (0, 0) of an output pixel lies.
struct GatherPixel {
    address_t at;     // of the tile's group's channel 0; only meaningful with a tap that is inside
    int row, column;  // negative in the padding; far outside for pixels beyond the last
};
static_assert(sizeof(GatherPixel) == PIXEL_BYTES, "the table's extent in wgmma_tile.cuh");

DEVICE int x_pixel(const ConvArgs& conv) { return LAYOUT_NHWC ? conv.x_strides.pixel : 1; }
DEVICE int x_channel(const ConvArgs& conv) { return LAYOUT_NHWC ? 1 : conv.x_strides.channel; }

DEVICE unsigned swizzled(unsigned offset) {
    return offset ^ ((offset >> 7 & (ROW_BYTES / 16 - 1)) << 4);
}

// A predicated load, where the compiler would make a branch.
DEVICE unsigned short load_16(address_t from, bool exists) {
    unsigned short value;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b16 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=h"(value)
                 : "l"(from), "r"(static_cast<int>(exists))
                 : "memory");
    return value;
}
DEVICE unsigned both(unsigned short low, unsigned short high) {
    return static_cast<unsigned>(high) << 16 | low;
}
// Copies `bytes` and fills up to VECTOR with zeros.
DEVICE void copy_vector(unsigned to, address_t from, int bytes) {
    if constexpr (VECTOR == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(VECTOR == 8 ? 8 : 4), "r"(bytes)
                     : "memory");
}

struct Gather {
    const ConvArgs& conv;
    unsigned table;  // of this producer
    int thread;      // of the warpgroup

    // The tile's pixels. The producer's threads meet before and after.
    DEVICE void tabulate(const Item& item) const {
        long long first = static_cast<long long>(item.group) * conv.group_c * x_channel(conv);
        address_t x = __cvta_generic_to_global(static_cast<const storage_t*>(conv.x) + first);
#pragma unroll 1
        for (int i = thread; i < TILE_N; i += 128) {
            unsigned n = item.n + i;
            bool exists = n < conv.gemm_n;
            n = exists ? n : 0;
            unsigned image = fast_div(n, conv.by_pq);
            unsigned place = n - image * (conv.p * conv.q);
            unsigned p = fast_div(place, conv.by_q);
            int row = static_cast<int>(p) * conv.stride_h - conv.pad_top;
            int column = static_cast<int>(place - p * conv.q) * conv.stride_w - conv.pad_left;
            long long offset = image * conv.x_strides.image + (static_cast<long long>(row) * conv.width + column) * x_pixel(conv);
            address_t at = x + offset * SIZE;
            row = exists ? row : -(1 << 30);
            asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(table + i * PIXEL_BYTES), "r"(static_cast<unsigned>(at)),
                         "r"(static_cast<unsigned>(at >> 32)), "r"(row), "r"(column)
                         : "memory");
        }
    }
    DEVICE GatherPixel pixel(int i) const {
        unsigned low, high;
        GatherPixel pixel;
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(low), "=r"(high), "=r"(pixel.row), "=r"(pixel.column)
                     : "r"(table + i * PIXEL_BYTES)
                     : "memory");
        pixel.at = static_cast<address_t>(high) << 32 | low;
        return pixel;
    }
    DEVICE bool inside(const GatherPixel& pixel, const Step& step) const {
        unsigned h = pixel.row + step.r * conv.dilation_h, w = pixel.column + step.s * conv.dilation_w;
        return h < static_cast<unsigned>(conv.h) && w < static_cast<unsigned>(conv.width);
    }
    // From tap (0, 0), channel 0 to the step's tap and a channel of its block, in bytes.
    DEVICE long long distance(const Step& step, int channel) const {
        long long row = step.r * conv.dilation_h;  // below 2^31, but not times a row
        long long place = row * conv.width + step.s * conv.dilation_w;
        return (place * x_pixel(conv) + static_cast<long long>(step.channel + channel) * x_channel(conv)) * SIZE;
    }

    // ---- cp.async
    DEVICE void copy(unsigned operand, const Step& step) const {
        if constexpr (LAYOUT_NHWC) {
            constexpr int LANES = ROW_BYTES / VECTOR, STRIDE = 128 / LANES;
            int first = thread % LANES * (VECTOR / SIZE);
            long long to_tap = distance(step, first);
            int bytes = max(0, min(VECTOR, (conv.group_c - step.channel - first) * SIZE));
#pragma unroll 4
            for (int i = thread / LANES; i < TILE_N; i += STRIDE) {
                GatherPixel at = pixel(i);
                copy_vector(operand + swizzled(i * ROW_BYTES + first * SIZE), at.at + to_tap, inside(at, step) ? bytes : 0);
            }
        } else {
            int channel = thread % 32 / 8;
            long long to_tap = distance(step, channel), four = 4ll * x_channel(conv) * SIZE;
#pragma unroll 1
            for (int i = thread / 32 * 8 + thread % 8; i < TILE_N; i += 32) {
                GatherPixel at = pixel(i);
                int left = inside(at, step) ? conv.group_c - step.channel - channel : 0;
#pragma unroll
                for (int piece = 0; piece < ROW_BYTES / 16; ++piece)
                    copy_vector(operand + swizzled(i * ROW_BYTES + piece * 16) + channel * 4, at.at + to_tap + piece * four,
                                4 * piece < left ? 4 : 0);
            }
        }
    }

    // ---- through registers: loads, then stores of what was loaded
    static constexpr int WORDS = TILE_N * ROW_BYTES / 4 / 128;  // a thread's share
    DEVICE void load(const Step& step, unsigned (&words)[WORDS]) const {
        if constexpr (LAYOUT_NHWC) {
            int first = thread % 32 * 2;
            long long to_tap = distance(step, first);
            int left = conv.group_c - step.channel - first;
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                GatherPixel at = pixel(thread / 32 + 4 * i);
                bool here = inside(at, step);
                words[i] = both(load_16(at.at + to_tap, here && left > 0), load_16(at.at + to_tap + 2, here && left > 1));
            }
        } else {
            constexpr int PIECES = WORDS / 4, TIMES = TILE_N > 128 ? TILE_N / 128 : 1, SPLIT = TILE_N < 128 ? 128 / TILE_N : 1;
            long long channel = static_cast<long long>(x_channel(conv)) * SIZE;
#pragma unroll
            for (int time = 0; time < TIMES; ++time) {
                GatherPixel at = pixel(thread % TILE_N + 128 * time);
                int first = thread / TILE_N * (PIECES * 8);
                int left = inside(at, step) ? conv.group_c - step.channel - first : 0;
                address_t from = at.at + distance(step, first);
#pragma unroll
                for (int i = 0; i < WORDS / TIMES; ++i) {
                    unsigned short low = load_16(from, 2 * i < left), high = load_16(from + channel, 2 * i + 1 < left);
                    words[time * (WORDS / TIMES) + i] = both(low, high);
                    from += 2 * channel;
                }
            }
            static_assert(PIECES * SPLIT * 16 == ROW_BYTES * TIMES, "whole pieces");
        }
    }
    DEVICE void store(unsigned operand, const unsigned (&words)[WORDS]) const {
        if constexpr (LAYOUT_NHWC) {
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                unsigned to = operand + swizzled((thread / 32 + 4 * i) * ROW_BYTES + thread % 32 * 4);
                asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(words[i]) : "memory");
            }
        } else {
            constexpr int PIECES = WORDS / 4, A_PIXEL = TILE_N > 128 ? ROW_BYTES / 16 : PIECES;
#pragma unroll
            for (int i = 0; i < PIECES; ++i) {
                int n = thread % TILE_N + i / A_PIXEL * 128, piece = thread / TILE_N * PIECES + i % A_PIXEL;
                const unsigned* v = words + 4 * i;
                asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(operand + swizzled(n * ROW_BYTES + piece * 16)),
                             "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3])
                             : "memory");
            }
        }
    }
};
