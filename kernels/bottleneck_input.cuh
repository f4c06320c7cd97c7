// How x comes into the ring of a group: rows of 32 bytes of channels of the halo's pixels, a stage a step, in pieces of VECTOR
// bytes, by cp.async; with VECTOR 2 by 4 bytes as two loads through registers, stored a step later. Pixels outside the image and
// channels beyond the last are zero. The ring runs on from patch to patch: while a patch is at its 3x3, the first steps of the
// next one are on their way. Where filters are not resident, each stage also brings its part of w1.
#pragma once

#include "bottleneck_filters.cuh"

struct Input {
    static constexpr bool ASYNC = VECTOR >= 4;
    static constexpr int PIECE = ASYNC ? VECTOR : 4;
    static constexpr int PIECES = STEP_BYTES / PIECE;
    static constexpr int APART = GROUP_THREADS / PIECES;               // pixels between two copies of a thread
    static constexpr int COPIES = (PASS_ROWS + APART - 1) / APART;
    static constexpr unsigned NONE = 0xffffffffu;

    const BottleneckArgs& args;
    address_t image;           // of the thread's piece of x[image][0][0][0]
    unsigned offsets[COPIES];  // from there to its pixels, in elements; NONE outside
    unsigned values[ASYNC ? 1 : COPIES * 2];
    unsigned base, ring;       // shared byte addresses of stage 0, and of the thread's first piece in it
    unsigned stage;            // to fill next
    unsigned tile;             // of the patch being brought
    int pass, step;            // of that patch
    unsigned pending;          // through registers: where the values belong

    DEVICE Input(const BottleneckArgs& args, unsigned thread, unsigned ring, unsigned tile)
        : args(args), base(ring), ring(ring + swizzled<STEP_BYTES>(thread / PIECES, thread % PIECES * PIECE / 16) + thread % PIECES * PIECE % 16),
          stage(0), tile(tile), pass(0), step(0), pending(0) {
        place(thread);
    }
    DEVICE static int piece_bytes(unsigned thread) { return thread % PIECES * PIECE; }

    // Finds the pixels of pass `pass` of the patch `tile`.
    DEVICE void place(unsigned thread) {
        if (tile >= args.tiles) return;
        Patch patch(args, tile);
        image = global_address(args.x) + patch.image * args.x_strides.image * ELEMENT + piece_bytes(thread);
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            int pixel = pass * PASS_ROWS + thread / PIECES + i * APART;
            int row = pixel / HALO_W, column = pixel - row * HALO_W;
            unsigned h = patch.top() + row, w = patch.left() + column;
            bool inside = pixel < HALO && h < static_cast<unsigned>(args.h) && w < static_cast<unsigned>(args.width);
            offsets[i] = inside ? (h * args.width + w) * args.x_strides.pixel : NONE;
        }
    }
    static DEVICE bool in_ring(unsigned thread, int i) {
        return (i + 1) * APART <= PASS_ROWS || thread / PIECES + i * APART < PASS_ROWS;
    }

    // Starts to bring the next step, and turns to the one after it. `steps` are those of a pass, `stride` leads to the group's
    // next patch.
    DEVICE void bring(unsigned thread, int steps, unsigned stride) {
        unsigned to = ring + stage * INPUT_STAGE_BYTES;
        if (!ASYNC && pending != 0) store(thread);
        if (tile < args.tiles) {
            int left = args.c * ELEMENT - step * STEP_BYTES - piece_bytes(thread);
            address_t from = image + step * STEP_BYTES;
#pragma unroll
            for (int i = 0; i < COPIES; ++i)
                if (in_ring(thread, i)) {
                    bool exists = offsets[i] != NONE && left > 0;
                    address_t at = exists ? element(from, offsets[i]) : image;
                    if (ASYNC) {
                        copy_part_async<PIECE>(to + i * APART * STEP_BYTES, at, exists ? min(left, PIECE) : 0);
                    } else {
                        values[2 * i] = load_2(at, exists);
                        values[2 * i + 1] = load_2(at + 2, exists && left > 2);
                    }
                }
            pending = to;
            if (!RESIDENT)
                bring_block<NARROW, STEP_BYTES>(base + stage * INPUT_STAGE_BYTES + W1_STAGE_AT, first_filters(args),
                                                step * (STEP_BYTES / ELEMENT), args.w_vector, FirstFilter());
        }
        commit();
        stage = stage == STAGES - 1 ? 0 : stage + 1;
        if (++step == steps) {
            step = 0;
            if (PASSES == 1 || ++pass == PASSES) {
                pass = 0;
                tile += stride;
            }
            place(thread);
        }
    }
    // Has the L2 cache fetch what is still to be brought of the pass.
    DEVICE void announce(unsigned thread) {
        if (tile >= args.tiles) return;
        int first = step * STEP_BYTES;
        Patch patch(args, tile);
        address_t from = global_address(args.x) + patch.image * args.x_strides.image * ELEMENT;
#pragma unroll
        for (int i = 0; i < PASS_ROWS; i += GROUP_THREADS) {
            int pixel = pass * PASS_ROWS + i + thread;
            int row = pixel / HALO_W, column = pixel - row * HALO_W;
            unsigned h = patch.top() + row, w = patch.left() + column;
            bool inside = h < static_cast<unsigned>(args.h) && w < static_cast<unsigned>(args.width);
            if (i + thread >= PASS_ROWS || pixel >= HALO || !inside) continue;
            address_t at = element(from, (h * args.width + w) * args.x_strides.pixel);
#pragma unroll 1
            for (int byte = first; byte < args.c * ELEMENT; byte += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"(at + byte));
        }
    }
    DEVICE void store(unsigned thread) {
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if (in_ring(thread, i)) store_4(pending + i * APART * STEP_BYTES, pair(values[2 * i], values[2 * i + 1]));
        pending = 0;
    }
};
