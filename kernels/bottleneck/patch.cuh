// The patch of output pixels that a fused bottleneck computes at a time, and its halo.
//
// A patch is TILE_P x TILE_Q output pixels of one image. Its halo is what the 3x3 reads, HALO_P x
// HALO_Q pixels of the first intermediate. Patches are the tiles of bottleneck/args.cuh: the
// columns of an image run fastest, then its rows, then images.
#pragma once

#include "bottleneck/args.cuh"

constexpr int HALO_P = (TILE_P - 1) * STRIDE + 3;
constexpr int HALO_Q = (TILE_Q - 1) * STRIDE + 3;

static_assert(STRIDE == 1 || STRIDE == 2, "of the 3x3");

// Position of a patch. Halo pixel (row, column) is pixel (top + row, left + column) of the image,
// if that exists.
struct Patch {
    unsigned image;
    int p, q;  // first output pixel

    DEVICE Patch(const BottleneckArgs& args, unsigned tile) : Patch(args, tile, args.tiles_q) {}
    // `tiles_q`: args.tiles_q or the equal divisor of by_tiles_q; a reference, since it is read
    // last.
    DEVICE Patch(const BottleneckArgs& args, unsigned tile, const unsigned& tiles_q) {
        image = fast_div(tile, args.by_tiles_image);
        unsigned rest = tile - image * args.by_tiles_image.divisor;
        unsigned row = fast_div(rest, args.by_tiles_q);
        p = row * TILE_P;
        q = (rest - row * tiles_q) * TILE_Q;
    }
    // Row and column of x of the first halo pixel; -1 in the padding.
    DEVICE int top() const { return p * STRIDE - 1; }
    DEVICE int left() const { return q * STRIDE - 1; }
};
