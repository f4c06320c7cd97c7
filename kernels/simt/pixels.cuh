// The output pixels of a block, as the loaders of windows (simt/tap_loader.cuh,
// simt/direct_few_channels.cu) need them.
#pragma once

#include "simt/implicit_gemm.cuh"

// The window of an output pixel.
struct alignas(16) InputPixel {
    address_t image;  // of x[n][first channel of the group][0][0]
    int row, column;  // of tap (0, 0), negative in the padding

    InputPixel() = default;
    DEVICE InputPixel(const ConvArgs& args, address_t x, unsigned n) {
        n = n < args.gemm_n ? n : args.gemm_n - 1;
        unsigned index = fast_div(n, args.by_pq);
        unsigned rest = n - index * (args.p * args.q);
        unsigned p = fast_div(rest, args.by_q);
        unsigned q = rest - p * args.q;
        image = x + static_cast<long long>(index) * args.x_strides.image *
                        static_cast<long long>(sizeof(storage_t));
        row = static_cast<int>(p) * args.stride_h - args.pad_top;
        column = static_cast<int>(q) * args.stride_w - args.pad_left;
    }
};

// The thread's pixels. Along pixels they stay in registers; along channels a thread has several
// and shares each with other lanes of the channel block, so they lie in shared memory:
// pixels[TILE_N], 16 bytes each. A warp reads 8 neighbours at a time, each by 4 lanes: 128 bytes,
// no bank conflict.
struct PixelTable {
    const InputPixel* table;
    DEVICE void init(const ConvArgs& args, address_t x, const WorkTile& tile, InputPixel* shared) {
#pragma unroll 1
        for (int i = threadIdx.x; i < TILE_N; i += THREADS) {
            InputPixel pixel(args, x, tile.n + i);
            // One access of 16 bytes: as two of 8, 16 bytes apart, each would have a bank conflict.
            unsigned long long place = static_cast<unsigned>(pixel.row);
            place |= static_cast<unsigned long long>(static_cast<unsigned>(pixel.column)) << 32;
            *reinterpret_cast<ulonglong2*>(shared + i) = make_ulonglong2(pixel.image, place);
        }
        table = shared + b_lane_n();
        __syncthreads();  // the table is read by other threads than wrote it
    }
    DEVICE InputPixel operator[](int i) const {
        // One access, not three.
        ulonglong2 both = *reinterpret_cast<const ulonglong2*>(table + i * B_STEP_N);
        InputPixel pixel;
        pixel.image = both.x;
        pixel.row = static_cast<int>(both.y);
        pixel.column = static_cast<int>(both.y >> 32);
        return pixel;
    }
};
struct PixelRegisters {
    InputPixel own[PIXELS];
    DEVICE void init(const ConvArgs& args, address_t x, const WorkTile& tile, InputPixel*) {
#pragma unroll
        for (int i = 0; i < PIXELS; ++i)
            own[i] = InputPixel(args, x, tile.n + b_lane_n() + i * B_STEP_N);
    }
    DEVICE const InputPixel& operator[](int i) const { return own[i]; }
};
typedef Select<LAYOUT_NHWC, PixelTable, PixelRegisters>::type Pixels;
constexpr int PIXEL_TABLE = LAYOUT_NHWC ? TILE_N : 1;
