// The loader of direct and grouped convolution.
//
// gemm_k runs through blocks of TILE_K channels, and in each block through all filter taps (r, s): the rows of x that the
// taps of one block share stay in L1, and the sectors of a KCRS filter are used up before the next block.
// A step is one tap of one block: A[k][m] = w[m][c0 + k][r][s], B[k][n] = x[image(n)][c0 + k][row(n, r)][column(n, s)],
// where row(n, r) = p * stride_h - pad_top + r * dilation_h and column likewise.
//
// Both operands are zero where the channel is beyond the group's last. B is zero where the tap lies in the padding: the
// product of such a tap is still formed, so an infinity or NaN in w gives NaN at the border, as in PyTorch.
// Filters beyond the last are zero; pixels beyond the last repeat the last one and their sums are dropped.
#pragma once

#include "implicit_gemm.cuh"

// What a thread must know of an output pixel.
struct alignas(16) Pixel {
    address_t image;  // of x[n][first channel of the group][0][0]
    int row, column;  // of tap (0, 0), negative in the padding

    DEVICE Pixel() {}
    DEVICE Pixel(const ConvArgs& args, address_t x, unsigned n) {
        n = n < args.gemm_n ? n : args.gemm_n - 1;
        unsigned index = fast_div(n, args.by_pq);
        unsigned rest = n - index * (args.p * args.q);
        unsigned p = fast_div(rest, args.by_q);
        unsigned q = rest - p * args.q;
        image = x + static_cast<long long>(index) * args.x_strides.image * static_cast<long long>(sizeof(storage_t));
        row = static_cast<int>(p) * args.stride_h - args.pad_top;
        column = static_cast<int>(q) * args.stride_w - args.pad_left;
    }
};

// The thread's pixels. Along pixels they stay in registers; along channels a thread has several and shares each with other
// lanes of the channel block, so they lie in shared memory: pixels[TILE_N], 16 bytes each. A warp reads 8 neighbours at a
// time, each by 4 lanes: 128 bytes, no bank twice.
struct Pixels {
#if LAYOUT_NHWC
    const Pixel* table;
    DEVICE void init(const ConvArgs& args, address_t x, const Tile& tile, Pixel* shared) {
        for (int i = threadIdx.x; i < TILE_N; i += THREADS) shared[i] = Pixel(args, x, tile.n + i);
        table = shared + b_lane_n();
        __syncthreads();  // the table is read by other threads than wrote it
    }
    DEVICE Pixel operator[](int i) const {
        ulonglong2 both = *reinterpret_cast<const ulonglong2*>(table + i * B_STEP_N);  // one access, not three
        Pixel pixel;
        pixel.image = both.x;
        pixel.row = static_cast<int>(both.y);
        pixel.column = static_cast<int>(both.y >> 32);
        return pixel;
    }
#else
    Pixel own[PIXELS];
    DEVICE void init(const ConvArgs& args, address_t x, const Tile& tile, Pixel*) {
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) own[i] = Pixel(args, x, tile.n + b_lane_n() + i * B_STEP_N);
    }
    DEVICE const Pixel& operator[](int i) const { return own[i]; }
#endif
};
constexpr int PIXEL_TABLE = LAYOUT_NHWC ? TILE_N : 1;

struct TapLoader {
    const ConvArgs& args;
    Pixels pixels;
    address_t filter;       // of the thread's first filter, at channel a_lane_k of the block, tap 0
    int filters;            // how many of its A_LOADS filters exist
    int a_left, b_left;     // channels from the thread's first one of the block on
    int row, column;        // r * dilation_h, s * dilation_w
    unsigned tap_offset;    // of w: the tap
    unsigned block_offset;  // of x: the thread's first channel

    DEVICE TapLoader(const ConvArgs& args, const Tile& tile, Pixel* shared) : args(args) {
        long long first_channel = static_cast<long long>(tile.group) * args.group_c * x_channel(args);
        address_t x = global_address(static_cast<const storage_t*>(args.x) + first_channel);
        pixels.init(args, x, tile, shared);

        int m = tile.m + a_lane_m();
        filter = global_address(static_cast<const storage_t*>(args.w) +
                                (static_cast<long long>(tile.group) * args.group_k + m) * args.w_k + a_lane_k() * args.w_c);
        filters = (args.group_k - m + A_ROWS - 1) / A_ROWS;
        a_left = args.group_c - a_lane_k();
        b_left = args.group_c - b_lane_k();
        row = column = 0;
        tap_offset = 0;
        block_offset = b_lane_k() * x_channel(args);
    }

    DEVICE bool vector() const { return false; }

    // Steps of the whole sum.
    static DEVICE int steps(const ConvArgs& args) { return (args.group_c + TILE_K - 1) / TILE_K * (args.r * args.s); }

    // B first: after a shared load, such as that of the pixels, the compiler pads each run of cp.async.
    DEVICE void fetch(Sink& sink) {
        address_t elements[PIXELS];  // the pixel's element of the thread's first channel
        int channels[PIXELS];        // how many of the pixel's channels exist in the image, from the thread's first on
        unsigned height = b_left > 0 ? args.h : 0;
#pragma unroll
        for (int pixel = 0; pixel < PIXELS; ++pixel) {
            Pixel at = pixels[pixel];
            unsigned h = at.row + row, w = at.column + column;
            bool inside = h < height && w < static_cast<unsigned>(args.width);
            elements[pixel] = element(at.image, (h * args.width + w) * x_pixel(args) + block_offset);
            channels[pixel] = inside ? b_left : 0;
        }
#pragma unroll
        for (int pixel = 0; pixel < PIXELS; ++pixel)
#pragma unroll
            for (int i = 0; i < B_CHANNELS; ++i)
                sink.b(pixel, i, strided(elements[pixel], x_channel(args), i * B_STEP_K), i * B_STEP_K < channels[pixel]);

        int filters_here = a_left > 0 ? filters : 0;
        address_t first = element(filter, tap_offset);
#pragma unroll
        for (int i = 0; i < A_LOADS; ++i) sink.a(i, strided(first, args.w_k, i * A_ROWS), i < filters_here);
        advance();
    }

    // To the next tap, and after the last to the next block of channels.
    DEVICE void advance() {
        tap_offset += args.w_tap;
        column += args.dilation_w;
        if (column == args.s * args.dilation_w) {
            column = 0;
            row += args.dilation_h;
            if (row == args.r * args.dilation_h) {
                row = 0;
                tap_offset = 0;
                filter = strided(filter, args.w_c, TILE_K);
                block_offset += TILE_K * x_channel(args);
                a_left -= TILE_K;
                b_left -= TILE_K;
            }
        }
    }
};
