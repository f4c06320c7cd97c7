// Grouped convolution with few channels per group on tensor cores: several groups share a tile, and
// no product of an element of one group with a filter of another is ever formed, so an infinity or
// NaN stays in its group.
//
//   y[n][g * group_k + k][p][q] =
//       act(sum_{c,r,s} x[n][g * group_c + c][p * stride_h - pad_top + r * dilation_h]
//                                            [q * stride_w - pad_left + s * dilation_w]
//                       * w[g * group_k + k][c][r][s]
//           + bias[g * group_k + k] + residual[n][g * group_k + k][p][q])
//
// A tile is TILE_N pixels by TILE_M filters, TILE_K for each of its GROUPS_PER_TILE groups. Its row
// of a pixel holds TILE_K channels of each group, its row of a filter TILE_K channels of the
// filter's group; what a group lacks of TILE_K is zero on both sides. A step is one tap: for each
// group, TILE_N pixels by TILE_K filters by TILE_K channels. Where a chunk of 16 bytes is a whole
// group (TILE_K channels of 16 bits = 8), the instructions are m16n8k8, one group each. Tile,
// shared memory and instructions: mma/tile.cuh; fills: mma/loader.cuh. x, y, residual NCHW or NHWC
// (LAYOUT_NHWC); w as [k][tap][w_channels], see common/tensor_args.cuh.
//
// Barriers: one per step: the stage that all have read may be refilled, and the next one, after the
// wait for its copies, be read.
//
// Constraints: group_c, group_k <= TILE_K; otherwise those of mma/mma.cu.
// Grid: tiles * split_k blocks (mma/tile.cuh); tiles_m = ceil(groups / GROUPS_PER_TILE), tiles_n =
// ceil(n * p * q / TILE_N), one group by tiles_m and by_groups: tile = tile_n * tiles_m + tile_m.
// steps = r * s.
#include "mma/epilogue.cuh"
#include "mma/operand_loader.cuh"

static_assert(GROUPS_PER_TILE > 1 && PARTS == 1, "mma/mma.cu has one group per tile");
static_assert(TILE_M % TILE_K == 0 && WARP_COLUMNS % TILE_K == 0, "a warp has whole groups");
static_assert(SHARED_BYTES >= STAGES * STAGE_BYTES + (LAYOUT_NHWC ? 2 * TILE_N * 16 : 0),
              "stages and tables");

// accumulators += the products of the stage at `x` and `w`, the lane's addresses.
DEVICE void multiply_stage(unsigned x, unsigned w, MmaAcc& acc) {
    if constexpr (TILE_K == 8 && DTYPE != DType::F32) {
        // A chunk is a group: ldmatrix loads two groups of pixels, four of filters.
        unsigned filters[MMA_COLUMNS / 4][4];
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS / 4; ++j) ldmatrix_x4(filters[j], w + j * 32 * W_ROW);
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS; j += 2)
#pragma unroll
            for (int i = 0; i < MMA_ROWS; ++i) {
                unsigned pixels[4];
                ldmatrix_x4(pixels, (x ^ (j / 2 * K_BYTES)) + i * 16 * X_ROW);
                mma_k8(acc[i][j], pixels[0], pixels[1], filters[j / 4][j % 4]);
                mma_k8(acc[i][j + 1], pixels[2], pixels[3], filters[j / 4][j % 4 + 1]);
            }
    } else {
        constexpr int COLUMNS = TILE_K / 8;       // of a group
        constexpr int K_STEPS = W_ROW / K_BYTES;  // of a group
#pragma unroll
        for (int k = 0; k < K_STEPS; ++k) {
            FilterOperand<MMA_COLUMNS> filters;
#pragma unroll
            for (int j = 0; j < MMA_COLUMNS / 2; ++j)
                ldmatrix_x4(filters.v[j], (w ^ (k * K_BYTES)) + j * 16 * W_ROW);
            filters.convert();
#pragma unroll
            for (int group = 0; group < MMA_COLUMNS / COLUMNS; ++group)
#pragma unroll
                for (int i = 0; i < MMA_ROWS; ++i) {
                    unsigned pixels[4];
                    ldmatrix_x4(pixels, (x ^ ((group * K_STEPS + k) * K_BYTES)) + i * 16 * X_ROW);
                    multiply_row<MMA_COLUMNS>(acc[i], pixels, filters, group * COLUMNS, COLUMNS);
                }
        }
    }
}

DEVICE void main_loop(OperandLoader& loader, int steps, MmaAcc& acc) {
    clear(acc);
    unsigned to = shared_address(shared_bytes);
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; ++i) {
        loader.part(0, to);
        if constexpr (HAS_CP_ASYNC) cp_async_commit_group();
        loader.end(to);
        to += STAGE_BYTES;
        __syncthreads();  // of the entries of pixels
    }
    if constexpr (HAS_CP_ASYNC) cp_async_wait_group<STAGES - 2>();
    __syncthreads();

    unsigned lane = threadIdx.x % 32, stage = shared_address(shared_bytes), last = to;
    // The first chunk of the warp's groups changes only bits that the swizzle does not.
    unsigned x = pixels_at(warp_row(threadIdx.x), lane) ^
                 (warp_column(threadIdx.x) * ELEMENT_BYTES);
    unsigned w = TILE_K * ELEMENT_BYTES == 16
                     ? X_BYTES + swizzled<W_ROW>(warp_column(threadIdx.x) + lane, 0)
                     : filters_at(warp_column(threadIdx.x), lane);
#pragma unroll 1
    for (; steps > 0; --steps) {
        loader.part(0, to);
        if constexpr (HAS_CP_ASYNC) cp_async_commit_group();
        multiply_stage(stage + x, stage + w, acc);
        loader.end(to);
        to = stage;
        stage = stage == last ? shared_address(shared_bytes) : stage + STAGE_BYTES;
        if constexpr (HAS_CP_ASYNC) cp_async_wait_group<STAGES - 2>();
        __syncthreads();
    }
}

KERNEL(TensorArgs args) {
    WorkTile tile = ConvScheduler::tile(args);
    OperandLoader loader(args, tile);
    MmaAcc acc;
    main_loop(loader, k_range(args, tile).count(), acc);
    epilogue<ConvScheduler>(args, acc);
}
