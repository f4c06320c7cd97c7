// Convolution of few channels as an implicit matrix product on CUDA cores, groups = 1: first
// layers, where a block of TILE_K channels would be mostly padding.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h]
//                                         [q * stride_w - pad_left + s * dilation_w]
//                                   * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
//
// gemm_m = filters, gemm_n = output pixels (n, p, q flattened), gemm_k = the terms (c, r, s) in one
// row, TILE_K per step; c runs slowest for NCHW and fastest for NHWC, as in x.
// Threads, tiles and barriers: simt/implicit_gemm.cuh. x, y, residual NCHW or NHWC (LAYOUT_NHWC), w
// KCRS or KRSC by its strides. Padding is zero in B and multiplied, as in simt/tap_loader.cuh;
// terms beyond the last are zero in both operands.
//
// Shared memory: terms[FEW_CHANNELS_MAX_GEMM_K + padding], 16 bytes each, made at the start, so
// that the main loop does no division. A warp reads one term (B from NCHW), 4 neighbours (B from
// NHWC) or 8 neighbours (A), 128 bytes: no bank conflict. pixels[TILE_N] as in simt/tap_loader.cuh.
// Barrier: one after the tables are written, before other threads read them.
//
// Constraints: groups = 1, c * r * s <= FEW_CHANNELS_MAX_GEMM_K, one image of x, y, residual under
// 2^31 elements.
// Grid: tiles_n * tiles_m blocks, tile_m runs fastest; tiles_m = ceil(k / TILE_M), tiles_n = ceil(n
// * p * q / TILE_N).
#include "simt/epilogue.cuh"
#include "simt/pixels.cuh"

// The loads ahead of the last step reach this far beyond the last term.
constexpr int TERMS = FEW_CHANNELS_MAX_GEMM_K + STAGES * TILE_K;

struct alignas(16) SimtTerm {
    unsigned x;       // offset of channel c in x
    unsigned w;       // offset of (c, r, s) in a filter
    int row, column;  // r * dilation_h, s * dilation_w; NONE for a row beyond the last term

    // Added to any row of a padded image (which has under 2^31 rows) it gives one outside the
    // image.
    static constexpr int NONE = -0x7fffffff - 1;

    SimtTerm() = default;
    DEVICE SimtTerm(const ConvArgs& args, int index) {
        int taps = args.r * args.s;
        int c = LAYOUT_NHWC ? index % args.c : index / taps;
        int tap = LAYOUT_NHWC ? index / args.c : index - c * taps;
        int r = tap / args.s, s = tap - r * args.s;
        x = c * x_channel(args);
        w = c * args.w_c + tap * args.w_tap;
        row = c < args.c && tap < taps ? r * args.dilation_h : NONE;
        column = s * args.dilation_w;
    }
};

DEVICE SimtTerm load_term(const SimtTerm* from) {
    int4 words = *reinterpret_cast<const int4*>(from);  // one access
    SimtTerm term;
    term.x = words.x;
    term.w = words.y;
    term.row = words.z;
    term.column = words.w;
    return term;
}

struct SimtFewChannelsLoader {
    const ConvArgs& args;
    Pixels pixels;
    address_t filter;         // of the thread's first filter
    int filters;              // how many of its A_LOADS filters exist
    const SimtTerm* a_terms;  // the thread's term of the step
    const SimtTerm* b_terms;  // the first of the thread's terms of the step

    DEVICE SimtFewChannelsLoader(const ConvArgs& args, const WorkTile& tile,
                                 InputPixel* shared_pixels, SimtTerm* terms)
        : args(args) {
        int rows = (args.c * args.r * args.s + TILE_K - 1) / TILE_K * TILE_K +
                   (STAGES - 1) * TILE_K;
#pragma unroll 1
        for (int i = threadIdx.x; i < rows; i += THREADS) terms[i] = SimtTerm(args, i);
        a_terms = terms + a_lane_k();
        b_terms = terms + b_lane_k();
        pixels.init(args, global_address(args.x), tile, shared_pixels);
        __syncthreads();

        int m = tile.m + a_lane_m();
        filter = global_address(static_cast<const storage_t*>(args.w) +
                                static_cast<long long>(m) * args.w_k);
        filters = (args.group_k - m + A_ROWS - 1) / A_ROWS;
    }

    static DEVICE int steps(const ConvArgs& args) {
        return (args.c * args.r * args.s + TILE_K - 1) / TILE_K;
    }

    DEVICE bool vector() const { return false; }

    template <class Copy>
    DEVICE void fetch_b(Copy& copy) {
#pragma unroll
        for (int i = 0; i < B_CHANNELS; ++i) {
            SimtTerm term = load_term(b_terms + i * B_STEP_K);
#pragma unroll
            for (int pixel = 0; pixel < PIXELS; ++pixel) {
                InputPixel at = pixels[pixel];
                unsigned h = at.row + term.row, w = at.column + term.column;
                bool in_bounds = h < static_cast<unsigned>(args.h) &&
                                 w < static_cast<unsigned>(args.width);
                copy.b(pixel, i, element(at.image, (h * args.width + w) * x_pixel(args) + term.x),
                       in_bounds);
            }
        }
        b_terms += TILE_K;
    }

    template <class Copy>
    DEVICE void fetch_a(Copy& copy) {
        SimtTerm term = load_term(a_terms);
        int valid_filters = term.row == SimtTerm::NONE ? 0 : filters;
        address_t first = element(filter, term.w);
#pragma unroll
        for (int i = 0; i < A_LOADS; ++i)
            copy.a(i, strided(first, args.w_k, i * A_ROWS), i < valid_filters);
        a_terms += TILE_K;
    }
};

KERNEL(ConvArgs args) {
    __shared__ SharedTiles shared;
    __shared__ InputPixel pixels[PIXEL_TABLE];
    __shared__ SimtTerm terms[TERMS];
    WorkTile tile = block_tile(args);
    SimtFewChannelsLoader loader(args, tile, pixels, terms);
    SimtAcc acc;
    main_loop<StageCopy>(loader, shared.stages, SimtFewChannelsLoader::steps(args), acc);
    epilogue(args, shared, acc);
}
