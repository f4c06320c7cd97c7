// 1x1 convolution as a matrix product on CUDA cores, groups = 1, no padding; strided included.
//
//   y[n][k][p][q] = act(sum_c x[n][c][p * stride_h][q * stride_w] * w[k][c] + bias[k] +
//     residual[n][k][p][q])
//
// gemm_m = filters, gemm_n = output pixels (n, p, q flattened), gemm_k = channels, TILE_K per step.
// Threads, shared memory and barriers: simt/implicit_gemm.cuh. x, y, residual NCHW or NHWC
// (LAYOUT_NHWC); KCRS and KRSC filters are the same here.
//
// Pixels of a stride of 1 are contiguous in NCHW: where x_vector allows (alignment and size, see
// common/conv_args.cuh), four are one cp.async of 16 bytes. Channels beyond the last are zero in
// both operands; filters beyond the last are zero, pixels beyond the last repeat the last, and
// their accumulators are dropped.
//
// NHWC: a thread has several pixels and shares each with other lanes of the channel block, so their
// addresses lie in shared memory: addresses[TILE_N], 8 bytes each. A warp reads 8 neighbours at a
// time, each by 4 lanes: 64 bytes, no bank conflict.
//
// Constraints: groups = 1, r = s = 1, no padding, w_c = 1, one image of x, y, residual under 2^31
// elements.
// Grid: tiles_n * tiles_m blocks, tile_m runs fastest; tiles_m = ceil(k / TILE_M), tiles_n = ceil(n
// * p * q / TILE_N).
#include "simt/epilogue.cuh"

// The address of channel 0 of an output pixel's input pixel.
DEVICE address_t input_pixel(const ConvArgs& args, unsigned n) {
    unsigned image = fast_div(n, args.by_pq);
    unsigned rest = n - image * (args.p * args.q);
    unsigned p = fast_div(rest, args.by_q);
    unsigned q = rest - p * args.q;
    unsigned place = p * args.stride_h * args.width + q * args.stride_w;
    return global_address(static_cast<const storage_t*>(args.x) + image * args.x_strides.image +
                          static_cast<long long>(place) * x_pixel(args));
}

struct PointwiseLoader {
    const ConvArgs& args;
    address_t filter;    // of the thread's first filter, at its channel of the step
    int filters;         // how many of its A_LOADS filters exist
    int a_left, b_left;  // channels from the thread's first one of the step on
    // NHWC
    const address_t* addresses;
    unsigned channel;  // the thread's first of the step
    // NCHW
    // At the thread's first channel of the step; x_vector: the first is a group of four.
    address_t pixels[PIXELS];

    DEVICE PointwiseLoader(const ConvArgs& args, const WorkTile& tile, address_t* shared)
        : args(args) {
        int m = tile.m + a_lane_m();
        filter = global_address(static_cast<const storage_t*>(args.w) +
                                static_cast<long long>(m) * args.w_k + a_lane_k());
        filters = (args.group_k - m + A_ROWS - 1) / A_ROWS;
        a_left = args.c - a_lane_k();
        int k = vector() ? v_lane_k() : b_lane_k();
        b_left = args.c - k;
        if constexpr (LAYOUT_NHWC) {
            channel = k;
#pragma unroll 1
            for (int i = threadIdx.x; i < TILE_N; i += THREADS)
                shared[i] = input_pixel(args,
                                        tile.n + i < args.gemm_n ? tile.n + i : args.gemm_n - 1);
            addresses = shared + b_lane_n();
            __syncthreads();  // the table is read by other threads than wrote it
        } else {
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) {
                // With x_vector gemm_n is a multiple of 4: a group of four is wholly inside or
                // wholly beyond.
                unsigned n = tile.n + (vector() ? v_lane_n() : b_lane_n() + i * B_STEP_N);
                pixels[i] = element(
                    input_pixel(args, n < args.gemm_n ? n : args.gemm_n - (vector() ? 4 : 1)),
                    k * x_channel(args));
            }
        }
    }

    DEVICE bool vector() const { return ASYNC_COPY && !LAYOUT_NHWC && args.x_vector; }

    DEVICE address_t pixel(int i) const {
        return LAYOUT_NHWC ? element(addresses[i * B_STEP_N], channel) : pixels[i];
    }

    template <class Copy>
    DEVICE void fetch_b(Copy& copy) {
        if (ASYNC_COPY && vector()) {
            address_t first = pixel(0);
#pragma unroll
            for (int i = 0; i < V_LOADS; ++i)
                copy.b_vector(i, strided(first, x_channel(args), i * V_STEP_K),
                              i * V_STEP_K < b_left);
        } else {
            address_t first[PIXELS];
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) first[i] = pixel(i);
#pragma unroll
            for (int i = 0; i < PIXELS; ++i)
#pragma unroll
                for (int j = 0; j < B_CHANNELS; ++j)
                    copy.b(i, j, strided(first[i], x_channel(args), j * B_STEP_K),
                           j * B_STEP_K < b_left);
        }
        if constexpr (LAYOUT_NHWC) {
            channel += TILE_K;
        } else {
#pragma unroll
            for (int i = 0; i < PIXELS; ++i)
                pixels[i] = strided(pixels[i], x_channel(args), TILE_K);
        }
        b_left -= TILE_K;
    }

    template <class Copy>
    DEVICE void fetch_a(Copy& copy) {
        int valid_filters = a_left > 0 ? filters : 0;
#pragma unroll
        for (int i = 0; i < A_LOADS; ++i)
            copy.a(i, strided(filter, args.w_k, i * A_ROWS), i < valid_filters);
        filter += TILE_K * sizeof(storage_t);
        a_left -= TILE_K;
    }
};

KERNEL(ConvArgs args) {
    __shared__ SharedTiles shared;
    __shared__ address_t addresses[LAYOUT_NHWC ? TILE_N : 1];
    WorkTile tile = block_tile(args);
    PointwiseLoader loader(args, tile, addresses);
    SimtAcc acc;
    main_loop<StageCopy>(loader, shared.stages, (args.c + TILE_K - 1) / TILE_K, acc);
    epilogue(args, shared, acc);
}
