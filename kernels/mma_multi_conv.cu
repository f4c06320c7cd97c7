// Several convolutions with the same output pixels in one launch on tensor cores, groups = 1: the branches of a module.
//
//   y_d[n][k][p][q] = act(sum_{c,r,s} x_b[n][c][p * stride_h - pad_top + r * dilation_h][q * stride_w - pad_left + s * dilation_w]
//                         * w_d[k][c][r][s] + bias_d[k])
//
// A launch is up to four products b, each with x, channels, filter size, stride, padding and dilation of its own; a product's
// filters are those of up to four convolutions d over the same x, put side by side, each with its own filters, bias and output.
// A pooled product's x_b is the 3x3 maximum of x, stride 1, padded with -infinity, taken on the way (mma_pooled_tile.cuh where it
// fits, else mma_pooled.cuh).
//
// gemm_k = blocks of TILE_K channels, all taps of a block (mma_fill.cuh). Tile, shared memory and instructions: mma_tile.cuh;
// main loop and barriers: mma_multi_conv_product.cuh, of pooled products mma_pooled_tile.cuh; tables and grid: mma_multi_conv.cuh.
// x, y NCHW or NHWC (LAYOUT_NHWC); w as [k][tap][w_channels], see multi_conv_args.cuh.
//
// Constraints: as mma.cu of each product; a pooled product has 1x1 filters, stride 1 and no padding.
// Grid: columns * by_column blocks, columns = ceil(n * p * q / TILE_N), by_column = the sum of tiles_m * splits.
#include "mma_multi_conv_product.cuh"
#include "mma_pooled.cuh"
#if LAYOUT_NHWC && VECTOR == 16
#include "mma_pooled_tile.cuh"
#endif

template <class Pixels>
DEVICE void run(const TensorArgs& args) {
    Tile tile(args);
    BranchFiller<Pixels> filler(args, tile);
    Steps steps(args, tile);
    Sums sums;
    branch_product(filler, Extent(args, tile, steps), steps.count, sums);
    branch_epilogue(args, sums);
}

DEVICE void run_pooled(const TensorArgs& args) {
#if LAYOUT_NHWC && VECTOR == 16
    if (PooledTile::fits(args.conv)) {
        Sums sums;
        pooled_product(args, Tile(args), sums);
        branch_epilogue(args, sums);
        return;
    }
#endif
    run<PooledPixels>(args);
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) KERNEL_NAME(const __grid_constant__ BranchesArgs args) {
    const FastDiv& by_column = args.branch[0].by_column;
    unsigned place = blockIdx.x - fast_div(blockIdx.x, by_column) * by_column.divisor;
    int b = 0;
#pragma unroll 1
    while (b + 1 < args.branches && place >= args.branch[b + 1].first) ++b;
    const BranchArgs& branch = args.branch[b];
    if (branch.pooled)
        run_pooled(branch.tensor);
    else
        run<PixelFiller>(branch.tensor);
}
