// Loads x into the stages of a group: rows of 32 bytes of channels of the halo's pixels, one stage
// per step, in copies of VECTOR_BYTES bytes, by cp.async; with VECTOR_BYTES 2 by 4 bytes as two
// loads through registers, stored a step later. Pixels outside the image and channels beyond the
// last are zero. The pipeline runs on from patch to patch: while a patch is at its 3x3, the first
// steps of the next one are in flight. Where filters are not resident, each stage also has its part
// of w1.
#pragma once

#include "bottleneck/mma_filters.cuh"

struct InputLoader {
    static constexpr bool ASYNC = VECTOR_BYTES >= 4;
    static constexpr int COPY_BYTES = ASYNC ? VECTOR_BYTES : 4;
    static constexpr int COPIES_PER_ROW = STEP_BYTES / COPY_BYTES;
    // Pixels between two copies of a thread.
    static constexpr int APART = GROUP_THREADS / COPIES_PER_ROW;
    static constexpr int COPIES = (PASS_ROWS + APART - 1) / APART;
    static constexpr unsigned NONE = 0xffffffffu;

    const BottleneckArgs& args;
    address_t image;           // of the thread's copy of x[image][0][0][0]
    unsigned offsets[COPIES];  // from there to its pixels, in elements; NONE outside
    unsigned values[ASYNC ? 1 : COPIES * 2];
    // Shared byte addresses of stage 0, and of the thread's first copy in it.
    unsigned base, stages;
    unsigned stage;    // to fill next
    unsigned tile;     // of the patch being loaded
    int pass, step;    // of that patch
    unsigned pending;  // through registers: where the values belong

    DEVICE InputLoader(const BottleneckArgs& args, unsigned thread, unsigned stages, unsigned tile)
        : args(args),
          base(stages),
          stages(stages +
                 swizzled<STEP_BYTES>(thread / COPIES_PER_ROW,
                                      thread % COPIES_PER_ROW * COPY_BYTES / 16) +
                 thread % COPIES_PER_ROW * COPY_BYTES % 16),
          stage(0),
          tile(tile),
          pass(0),
          step(0),
          pending(0) {
        place(thread);
    }
    DEVICE static int copy_offset(unsigned thread) { return thread % COPIES_PER_ROW * COPY_BYTES; }

    // Finds the pixels of pass `pass` of the patch `tile`.
    DEVICE void place(unsigned thread) {
        if (tile >= args.tiles) return;
        Patch patch(args, tile, args.by_tiles_q.divisor);
        image = global_address(args.x) + patch.image * args.x_strides.image * ELEMENT_BYTES +
                copy_offset(thread);
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            int pixel = pass * PASS_ROWS + thread / COPIES_PER_ROW + i * APART;
            int row = pixel / HALO_Q, column = pixel - row * HALO_Q;
            unsigned h = patch.top() + row, w = patch.left() + column;
            bool in_bounds = pixel < HALO && h < static_cast<unsigned>(args.h) &&
                             w < static_cast<unsigned>(args.width);
            offsets[i] = in_bounds ? (h * args.width + w) * args.x_strides.pixel : NONE;
        }
    }
    static DEVICE bool in_stage(unsigned thread, int i) {
        return (i + 1) * APART <= PASS_ROWS || thread / COPIES_PER_ROW + i * APART < PASS_ROWS;
    }

    // Starts to load the next step, and turns to the one after it. `steps` are those of a pass,
    // `stride` leads to the group's next patch.
    DEVICE void load(unsigned thread, int steps, unsigned stride) {
        unsigned to = stages + stage * INPUT_STAGE_BYTES;
        if (!ASYNC && pending != 0) store(thread);
        if (tile < args.tiles) {
            int left = args.c * ELEMENT_BYTES - step * STEP_BYTES - copy_offset(thread);
            address_t from = image + step * STEP_BYTES;
#pragma unroll
            for (int i = 0; i < COPIES; ++i)
                if (in_stage(thread, i)) {
                    bool valid = offsets[i] != NONE && left > 0;
                    address_t at = valid ? element(from, offsets[i]) : image;
                    if (ASYNC) {
                        cp_async_zfill<COPY_BYTES>(to + i * APART * STEP_BYTES, at,
                                                   valid ? min(left, COPY_BYTES) : 0);
                    } else {
                        values[2 * i] = ld_global_u16_x32(at, valid);
                        values[2 * i + 1] = ld_global_u16_x32(at + 2, valid && left > 2);
                    }
                }
            pending = to;
            if (!RESIDENT)
                load_block<MID_CHANNELS, STEP_BYTES>(
                    base + stage * INPUT_STAGE_BYTES + W1_STAGE_AT, first_filters(args),
                    step * (STEP_BYTES / ELEMENT_BYTES), args.w_vector, FirstFilter());
        }
        cp_async_commit_group();
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
    // Prefetches into L2 what is still to be loaded of the pass.
    DEVICE void prefetch(unsigned thread) {
        if (tile >= args.tiles) return;
        int first = step * STEP_BYTES;
        Patch patch(args, tile, args.by_tiles_q.divisor);
        address_t from = global_address(args.x) +
                         patch.image * args.x_strides.image * ELEMENT_BYTES;
#pragma unroll
        for (int i = 0; i < PASS_ROWS; i += GROUP_THREADS) {
            int pixel = pass * PASS_ROWS + i + thread;
            int row = pixel / HALO_Q, column = pixel - row * HALO_Q;
            unsigned h = patch.top() + row, w = patch.left() + column;
            bool in_bounds = h < static_cast<unsigned>(args.h) &&
                             w < static_cast<unsigned>(args.width);
            if (i + thread >= PASS_ROWS || pixel >= HALO || !in_bounds) continue;
            address_t at = element(from, (h * args.width + w) * args.x_strides.pixel);
#pragma unroll 1
            for (int byte = first; byte < args.c * ELEMENT_BYTES; byte += 128)
                prefetch_l2(at + byte);
        }
    }
    DEVICE void store(unsigned thread) {
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if (in_stage(thread, i))
                st_shared_u32(pending + i * APART * STEP_BYTES,
                              pack_u16(values[2 * i], values[2 * i + 1]));
        pending = 0;
    }
};
