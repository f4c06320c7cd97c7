// Packs filters in the order that the tensor-core kernels read: [k][tap][channel], each tap's
// channels padded with zeros (or, for the kernels that run through taps and channels in one go,
// [k][tap * channels + channel], the filter padded). Bits are moved, not numbers: one module serves
// each size of an element.
//
// A block moves a tile of TILE_N channels by up to TILE_K taps of one filter. Where the channels of
// a tap are neighbours already (from_c = 1: KRSC, 1x1), neighbouring threads move neighbouring
// channels and nothing is shared. Else (KCRS) neighbouring threads read neighbouring taps, then
// neighbouring channels, which with all taps in the tile is one run of memory, and write
// neighbouring channels; in between the tile passes through shared memory.
//
// Shared memory: TILE_N x (TILE_K | 1) words, element (c, tap) at c * (taps of a tile | 1) + tap.
// Writes run along the taps and are (nearly) consecutive, reads run along the channels at an odd
// stride, so that neither has bank conflicts; an element of 2 bytes takes a word too, for that
// reason. The one barrier stands between the two.
//
// Grid: filters * tiles of taps * tiles of channels, block = (filter * tap_tiles + tap_tile) *
// channel_tiles + channel_tile.
#include "types.cuh"
#include "elementwise/pack_filter_args.cuh"

static_assert(TILE_M == 1, "a block moves a part of one filter");
static_assert(TILE_N % 32 == 0 && THREADS % TILE_N == 0,
              "a warp's lanes are neighbouring channels");
static_assert(TILE_N * (TILE_K | 1) * 4 <= 48 << 10, "static shared memory");

struct PackTile {
    const storage_t* from;  // of channel 0, tap 0 of the tile
    storage_t* to;
    int channels;  // that the filter has from the tile's first on
    int width;     // that are written, zeros included
    int taps;
    unsigned size;  // elements of a tile with all its channels
};

DEVICE PackTile find_tile(const PackArgs& a, int& filter) {
    unsigned rest = fast_div(blockIdx.x, a.by_channel_tiles);
    int channel = (blockIdx.x - rest * a.by_channel_tiles.divisor) * TILE_N;
    filter = fast_div(rest, a.by_tap_tiles);
    int tap = (rest - filter * a.by_tap_tiles.divisor) * TILE_K;
    PackTile tile;
    tile.from = static_cast<const storage_t*>(a.from) + filter * a.from_k +
                static_cast<long long>(tap) * a.from_tap +
                static_cast<long long>(channel) * a.from_c;
    tile.to = static_cast<storage_t*>(a.to) + filter * a.to_k +
              static_cast<long long>(tap) * a.to_tap + channel;
    tile.channels = a.channels - channel;
    tile.width = a.to_tap - channel;
    tile.taps = a.taps - tap;
    tile.size = TILE_N * a.by_taps.divisor;
    return tile;
}

DEVICE storage_t read(const PackArgs& a, const PackTile& tile, int c, int tap) {
    bool in_bounds = c < tile.channels && tap < tile.taps;
    return in_bounds ? tile.from[static_cast<long long>(tap) * a.from_tap +
                                 static_cast<long long>(c) * a.from_c]
                     : storage_t(0);
}

DEVICE void write(const PackArgs& a, const PackTile& tile, int c, int tap, storage_t value) {
    if (c < tile.width && tap < tile.taps) {
        tile.to[static_cast<long long>(tap) * a.to_tap + c] = value;
    }
}

KERNEL(PackArgs a) {
    __shared__ storage_t padded[TILE_N * (TILE_K | 1)][4 / sizeof(storage_t)];
    int filter;
    PackTile tile = find_tile(a, filter);
    if (a.from_c == 1) {
#pragma unroll 4
        for (unsigned i = threadIdx.x; i < tile.size; i += THREADS) {
            int c = i % TILE_N, tap = i / TILE_N;
            write(a, tile, c, tap, read(a, tile, c, tap));
        }
    } else {
        unsigned taps = a.by_taps.divisor, pitch = taps | 1;
#pragma unroll 4
        for (unsigned i = threadIdx.x; i < tile.size; i += THREADS) {
            unsigned c = fast_div(i, a.by_taps), tap = i - c * taps;
            padded[c * pitch + tap][0] = read(a, tile, c, tap);
        }
        __syncthreads();
#pragma unroll 4
        for (unsigned i = threadIdx.x; i < tile.size; i += THREADS) {
            unsigned c = i % TILE_N, tap = i / TILE_N;
            write(a, tile, c, tap, padded[c * pitch + tap][0]);
        }
    }
    if (tile.width <= TILE_N && tile.taps <= TILE_K && threadIdx.x < a.tail) {
        long long end = filter * a.to_k + static_cast<long long>(a.taps) * a.to_tap;
        static_cast<storage_t*>(a.to)[end + threadIdx.x] = storage_t(0);
    }
}
