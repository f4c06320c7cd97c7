// Several convolutions with the same output pixels in one launch on tensor cores, groups = 1: the
// branches of a module.
//
//   y_d[n][k][p][q] = act(sum_{c,r,s} x_b[n][c][p * stride_h - pad_top + r * dilation_h]
//                                             [q * stride_w - pad_left + s * dilation_w]
//                                     * w_d[k][c][r][s] + bias_d[k])
//
// A launch is up to four products b, each with x, channels, filter size, stride, padding and
// dilation of its own; a product's filters are those of up to four convolutions d over the same x,
// side by side, each with its own filters, bias and output. A pooled product's x_b is the 3x3
// maximum of x, stride 1, padded with -infinity, taken on the way (mma/pooled_tile.cuh where it
// fits, else mma/pooled_pixels.cuh).
//
// gemm_k = blocks of TILE_K channels, all taps of a block (mma/loader.cuh). Tile, shared memory and
// instructions: mma/tile.cuh; main loop and barriers: mma/multi_conv_loop.cuh, of pooled products
// mma/pooled_tile.cuh; tables and grid: mma/multi_conv_tile.cuh. x, y NCHW or NHWC (LAYOUT_NHWC); w
// as [k][tap][w_channels], see mma/multi_conv_args.cuh.
//
// Constraints: as mma/mma.cu of each product; a pooled product has 1x1 filters, stride 1 and no
// padding.
// Grid: columns * by_column blocks, columns = ceil(n * p * q / TILE_N), by_column = the sum of
// tiles_m * split_k.
#include "mma/multi_conv_loop.cuh"
#include "mma/operand_loader.cuh"
#include "mma/pooled_pixels.cuh"
#include "mma/pooled_tile.cuh"

template <class Pixels>
DEVICE void run(const TensorArgs& args) {
    WorkTile tile = MultiConvScheduler::tile(args);
    MultiConvLoader<Pixels> loader(args, tile);
    KRange steps = k_range(args, tile);
    MmaAcc acc;
    multi_conv_main_loop(loader, Extent(args, tile, steps), steps.count(), acc);
    multi_conv_epilogue(args, acc);
}

template <class Pooled>
DEVICE void run_pooled(const TensorArgs& args) {
    if constexpr (LAYOUT_NHWC && VECTOR_BYTES == 16) {
        if (Pooled::fits(args.conv)) {
            MmaAcc acc;
            pooled_main_loop<Pooled>(args, MultiConvScheduler::tile(args), acc);
            multi_conv_epilogue(args, acc);
            return;
        }
    }
    run<PooledPixels>(args);
}

KERNEL(MultiConvArgs args) {
    const FastDiv& by_column = args.product[0].by_column;
    unsigned place = blockIdx.x - fast_div(blockIdx.x, by_column) * by_column.divisor;
    int b = 0;
#pragma unroll 1
    while (b + 1 < args.products && place >= args.product[b + 1].first_block) ++b;
    const ProductArgs& product = args.product[b];
    if (product.pooled)
        run_pooled<PooledTile<X_ROW>>(product.tensor);
    else
        run<PixelLoader>(product.tensor);
}
