// Convolution as an implicit matrix product on the tensor cores of compute capability 9.0, for x
// that TMA cannot load: pitches that are no multiple of 16 bytes, NCHW, groups and strides and
// paddings beyond the limits of im2col copies.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h]
//                                         [q * stride_w - pad_left + s * dilation_w]
//                                   * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
//
// As wgmma/wgmma.cu, but for x the producers are whole warpgroups that write the operand themselves
// (wgmma/gather_loader.cuh), swizzled as TMA would; one of their threads loads w
// by TMA. The producers fill the stages in turn.
//
// full[stage]: one arrival for w with its bytes, and one of each warp of the stage's
// producer, when its part of x is stored and fenced from the ordinary to the asynchronous proxy:
// cp.async of a stage is waited for LAG stages later. A consumer frees a stage once it has begun
// the next, hence LAG <= STAGES - 2. empty, residual: as in wgmma/wgmma.cu. The table of pixels is
// read and written by one warpgroup, between two of its named barriers.
//
// Constraints, maps and grid: wgmma/args.cuh. VECTOR_BYTES: wgmma/gather_loader.cuh.
#include "wgmma/epilogue.cuh"
#include "wgmma/gather_loader.cuh"

constexpr int LAG = STAGES - 2;
static_assert(LAG >= 1, "stages to keep copies in flight");
static_assert(THROUGH_REGISTERS || PRODUCERS == 1, "cp.async keeps stages in flight by itself");

constexpr int PRODUCER_REGISTERS = THROUGH_REGISTERS ? 112 : 72;

struct Producer {
    const WgmmaArgs& args;
    WgmmaShared shared;
    int index;   // which producer
    int thread;  // of the warpgroup
    GatherLoader gather;
    PipelineState state;   // of the stage that comes next
    int turn = 0;          // the producer that fills it
    PipelineState behind;  // cp.async: the oldest stage that is not committed
    int pending = 0;       // stages that are not committed

    DEVICE void bar_sync() const { barrier_sync(PRODUCER_BARRIER + index, WARPGROUP_THREADS); }
    // Arrives at the stage's full barrier: this warp's part of x is stored.
    DEVICE void commit(int stage) const {
        fence_proxy_async();
        __syncwarp();
        if (thread % 32 == 0) mbarrier_arrive(shared.full(stage));
    }
    DEVICE void commit_oldest() {
        commit(behind.stage);
        behind.next();
        --pending;
    }
    DEVICE void fetch_w(const WorkTile& work, const WgmmaKIterator& step, int j) const {
        tma_load_3d(shared.w(state.stage) + j * W_STEP_BYTES, args.w, shared.full(state.stage),
                    step.channel, step.tap, work.group * args.tensor.conv.group_k + work.m);
    }

    // Waits until the next stage is free, and expects the bytes of w.
    DEVICE void acquire(int steps) const {
        producer_acquire(shared, state);
        if (thread == 0) mbarrier_arrive_expect_tx(shared.full(state.stage), steps * W_STEP_BYTES);
    }

    // Fills the next stage with `steps` steps from `step` on.
    DEVICE void fill_by_registers(const WorkTile& work, const WgmmaKIterator& step, int steps) {
        unsigned words[GatherLoader::WORDS];
        gather.load(step, words);  // under way while the stage is waited for
        acquire(steps);
        if (thread == 0) fetch_w(work, step, 0);
        gather.store(shared.x(state.stage), words);
        commit(state.stage);
    }
    DEVICE void fill_by_copies(const WorkTile& work, WgmmaKIterator step, int steps) {
        acquire(steps);
#pragma unroll 1
        for (int j = 0; j < steps; ++j) {
            if (thread == 0) fetch_w(work, step, j);
            gather.copy(shared.x(state.stage) + j * X_STEP_BYTES, step);
            step.next(args.tensor.conv);
        }
        cp_async_commit_group();
        if (++pending > LAG) {
            cp_async_wait_group<LAG>();
            commit_oldest();
        }
    }
    DEVICE void fill(const WorkTile& work, const WgmmaKIterator& step, int steps) {
        if constexpr (THROUGH_REGISTERS)
            fill_by_registers(work, step, steps);
        else
            fill_by_copies(work, step, steps);
    }

    DEVICE void produce() {
        const TensorArgs& tensor = args.tensor;
        unsigned work_tiles = tensor.tiles * tensor.split_k;
#pragma unroll 1
        for (unsigned i = blockIdx.x; i < work_tiles; i += gridDim.x) {
            WorkTile work = work_tile(args, i);
            KRange range = k_range(args, work);
            bar_sync();
            gather.build_table(work);
            bar_sync();
            WgmmaKIterator step(args, range.first);
            int left = range.count();
#pragma unroll 1
            while (left > 0) {
                int steps = min(left, STEPS_PER_STAGE);
                if (turn == index) fill(work, step, steps);
                turn = turn + 1 == PRODUCERS ? 0 : turn + 1;
                for (int j = 0; j < steps; ++j) step.next(tensor.conv);
                left -= steps;
                state.next();
            }
        }
        if constexpr (!THROUGH_REGISTERS) {
            cp_async_wait_group<0>();
            while (pending > 0) commit_oldest();
        }
    }
};

KERNEL(WgmmaArgs args) {
    extern __shared__ __align__(SWIZZLE_ATOM_BYTES) unsigned char memory[];
    WgmmaShared shared{shared_address(memory)};
    check_alignment(shared.base, SWIZZLE_ATOM_BYTES);
    prefetch_tensor_maps(args, false);
    start_barriers(shared, 1 + 4);
    int warpgroup = __shfl_sync(0xffffffff, threadIdx.x / WARPGROUP_THREADS, 0);
    if (warpgroup >= CONSUMERS) {
        setmaxnreg_dec<PRODUCER_REGISTERS>();
        int index = warpgroup - CONSUMERS, thread = threadIdx.x % WARPGROUP_THREADS;
        Producer producer{args, shared, index, thread,
                          GatherLoader{args.tensor.conv, shared.pixels(index), thread}};
        producer.produce();
    } else {
        setmaxnreg_inc<CONSUMER_REGISTERS<PRODUCER_REGISTERS>>();
        consume(args, shared, warpgroup);
    }
}
