// The loader of the producers of wgmma/gather.cu: a table of the tile's pixels, and three ways to
// fill a step's operand with it.
//
// The operand is [TILE_N][TILE_K], rows of ROW_BYTES, swizzled as TMA would: bits 4.. of an
// offset xored with bits 7.. What does not exist (padding, channels beyond the group's, pixels
// beyond the last) is written as zero and not read.
//   NHWC, VECTOR_BYTES 16, 8, 4: cp.async of VECTOR_BYTES bytes, lanes along a pixel's channels.
//   NHWC, VECTOR_BYTES 2: two loads of 2 bytes and a store of 4, lanes along a pixel's channels.
//   NCHW, f32: cp.async of 4 bytes, a warp has 8 pixels x 4 channels.
//   NCHW, 16-bit: eight loads of 2 bytes and a store of 16, lanes along pixels.
// Bank conflicts: none. Lanes along channels write 128 contiguous bytes but for the order of their
// 16-byte chunks; 8 pixels x 16 bytes are 8 different chunks.
#pragma once

#include "common/swizzle.cuh"
#include "wgmma/tile.cuh"

constexpr bool THROUGH_REGISTERS = VECTOR_BYTES == 2;
constexpr int COPY_BYTES = THROUGH_REGISTERS ? 4 : VECTOR_BYTES;  // of a cp.async
static_assert(VECTOR_BYTES == 16 || VECTOR_BYTES == 8 || VECTOR_BYTES == 4 ||
                  (VECTOR_BYTES == 2 && ELEMENT_BYTES == 2),
              "the sizes of cp.async, or 16 bits");
static_assert(LAYOUT_NHWC || VECTOR_BYTES == ELEMENT_BYTES,
              "neighbouring pixels of NCHW need not be neighbours in x");
static_assert(!THROUGH_REGISTERS || ROW_BYTES == 128, "a thread has an even share of whole chunks");
static_assert(TILE_N % 64 == 0 && TILE_N * ROW_BYTES % (WARPGROUP_THREADS * 16) == 0,
              "an even share for each thread");

// The place of tap (0, 0) of an output pixel.
struct GatherPixel {
    // Of the tile's group's channel 0; only meaningful with a tap that is inside.
    address_t at;
    int row, column;  // negative in the padding; far outside for pixels beyond the last
};
static_assert(sizeof(GatherPixel) == PIXEL_BYTES, "the table's extent in wgmma/tile.cuh");

struct GatherLoader {
    const ConvArgs& conv;
    unsigned table;  // of this producer
    int thread;      // of the warpgroup

    // The tile's pixels. A barrier of the producer's threads stands before and after.
    DEVICE void build_table(const WorkTile& work) const {
        long long first = static_cast<long long>(work.group) * conv.group_c * x_channel(conv);
        address_t x = __cvta_generic_to_global(static_cast<const storage_t*>(conv.x) + first);
#pragma unroll 1
        for (int i = thread; i < TILE_N; i += WARPGROUP_THREADS) {
            unsigned n = work.n + i;
            bool valid = n < conv.gemm_n;
            n = valid ? n : 0;
            unsigned image = fast_div(n, conv.by_pq);
            unsigned place = n - image * (conv.p * conv.q);
            unsigned p = fast_div(place, conv.by_q);
            int row = static_cast<int>(p) * conv.stride_h - conv.pad_top;
            int column = static_cast<int>(place - p * conv.q) * conv.stride_w - conv.pad_left;
            long long offset = image * conv.x_strides.image +
                               (static_cast<long long>(row) * conv.width + column) * x_pixel(conv);
            address_t at = x + offset * ELEMENT_BYTES;
            row = valid ? row : -(1 << 30);
            st_shared_v4(table + i * PIXEL_BYTES,
                         make_uint4(static_cast<unsigned>(at), static_cast<unsigned>(at >> 32), row,
                                    column));
        }
    }
    DEVICE GatherPixel pixel(int i) const {
        uint4 words = ld_shared_v4(table + i * PIXEL_BYTES);
        return GatherPixel{static_cast<address_t>(words.y) << 32 | words.x,
                           static_cast<int>(words.z), static_cast<int>(words.w)};
    }
    DEVICE bool in_bounds(const GatherPixel& pixel, const WgmmaKIterator& step) const {
        unsigned h = pixel.row + step.r * conv.dilation_h,
                 w = pixel.column + step.s * conv.dilation_w;
        return h < static_cast<unsigned>(conv.h) && w < static_cast<unsigned>(conv.width);
    }
    // From tap (0, 0), channel 0 to the step's tap and a channel of its block, in bytes.
    DEVICE long long distance(const WgmmaKIterator& step, int channel) const {
        long long row = step.r * conv.dilation_h;  // below 2^31, but not times a row
        long long place = row * conv.width + step.s * conv.dilation_w;
        return (place * x_pixel(conv) +
                static_cast<long long>(step.channel + channel) * x_channel(conv)) *
               ELEMENT_BYTES;
    }

    // ---- cp.async
    DEVICE void copy(unsigned operand, const WgmmaKIterator& step) const {
        if constexpr (LAYOUT_NHWC) {
            constexpr int LANES = ROW_BYTES / VECTOR_BYTES, STRIDE = WARPGROUP_THREADS / LANES;
            int first = thread % LANES * (VECTOR_BYTES / ELEMENT_BYTES);
            long long to_tap = distance(step, first);
            int bytes = max(
                0, min(VECTOR_BYTES, (conv.group_c - step.channel - first) * ELEMENT_BYTES));
#pragma unroll 4
            for (int i = thread / LANES; i < TILE_N; i += STRIDE) {
                GatherPixel at = pixel(i);
                cp_async_zfill<COPY_BYTES>(
                    operand + swizzled_offset<ROW_BYTES>(i * ROW_BYTES + first * ELEMENT_BYTES),
                    at.at + to_tap, in_bounds(at, step) ? bytes : 0);
            }
        } else {
            int channel = thread % 32 / 8;
            long long to_tap = distance(step, channel),
                      four = 4ll * x_channel(conv) * ELEMENT_BYTES;
#pragma unroll 1
            for (int i = thread / 32 * 8 + thread % 8; i < TILE_N; i += 32) {
                GatherPixel at = pixel(i);
                int left = in_bounds(at, step) ? conv.group_c - step.channel - channel : 0;
#pragma unroll
                for (int chunk = 0; chunk < ROW_BYTES / 16; ++chunk)
                    cp_async_zfill<COPY_BYTES>(
                        operand + swizzled_offset<ROW_BYTES>(i * ROW_BYTES + chunk * 16) +
                            channel * 4,
                        at.at + to_tap + chunk * four, 4 * chunk < left ? 4 : 0);
            }
        }
    }

    // ---- through registers: loads, then stores of what was loaded
    static constexpr int WORDS = TILE_N * ROW_BYTES / 4 / WARPGROUP_THREADS;  // a thread's share
    DEVICE void load(const WgmmaKIterator& step, unsigned (&words)[WORDS]) const {
        if constexpr (LAYOUT_NHWC) {
            int first = thread % 32 * 2;
            long long to_tap = distance(step, first);
            int left = conv.group_c - step.channel - first;
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                GatherPixel at = pixel(thread / 32 + 4 * i);
                bool valid = in_bounds(at, step);
                words[i] = pack_u16(ld_global_u16(at.at + to_tap, valid && left > 0),
                                    ld_global_u16(at.at + to_tap + 2, valid && left > 1));
            }
        } else {
            constexpr int CHUNKS = WORDS / 4,
                          TIMES = TILE_N > WARPGROUP_THREADS ? TILE_N / WARPGROUP_THREADS : 1,
                          SPLIT = TILE_N < WARPGROUP_THREADS ? WARPGROUP_THREADS / TILE_N : 1;
            long long channel = static_cast<long long>(x_channel(conv)) * ELEMENT_BYTES;
#pragma unroll
            for (int time = 0; time < TIMES; ++time) {
                GatherPixel at = pixel(thread % TILE_N + WARPGROUP_THREADS * time);
                int first = thread / TILE_N * (CHUNKS * 8);
                int left = in_bounds(at, step) ? conv.group_c - step.channel - first : 0;
                address_t from = at.at + distance(step, first);
#pragma unroll
                for (int i = 0; i < WORDS / TIMES; ++i) {
                    unsigned short low = ld_global_u16(from, 2 * i < left),
                                   high = ld_global_u16(from + channel, 2 * i + 1 < left);
                    words[time * (WORDS / TIMES) + i] = pack_u16(low, high);
                    from += 2 * channel;
                }
            }
            static_assert(CHUNKS * SPLIT * 16 == ROW_BYTES * TIMES, "whole chunks");
        }
    }
    DEVICE void store(unsigned operand, const unsigned (&words)[WORDS]) const {
        if constexpr (LAYOUT_NHWC) {
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                unsigned to = operand + swizzled_offset<ROW_BYTES>(
                                            (thread / 32 + 4 * i) * ROW_BYTES + thread % 32 * 4);
                st_shared_u32(to, words[i]);
            }
        } else {
            constexpr int CHUNKS = WORDS / 4,
                          PER_PIXEL = TILE_N > WARPGROUP_THREADS ? ROW_BYTES / 16 : CHUNKS;
#pragma unroll
            for (int i = 0; i < CHUNKS; ++i) {
                int n = thread % TILE_N + i / PER_PIXEL * WARPGROUP_THREADS,
                    chunk = thread / TILE_N * CHUNKS + i % PER_PIXEL;
                const unsigned* v = words + 4 * i;
                st_shared_v4(operand + swizzled_offset<ROW_BYTES>(n * ROW_BYTES + chunk * 16),
                             make_uint4(v[0], v[1], v[2], v[3]));
            }
        }
    }
};
