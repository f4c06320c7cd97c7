// The argument struct of elementwise/pack_filter.cu, passed by value. The library mirrors it
// field by field; the size is asserted on both sides.
#pragma once

#include "common/conv_args.cuh"

// Element (k, tap, c) is read at k * from_k + tap * from_tap + c * from_c and written at k * to_k +
// tap * to_tap + c, both in elements. Zeros are written for c from `channels` up to to_tap, and for
// the `tail` elements behind a filter's last tap.
struct PackArgs {
    const void* from;
    void* to;
    long long from_k;
    long long to_k;
    int from_tap, from_c;
    int to_tap;
    int channels;
    int taps;
    int tail;
    FastDiv by_channel_tiles;  // block -> tile of taps and filter
    FastDiv by_tap_tiles;      // then -> filter
    // Element of a tile -> channel; divisor: the taps of a tile, min(taps, TILE_K).
    FastDiv by_taps;
};
static_assert(sizeof(PackArgs) == 4 * 8 + 6 * 4 + 3 * 12 + 4, "the library mirrors this struct");
