// Pixels of NCHW (part of mma/loader.cuh): neighbouring lanes have neighbouring pixels, and a
// thread loads several channels of each of its own.
//
// 16-bit: through registers. A thread loads the eight channels of a chunk and stores them as one
// word of 16 bytes: eight lanes, eight neighbouring rows, no bank conflict. f32: by cp.async of 4
// bytes. A quarter of the warp's lanes (8 pixels) copies channel 0 of a chunk while the others copy
// channels 1, 2 and 3, and so on in turn: the lanes of a quarter differ in the sixteenth of the
// banks, the quarters in the word.
#pragma once

#include "mma/loader.cuh"

static_assert(LAYOUT_NHWC || VECTOR_BYTES == ELEMENT_BYTES, "pixels are copied one by one");

// PIXELS pixels in rows of ROW bytes.
template <int PIXELS, int ROW>
struct PixelLoaderNchw {
    static constexpr bool ASYNC = ELEMENT_BYTES == 4;
    static constexpr int OWN = PIXELS > THREADS ? PIXELS / THREADS : 1;  // pixels of a thread
    // Threads that share a pixel.
    static constexpr int LANES = THREADS > PIXELS ? THREADS / PIXELS : 1;
    // A thread's, of a pixel.
    static constexpr int CHUNKS = ROW / 16 / LANES;
    static constexpr int CHUNKS_PER_GROUP = W_ROW / 16;
    static constexpr int TASKS = OWN * CHUNKS / HALVES;  // chunks of a half
    static_assert(CHUNKS >= 1 && OWN * CHUNKS % HALVES == 0, "every chunk once");
    static_assert(PIXELS % 32 == 0 && THREADS % PIXELS % 32 == 0, "a warp's pixels are neighbours");

    Pixel own[OWN];
    int group, groups;  // of the tile's first group, of the convolution
    unsigned values[ASYNC ? 1 : TASKS][8];
    unsigned pending;  // the stage that the values belong to

    // The thread's first pixel and chunk in the tile; its chunks follow each other, its pixels are
    // THREADS apart.
    static DEVICE int row() { return threadIdx.x % PIXELS; }
    static DEVICE int chunk() { return LANES > 1 ? threadIdx.x / PIXELS * CHUNKS : 0; }

    DEVICE PixelLoaderNchw(const TensorArgs& args, const WorkTile& tile) {
        address_t x = first_of_group(args.conv, tile);
#pragma unroll
        for (int i = 0; i < OWN; ++i) own[i] = Pixel(args.conv, x, tile.n + row() + i * THREADS);
        group = tile.group;
        groups = args.conv.groups;
        pending = 0;
    }
    DEVICE void start(const TensorArgs&, const MmaKIterator&) {}

    // The first channel of a chunk, counted from the tile's first group, and how many of it and the
    // following exist.
    DEVICE int first_channel(const ConvArgs& conv, const MmaKIterator& now, int chunk,
                             int& left) const {
        int inner = now.channel + chunk % CHUNKS_PER_GROUP * CHUNK_ELEMENTS,
            other = chunk / CHUNKS_PER_GROUP;
        left = now.left > 0 && (GROUPS_PER_TILE == 1 || group + other < groups)
                   ? conv.group_c - inner
                   : 0;
        return GROUPS_PER_TILE == 1 ? inner : other * conv.group_c + inner;
    }

    DEVICE void part(const TensorArgs& args, const MmaKIterator& now, const MmaKIterator&, int part,
                     unsigned stage) {
        if constexpr (ASYNC) {
            copy(args.conv, now, part, stage);
        } else if (half_of(part) >= 0) {
            if (LATE && pending != 0) store(pending, (half_of(part) + 1) % HALVES);
            // All channels of a block exist but in the last.
            if (now.left > 0 && now.channel + TILE_K <= args.conv.group_c &&
                group + GROUPS_PER_TILE <= groups)
                load<true>(args.conv, now, half_of(part));
            else
                load<false>(args.conv, now, half_of(part));
            pending = stage;
        }
    }
    DEVICE void end(unsigned stage) {
        if (!ASYNC && !LATE) store(stage, 0);
    }

    template <bool WHOLE>
    DEVICE void load(const ConvArgs& conv, const MmaKIterator& now, int half) {
#pragma unroll
        for (int task = 0; task < TASKS; ++task) {
            int index = half * TASKS + task;
            const Pixel& pixel = own[index / CHUNKS];
            unsigned place;
            bool in_bounds = pixel.in_bounds(conv, now.row, now.column, place);
            int left, channel = first_channel(conv, now, chunk() + index % CHUNKS, left);
            if (!in_bounds) left = 0;
            address_t from = strided(element(pixel.image, place), conv.x_strides.channel, channel);
#pragma unroll
            for (int i = 0; i < 8; ++i)
                values[ASYNC ? 0 : task][i] = ld_global_u16_x32(
                    strided(from, conv.x_strides.channel, i), WHOLE ? in_bounds : i < left);
        }
    }
    DEVICE void store(unsigned stage, int half) {
#pragma unroll
        for (int task = 0; task < TASKS; ++task) {
            int index = half * TASKS + task;
            const unsigned (&v)[8] = values[ASYNC ? 0 : task];
            unsigned at = stage +
                          swizzled<ROW>(row() + index / CHUNKS * THREADS, chunk() + index % CHUNKS);
            st_shared_v4(at, make_uint4(pack_u16(v[0], v[1]), pack_u16(v[2], v[3]),
                                        pack_u16(v[4], v[5]), pack_u16(v[6], v[7])));
        }
    }
    DEVICE void copy(const ConvArgs& conv, const MmaKIterator& now, int part, unsigned stage) {
        int quarter = threadIdx.x / 8 % 4;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            unsigned place;
            bool in_bounds = own[i].in_bounds(conv, now.row, now.column, place);
            address_t pixel = element(own[i].image, place);
#pragma unroll
            for (int turn = 0; turn < 4; ++turn) {
                int word = (turn + quarter) % 4;
                address_t from = strided(pixel, conv.x_strides.channel, word);
#pragma unroll
                for (int j = 0; j < CHUNKS; ++j) {
                    int index = (i * 4 + turn) * CHUNKS + j;
                    if (index < share(OWN * 4 * CHUNKS, part) ||
                        index >= share(OWN * 4 * CHUNKS, part + 1))
                        continue;
                    int left, channel = first_channel(conv, now, chunk() + j, left);
                    unsigned at = stage + swizzled<ROW>(row() + i * THREADS, chunk() + j) +
                                  word * ELEMENT_BYTES;
                    cp_async<4>(at, strided(from, conv.x_strides.channel, channel),
                                in_bounds && word < left);
                }
            }
        }
    }
};
