// The argument struct of the mma.sync kernels, passed by value, and a part of the wgmma kernels'
// (wgmma/args.cuh, where their grid differs). The library mirrors it field by field; the size is
// asserted on both sides.
#pragma once

#include "common/conv_args.cuh"

struct TensorArgs {
    // Its filters are [k][tap][w_channels]: w_k = taps * w_channels, w_tap = w_channels, w_c = 1;
    // those of mma/few_channels.cu are [k][tap][group_c], each filter rounded up to 16 bytes: w_k
    // is that pitch, w_tap = group_c. Its tiles_m, by_tiles_m and by_groups number the tiles as in
    // ConvArgs, of which there are `tiles`.
    ConvArgs conv;
    // split_k > 1: partial tiles, TILE_M * TILE_N accumulators per unit of work, in their order.
    float* partials;
    // split_k > 1: one per tile, blocks that have arrived; zero before and after a launch.
    unsigned* counters;
    // Split-K: blocks that compute one output tile: grid = tiles * split_k, block = tile * split_k
    // + split.
    int split_k;
    int steps;  // steps of the sum in all, TILE_K terms each
    // Split i takes steps [i * steps_per_split, min(steps, (i + 1) * steps_per_split)).
    int steps_per_split;
    // Channels of a filter's tap in memory: group_c rounded up to 16 bytes, the rest zero.
    int w_channels;
    unsigned tiles;      // tiles_n * groups * tiles_m
    FastDiv by_split_k;  // block -> tile
};
static_assert(sizeof(TensorArgs) == sizeof(ConvArgs) + 48, "the library mirrors this struct");
