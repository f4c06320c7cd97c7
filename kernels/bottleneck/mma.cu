// A whole bottleneck on tensor cores by mma.sync: 1x1, ReLU, 3x3 (padding 1, stride STRIDE), ReLU,
// 1x1, residual, ReLU in one launch; the formula and the arguments: bottleneck/args.cuh. Patches,
// groups and shared memory: bottleneck/mma_patch.cuh.
//
// x, y, residual NHWC. Of each patch a group computes
//   1. mid1 = relu(x * w1 + b1) of the halo, PASS_ROWS x MID_CHANNELS at a time, through the stages
//      of bottleneck/mma_input.cuh, 32 bytes of channels per step; zero outside the image and
//      beyond the mid_channels channels, rounded, into shared memory;
//   2. mid2 = relu(mid1 * w2 + b2): nine taps, each a shift in the halo, read by ldmatrix with an
//      address of its own for each output. A warp has all mid_channels channels of its outputs, so
//      mid2 stays in registers: two accumulators of a lane are a register of the next product's
//      operand;
//   3. y = act(mid2 * w3 + b3 + residual), 64 filters in one go.
// Warps 0..2 of a group have WARP_BLOCKS blocks of 16 outputs each, the last warp the rest. The
// last warp changes from patch to patch, so that the four partitions of an SM get equal work.
//
// Barriers of a group: in each step one, after which the next stage may be read and the one before
// be filled; one between writing and reading mid1; one at the start of a pass, before its first
// stage is read and mid1 written again. Of the block: one, when the filters have come (tf32: two,
// filters are rounded in between).
//
// Constraints: x's address and strides are multiples of VECTOR_BYTES bytes; c <= MAX_C, k <= MAX_K,
// mid_channels <= MID_CHANNELS; w_vector = 0 costs a gather, once per block.
// Grid: bottleneck/args.cuh; group g of block b takes patches b + gridDim.x * (g + WARP_GROUPS *
// i).
#include "bottleneck/mma_filters.cuh"
#include "bottleneck/mma_input.cuh"
#include "bottleneck/mma_output.cuh"

// -------------------------------------------------------------------------------------------------
// The first product

constexpr int W1_ROW = RESIDENT ? 128 : STEP_BYTES;  // of shared memory
typedef float FirstAcc[FIRST_BLOCKS][FIRST_COLUMNS][4];

struct FirstFragment {
    unsigned x[FIRST_BLOCKS][4];
    FilterOperand<FIRST_COLUMNS> w;

    // `x_at` and `w_at` are the lane's addresses in the stage and in the step's part of w1.
    DEVICE void load(unsigned x_at, unsigned w_at) {
#pragma unroll
        for (int i = 0; i < FIRST_BLOCKS; ++i) ldmatrix_x4(x[i], x_at + i * 16 * STEP_BYTES);
#pragma unroll
        for (int j = 0; j < FIRST_COLUMNS / 2; ++j) ldmatrix_x4(w.v[j], w_at + j * 16 * W1_ROW);
        if (!RESIDENT) w.convert();
    }
    DEVICE void multiply(FirstAcc& acc) {
#pragma unroll
        for (int i = 0; i < FIRST_BLOCKS; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) x[i][e] = cvt_rna_tf32(x[i][e]);
            multiply_columns<FIRST_COLUMNS>(acc[i], x[i], w.v, 0, FIRST_COLUMNS);
        }
    }
};

// The place of a lane of the group in the first product.
struct FirstReader {
    unsigned x, w;   // addresses in stage 0 and in w1
    unsigned stage;  // to read next
    int row, row_warp, column_warp;

    DEVICE FirstReader(unsigned warp, unsigned lane, unsigned stages, unsigned filters) : stage(0) {
        row_warp = warp / FIRST_COLUMN_WARPS;
        column_warp = warp % FIRST_COLUMN_WARPS;
        x = stages + swizzled<STEP_BYTES>(row_warp * FIRST_BLOCKS * 16 + lane % 16, lane / 16);
        w = (RESIDENT ? filters + W1_AT : stages + W1_STAGE_AT) +
            swizzled<W1_ROW>(column_warp * FIRST_COLUMNS * 8 + lane % 8 + lane / 16 * 8,
                             lane / 8 % 2);
        row = row_warp * FIRST_BLOCKS * 16 + lane / 4;
    }
    DEVICE void load(FirstFragment& fragment, int step) {
        unsigned block = step / STEPS_PER_BLOCK, k = step % STEPS_PER_BLOCK;
        unsigned at = stage * INPUT_STAGE_BYTES;
        fragment.load(x + at, RESIDENT ? (w + block * W1_BLOCK_BYTES) ^ (k * STEP_BYTES) : w + at);
        stage = stage == STAGES - 1 ? 0 : stage + 1;
    }
};

// Multiplies a step and fetches the next one; false after the last.
DEVICE bool first_step(FirstReader& first, InputLoader& input, FirstAcc& acc, FirstFragment& now,
                       FirstFragment& next, int step, int steps, int group, unsigned thread,
                       unsigned stride) {
    bool more = step + 1 < steps;
    if (more) {
        cp_async_wait_group<STAGES - 2>();
        group_barrier(group);
        first.load(next, step + 1);
        input.load(thread, steps, stride);
    }
    now.multiply(acc);
    return more;
}

// Rounds the accumulators and stores them to mid1.
DEVICE void store_mid1(const BottleneckArgs& args, const Patch& patch, const FirstReader& first,
                       const FirstAcc& acc, unsigned mid, int pass, unsigned lane) {
    constexpr int COLUMNS = CHUNK_ELEMENTS / 2, CHUNKS = FIRST_COLUMNS / COLUMNS;
    const float* b1 = reinterpret_cast<const float*>(shared_bytes + B1_AT) +
                      first.column_warp * FIRST_COLUMNS * 8 + lane % 4 * 2;
#pragma unroll
    for (int u = 0; u < CHUNKS; ++u) {
        int chunk = mid_chunk(first.column_warp, u, lane % 4);
        float bias[CHUNK_ELEMENTS];
        unsigned valid[4];
#pragma unroll
        for (int e = 0; e < CHUNK_ELEMENTS; ++e) bias[e] = b1[(u * COLUMNS + e / 2) * 8 + e % 2];
#pragma unroll
        for (int e = 0; e < 4; ++e)
            valid[e] = valid_mask(chunk * CHUNK_ELEMENTS + e * (4 / ELEMENT_BYTES),
                                  args.mid_channels);
#pragma unroll
        for (int i = 0; i < FIRST_BLOCKS; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int pixel = pass * PASS_ROWS + first.row + i * 16 + half * 8, row = pixel / HALO_Q,
                    column = pixel - row * HALO_Q;
                unsigned h = patch.top() + row, w = patch.left() + column;
                bool in_bounds = h < static_cast<unsigned>(args.h) &&
                                 w < static_cast<unsigned>(args.width);
                unsigned words[4];
                float values[CHUNK_ELEMENTS];
#pragma unroll
                for (int e = 0; e < CHUNK_ELEMENTS; ++e)
                    values[e] = relu(acc[i][u * COLUMNS + e / 2][half * 2 + e % 2] + bias[e]);
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    if (ELEMENT_BYTES == 2)
                        words[e] = cvt_rn_x2(values[e * 2 % CHUNK_ELEMENTS],
                                             values[(e * 2 + 1) % CHUNK_ELEMENTS]);
                    else
                        words[e] = cvt_rna_tf32(__float_as_uint(values[e % CHUNK_ELEMENTS]));
                    words[e] &= in_bounds ? valid[e] : 0;
                }
                if (pixel < HALO)
                    st_shared_v4(
                        mid + pixel * MID_ROW + ((chunk * SPREAD ^ key_of(row, column) % 8) << 4),
                        make_uint4(words[0], words[1], words[2], words[3]));
            }
    }
}

// -------------------------------------------------------------------------------------------------
// The second and third product

constexpr int SECOND_STEPS = MID_CHANNEL_BYTES / STEP_BYTES;  // of a tap
constexpr int BLOCK_STEPS = W_BLOCK_ROW / STEP_BYTES;         // of a block of filters

// COUNT blocks of 16 outputs as operands of an instruction each.
template <int COUNT>
struct SecondFragment {
    unsigned mid[COUNT][4];
    unsigned w[MID_COLUMNS / 2][4];
};

// The addresses that a lane of a warp with COUNT blocks reads in mid1 and in the filters.
template <int COUNT>
struct SecondReader {
    unsigned pixel[COUNT];   // of its output's first halo pixel
    unsigned output[COUNT];  // the output of that key
    unsigned w;              // in a block of filters

    DEVICE SecondReader(unsigned mid, unsigned filters, int first_block, unsigned lane) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            output[i] = min((first_block + i) * 16 + lane % 16, static_cast<unsigned>(PIXELS - 1));
            unsigned row = output[i] / TILE_Q, column = output[i] - row * TILE_Q;
            pixel[i] = mid + (row * STRIDE * HALO_Q + column * STRIDE) * MID_ROW;
        }
        w = filters + swizzled<W_BLOCK_ROW>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    }
    // Operands of step k of a tap, which shifts by `shift` bytes and by `key`; `at` is the lane's
    // address in the tap's filters or in those of its steps from `first` on.
    DEVICE void load(SecondFragment<COUNT>& to, unsigned at, unsigned shift, unsigned key, int k,
                     unsigned lane, int first = 0) const {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            unsigned chunk = ((first + k) * 2 + lane / 16) * SPREAD ^ (output[i] + key) % 8;
            ldmatrix_x4(to.mid[i], pixel[i] + shift + (chunk << 4));
        }
        load_filters<MID_COLUMNS, W2_BLOCK_BYTES>(to.w, at, k);
    }
    // COLUMNS * 8 filters' channels of step k.
    template <int COLUMNS, int BLOCK_BYTES>
    static DEVICE void load_filters(unsigned (&to)[COLUMNS / 2][4], unsigned at, int k) {
        unsigned block = at + k / BLOCK_STEPS * BLOCK_BYTES;
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; ++j) {
            ldmatrix_x4(to[j], (block ^ (k % BLOCK_STEPS * STEP_BYTES)) + j * 16 * W_BLOCK_ROW);
            if (!RESIDENT) {
#pragma unroll
                for (int e = 0; e < 4; ++e) to[j][e] = cvt_rna_tf32(to[j][e]);
            }
        }
    }
};

// mid2 of a warp's outputs, as the operands of the third product.
template <int COUNT>
struct Mid2 {
    unsigned v[COUNT][SECOND_STEPS][4];

    DEVICE Mid2(const BottleneckArgs& args, const float (&acc)[COUNT][MID_COLUMNS][4],
                unsigned lane) {
        const float* b2 = reinterpret_cast<const float*>(shared_bytes + B2_AT) + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < MID_COLUMNS; ++j) {
            float first = b2[j * 8], second = b2[j * 8 + 1];
            int t = lane % 4, channel = j * 8 + (ELEMENT_BYTES == 2 ? t * 2 : t);
            unsigned valid = valid_mask(channel, args.mid_channels),
                     later = valid_mask(channel + 4, args.mid_channels);
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                const float (&s)[4] = acc[i][j];
                float values[4] = {relu(s[0] + first), relu(s[1] + second), relu(s[2] + first),
                                   relu(s[3] + second)};
                if (ELEMENT_BYTES == 2) {
                    v[i][j / 2 % SECOND_STEPS][j % 2 * 2] = cvt_rn_x2(values[0], values[1]) & valid;
                    v[i][j / 2 % SECOND_STEPS][j % 2 * 2 + 1] = cvt_rn_x2(values[2], values[3]) &
                                                                valid;
                } else {
                    unsigned (&to)[4] = v[i][j % SECOND_STEPS];
                    to[0] = cvt_rna_tf32(__float_as_uint(values[0])) & valid;
                    to[1] = cvt_rna_tf32(__float_as_uint(values[2])) & valid;
                    to[2] = cvt_rna_tf32(__float_as_uint(values[1])) & later;
                    to[3] = cvt_rna_tf32(__float_as_uint(values[3])) & later;
                }
            }
        }
    }
};

template <int COUNT, int ALL>
DEVICE void multiply_block(float (&acc)[COUNT][ALL][4], const unsigned (&a)[COUNT][4],
                           const unsigned (&w)[ALL / 2][4]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) multiply_columns<ALL>(acc[i], a[i], w, 0, ALL);
}

// The nine taps, one row of them per turn; the next step's operands are fetched while one is
// multiplied.
template <int COUNT>
DEVICE void second_resident(const SecondReader<COUNT>& second, float (&acc)[COUNT][MID_COLUMNS][4],
                            unsigned lane) {
    SecondFragment<COUNT> fragments[2];
    unsigned at = second.w + W2_AT;
    second.load(fragments[0], at, 0, 0, 0, lane);
#pragma unroll 1
    for (int row = 0; row < 3; ++row) {
        unsigned shift = row * HALO_Q * MID_ROW, key = key_of(row, 0);
#pragma unroll
        for (int step = 0; step < 3 * SECOND_STEPS; ++step) {
            int column = (step + 1) / SECOND_STEPS, k = (step + 1) % SECOND_STEPS;
            if (column < 3)
                second.load(fragments[(step + 1) % 2], at + column * W2_TAP_BYTES,
                            shift + column * MID_ROW, key + key_of(0, column), k, lane);
            else if (row < 2)
                second.load(fragments[(step + 1) % 2], at + 3 * W2_TAP_BYTES,
                            shift + HALO_Q * MID_ROW, key_of(row + 1, 0), 0, lane);
            multiply_block<COUNT, MID_COLUMNS>(acc, fragments[step % 2].mid, fragments[step % 2].w);
        }
        at += 3 * W2_TAP_BYTES;
    }
}
// The same, one block of filters per turn.
template <int COUNT>
DEVICE void second_streamed(const BottleneckArgs& args, const SecondReader<COUNT>& second,
                            FilterStream& blocks, float (&acc)[COUNT][MID_COLUMNS][4],
                            unsigned lane) {
    SecondFragment<COUNT> fragments[2];
    int row = 0, column = 0, first = 0;
#pragma unroll 1
    for (int block = 0; block < W2_BLOCKS; ++block) {
        unsigned at = second.w + blocks.next(args), shift = (row * HALO_Q + column) * MID_ROW,
                 key = key_of(row, 0) + key_of(0, column);
        second.load(fragments[0], at, shift, key, 0, lane, first);
#pragma unroll
        for (int step = 0; step < BLOCK_STEPS; ++step) {
            if (step + 1 < BLOCK_STEPS)
                second.load(fragments[(step + 1) % 2], at, shift, key, step + 1, lane, first);
            multiply_block<COUNT, MID_COLUMNS>(acc, fragments[step % 2].mid, fragments[step % 2].w);
        }
        first = first + BLOCK_STEPS == SECOND_STEPS ? 0 : first + BLOCK_STEPS;
        if (first == 0 && ++column == 3) {
            column = 0;
            ++row;
        }
    }
}

// The accumulators of 64 filters begin with their biases.
template <int COUNT>
DEVICE void start_results(const BottleneckArgs& args, float (&results)[COUNT][BLOCK_K / 8][4],
                          int first, unsigned lane) {
    const float* resident = reinterpret_cast<const float*>(shared_bytes + B3_AT) + first +
                            lane % 4 * 2;
    const storage_t* b3 = static_cast<const storage_t*>(args.b3);
#pragma unroll
    for (int j = 0; j < BLOCK_K / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            int filter = ThirdFilter{first}(j * 8 + lane % 4 * 2 + e);
            float bias = RESIDENT                ? resident[j * 8 + e]
                         : b3 && filter < args.k ? to_float(b3[filter])
                                                 : 0.0f;
#pragma unroll
            for (int i = 0; i < COUNT; ++i) results[i][j][e] = results[i][j][e + 2] = bias;
        }
}

// From mid1 to y, for the COUNT blocks of 16 outputs from `first_block` on. Where filters are
// streamed, each block of them begins with a barrier of the group.
template <int COUNT>
DEVICE void finish_patch(const BottleneckArgs& args, const Patch& patch, FilterStream& blocks,
                         unsigned mid, unsigned filters, unsigned output, int first_block,
                         int width, unsigned lane) {
    SecondReader<COUNT> second(mid, RESIDENT ? filters : 0, first_block, lane);
    float acc[COUNT][MID_COLUMNS][4] = {};
    if constexpr (RESIDENT)
        second_resident<COUNT>(second, acc, lane);
    else
        second_streamed<COUNT>(args, second, blocks, acc, lane);
    Mid2<COUNT> mid2(args, acc, lane);
    OutputRows<COUNT> rows(args, patch, first_block, lane);
#pragma unroll 1
    for (int first = 0; first < args.k; first += BLOCK_K) {
        float results[COUNT][BLOCK_K / 8][4];
        start_results<COUNT>(args, results, first, lane);
        unsigned at = second.w + W3_AT + first / BLOCK_K * (MID_CHANNEL_BLOCKS * W3_BLOCK_BYTES);
#pragma unroll
        for (int k = 0; k < SECOND_STEPS; ++k) {
            if (!RESIDENT && k % BLOCK_STEPS == 0)
                at = second.w + blocks.next(args) - k / BLOCK_STEPS * W3_BLOCK_BYTES;
            unsigned w[BLOCK_K / 16][4], a[COUNT][4];
            SecondReader<COUNT>::template load_filters<BLOCK_K / 8, W3_BLOCK_BYTES>(w, at, k);
#pragma unroll
            for (int i = 0; i < COUNT; ++i)
#pragma unroll
                for (int e = 0; e < 4; ++e) a[i][e] = mid2.v[i][k][e];
            multiply_block<COUNT, BLOCK_K / 8>(results, a, w);
        }
        if (ELEMENT_BYTES == 2 && width == 8)
            write_acc<COUNT, ELEMENT_BYTES == 2 ? 8 : 4>(args, patch, rows, results, first, output,
                                                         lane);
        else if (width == 4)
            write_acc<COUNT, 4>(args, patch, rows, results, first, output, lane);
        else
            write_acc<COUNT, 1>(args, patch, rows, results, first, output, lane);
    }
}

// -------------------------------------------------------------------------------------------------

KERNEL(BottleneckArgs args) {
    unsigned filters = shared_address(shared_bytes);
    int group = threadIdx.x / GROUP_THREADS;
    unsigned thread = threadIdx.x % GROUP_THREADS, warp = thread / 32, lane = thread % 32;
    unsigned mid = filters + GROUPS_AT + group * GROUP_BYTES, stages = mid + STAGES_AT;
    unsigned tile = blockIdx.x + gridDim.x * group, stride = gridDim.x * WARP_GROUPS;
    int steps = ceil_div(args.c * ELEMENT_BYTES, STEP_BYTES);

    load_biases(args, filters);
    if (RESIDENT) load_filters(args, filters);
    cp_async_commit_group();
    FilterStream blocks(args, filters);
    InputLoader input(args, thread, stages, tile);
#pragma unroll 1
    for (int i = 0; i < STAGES; ++i) input.load(thread, steps, stride);
    cp_async_wait_group<STAGES>();
    __syncthreads();
    if (RESIDENT && MATH == Math::TF32) {
        round_filters(filters + W1_AT, filters + GROUPS_AT);
        __syncthreads();
    }

    FirstReader first(warp, lane, stages, filters);
    unsigned output = stages - STAGES_AT + OUTPUT_AT + warp * OUTPUT_BYTES;
    int width = output_width(args);
    unsigned turn = warp;
#pragma unroll 1
    for (; tile < args.tiles; tile += stride) {
        Patch patch(args, tile, args.by_tiles_q.divisor);
#pragma unroll 1
        for (int pass = 0; pass < PASSES; ++pass) {
            FirstAcc acc = {};
            FirstFragment fragments[2];
            cp_async_wait_group<STAGES - 1>();
            group_barrier(group);
            first.load(fragments[0], 0);
#pragma unroll 1
            for (int step = 0;; step += 2) {
                if (!first_step(first, input, acc, fragments[0], fragments[1], step, steps, group,
                                thread, stride))
                    break;
                if (!first_step(first, input, acc, fragments[1], fragments[0], step + 1, steps,
                                group, thread, stride))
                    break;
            }
            store_mid1(args, patch, first, acc, mid, pass, lane);
            group_barrier(group);
            input.load(thread, steps, stride);
            if (pass == PASSES - 1) input.prefetch(thread);
        }
        int first_block = turn % GROUP_WARPS * WARP_BLOCKS;
        if (LAST_BLOCKS == WARP_BLOCKS || turn % GROUP_WARPS < GROUP_WARPS - 1)
            finish_patch<WARP_BLOCKS>(args, patch, blocks, mid, filters, output, first_block, width,
                                      lane);
        else
            finish_patch<LAST_BLOCKS>(args, patch, blocks, mid, filters, output, first_block, width,
                                      lane);
        ++turn;
    }
    cp_async_wait_group<0>();
}
