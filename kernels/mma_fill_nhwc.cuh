// Pixels of NHWC (part of mma_fill.cuh): rows of channels, in pieces of VECTOR bytes, neighbouring lanes along a row. Pieces of
// 16, 8 and 4 bytes are copied by cp.async; with VECTOR 2, and on compute_75, they go through registers, by 4 bytes as two loads
// where VECTOR is 2. The last piece of a group may exist in part: no neighbour's channel is read.
//
// Shared memory: entries[2][TILE_N], 16 bytes each, after the stages: where the row of each pixel begins in the step being
// filled and in the next. A pixel is worked out once a step by one thread, and read by all lanes that copy its row: a word of
// 16 bytes for the lanes of a row, at most 8 words, neighbours, a warp. The barrier of the step before makes them readable.
#pragma once

struct Entry {
    address_t from;  // of the block's first channel
    bool inside;
};

struct PixelFiller {
    static constexpr bool ASYNC = ASYNC_COPY && VECTOR >= 4;
    static constexpr int PIECE = VECTOR < 4 ? 4 : VECTOR;
    static constexpr int PIECES = X_ROW / PIECE;
    static constexpr int STEP = THREADS / PIECES;                 // pixels between two copies of a thread
    static constexpr int COPIES = TILE_N / STEP;
    static constexpr int LOADS = COPIES / HALVES;                 // through registers: of a half
    static constexpr int OWN = (TILE_N + THREADS - 1) / THREADS;  // pixels that a thread makes the entries of
    static constexpr unsigned TABLE = TILE_N * 16;
    static_assert(TILE_N % STEP == 0 && (STEP & (STEP - 1)) == 0, "every piece once");
    static_assert(ASYNC || PIECE == 4 || PIECE == 16, "through registers: 4 or 16 bytes");

    Pixel own[OWN];
    unsigned table;   // shared byte address of the step's entries, at the thread's first pixel
    int turn;         // what leads from it to the next step's
    unsigned to;      // the thread's first piece, in a stage
    int offset;       // bytes of its pieces from the block's first channel
    int bytes;        // bytes of the group from its piece of block 0 on
    unsigned values[ASYNC ? 1 : LOADS * (VECTOR == 2 ? 2 : 4)];
    unsigned pending;  // the stage that the values belong to

    DEVICE PixelFiller(const TensorArgs& args, const Tile& tile) {
        const ConvArgs& conv = args.conv;
        address_t x = first_of_group(conv, tile);
#pragma unroll
        for (int i = 0; i < OWN; ++i) own[i] = Pixel(conv, x, tile.n + threadIdx.x + i * THREADS);
        constexpr int PIECES_A_GROUP = PIECES / GROUPS_A_TILE;
        int piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
        int group = piece / PIECES_A_GROUP, inner = piece % PIECES_A_GROUP * PIECE;
        offset = group * conv.group_c * ELEMENT + inner;
        bytes = tile.group + group < conv.groups ? conv.group_c * ELEMENT - inner : 0;
        to = swizzled<X_ROW>(row, piece * PIECE / 16) + piece * PIECE % 16;
        table = shared_address(shared_bytes) + SHARED_BYTES - 2 * TABLE + row * 16;
        turn = TABLE;
        pending = 0;
    }
    // Makes the entries of a step in the table at `turn` from the current one.
    DEVICE void make_entries(const TensorArgs& args, const Walk& walk, int turn) {
        unsigned at = table - threadIdx.x / PIECES * 16 + turn;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            int row = threadIdx.x + i * THREADS;
            if (TILE_N % THREADS == 0 || row < TILE_N) {
                unsigned place;
                bool inside = own[i].inside(args.conv, walk.row, walk.column, place) && walk.left > 0;
                address_t from = element(own[i].image, place + walk.channel);
                asm volatile("st.shared.v2.u64 [%0], {%1, %2};" ::"r"(at + row * 16), "l"(from),
                             "l"(static_cast<unsigned long long>(inside))
                             : "memory");
            }
        }
    }
    DEVICE void start(const TensorArgs& args, const Walk& now) {
        make_entries(args, now, 0);
        __syncthreads();
    }
    DEVICE Entry entry(int i) const {
        unsigned long long inside;
        Entry entry;
        asm volatile("ld.shared.v2.u64 {%0, %1}, [%2];" : "=l"(entry.from), "=l"(inside) : "r"(table + i * STEP * 16) : "memory");
        entry.inside = static_cast<unsigned>(inside) != 0;
        return entry;
    }
    // How much of the thread's piece exists in the block, under PIECE where it ends in it.
    DEVICE int left(const Walk& now) const { return bytes - now.channel * ELEMENT; }

    DEVICE void part(const TensorArgs& args, const Walk& now, const Walk& ahead, int part, unsigned stage) {
        if (part == 0) make_entries(args, ahead, turn);
        if (ASYNC) {
            // Only the group's last block can end within a piece.
            if (now.channel + TILE_K > args.conv.group_c && args.conv.group_c % (PIECE / ELEMENT) != 0)
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
    DEVICE void copy(const Walk& now, int part, unsigned stage) {
        int left = this->left(now);
        constexpr int BATCH = 4;  // entries in registers at a time: shared loads between copies cost issue slots
#pragma unroll
        for (int first = 0; first < COPIES; first += BATCH) {
            Entry entries[BATCH];
#pragma unroll
            for (int i = 0; i < BATCH; ++i)
                if (first + i >= share(COPIES, part) && first + i < share(COPIES, part + 1)) entries[i] = entry(first + i);
#pragma unroll
            for (int i = 0; i < BATCH; ++i)
                if (first + i >= share(COPIES, part) && first + i < share(COPIES, part + 1)) {
                    unsigned at = further<X_ROW>(stage + to, (first + i) * STEP);
                    if (PARTLY)
                        copy_part_async<PIECE>(at, entries[i].from + offset, entries[i].inside ? max(min(left, PIECE), 0) : 0);
                    else
                        copy_async<PIECE>(at, entries[i].from + offset, entries[i].inside && left > 0);
                }
        }
    }
    DEVICE void load(const Walk& now, int half) {
        int left = this->left(now);
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            Entry at = entry(half * LOADS + i);
            if (VECTOR == 2) {
                values[2 * i] = load_2(at.from + offset, at.inside && left > 0);
                values[2 * i + 1] = load_2(at.from + offset + 2, at.inside && left > 2);
            } else {
                uint4 loaded = load_16(at.from + offset, at.inside && left >= 16);
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
            words[i] = pair(load_2(at.from + offset + 4 * i, at.inside && left > 4 * i),
                            load_2(at.from + offset + 4 * i + 2, at.inside && left > 4 * i + 2));
        return make_uint4(words[0], words[1], words[2], words[3]);
    }
    DEVICE void store(unsigned stage, int half) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            unsigned at = further<X_ROW>(stage + to, (half * LOADS + i) * STEP);
            if (VECTOR == 2)
                store_4(at, pair(values[2 * i], values[2 * i + 1]));
            else
                store_16(at, make_uint4(values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]));
        }
    }
};
