// The configuration of a module: one constant per definition that build.rs passes to nvcc.
//
// No other file reads those definitions (CONFIG_*). Their values are those of the
// catalog (src/kernels/catalog.rs), one entry per module. For an editor they stand in
// compile_flags.txt and, per family, in .clangd.
#pragma once

// Storage of an element. Arithmetic is in f32, or in tf32 by MATH.
enum class DType { F32, F16, BF16 };
constexpr DType DTYPE = static_cast<DType>(CONFIG_DTYPE);

// Multiplication of f32 operands. STRICT: f32 on CUDA cores (f16 and bf16: exact products on
// tensor cores). TF32: operands rounded to tf32. TF32X3: three products of tf32 per product.
enum class Math { STRICT, TF32, TF32X3 };
constexpr Math MATH = static_cast<Math>(CONFIG_MATH);

// Layout of activations: NHWC, else NCHW. Kernels without a layout ignore it.
constexpr bool LAYOUT_NHWC = CONFIG_LAYOUT_NHWC;

// Compute capability of the target: 75, 80, 90.
constexpr int SM = CONFIG_SM;
constexpr bool HAS_CP_ASYNC = SM >= 80;

// The tile of a block: filters, output pixels, and channels per step of gemm_k. Kernels that are
// no matrix product give them a meaning of their own: see their header.
constexpr int TILE_M = CONFIG_TILE_M;
constexpr int TILE_N = CONFIG_TILE_N;
constexpr int TILE_K = CONFIG_TILE_K;

// The same of a bottleneck: output rows and columns of one image, and channels of both
// intermediates, rounded up.
constexpr int TILE_P = CONFIG_TILE_M;
constexpr int TILE_Q = CONFIG_TILE_N;
constexpr int MID_CHANNELS = CONFIG_TILE_K;

// Stride of a bottleneck's 3x3: 1 or 2; 0 elsewhere.
constexpr int STRIDE = CONFIG_STRIDE;

// Groups of a grouped convolution that share a tile; 1 where a tile belongs to one group.
constexpr int GROUPS_PER_TILE = CONFIG_GROUPS_PER_TILE;

// Bytes per copy of x: 16, 8, 4 or 2, to which x's address and strides are aligned; 0 where there
// is no choice (element by element, or TMA).
constexpr int VECTOR_BYTES = CONFIG_VECTOR_BYTES;

// Threads per block, blocks per SM (the second argument of __launch_bounds__), stages of the
// shared-memory pipeline, bytes of dynamic shared memory per block.
constexpr int THREADS = CONFIG_THREADS;
constexpr int MIN_BLOCKS = CONFIG_MIN_BLOCKS;
constexpr int STAGES = CONFIG_STAGES;
constexpr int SHARED_BYTES = CONFIG_SHARED_BYTES;

// Largest c * r * s of the few_channels kernels: entries of their table of terms.
constexpr int FEW_CHANNELS_MAX_GEMM_K = CONFIG_FEW_CHANNELS_MAX_GEMM_K;

// A watchdog module, of a build with WARPCONV_WATCHDOG=1: its waits at mbarriers are bounded and
// reported (common/watchdog.cuh). It has two variables: the address of the records, which the
// loader sets, and the number plus one of the block that writes them.
constexpr bool WATCHDOG = CONFIG_WATCHDOG;
#if CONFIG_WATCHDOG
extern "C" {
__device__ unsigned long long warpconv_watchdog;
__device__ unsigned warpconv_watchdog_block;
}
#endif

// The entry point: `KERNEL(ConvArgs args) { ... }`. Its name is the catalog's.
#define KERNEL(...)                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) \
        CONFIG_KERNEL_NAME(const __grid_constant__ __VA_ARGS__)
