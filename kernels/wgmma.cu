// Convolution as an implicit matrix product on the tensor cores of compute capability 9.0, x and w brought by bulk tensor copies.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h][q * stride_w - pad_left + s * dilation_w]
//                       * w[k][c][r][s] + bias[k] + residual[n][k][p][q]),    x, y, residual NHWC
//
// f16, bf16: exact products, sums in f32. f32 (Math::Tf32): operands reach the tensor core as tf32, see wgmma_args.cuh.
//
// A block lives for many tiles: one thread of the last warpgroup keeps a ring of stages full, waiting only for a stage to be
// free, so that it is STAGES stages into the next tile while the consumers finish one; the consumers multiply (wgmma_consumer.cuh)
// and write (wgmma_epilogue.cuh). A stage is one box of x (TILE_N pixels x TILE_K channels of one tap: the copy engine walks
// rows and images by itself and writes zeros for the padding and for what lies beyond the tensor) and one of w, or several of each
// where channel blocks are narrow. Work, orientation and shared memory: wgmma_tile.cuh. Barriers, each with its phases:
//   full[stage]: the producer's one arrival and the bytes of the copies -> the consumers may multiply;
//   empty[stage]: one arrival of each consumer warp, when its products have read the stage -> the producer may fill it again;
//   residual[consumer][buffer]: the bytes of a piece of residual.
//
// Constraints, maps and grid: wgmma_args.cuh.
#include "wgmma_epilogue.cuh"

static_assert(LAYOUT_NHWC, "im2col copies want the channels of a pixel in a row");
static_assert(PRODUCERS == 1, "one thread issues all copies");

constexpr int PRODUCER_REGISTERS = 40;

// Fills stages for all of the block's work.
DEVICE void produce(const WgmmaArgs& args, Shared shared) {
    const TensorArgs& tensor = args.tensor;
    const ConvArgs& conv = tensor.conv;
    Ring ring;
    unsigned items = tensor.tiles * tensor.splits;
#pragma unroll 1
    for (unsigned i = blockIdx.x; i < items; i += gridDim.x) {
        Item item(args, i);
        unsigned image = fast_div(item.n, conv.by_pq);
        unsigned place = item.n - image * (conv.p * conv.q);
        unsigned p = fast_div(place, conv.by_q);
        int row = static_cast<int>(p) * conv.stride_h - conv.pad_top;
        int column = static_cast<int>(place - p * conv.q) * conv.stride_w - conv.pad_left;
        int group_channel = item.group * conv.group_c, filter = item.group * conv.group_k + item.m;
        Step step(args, item.begin);
        int left = item.end - item.begin;
#pragma unroll 1
        while (left > 0) {
            barrier_wait(shared.empty(ring.stage), ring.phase ^ 1);
            unsigned full = shared.full(ring.stage), x = shared.x(ring.stage), w = shared.w(ring.stage);
            int steps = min(left, STEPS_A_STAGE);
            barrier_arrive_expect(full, steps * STEP_BYTES);
#pragma unroll 1
            for (int j = 0; j < steps; ++j) {
                copy_im2col(x + j * X_STEP_BYTES, args.x, full, group_channel + step.channel, column, row, image,
                            step.s * conv.dilation_w, step.r * conv.dilation_h);
                copy_tile(w + j * W_STEP_BYTES, args.w, full, step.channel, step.tap, filter);
                step.next(conv);
            }
            left -= steps;
            ring.next();
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) KERNEL_NAME(const __grid_constant__ WgmmaArgs args) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Shared shared{shared_address(memory)};
    start_barriers(shared, 1);
    int warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
    if (warpgroup == CONSUMERS) {
        give_registers<PRODUCER_REGISTERS>();
        if (threadIdx.x == CONSUMER_THREADS) produce(args, shared);
    } else {
        take_registers<CONSUMER_REGISTERS<PRODUCER_REGISTERS>>();
        consume(args, shared, warpgroup);
    }
}
