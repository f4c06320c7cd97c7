// Convolution as an implicit matrix product on the tensor cores of compute capability 9.0, for what bulk copies cannot bring:
// pitches that are no multiple of 16 bytes, NCHW, groups and strides and paddings beyond the limits of im2col copies.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h][q * stride_w - pad_left + s * dilation_w]
//                       * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
//
// As wgmma.cu, but for x the producers are whole warpgroups that write the operand themselves (gather.cuh), swizzled as the copy
// engine would; one of their threads has w brought by bulk copies. The producers take turns at the stages.
//
// full[stage]: one arrival for w with its bytes, and one of each warp of the producer whose turn it is, when its part of x is
// there and fenced from the ordinary to the asynchronous proxy: cp.async of a stage is waited for LAG stages later. A consumer
// frees a stage once it has begun the next, hence LAG <= STAGES - 2.
// empty, residual: as in wgmma.cu. The table of pixels is read and written by one warpgroup, which meets before and after.
//
// Constraints, maps and grid: wgmma_args.cuh. VECTOR: gather.cuh.
#define GATHER
#include "gather.cuh"
#include "wgmma_epilogue.cuh"

constexpr int LAG = STAGES - 2;
static_assert(LAG >= 1, "stages to keep copies in flight");
static_assert(THROUGH_REGISTERS || PRODUCERS == 1, "cp.async keeps stages in flight by itself");

constexpr int PRODUCER_REGISTERS = THROUGH_REGISTERS ? 112 : 72;

struct Producer {
    const WgmmaArgs& args;
    Shared shared;
    int index;   // which producer
    int thread;  // of the warpgroup
    Gather gather;
    Ring ring;         // of the stage that comes next
    int turn = 0;      // whose it is
    Ring behind;       // cp.async: the oldest stage that is not announced
    int pending = 0;   // stages that are not announced

    DEVICE void meet() const { named_barrier(4 + index, 128); }
    // Tells the consumers that this warp's part of a stage is there.
    DEVICE void announce(int stage) const {
        fence_proxy_async();
        __syncwarp();
        if (thread % 32 == 0) barrier_arrive(shared.full(stage));
    }
    DEVICE void announce_oldest() {
        announce(behind.stage);
        behind.next();
        --pending;
    }
    DEVICE void fetch_w(const Item& item, const Step& step, int j) const {
        copy_tile(shared.w(ring.stage) + j * W_STEP_BYTES, args.w, shared.full(ring.stage), step.channel, step.tap,
                  item.group * args.tensor.conv.group_k + item.m);
    }

    // Waits until the next stage is free, and announces the bytes of w.
    DEVICE void begin(int steps) const {
        barrier_wait(shared.empty(ring.stage), ring.phase ^ 1);
        if (thread == 0) barrier_arrive_expect(shared.full(ring.stage), steps * W_STEP_BYTES);
    }

    // Fills the next stage with `steps` steps from `step` on.
#if VECTOR == 2
    DEVICE void fill(const Item& item, const Step& step, int steps) {
        unsigned words[Gather::WORDS];
        gather.load(step, words);  // under way while the stage is waited for
        begin(steps);
        if (thread == 0) fetch_w(item, step, 0);
        gather.store(shared.x(ring.stage), words);
        announce(ring.stage);
    }
#else
    DEVICE void fill(const Item& item, Step step, int steps) {
        begin(steps);
#pragma unroll 1
        for (int j = 0; j < steps; ++j) {
            if (thread == 0) fetch_w(item, step, j);
            gather.copy(shared.x(ring.stage) + j * X_STEP_BYTES, step);
            step.next(args.tensor.conv);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        if (++pending > LAG) {
            asm volatile("cp.async.wait_group %0;" ::"n"(LAG) : "memory");
            announce_oldest();
        }
    }
#endif

    DEVICE void produce() {
        const TensorArgs& tensor = args.tensor;
        unsigned items = tensor.tiles * tensor.splits;
#pragma unroll 1
        for (unsigned i = blockIdx.x; i < items; i += gridDim.x) {
            Item item(args, i);
            meet();
            gather.tabulate(item);
            meet();
            Step step(args, item.begin);
            int left = item.end - item.begin;
#pragma unroll 1
            while (left > 0) {
                int steps = min(left, STEPS_A_STAGE);
                if (turn == index) fill(item, step, steps);
                turn = turn + 1 == PRODUCERS ? 0 : turn + 1;
                for (int j = 0; j < steps; ++j) step.next(tensor.conv);
                left -= steps;
                ring.next();
            }
        }
        if constexpr (!THROUGH_REGISTERS) {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
            while (pending > 0) announce_oldest();
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) KERNEL_NAME(const __grid_constant__ WgmmaArgs args) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Shared shared{shared_address(memory)};
    start_barriers(shared, 1 + 4);
    int warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
    if (warpgroup >= CONSUMERS) {
        give_registers<PRODUCER_REGISTERS>();
        int index = warpgroup - CONSUMERS, thread = threadIdx.x % 128;
        Producer producer{args, shared, index, thread, Gather{args.tensor.conv, shared.pixels(index), thread}};
        producer.produce();
    } else {
        take_registers<CONSUMER_REGISTERS<PRODUCER_REGISTERS>>();
        consume(args, shared, warpgroup);
    }
}
