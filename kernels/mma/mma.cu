// Convolution as an implicit matrix product on tensor cores, one product per group; no im2col
// buffer.
//
//   y[n][g * group_k + k][p][q] =
//       act(sum_{c,r,s} x[n][g * group_c + c][p * stride_h - pad_top + r * dilation_h]
//                                            [q * stride_w - pad_left + s * dilation_w]
//                       * w[g * group_k + k][c][r][s]
//           + bias[g * group_k + k] + residual[n][g * group_k + k][p][q])
//
// gemm_k = blocks of TILE_K channels of the group, all taps of a block (mma/loader.cuh). Tile,
// shared memory and instructions: mma/tile.cuh; barriers: mma/main_loop.cuh, mma/epilogue.cuh. x,
// y, residual NCHW or NHWC (LAYOUT_NHWC); w as [k][tap][w_channels], see common/tensor_args.cuh.
// Any filter size, stride, dilation and padding.
//
// Constraints: rows of w a multiple of 16 bytes and aligned to 16; NHWC: x's address, the pitch of
// its pixels, its image stride and, with groups > 1, the channels of a group in bytes are multiples
// of VECTOR_BYTES; NCHW: VECTOR_BYTES is an element. One image of x, y, residual under 2^31
// elements, group_k * w_k and group_c * r * s under 2^31.
// Grid: tiles * split_k blocks (mma/tile.cuh), tiles_m = ceil(group_k / TILE_M), tiles_n = ceil(n *
// p * q / TILE_N), steps = ceil(group_c / TILE_K) * r * s.
#include "mma/epilogue.cuh"
#include "mma/main_loop.cuh"
#include "mma/operand_loader.cuh"

static_assert(SHARED_BYTES >= STAGES * STAGE_BYTES + (LAYOUT_NHWC ? 2 * TILE_N * 16 : 0),
              "stages and tables");

KERNEL(TensorArgs args) {
    WorkTile tile = ConvScheduler::tile(args);
    OperandLoader loader(args, tile);
    MmaAcc acc;
    main_loop(loader, k_range(args, tile).count(), acc);
    epilogue<ConvScheduler>(args, acc);
}
