// The loader of mma.cu and small_groups.cu: filters, and pixels of either layout.
#pragma once

#include "mma/pixel_loader_nchw.cuh"
#include "mma/pixel_loader_nhwc.cuh"

typedef Select<LAYOUT_NHWC, PixelLoaderNhwc<TILE_N, X_ROW>, PixelLoaderNchw<TILE_N, X_ROW>>::type
    PixelLoader;

// Both operands. A policy of the main loop: part(i, stage) and end(stage), see mma/loader.cuh.
struct OperandLoader {
    const TensorArgs& args;
    MmaKIterator now;    // the step being filled
    MmaKIterator ahead;  // the next
    FilterLoader filters;
    PixelLoader pixels;

    DEVICE OperandLoader(const TensorArgs& args, const WorkTile& tile)
        : args(args),
          now(args, k_range(args, tile)),
          ahead(now),
          filters(args, tile),
          pixels(args, tile) {
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
