// The tile scheduler of the convolutions: from a unit of work to its output tile and its part of
// gemm_k.
//
// Output tiles are TILE_M filters of one group by TILE_N pixels (n, p, q flattened). They are
// numbered tile = tile_n * (groups * tiles_m) + group * tiles_m + tile_m: neighbours share their
// pixels of x through L2. Split-K: split_k units of work compute one tile, unit = tile * split_k +
// split. A unit is a block, or, in persistent kernels, one of the units b, b + gridDim.x, ... of
// block b.
#pragma once

#include "common/tensor_args.cuh"

// The output tile of a unit of work.
struct WorkTile {
    unsigned index;  // of the tile
    int split;       // split-K: which part of gemm_k
    int group;       // the tile's, or its first
    int m;           // first filter, counted in the group
    unsigned n;      // first pixel
};

// Output tile `index`. `groups`: those that the numbering counts; a reference, since it is read
// last.
template <class Groups>
DEVICE WorkTile output_tile(const ConvArgs& conv, unsigned index, const Groups& groups) {
    WorkTile tile;
    tile.index = index;
    tile.split = 0;
    unsigned rest = fast_div(index, conv.by_tiles_m);
    tile.m = (index - rest * conv.tiles_m) * TILE_M;
    unsigned tile_n = fast_div(rest, conv.by_groups);
    tile.group = rest - tile_n * groups;
    tile.n = tile_n * TILE_N;
    return tile;
}

// The output tile and the split of unit `unit`.
template <class Groups>
DEVICE WorkTile work_tile(const TensorArgs& args, unsigned unit, const Groups& groups) {
    unsigned index = fast_div(unit, args.by_split_k);
    int split = unit - index * args.split_k;
    WorkTile tile = output_tile(args.conv, index, groups);
    tile.split = split;
    return tile;
}

// The steps of gemm_k that a unit of work takes: first .. end, at least one.
struct KRange {
    int first, end;

    DEVICE int count() const { return end - first; }
};

DEVICE KRange k_range(const TensorArgs& args, const WorkTile& tile) {
    int first = tile.split * args.steps_per_split;
    return {first, first + min(args.steps_per_split, args.steps - first)};
}
