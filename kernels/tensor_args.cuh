// The argument struct of the mma.sync kernels, passed by value, and a part of the wgmma kernels' (wgmma_args.cuh, which tells
// how their grid differs). src/launch/tensor.rs mirrors it field by field; the size is asserted on both sides.
#pragma once

#include "args.cuh"

struct TensorArgs {
    // Its filters are [k][tap][w_channels]: w_k = taps * w_channels, w_tap = w_channels, w_c = 1; those of mma_few_channels.cu are
    // [k][tap][group_c], each filter rounded up to 16 bytes: w_k is that pitch, w_tap = group_c. Its tiles_m, by_tiles_m and
    // by_groups number the tiles as in ConvArgs, of which there are `tiles`.
    ConvArgs conv;
    float* partials;       // splits > 1: the sums of each block, TILE_M * TILE_N a block in the order of blocks
    unsigned* counters;    // splits > 1: one a tile, blocks that have arrived; zero before and after a launch
    int splits;            // blocks that share the sum of a tile: grid = tiles * splits, block = tile * splits + split
    int steps;             // steps of the sum in all, TILE_K terms each
    int steps_a_split;     // split i takes steps [i * steps_a_split, min(steps, (i + 1) * steps_a_split))
    int w_channels;        // channels of a filter's tap in memory: group_c rounded up to 16 bytes, the rest zero
    unsigned tiles;        // tiles_n * groups * tiles_m
    FastDiv by_splits;     // block -> tile
};
static_assert(sizeof(TensorArgs) == sizeof(ConvArgs) + 48, "src/launch/tensor.rs mirrors this struct");
