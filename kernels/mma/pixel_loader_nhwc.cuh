// Pixels of NHWC (part of mma/loader.cuh): rows of channels, in copies of VECTOR_BYTES bytes,
// neighbouring lanes along a row. Those of 16, 8 and 4 bytes go by cp.async; with
// VECTOR_BYTES 2, and on compute_75, they go through registers, by 4 bytes as two loads where
// VECTOR_BYTES is 2. The last copy of a group may exist in part: no neighbour's channel is read.
//
// Shared memory: entries[2][TILE_N], 16 bytes each, after the stages: where the row of each pixel
// begins in the step being filled and in the next. A pixel is worked out once per step by one
// thread, and read by all lanes that copy its row: a word of 16 bytes for the lanes of a row, at
// most 8 words, neighbours, a warp. The barrier of the step before makes them readable.
#pragma once

#include "mma/loader.cuh"

struct Entry {
    address_t from;  // of the block's first channel
    bool in_bounds;
};

// PIXELS pixels in rows of ROW bytes.
template <int PIXELS, int ROW>
struct PixelLoaderNhwc {
    static constexpr bool ASYNC = HAS_CP_ASYNC && VECTOR_BYTES >= 4;
    static constexpr int COPY_BYTES = VECTOR_BYTES < 4 ? 4 : VECTOR_BYTES;
    static constexpr int COPIES_PER_ROW = ROW / COPY_BYTES;
    // Pixels between two copies of a thread.
    static constexpr int STEP = THREADS / COPIES_PER_ROW;
    static constexpr int COPIES = PIXELS / STEP;
    // Through registers: of a half.
    static constexpr int LOADS = COPIES / HALVES;
    // Pixels that a thread makes the entries of.
    static constexpr int OWN = (PIXELS + THREADS - 1) / THREADS;
    static constexpr unsigned TABLE = PIXELS * 16;
    static_assert(PIXELS % STEP == 0 && (STEP & (STEP - 1)) == 0, "every column once");
    static_assert(ASYNC || COPY_BYTES == 4 || COPY_BYTES == 16, "through registers: 4 or 16 bytes");

    Pixel own[OWN];
    unsigned table;  // shared byte address of the step's entries, at the thread's first pixel
    int turn;        // bytes from it to the next step's
    unsigned to;     // the thread's first copy, in a stage
    int offset;      // bytes of its copies from the block's first channel
    int bytes;       // bytes of the group from its copy of block 0 on
    unsigned values[ASYNC ? 1 : LOADS * (VECTOR_BYTES == 2 ? 2 : 4)];
    unsigned pending;  // the stage that the values belong to

    DEVICE PixelLoaderNhwc(const TensorArgs& args, const WorkTile& tile) {
        const ConvArgs& conv = args.conv;
        address_t x = first_of_group(conv, tile);
#pragma unroll
        for (int i = 0; i < OWN; ++i) own[i] = Pixel(conv, x, tile.n + threadIdx.x + i * THREADS);
        constexpr int COPIES_PER_GROUP = COPIES_PER_ROW / GROUPS_PER_TILE;
        int column = threadIdx.x % COPIES_PER_ROW, row = threadIdx.x / COPIES_PER_ROW;
        int group = column / COPIES_PER_GROUP, inner = column % COPIES_PER_GROUP * COPY_BYTES;
        offset = group * conv.group_c * ELEMENT_BYTES + inner;
        bytes = tile.group + group < conv.groups ? conv.group_c * ELEMENT_BYTES - inner : 0;
        to = swizzled<ROW>(row, column * COPY_BYTES / 16) + column * COPY_BYTES % 16;
        table = shared_address(shared_bytes) + SHARED_BYTES - 2 * TABLE + row * 16;
        turn = TABLE;
        pending = 0;
    }
    // Makes the entries of a step in the table at `turn` from the current one.
    DEVICE void make_entries(const TensorArgs& args, const MmaKIterator& walk, int turn) {
        unsigned at = table - threadIdx.x / COPIES_PER_ROW * 16 + turn;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            int row = threadIdx.x + i * THREADS;
            if (PIXELS % THREADS == 0 || row < PIXELS) {
                unsigned place;
                bool in_bounds = own[i].in_bounds(args.conv, walk.row, walk.column, place) &&
                                 walk.left > 0;
                address_t from = element(own[i].image, place + walk.channel);
                st_shared_v2_u64(at + row * 16, from, in_bounds);
            }
        }
    }
    DEVICE void start(const TensorArgs& args, const MmaKIterator& now) {
        make_entries(args, now, 0);
        __syncthreads();
    }
    DEVICE Entry entry(int i) const {
        ulonglong2 words = ld_shared_v2_u64(table + i * STEP * 16);
        return Entry{words.x, static_cast<unsigned>(words.y) != 0};
    }
    // Bytes of the thread's copy that are valid in the block, under COPY_BYTES where it ends in it.
    DEVICE int left(const MmaKIterator& now) const { return bytes - now.channel * ELEMENT_BYTES; }

    DEVICE void part(const TensorArgs& args, const MmaKIterator& now, const MmaKIterator& ahead,
                     int part, unsigned stage) {
        if (part == 0) make_entries(args, ahead, turn);
        if constexpr (ASYNC) {
            // Only the group's last block can end within a copy.
            if (now.channel + TILE_K > args.conv.group_c &&
                args.conv.group_c % (COPY_BYTES / ELEMENT_BYTES) != 0)
                copy<true>(now, part, stage);
            else
                copy<false>(now, part, stage);
        } else if (half_of(part) >= 0) {
            if (LATE && pending != 0) store(pending, (half_of(part) + 1) % HALVES);
            load(now, half_of(part));
            pending = stage;
        }
        if (part == PARTS - 1) {
            table += turn;
            turn = -turn;
        }
    }
    DEVICE void end(unsigned stage) {
        if (!ASYNC && !LATE) store(stage, 0);
    }

    template <bool PARTLY>
    DEVICE void copy(const MmaKIterator& now, int part, unsigned stage) {
        int left = this->left(now);
        // Entries in registers at a time: shared loads between copies cost issue slots.
        constexpr int BATCH = 4;
#pragma unroll
        for (int first = 0; first < COPIES; first += BATCH) {
            Entry entries[BATCH];
#pragma unroll
            for (int i = 0; i < BATCH; ++i)
                if (first + i >= share(COPIES, part) && first + i < share(COPIES, part + 1))
                    entries[i] = entry(first + i);
#pragma unroll
            for (int i = 0; i < BATCH; ++i)
                if (first + i >= share(COPIES, part) && first + i < share(COPIES, part + 1)) {
                    unsigned at = swizzled_further<ROW>(stage + to, (first + i) * STEP);
                    if (PARTLY)
                        cp_async_zfill<COPY_BYTES>(
                            at, entries[i].from + offset,
                            entries[i].in_bounds ? max(min(left, COPY_BYTES), 0) : 0);
                    else
                        cp_async<COPY_BYTES>(at, entries[i].from + offset,
                                             entries[i].in_bounds && left > 0);
                }
        }
    }
    DEVICE void load(const MmaKIterator& now, int half) {
        int left = this->left(now);
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            Entry at = entry(half * LOADS + i);
            if (VECTOR_BYTES == 2) {
                values[2 * i] = ld_global_u16_x32(at.from + offset, at.in_bounds && left > 0);
                values[2 * i + 1] = ld_global_u16_x32(at.from + offset + 2,
                                                      at.in_bounds && left > 2);
            } else {
                uint4 loaded = ld_global_v4(at.from + offset, at.in_bounds && left >= 16);
                if (left > 0 && left < 16) loaded = load_partly(at, left);
                values[4 * i] = loaded.x;
                values[4 * i + 1] = loaded.y;
                values[4 * i + 2] = loaded.z;
                values[4 * i + 3] = loaded.w;
            }
        }
    }
    DEVICE uint4 load_partly(const Entry& at, int left) const {
        unsigned words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            words[i] = pack_u16(
                ld_global_u16_x32(at.from + offset + 4 * i, at.in_bounds && left > 4 * i),
                ld_global_u16_x32(at.from + offset + 4 * i + 2, at.in_bounds && left > 4 * i + 2));
        return make_uint4(words[0], words[1], words[2], words[3]);
    }
    DEVICE void store(unsigned stage, int half) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            unsigned at = swizzled_further<ROW>(stage + to, (half * LOADS + i) * STEP);
            if (VECTOR_BYTES == 2)
                st_shared_u32(at, pack_u16(values[2 * i], values[2 * i + 1]));
            else
                st_shared_v4(at, make_uint4(values[4 * i], values[4 * i + 1], values[4 * i + 2],
                                            values[4 * i + 3]));
        }
    }
};
