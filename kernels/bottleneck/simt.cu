// A whole bottleneck in one launch, f32 on CUDA cores; formula and arguments: bottleneck/args.cuh.
//
// A block of 256 threads takes one tile of TILE_P x TILE_Q outputs of one image after the other,
// each in three phases:
//   1  mid1 over the halo of the tile: channels of x, STEP_1 per step, and their filters stream
//      through shared memory
//   2  mid2 over the tile, from mid1 and the filters of the 3x3, STEP_2 channels per step
//   3  y, 64 channels at a time, from mid2 and the filters of the last 1x1, STEP_3 channels per
//      step
// The halo of a tile is computed anew, so blocks are independent. x is read from device memory
// about once: tiles that overlap are neighbours in time and share L2. The filters (275 KiB at 252
// -> 63 -> 252) do not fit beside the tile and are read from L2 once per tile.
//
// Threads: warp w owns MID channels of mid1 and mid2 and 8 channels of each chunk of y; see
// bottleneck/simt_tile.cuh. Accumulators of a lane: phase 1: MID x 2 * LANE_PAIRS pixels; phase 2:
// MID x LANE_OUT; phase 3: 8 x LANE_OUT. Lanes' pixels:
//   phase 1  pair lane + 32 j of the halo, row by row
//   phase 2  LANE_OUT neighbours of output row lane / ROW_LANES: a row of the window is loaded
//            once for its three columns
//   phase 3  of the tile's pixels in one row: fours, 4 * lane + 128 i, then a pair, then one, as
//            LANE_OUT is written in binary
// The channel loops run to the channels there are, not to MID_CHANNELS; what is beyond them in the
// last step is zero on both sides. Channels of mid1 and mid2 beyond `mid_channels` and pixels of
// mid1 outside the image are set to zero, whatever their accumulators are (NaN where x is infinite:
// filters beyond the last are zeros).
//
// Bank conflicts: filters are read by all lanes at one address. Phase 1 and 3 read consecutive
// words. Phase 2, one word per lane where LANE_OUT is 7: 7 * (lane % 4) + MID_ROW * row, MID_ROW =
// 4 modulo 32: 0, 7, 14, 21 plus multiples of 4: all different. Two words per lane where LANE_OUT
// is even: half per warp covers four rows, 8 modulo 32 words apart at stride 1; at stride 2, 16, so
// that two of them conflict: no pitch of an even number of words parts them. mid1 is written in
// pairs, consecutive but for the ends of rows; mid2 LANE_OUT words apart (odd), or in consecutive
// pairs. Fills: bottleneck/simt_tile.cuh.
//
// Barriers: one per step, as it makes the step's stage visible and frees the stage that is filled
// next. Between phases:
//   1 | 2  all have read the stages of phase 1, over which mid1 is written; mid1 is visible by the
//          first barrier of phase 2
//   2 | 3  all have read mid1, over which mid2 is written, and the last stages in area B, which
//          phase 3 fills
//   3 | 1  all have read mid2, over which the next tile's stages are filled, and area B, whose
//          first stages of phase 2 are filled
//          along with them
//
// Constraints: mid_channels <= MID_CHANNELS; VECTOR_BYTES 16: width and all strides of x multiples
// of 4, x aligned to 16 bytes. One image of x, residual, y and the filters under 2^31 elements.
// Grid: bottleneck/args.cuh.
#include "bottleneck/simt_loader.cuh"
#include "bottleneck/simt_output.cuh"

extern __shared__ __align__(16) unsigned char shared_memory[];

DEVICE Stage1* stages1() { return reinterpret_cast<Stage1*>(shared_memory); }
DEVICE float* mid1() { return reinterpret_cast<float*>(shared_memory); }
DEVICE float* mid2() { return reinterpret_cast<float*>(shared_memory); }
DEVICE Stage2* stages2() { return reinterpret_cast<Stage2*>(shared_memory + AREA_A); }
DEVICE Stage3* stages3() { return reinterpret_cast<Stage3*>(shared_memory + AREA_A); }
DEVICE int* places() { return reinterpret_cast<int*>(shared_memory + AREA_A + AREA_B); }

DEVICE int next_stage(int stage) { return stage + 1 == STAGES ? 0 : stage + 1; }

template <int ROWS, int COLUMNS>
DEVICE void clear(float (&acc)[ROWS][COLUMNS]) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) acc[i][j] = 0.0f;
}

// -------------------------------------------------------------------------------------------------
// Phase 1

// The word of the stage's row, X_Q a row, at which pair `pair` of the halo lies.
DEVICE int pair_place(int pair) {
    int row = pair / (MID_Q / 2), column = pair % (MID_Q / 2) * 2;
    return row * X_Q + column + X_LEFT - LEFT;
}

DEVICE void multiply1(const Stage1& stage, float (&acc)[MID][2 * LANE_PAIRS]) {
    int lane = lane_index(), warp = warp_index();
#pragma unroll
    for (int c = 0; c < STEP_1; ++c) {
        float w[MID], x[2 * LANE_PAIRS];
        load_row<MID, MID>(w, &stage.w[c][warp * MID]);
#pragma unroll
        for (int j = 0; j < LANE_PAIRS; ++j) {
            // Pairs beyond the last repeat the last.
            int pair = 32 * (j + 1) <= PAIRS ? lane + 32 * j : min(lane + 32 * j, PAIRS - 1);
            // Where rows and pairs are such that all pairs of a lane lie equally far apart, the
            // distance is known here.
            int place = j == 0 || 32 * (j + 1) > PAIRS ? pair_place(pair)
                        : X_Q == MID_Q                 ? pair_place(lane) + 64 * j
                        : 64 % MID_Q == 0              ? pair_place(lane) + 64 / MID_Q * X_Q * j
                                                       : pair_place(pair);
            load_row<2, 2>(x + 2 * j, &stage.x[c][place]);
        }
#pragma unroll
        for (int i = 0; i < MID; ++i)
#pragma unroll
            for (int j = 0; j < 2 * LANE_PAIRS; ++j) acc[i][j] = fmaf(w[i], x[j], acc[i][j]);
    }
}

// Writes mid1: bias, ReLU, zero where there is no such pixel or channel.
DEVICE void store1(const BottleneckArgs& args, unsigned index,
                   const float (&acc)[MID][2 * LANE_PAIRS]) {
    Patch patch = patch_again(args, index);
    int channel = warp_index() * MID, lane = lane_index();
    int row0 = patch.top(), column0 = patch.q * STRIDE - LEFT;
    unsigned in_bounds = 0;  // a bit per pixel: registers are short
#pragma unroll
    for (int j = 0; j < 2 * LANE_PAIRS; ++j) {
        int pair = lane + 32 * (j / 2);
        int row = row0 + pair / (MID_Q / 2), column = column0 + pair % (MID_Q / 2) * 2 + j % 2;
        in_bounds |= (row >= 0 && row < args.h && column >= 0 && column < args.width ? 1u : 0u)
                     << j;
    }
#pragma unroll
    for (int i = 0; i < MID; ++i) {
        bool valid = channel + i < args.mid_channels;
        float bias = args.b1 && valid ? static_cast<const float*>(args.b1)[channel + i] : 0.0f;
        unsigned mask = valid ? in_bounds : 0;
#pragma unroll
        for (int j = 0; j < LANE_PAIRS; ++j) {
            int pair = lane + 32 * j;
            if (32 * (j + 1) > PAIRS && pair >= PAIRS) break;
            int place = pair / (MID_Q / 2) * MID_ROW + pair % (MID_Q / 2) * 2;
            *reinterpret_cast<float2*>(mid1() + (channel + i) * MID_Q + place) = make_float2(
                mask >> (2 * j) & 1 ? relu(acc[i][2 * j] + bias) : 0.0f,
                mask >> (2 * j + 1) & 1 ? relu(acc[i][2 * j + 1] + bias) : 0.0f);
        }
    }
}

DEVICE void phase1(const BottleneckArgs& args, unsigned index) {
    // Area B is free; later there would be accumulators in the registers that this takes.
    fill_first<W2Loader>(args, stages2());
    W1Loader loader_w(args);
    XLoader loader_x(args, patch_again(args, index), places());
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; ++i) {
        loader_x.fill(args, stages1()[i]);
        loader_w.fill(args, stages1()[i]);
        commit();
    }
    float acc[MID][2 * LANE_PAIRS];
    clear(acc);
    int read = 0, filled = STAGES - 1;
#pragma unroll 1
    for (int c = 0; c < args.c; c += STEP_1) {
        wait_for_stage();
        __syncthreads();
        loader_x.fill(args, stages1()[filled]);
        loader_w.fill(args, stages1()[filled]);
        commit();
        multiply1(stages1()[read], acc);
        read = next_stage(read);
        filled = next_stage(filled);
    }
    wait_for_all();
    __syncthreads();
    store1(args, index, acc);
}

// -------------------------------------------------------------------------------------------------
// Phase 2

constexpr int WINDOW_Q = (LANE_OUT - 1) * STRIDE + 3;  // columns that a lane's outputs read
constexpr int WINDOW_ALIGN = LANE_OUT * STRIDE % 2 == 0 && LEFT % 2 == 1 ? 2 : 1;

// One channel of mid1: nine taps.
DEVICE void multiply2(const float* mid, const float (*filters)[W2_PITCH],
                      float (&acc)[MID][LANE_OUT]) {
#pragma unroll
    for (int r = 0; r < 3; ++r) {
        float x[WINDOW_Q];
        load_row<WINDOW_Q, WINDOW_ALIGN>(x, mid + r * MID_ROW);
#pragma unroll
        for (int s = 0; s < 3; ++s) {
            float w[MID];
            load_row<MID, MID>(w, filters[r * 3 + s]);
#pragma unroll
            for (int i = 0; i < MID; ++i)
#pragma unroll
                for (int j = 0; j < LANE_OUT; ++j)
                    acc[i][j] = fmaf(w[i], x[j * STRIDE + s], acc[i][j]);
        }
    }
}

// Writes mid2: bias, ReLU, zero where there is no such channel.
DEVICE void store2(const BottleneckArgs& args, const float (&acc)[MID][LANE_OUT]) {
    int channel = warp_index() * MID;
    float* to = mid2() + channel * OUT + lane_index() * LANE_OUT;
#pragma unroll
    for (int i = 0; i < MID; ++i) {
        bool valid = channel + i < args.mid_channels;
        float bias = args.b2 && valid ? static_cast<const float*>(args.b2)[channel + i] : 0.0f;
        float v[LANE_OUT];
#pragma unroll
        for (int j = 0; j < LANE_OUT; ++j) v[j] = valid ? relu(acc[i][j] + bias) : 0.0f;
        if constexpr (LANE_OUT % 2 == 0) {
#pragma unroll
            for (int j = 0; j < LANE_OUT; j += 2)
                *reinterpret_cast<float2*>(to + i * OUT + j) = make_float2(v[j], v[j + 1]);
        } else {
#pragma unroll
            for (int j = 0; j < LANE_OUT; ++j) to[i * OUT + j] = v[j];
        }
    }
}

// Its first stages are under way: phase1.
DEVICE void phase2(const BottleneckArgs& args) {
    int lane = lane_index();
    int row = lane / ROW_LANES * STRIDE, column = lane % ROW_LANES * LANE_OUT * STRIDE;
    const float* mid = mid1() + row * MID_ROW + column + LEFT - 1;
    float acc[MID][LANE_OUT];
    clear(acc);
    W2Loader loader = behind<W2Loader>(args);
    int read = 0, filled = STAGES - 1;
#pragma unroll 1
    for (int c = 0; c < args.mid_channels; c += STEP_2) {
        wait_for_stage();
        __syncthreads();
        loader.fill(args, stages2()[filled]);
        commit();
        const float* own = &stages2()[read].w[0][0][warp_index() * MID];
        auto filters = reinterpret_cast<const float (*)[W2_PITCH]>(own);
#pragma unroll 1
        for (int i = 0; i < STEP_2; ++i) {
            multiply2(mid, filters, acc);
            mid += MID_Q;
            filters += 9;
        }
        read = next_stage(read);
        filled = next_stage(filled);
    }
    wait_for_all();
    __syncthreads();
    fill_first<W3Loader>(args, stages3());
    store2(args, acc);
}

// -------------------------------------------------------------------------------------------------
// Phase 3

constexpr int FOURS = LANE_OUT / 4, TWOS = LANE_OUT % 4 / 2;

// The lane's pixel `j` in the tile, row by row.
DEVICE int out_pixel(int lane, int j) {
    if (j < 4 * FOURS) return j / 4 * 128 + 4 * lane + j % 4;
    if (j < 4 * FOURS + 2 * TWOS) return 128 * FOURS + 2 * lane + (j - 4 * FOURS);
    return 128 * FOURS + 64 * TWOS + lane;
}

DEVICE void multiply3(const Stage3& stage, const float* mid, OutputAcc& acc) {
    int lane = lane_index();
    const float* filters = &stage.w[0][warp_index() * LAST];
#pragma unroll
    for (int c = 0; c < STEP_3; ++c) {
        float w[LAST], x[LANE_OUT];
        load_row<LAST, 4>(w, filters + c * W3_PITCH);
#pragma unroll
        for (int j = 0; j < 4 * FOURS; j += 4)
            load_row<4, 4>(x + j, mid + c * OUT + 32 * j + 4 * lane);
        if (TWOS) load_row<2, 2>(x + 4 * FOURS, mid + c * OUT + 128 * FOURS + 2 * lane);
        if (LANE_OUT % 2) x[LANE_OUT - 1] = mid[c * OUT + 128 * FOURS + 64 * TWOS + lane];
#pragma unroll
        for (int i = 0; i < LAST; ++i)
#pragma unroll
            for (int j = 0; j < LANE_OUT; ++j) acc[i][j] = fmaf(w[i], x[j], acc[i][j]);
    }
}

// WIDTH of the lane's pixels that are neighbours in the tile, the first being its pixel `first`.
template <int WIDTH>
DEVICE void write_run(const BottleneckArgs& args, const Patch& patch, int k, const OutputAcc& acc,
                      int first) {
    int pixel = out_pixel(lane_index(), first);
    if constexpr (LAYOUT_NHWC) {
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) write_pixel(args, patch, pixel + j, k, acc, first + j);
    } else if (WIDTH > 1 && TILE_Q % WIDTH == 0 && args.y_vector && args.q % 4 == 0) {
        // y_vector holds of planes; rows of whole runs, in the tile and in the image, keep a run in
        // its row.
        write_planes<WIDTH>(args, patch, pixel, k, acc, first);
    } else {
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) write_planes<1>(args, patch, pixel + j, k, acc, first + j);
    }
}

DEVICE void write_chunk(const BottleneckArgs& args, unsigned index, int k, OutputAcc& acc) {
    Patch patch = patch_again(args, index);
    if (args.b3) {
#pragma unroll
        for (int i = 0; i < LAST; ++i) {
            float bias = k + i < args.k ? static_cast<const float*>(args.b3)[k + i] : 0.0f;
#pragma unroll
            for (int j = 0; j < LANE_OUT; ++j) acc[i][j] += bias;
        }
    }
#pragma unroll
    for (int j = 0; j < 4 * FOURS; j += 4) write_run<4>(args, patch, k, acc, j);
    if constexpr (TWOS > 0) write_run<2>(args, patch, k, acc, 4 * FOURS);
    if constexpr (LANE_OUT % 2 > 0) write_run<1>(args, patch, k, acc, LANE_OUT - 1);
}

// Its first stages are under way: phase2.
DEVICE void phase3(const BottleneckArgs& args, unsigned index) {
    W3Loader loader = behind<W3Loader>(args);
    int read = 0, filled = STAGES - 1;
#pragma unroll 1
    for (int k = 0; k < args.k; k += CHUNK) {
        OutputAcc acc;
        clear(acc);
        const float* mid = mid2();
#pragma unroll 1
        for (int c = 0; c < args.mid_channels; c += STEP_3) {
            wait_for_stage();
            __syncthreads();
            loader.fill(args, stages3()[filled]);
            commit();
            multiply3(stages3()[read], mid, acc);
            mid += STEP_3 * OUT;
            read = next_stage(read);
            filled = next_stage(filled);
        }
        write_chunk(args, index, k + warp_index() * LAST, acc);
    }
    wait_for_all();
    __syncthreads();
}

KERNEL(BottleneckArgs args) {
#pragma unroll 1
    for (unsigned index = blockIdx.x; index < args.tiles; index += gridDim.x) {
        phase1(args, index);
        phase2(args);
        phase3(args, index);
    }
}
