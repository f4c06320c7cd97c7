// Convolution as an implicit matrix product on the tensor cores of compute capability 9.0, x and w
// loaded by TMA.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h]
//                                         [q * stride_w - pad_left + s * dilation_w]
//                                   * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
//   x, y, residual: NHWC
//
// f16, bf16: exact products, accumulators in f32. f32 (Math::Tf32): operands reach the tensor core
// as tf32, see wgmma/args.cuh.
//
// A block computes many tiles (persistent): one thread of the last warpgroup keeps the stages full,
// waiting only for a stage to be free, so that it is STAGES stages into the next tile while the
// consumers finish one; the consumers multiply (wgmma/consumer.cuh) and write (wgmma/epilogue.cuh).
// A stage is one box of x (TILE_N pixels x TILE_K channels of one tap: TMA steps through rows and
// images itself and writes zeros for the padding and beyond the tensor) and one of w, or several of
// each where channel blocks are under 128 bytes. Work, orientation and shared memory:
// wgmma/tile.cuh. Barriers, each with its phases:
//   full[stage]: the producer's one arrival and the bytes of the copies -> the consumers may
//     multiply;
//   empty[stage]: one arrival of each consumer warp, when its products have read the stage -> the
//     producer may fill it again;
//   residual[consumer][buffer]: the bytes of a subtile of residual.
//
// Constraints, maps and grid: wgmma/args.cuh.
#include "wgmma/epilogue.cuh"

static_assert(LAYOUT_NHWC, "im2col copies need the channels of a pixel in a row");
static_assert(PRODUCERS == 1, "one thread issues all copies");

constexpr int PRODUCER_REGISTERS = 40;

// Fills stages for all of the block's work.
DEVICE void produce(const WgmmaArgs& args, WgmmaShared shared) {
    const TensorArgs& tensor = args.tensor;
    const ConvArgs& conv = tensor.conv;
    PipelineState state;
    unsigned work_tiles = tensor.tiles * tensor.split_k;
#pragma unroll 1
    for (unsigned i = blockIdx.x; i < work_tiles; i += gridDim.x) {
        WorkTile work = work_tile(args, i);
        KRange range = k_range(args, work);
        unsigned image = fast_div(work.n, conv.by_pq);
        unsigned place = work.n - image * (conv.p * conv.q);
        unsigned p = fast_div(place, conv.by_q);
        int row = static_cast<int>(p) * conv.stride_h - conv.pad_top;
        int column = static_cast<int>(place - p * conv.q) * conv.stride_w - conv.pad_left;
        int group_channel = work.group * conv.group_c, filter = work.group * conv.group_k + work.m;
        WgmmaKIterator step(args, range.first);
        int left = range.count();
#pragma unroll 1
        while (left > 0) {
            producer_acquire(shared, state);
            unsigned full = shared.full(state.stage), x = shared.x(state.stage),
                     w = shared.w(state.stage);
            int steps = min(left, STEPS_PER_STAGE);
            mbarrier_arrive_expect_tx(full, steps * STEP_BYTES);
#pragma unroll 1
            for (int j = 0; j < steps; ++j) {
                tma_load_im2col_4d(x + j * X_STEP_BYTES, args.x, full, group_channel + step.channel,
                                   column, row, image, step.s * conv.dilation_w,
                                   step.r * conv.dilation_h);
                tma_load_3d(w + j * W_STEP_BYTES, args.w, full, step.channel, step.tap, filter);
                step.next(conv);
            }
            left -= steps;
            state.next();
        }
    }
}

KERNEL(WgmmaArgs args) {
    extern __shared__ __align__(SWIZZLE_ATOM_BYTES) unsigned char memory[];
    WgmmaShared shared{shared_address(memory)};
    check_alignment(shared.base, SWIZZLE_ATOM_BYTES);
    prefetch_tensor_maps(args, true);
    start_barriers(shared, 1);
    int warpgroup = __shfl_sync(0xffffffff, threadIdx.x / WARPGROUP_THREADS, 0);
    if (warpgroup == CONSUMERS) {
        setmaxnreg_dec<PRODUCER_REGISTERS>();
        if (threadIdx.x == CONSUMER_THREADS) produce(args, shared);
    } else {
        setmaxnreg_inc<CONSUMER_REGISTERS<PRODUCER_REGISTERS>>();
        consume(args, shared, warpgroup);
    }
}
