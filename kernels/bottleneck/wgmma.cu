// The fused bottleneck (1x1, 3x3, 1x1 and the residual in one launch) on the tensor cores of
// compute capability 9.0, f16 and bf16, NHWC: the formula is in bottleneck/args.cuh. Neither
// intermediate leaves the block.
//
// A block takes patches of TILE_P x TILE_Q outputs, one after the other, four warpgroups at once on
// up to three of them:
//   0  loads x of the patch and its halo, 64 channels per stage, by cp.async: any pitch that is a
//      multiple of VECTOR_BYTES bytes;
//   1  first 1x1:  64 filters x INNER pixels, both operands in shared memory, to mid1;
//   2  3x3:        64 filters (in registers, for good) x OUTPUTS pixels, 36 products in a row, to
//                  mid2;
//   3  last 1x1:   64 filters at a time x OUTPUTS pixels, bias, residual, ReLU, y.
// Filters lie along the rows of the products, so neither side of them is padded: 160 and 112
// (stride 2: 160 and 32) pixels. Order of pixels, layout of shared memory, bank conflicts,
// accumulators: bottleneck/wgmma_tile.cuh.
//
// Barriers, an arrival of each warp that fills (after a fence from the ordinary to the asynchronous
// proxy) or frees:
//   full[stage], empty[stage]  warpgroups 0 and 1: x;     mid1_full, mid1_empty  1 and 2;
//       mid2_full, mid2_empty  2 and 3.
//   Block barriers: one when all filters lie in shared memory, one when those of the 3x3 have gone
//     to registers and their place
//   may take x and mid1. Within warpgroup 3: see LastConsumer.
// Constraints: NHWC, mid_channels <= 64, c <= 256, k <= 256; x's address, its pixel and image pitch
// multiples of VECTOR_BYTES bytes (a copy is cut at channel c). Filters in any order; w_vector and
// y_vector as in BottleneckArgs. (TILE_P, STRIDE) is (14, 1) or (4, 2), TILE_Q 8.
// Launch: min(tiles, SMs) blocks of 512 threads, one dimension; dynamic shared memory SHARED_BYTES.
#include "bottleneck/wgmma_first.cuh"
#include "bottleneck/wgmma_second.cuh"

// Shares of the 65536 registers: 512 per thread of each warpgroup together. All begin with 128,
// which warpgroup 1 keeps.
constexpr int LOADER_REGISTERS = 40, FIRST_REGISTERS = 128, SECOND_REGISTERS = 240,
              LAST_REGISTERS = 104;
static_assert(FIRST_REGISTERS == SM_REGISTERS / THREADS, "as launched");
static_assert(LOADER_REGISTERS + FIRST_REGISTERS + SECOND_REGISTERS + LAST_REGISTERS ==
                  SM_REGISTERS / WARPGROUP_THREADS,
              "all registers");

KERNEL(BottleneckArgs args) {
    extern __shared__ __align__(SWIZZLE_ATOM_BYTES) unsigned char memory[];
    BottleneckShared shared{shared_address(memory)};
    check_alignment(shared.base, SWIZZLE_ATOM_BYTES);
    start_barriers(shared);
    fill_all_filters(args, shared);
    __syncthreads();
    int warpgroup = __shfl_sync(0xffffffff, threadIdx.x / WARPGROUP_THREADS, 0),
        thread = threadIdx.x % WARPGROUP_THREADS;
    // The first of the thread's two in a row of accumulators.
    int filter = thread / 32 * 16 + thread % 32 / 4;
    if (warpgroup == 0) {
        setmaxnreg_dec<LOADER_REGISTERS>();
        sync_block();
        PatchProducer{args, shared, thread}.run();
    } else if (warpgroup == 1) {
        FirstConsumer first{args,
                            shared,
                            thread,
                            {bias_at(args.b1, filter, args.mid_channels),
                             bias_at(args.b1, filter + 8, args.mid_channels)}};
        sync_block();
        first.run();
    } else if (warpgroup == 2) {
        setmaxnreg_inc<SECOND_REGISTERS>();
        SecondConsumer second{args,
                              shared,
                              thread,
                              {bias_at(args.b2, filter, args.mid_channels),
                               bias_at(args.b2, filter + 8, args.mid_channels)}};
        unsigned w[9][4][4];
        second.load_w2(w);
        sync_block();
        second.run(w);
    } else {
        setmaxnreg_dec<LAST_REGISTERS>();
        sync_block();
        LastConsumer{args, shared, thread}.run();
    }
}
