// The argument struct of mma/multi_conv.cu, passed by value. The library mirrors it
// field by field; the sizes are asserted on both sides.
#pragma once

#include "common/tensor_args.cuh"

constexpr int MAX_PRODUCTS = 4;  // products per launch
constexpr int MAX_MERGED = 4;    // of one product

// One convolution of a product: a range of its filters, with buffers of its own.
struct MergedConv {
    // [end - first][tap][w_channels]; the pitches are those of the product, see TensorArgs.
    const void* w;
    const void* bias;  // end - first elements, or null
    void* y;           // its first channel
    Strides y_strides;
    int first, end;  // its filters among the product's
    int relu;        // as ConvArgs
    int reserved;
};
static_assert(sizeof(MergedConv) == 24 + 16 + 16, "the library mirrors this struct");

// One product: filters of equal size over the same x, one convolution or several.
struct ProductArgs {
    // conv: x and the geometry; k = group_k = all filters together, groups = 1; tiles_m = ceil(k /
    // TILE_M), y_vector: all of its outputs may be written four elements at a time, and their
    // ranges are multiples of 4 (NHWC). Not used: w, bias, residual, y and their strides (w_k and
    // w_tap are). tiles = tiles_n * tiles_m.
    TensorArgs tensor;
    MergedConv merged[MAX_MERGED];  // in the order of their filters, without gaps
    int convolutions;               // in `merged`
    // 1: the product's pixels are the maxima of the 3x3 cells of x around them (1x1, stride 1, no
    // padding).
    int pooled;
    unsigned first_block;  // its first block among those of a column of tiles
    // Block -> column of tiles: the blocks of all products that share their pixels.
    FastDiv by_column;
};
static_assert(sizeof(ProductArgs) == sizeof(TensorArgs) + MAX_MERGED * sizeof(MergedConv) + 24,
              "the library mirrors this struct");

// Products whose outputs have the same pixels: n, p, q, gemm_n, by_pq and by_q are the same in all.
struct MultiConvArgs {
    ProductArgs product[MAX_PRODUCTS];
    int products;
    int reserved;
};
static_assert(sizeof(MultiConvArgs) == MAX_PRODUCTS * sizeof(ProductArgs) + 8,
              "the library mirrors this struct");
