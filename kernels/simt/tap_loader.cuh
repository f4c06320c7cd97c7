// The loader of direct and grouped convolution.
//
// gemm_k runs through blocks of TILE_K channels, and in each block through all filter taps (r, s):
// the rows of x that the taps of one block share stay in L1, and the sectors of a KCRS filter are
// used up before the next block. A step is one tap of one block: A[k][m] = w[m][c0 + k][r][s],
// B[k][n] = x[image(n)][c0 + k][row(n, r)][column(n, s)], where row(n, r) = p * stride_h - pad_top
// + r * dilation_h and column likewise.
//
// Both operands are zero where the channel is beyond the group's last. B is zero where the tap lies
// in the padding: the product of such a tap is still formed, so an infinity or NaN in w gives NaN
// at the border, as in PyTorch. Filters beyond the last are zero; pixels beyond the last repeat the
// last one and their accumulators are dropped.
#pragma once

#include "simt/pixels.cuh"

struct TapLoader {
    const ConvArgs& args;
    Pixels pixels;
    // Of the thread's first filter, at channel a_lane_k of the block, tap 0.
    address_t filter;
    int filters;            // how many of its A_LOADS filters exist
    int a_left, b_left;     // channels from the thread's first one of the block on
    unsigned row, column;   // r * dilation_h, s * dilation_w; after the last tap up to 2^32
    unsigned tap_offset;    // of w: the tap
    unsigned block_offset;  // of x: the thread's first channel

    DEVICE TapLoader(const ConvArgs& args, const WorkTile& tile, InputPixel* shared) : args(args) {
        long long first_channel = static_cast<long long>(tile.group) * args.group_c *
                                  x_channel(args);
        address_t x = global_address(static_cast<const storage_t*>(args.x) + first_channel);
        pixels.init(args, x, tile, shared);

        int m = tile.m + a_lane_m();
        filter = global_address(static_cast<const storage_t*>(args.w) +
                                (static_cast<long long>(tile.group) * args.group_k + m) * args.w_k +
                                static_cast<long long>(a_lane_k()) * args.w_c);
        filters = (args.group_k - m + A_ROWS - 1) / A_ROWS;
        a_left = args.group_c - a_lane_k();
        b_left = args.group_c - b_lane_k();
        row = column = 0;
        tap_offset = 0;
        block_offset = static_cast<unsigned>(b_lane_k()) * x_channel(args);
    }

    DEVICE bool vector() const { return false; }

    // KRange of the whole sum.
    static DEVICE int steps(const ConvArgs& args) {
        return (args.group_c + TILE_K - 1) / TILE_K * (args.r * args.s);
    }

    // B first: after a shared load, such as that of the pixels, the compiler pads each run of
    // cp.async.
    template <class Copy>
    DEVICE void fetch_b(Copy& copy) {
        address_t elements[PIXELS];  // the pixel's element of the thread's first channel
        // Valid channels of the pixel, from the thread's first on.
        int channels[PIXELS];
        unsigned height = b_left > 0 ? args.h : 0;
#pragma unroll
        for (int pixel = 0; pixel < PIXELS; ++pixel) {
            InputPixel at = pixels[pixel];
            unsigned h = at.row + row, w = at.column + column;
            bool in_bounds = h < height && w < static_cast<unsigned>(args.width);
            elements[pixel] = element(at.image,
                                      (h * args.width + w) * x_pixel(args) + block_offset);
            channels[pixel] = in_bounds ? b_left : 0;
        }
#pragma unroll
        for (int pixel = 0; pixel < PIXELS; ++pixel)
#pragma unroll
            for (int i = 0; i < B_CHANNELS; ++i)
                copy.b(pixel, i, strided(elements[pixel], x_channel(args), i * B_STEP_K),
                       i * B_STEP_K < channels[pixel]);
    }

    template <class Copy>
    DEVICE void fetch_a(Copy& copy) {
        int valid_filters = a_left > 0 ? filters : 0;
        address_t first = element(filter, tap_offset);
#pragma unroll
        for (int i = 0; i < A_LOADS; ++i)
            copy.a(i, strided(first, args.w_k, i * A_ROWS), i < valid_filters);
        advance();
    }

    // To the next tap, and after the last to the next block of channels.
    DEVICE void advance() {
        tap_offset += args.w_tap;
        column += args.dilation_w;
        if (column == static_cast<unsigned>(args.s) * args.dilation_w) {
            column = 0;
            row += args.dilation_h;
            if (row == static_cast<unsigned>(args.r) * args.dilation_h) {
                row = 0;
                tap_offset = 0;
                filter = strided(filter, args.w_c, TILE_K);
                block_offset += static_cast<unsigned>(TILE_K) * x_channel(args);
                a_left -= TILE_K;
                b_left -= TILE_K;
            }
        }
    }
};
