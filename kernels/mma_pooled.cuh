// Pixels that are maxima: x is brought into the stages of mma_multi_conv.cu as the maximum of the 3x3 cells around each pixel
// (stride 1, padding of -infinity; a NaN among them gives NaN), for a 1x1 convolution behind such a pooling. For NCHW, for pieces
// under 16 bytes (VECTOR 2 or 4) and for images too wide for PooledTile::fits; mma_pooled_tile.cuh has the others, by fewer loads.
//
// A thread loads the nine cells of a piece of channels into registers, takes the maximum and stores it into the stage. NHWC:
// pieces of 16 bytes (VECTOR 16, wide images) or of 4, neighbouring lanes along a pixel's row. NCHW: a thread has the channels of a
// chunk, neighbouring lanes have neighbouring pixels. The stores meet no bank twice, as those of PixelFiller. Neighbours' cells
// come from the L1 cache.
//
// Shared memory: entries[TILE_N], 16 bytes each, the last of the block's: where a pixel's row begins and which of its neighbours
// exist. They do not change, as there is one tap; the barrier after start() makes them readable.
#pragma once

#include "mma_multi_conv.cuh"

// A register of stored elements, and those of a piece.
#if KERNEL_DTYPE == 0
constexpr unsigned LOWEST = 0xff800000u;  // -infinity
#elif KERNEL_DTYPE == 1
constexpr unsigned LOWEST = 0xfc00fc00u;
#else
constexpr unsigned LOWEST = 0xff80ff80u;
#endif

// The larger of each element of two registers, NaN if one is.
DEVICE unsigned larger(unsigned a, unsigned b) {
    unsigned result;
#if KERNEL_DTYPE == 0
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(*reinterpret_cast<float*>(&result)) : "f"(__uint_as_float(a)), "f"(__uint_as_float(b)));
#elif KERNEL_DTYPE == 1
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
#else
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
#endif
    return result;
}

// Loads that give -infinity where there is nothing.
DEVICE uint4 load_16_or_lowest(address_t from, bool exists) {
    uint4 value;
    asm volatile(
        "{.reg .pred p; setp.ne.s32 p, %5, 0; mov.b32 %0, %6; mov.b32 %1, %6; mov.b32 %2, %6; mov.b32 %3, %6;"
        " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
        : "l"(from), "r"(static_cast<int>(exists)), "n"(LOWEST)
        : "memory");
    return value;
}
// One element, in the lower half of the register if it has 16 bits.
DEVICE unsigned load_one_or_lowest(address_t from, bool exists) {
    unsigned value;
#if KERNEL_DTYPE == 0
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, %3; @p ld.global.u32 %0, [%1];}"
                 : "=&r"(value)
                 : "l"(from), "r"(static_cast<int>(exists)), "n"(LOWEST)
                 : "memory");
#else
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, %3; @p ld.global.u16 %0, [%1];}"
                 : "=&r"(value)
                 : "l"(from), "r"(static_cast<int>(exists)), "n"(LOWEST & 0xffffu)
                 : "memory");
#endif
    return value;
}

struct PooledPixels {
    static constexpr int PIECE = LAYOUT_NHWC ? (VECTOR < 4 ? 4 : VECTOR) : 16;
    static constexpr int PIECES = X_ROW / PIECE;
    static constexpr int STEP = LAYOUT_NHWC ? THREADS / PIECES : THREADS;  // NHWC: pixels between two of a thread's pieces
    static constexpr int COPIES = TILE_N * PIECES / THREADS;
    static constexpr int WORDS = PIECE / 4;                     // registers of a piece
    static constexpr int PER_WORD = 4 / ELEMENT;                // elements of a register
    static constexpr int UP = 1, DOWN = 2, LEFT = 4, RIGHT = 8, HERE = 16;
    static_assert(PIECE == 4 || PIECE == 16, "through registers: 4 or 16 bytes");
    static_assert(TILE_N * PIECES % THREADS == 0, "every piece once");
    static_assert(LAYOUT_NHWC || TILE_N % 32 == 0, "a warp's pixels are neighbours");

    int channels;  // elements of the product's channels

    static DEVICE unsigned table() { return shared_address(shared_bytes) + SHARED_BYTES - TILE_N * 16; }

    DEVICE PooledPixels(const TensorArgs& args, const Tile& tile) {
        const ConvArgs& conv = args.conv;
        channels = conv.group_c;
#pragma unroll 1
        for (int i = threadIdx.x; i < TILE_N; i += THREADS) {
            Pixel pixel(conv, global_address(conv.x), tile.n + i);
            unsigned flags = 0;
            if (pixel.row != Pixel::NONE)
                flags = HERE | (pixel.row > 0 ? UP : 0) | (pixel.row + 1 < conv.h ? DOWN : 0) | (pixel.column > 0 ? LEFT : 0) |
                        (pixel.column + 1 < conv.width ? RIGHT : 0);
            unsigned place = (pixel.row * conv.width + pixel.column) * (LAYOUT_NHWC ? conv.x_strides.pixel : 1);
            asm volatile("st.shared.v2.u64 [%0], {%1, %2};" ::"r"(table() + i * 16), "l"(element(pixel.image, place)),
                         "l"(static_cast<unsigned long long>(flags))
                         : "memory");
        }
    }
    DEVICE void start(const TensorArgs&, const Walk&) {}
    DEVICE void end(unsigned) {}

    DEVICE void part(const TensorArgs& args, const Walk& now, const Walk&, int part, unsigned stage) {
#pragma unroll 1
        for (int i = share(COPIES, part); i < share(COPIES, part + 1); ++i) {
            int index = threadIdx.x + i * THREADS;
            int row = LAYOUT_NHWC ? index / PIECES : index % TILE_N, piece = LAYOUT_NHWC ? index % PIECES : index / TILE_N;
            unsigned long long flags;
            address_t from;
            asm volatile("ld.shared.v2.u64 {%0, %1}, [%2];" : "=l"(from), "=l"(flags) : "r"(table() + row * 16) : "memory");
            int channel = now.channel + piece * (PIECE / ELEMENT);
            int left = now.left > 0 && (flags & HERE) ? channels - channel : 0;  // channels of the piece and after it
            unsigned best[WORDS] = {};
            if (LAYOUT_NHWC && PIECE == 16 && left >= PIECE / ELEMENT)
                take_whole(args.conv, from + channel * ELEMENT, static_cast<unsigned>(flags), best);
            else if (left > 0)
                take_single(args.conv, strided(from, args.conv.x_strides.channel, channel), static_cast<unsigned>(flags), left, best);
            unsigned at = stage + swizzled<X_ROW>(row, piece * PIECE / 16) + piece * PIECE % 16;
            if (PIECE == 16)
                store_16(at, make_uint4(best[0], best[WORDS > 1 ? 1 : 0], best[WORDS > 2 ? 2 : 0], best[WORDS > 3 ? 3 : 0]));
            else
                store_4(at, best[0]);
        }
    }
    static DEVICE bool exists(unsigned flags, int down, int right) {
        unsigned needs = (down < 0 ? UP : down > 0 ? DOWN : 0) | (right < 0 ? LEFT : right > 0 ? RIGHT : 0);
        return (flags & needs) == needs;
    }
    // From a cell to a neighbour, in bytes.
    static DEVICE long long away(const ConvArgs& conv, int down, int right) {
        return static_cast<long long>(down * conv.width + right) * ((LAYOUT_NHWC ? conv.x_strides.pixel : 1) * ELEMENT);
    }
    // All channels of the piece, 16 bytes, at once.
    DEVICE void take_whole(const ConvArgs& conv, address_t from, unsigned flags, unsigned (&best)[WORDS]) const {
        uint4 top = make_uint4(LOWEST, LOWEST, LOWEST, LOWEST);
        address_t row = from + away(conv, -1, 0);
        int column = away(conv, 0, 1);
#pragma unroll 1  // nine cells at once are more registers than the sums leave
        for (int down = -1; down <= 1; ++down, row += away(conv, 1, 0)) {
            uint4 cells[3];
#pragma unroll
            for (int right = -1; right <= 1; ++right)
                cells[right + 1] = load_16_or_lowest(row + right * column, exists(flags, down, right));
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                top.x = larger(top.x, cells[i].x);
                top.y = larger(top.y, cells[i].y);
                top.z = larger(top.z, cells[i].z);
                top.w = larger(top.w, cells[i].w);
            }
        }
        const unsigned all[4] = {top.x, top.y, top.z, top.w};
#pragma unroll
        for (int i = 0; i < WORDS; ++i) best[i] = all[i];
    }
    // Channel by channel; those beyond the last are zero.
    DEVICE void take_single(const ConvArgs& conv, address_t from, unsigned flags, int left, unsigned (&best)[WORDS]) const {
#pragma unroll
        for (int word = 0; word < WORDS; ++word) {
            unsigned parts[PER_WORD];
#pragma unroll
            for (int e = 0; e < PER_WORD; ++e) {
                int channel = word * PER_WORD + e;
                address_t at = strided(from, conv.x_strides.channel, channel);
                unsigned top = LOWEST;
#pragma unroll 1
                for (int down = -1; down <= 1; ++down)
#pragma unroll
                    for (int right = -1; right <= 1; ++right)
                        top = larger(top, load_one_or_lowest(at + away(conv, down, right),
                                                             channel < left && exists(flags, down, right)));
                parts[e] = channel < left ? top : 0;
            }
            best[word] = PER_WORD == 1 ? parts[0] : pair(parts[0], parts[PER_WORD - 1]);
        }
    }
};
