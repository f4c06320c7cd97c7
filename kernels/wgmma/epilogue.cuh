// The end of the wgmma kernels: the accumulators of a tile become elements of y, y = act((sum +
// bias) + residual) in f32, rounded once.
//
// Each consumer works for itself, subtile by subtile, through its two staging buffers of 64 rows x
// 128 bytes, in which 16-byte chunk c of row r lies at chunk c ^ (r % 8): the 128-byte swizzle of
// TMA.
//
// y_bulk (NHWC): a subtile is 64 pixels x 64 (16-bit) or 32 (f32) filters, finished in registers,
// stored in y's type, and written by one TMA copy, which drops what lies beyond the tensor. The
// residual comes the same way, into the buffer that its subtile will use, while the main loop runs.
// Two subtiles are under way at a time; with a residual a subtile's copy ends before the next
// one's. Otherwise: a subtile is 64 rows x 32 columns of f32 accumulators; the threads load rows
// from it and call `finish` (common/epilogue.cuh).
//
// Bank conflicts: 16-bit, stmatrix and ldmatrix: the eight rows of a matrix are 128 bytes apart
// with eight different subtiles. f32, 8 bytes per lane, half per warp at a time: four rows of 32
// bytes each; an odd row swaps its blocks of eight columns pairwise (block ^ 2), so that rows 0 to
// 3 hold blocks b, b^2, b^1^.. of different subtiles: all banks once. Loads: whole rows of 128
// bytes.
#pragma once

#include "common/epilogue.cuh"
#include "common/swizzle.cuh"
#include "ptx/cvt.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/stmatrix.cuh"
#include "wgmma/consumer.cuh"

constexpr int SUBTILE_FILTERS = 128 / ELEMENT_BYTES;  // filters of a bulk subtile
constexpr int SUBTILE_COLUMNS = 32;                   // columns of a subtile of accumulators
static_assert(ROW_TILES <= 2, "fetch_subtile");
constexpr int BIASES = LAYOUT_NHWC ? (TILE_M + WARPGROUP_THREADS - 1) / WARPGROUP_THREADS : 1;

DEVICE unsigned staged(unsigned buffer, int row, int chunk) {
    return buffer + swizzled<128>(row, chunk);
}

struct Epilogue {
    const WgmmaArgs& args;
    WgmmaShared shared;
    int index;            // which consumer
    int thread;           // of the warpgroup
    unsigned phases = 0;  // bit b: the parity of the residual's next arrival in buffer b
    int turn = 0;         // the buffer that the next subtile takes
    float bias[BIASES];   // of filters thread, thread + 128

    DEVICE const ConvArgs& conv() const { return args.tensor.conv; }
    DEVICE bool bulk() const { return LAYOUT_NHWC && args.y_bulk; }
    DEVICE void bar_sync() const { barrier_sync(CONSUMER_BARRIER + index, WARPGROUP_THREADS); }
    // First pixel (NHWC) or filter (NCHW) of the consumer's row tile.
    DEVICE int first_row(int row_tile) const { return index * CONSUMER_ROWS + row_tile * 64; }

    // ---- before the main loop: loads of bias and residual start
    DEVICE void prepare(const WorkTile& work) {
        if (!bulk()) return;
#pragma unroll
        for (int i = 0; i < BIASES; ++i) {
            int m = thread + WARPGROUP_THREADS * i;
            bias[i] = 0.0f;
            if (conv().bias && m < TILE_M && work.m + m < conv().group_k)
                bias[i] = to_float(static_cast<const storage_t*>(
                    conv().bias)[work.group * conv().group_k + work.m + m]);
        }
    }
    // Starts to load the residual of the first two subtiles.
    DEVICE void fetch_residual(const WorkTile& work) const {
        if (!bulk() || !conv().residual || thread != 0) return;
        cp_async_bulk_wait_group_read<0>();
        fetch_subtile(work, 0, turn);
        fetch_subtile(work, 1, turn ^ 1);
    }

    DEVICE void wait_for_residual() {
        wait_for(shared.residual(index, turn), phases >> turn & 1,
                 {BarrierRole::RESIDUAL, 2 * index + turn});
        phases ^= 1u << turn;
    }

    // ---- bulk subtiles: those that exist are numbered along filters, then along pixels
    static constexpr int ACROSS = TILE_M / SUBTILE_FILTERS;
    DEVICE int subtile_m(const WorkTile& work, int column) const {
        return work.m + column * SUBTILE_FILTERS;
    }
    DEVICE unsigned subtile_n(const WorkTile& work, int row_tile) const {
        return work.n + first_row(row_tile);
    }
    DEVICE bool valid(const WorkTile& work, int row_tile, int column) const {
        return subtile_m(work, column) < conv().group_k &&
               subtile_n(work, row_tile) < conv().gemm_n;
    }
    DEVICE void fetch_subtile(const WorkTile& work, int subtile, int buffer) const {
        int across = min(ACROSS, (conv().group_k - work.m + SUBTILE_FILTERS - 1) / SUBTILE_FILTERS);
        int row_tile = subtile >= across ? 1 : 0;
        int column = subtile - row_tile * across;
        if (column >= across || row_tile >= ROW_TILES || !valid(work, row_tile, column)) return;
        unsigned barrier = shared.residual(index, buffer);
        mbarrier_arrive_expect_tx(barrier, STAGING_BYTES);
        tma_load_3d(shared.staging(index, buffer), args.residual, barrier, subtile_m(work, column),
                    work.group, static_cast<int>(subtile_n(work, row_tile)));
    }

    DEVICE float finished(float sum, float bias, float residual) const {
        float value = (sum + bias) + residual;
        return conv().relu ? relu(value) : value;
    }

    // Finishes a subtile into its buffer, after its residual is loaded from there.
    DEVICE void store_finished(const float* acc, unsigned buffer, int column) const {
        int lane = thread % 32, warp = thread / 32;
        unsigned biases = shared.bias(index) + (column * SUBTILE_FILTERS + lane % 4 * 2) * 4;
        bool residual = conv().residual;
        if constexpr (DTYPE != DType::F32) {
            int row = 16 * warp + lane % 16;
#pragma unroll
            for (int i = 0; i < 4; ++i) {  // sixteen filters each
                unsigned at = staged(buffer, row, 2 * i + lane / 16);
                unsigned old[4] = {0, 0, 0, 0};
                if (residual) ldmatrix_x4(old, at);
                unsigned result[4];
#pragma unroll
                // Rows 0-7, 8-15 of the first eight filters, then of the others.
                for (int j = 0; j < 4; ++j) {
                    float2 b = ld_shared_v2_f32(biases + (16 * i + j / 2 * 8) * 4),
                           r = to_float2(old[j]);
                    const float* v = acc + 8 * i + 2 * j;
                    result[j] = cvt_rn_x2(finished(v[0], b.x, r.x), finished(v[1], b.y, r.y));
                }
                stmatrix_x4(at, result);
            }
        } else {
            int swap = lane / 4 % 2 * 2;
#pragma unroll
            for (int block = 0; block < 4; ++block) {  // eight filters each
                float2 b = ld_shared_v2_f32(biases + (block ^ swap) * 32);
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float *v = acc + 4 * block + 2 * half,
                                *other = acc + 4 * (block ^ 2) + 2 * half;
                    unsigned at = staged(buffer, 16 * warp + 8 * half + lane / 4,
                                         2 * (block ^ swap) + lane % 4 / 2) +
                                  lane % 2 * 8;
                    float2 r = residual ? ld_shared_v2_f32(at) : make_float2(0.0f, 0.0f);
                    st_shared_v2_f32(at, finished(swap ? other[0] : v[0], b.x, r.x),
                                     finished(swap ? other[1] : v[1], b.y, r.y));
                }
            }
        }
    }

    DEVICE void write_bulk(const WorkTile& work, const WgmmaAcc& acc) {
#pragma unroll
        for (int i = 0; i < BIASES; ++i) {
            int m = thread + WARPGROUP_THREADS * i;
            if (m < TILE_M) st_shared_f32(shared.bias(index) + 4 * m, bias[i]);
        }
        int number = 0;
#pragma unroll
        for (int i = 0; i < ROW_TILES * ACROSS; ++i) {
            int row_tile = i / ACROSS, column = i % ACROSS;
            if (!valid(work, row_tile, column)) continue;
            unsigned buffer = shared.staging(index, turn);
            if (conv().residual) {
                wait_for_residual();
            } else if (thread == 0) {
                // The subtile before last has left the buffer.
                cp_async_bulk_wait_group_read<1>();
            }
            bar_sync();
            store_finished(acc[row_tile] + column * (SUBTILE_FILTERS / 2), buffer, column);
            fence_proxy_async();
            bar_sync();
            if (thread == 0) {
                tma_store_3d(args.y, buffer, subtile_m(work, column), work.group,
                             static_cast<int>(subtile_n(work, row_tile)));
                cp_async_bulk_commit_group();
                if (conv().residual) {
                    cp_async_bulk_wait_group_read<0>();
                    fetch_subtile(work, number + 2, turn);
                }
            }
            ++number;
            turn ^= 1;
        }
    }

    // ---- subtiles of accumulators
    DEVICE void store_acc(const float* acc, unsigned buffer) const {
        int lane = thread % 32, warp = thread / 32;
        int swap = lane / 4 % 2 * 2;
#pragma unroll
        for (int block = 0; block < 4; ++block)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float *v = acc + 4 * block + 2 * half,
                            *other = acc + 4 * (block ^ 2) + 2 * half;
                unsigned at = staged(buffer, 16 * warp + 8 * half + lane / 4,
                                     2 * (block ^ swap) + lane % 4 / 2) +
                              lane % 2 * 8;
                st_shared_v2_f32(at, swap ? other[0] : v[0], swap ? other[1] : v[1]);
            }
    }

    // Loads WIDTH columns of a row at a time and finishes them. `row`, `column`: of the tile,
    // where the subtile starts.
    template <int WIDTH>
    DEVICE void write_rows(const WorkTile& work, unsigned buffer, int row, int column) const {
        constexpr int LANES = SUBTILE_COLUMNS / WIDTH;
        int inner = thread % LANES * WIDTH;
#pragma unroll 2
        for (int i = thread / LANES; i < 64; i += WARPGROUP_THREADS / LANES) {
            int m = work.m + (LAYOUT_NHWC ? column + inner : row + i);
            unsigned n = work.n + (LAYOUT_NHWC ? row + i : column + inner);
            if (m >= conv().group_k || n >= conv().gemm_n) continue;
            FloatVec<WIDTH> values;
            unsigned from = staged(buffer, i, inner / 4) + inner % 4 * 4;
            if constexpr (WIDTH == 4) {
                float4 four = ld_shared_v4_f32(from);
                values = {{four.x, four.y, four.z, four.w}};
            } else {
                values = {{ld_shared_f32(from)}};
            }
            finish<WIDTH>(conv(), values, OutputPixel(conv(), n), work.group * conv().group_k + m);
        }
    }

    DEVICE void write_acc(const WorkTile& work, const WgmmaAcc& acc) {
        constexpr int ACROSS_ACC = COLUMNS / SUBTILE_COLUMNS;
#pragma unroll 1
        for (int subtile = 0; subtile < ROW_TILES * ACROSS_ACC; ++subtile) {
            int row = first_row(subtile / ACROSS_ACC),
                column = subtile % ACROSS_ACC * SUBTILE_COLUMNS;
            if (work.m + (LAYOUT_NHWC ? column : row) >= conv().group_k ||
                work.n + (LAYOUT_NHWC ? row : column) >= conv().gemm_n)
                continue;
            unsigned buffer = shared.staging(index, turn);
            turn ^= 1;
#pragma unroll
            // Accumulators are registers: their indices must be known here.
            for (int i = 0; i < ROW_TILES * ACROSS_ACC; ++i)
                if (i == subtile)
                    store_acc(acc[i / ACROSS_ACC] + i % ACROSS_ACC * (SUBTILE_COLUMNS / 2), buffer);
            bar_sync();  // also: all loads from the other buffer are done
            if (conv().y_vector)
                write_rows<4>(work, buffer, row, column);
            else
                write_rows<1>(work, buffer, row, column);
        }
    }

    DEVICE void write(const WorkTile& work, const WgmmaAcc& acc) {
        if (bulk())
            write_bulk(work, acc);
        else
            write_acc(work, acc);
    }
    // Before the block ends: shared memory must outlive the copies from it.
    DEVICE void drain() const {
        if (bulk() && thread == 0) cp_async_bulk_wait_group<0>();
    }
};

// The work of a consumer warpgroup.
DEVICE void consume(const WgmmaArgs& args, WgmmaShared shared, int index) {
    int thread = threadIdx.x % WARPGROUP_THREADS;
    Consumer consumer{args, shared, index, thread, PipelineState()};
    Epilogue epilogue{args, shared, index, thread};
    const TensorArgs& tensor = args.tensor;
    unsigned work_tiles = tensor.tiles * tensor.split_k;
#pragma unroll 1
    for (unsigned i = blockIdx.x; i < work_tiles; i += gridDim.x) {
        WorkTile work = work_tile(args, i);
        KRange range = k_range(args, work);
        epilogue.prepare(work);
        if (tensor.split_k == 1) epilogue.fetch_residual(work);
        WgmmaAcc acc;
        consumer.main_loop(range, acc);
        if (tensor.split_k > 1) {
            if (!consumer.add_split_k(work, acc)) continue;
            epilogue.fetch_residual(work);
        }
        epilogue.write(work, acc);
    }
    epilogue.drain();
}

// Fetches the maps that are used: the first copy through each would else wait for it. One thread,
// of another warp than the one that sets up the barriers. x_bulk: x is loaded through its map.
DEVICE void prefetch_tensor_maps(const WgmmaArgs& args, bool x_bulk) {
    if (threadIdx.x != 32) return;
    if (x_bulk) prefetch_tensormap(args.x);
    prefetch_tensormap(args.w);
    if (LAYOUT_NHWC && args.y_bulk) {
        prefetch_tensormap(args.y);
        if (args.tensor.conv.residual) prefetch_tensormap(args.residual);
    }
}

// Sets up the barriers. full: arrivals per stage of its loaders.
DEVICE void start_barriers(WgmmaShared shared, int full_arrivals) {
    if (threadIdx.x == 0) {
#pragma unroll 1
        for (int i = 0; i < STAGES; ++i) {
            mbarrier_init(shared.full(i), full_arrivals);
            // Each warp arrives when it has read a stage.
            mbarrier_init(shared.empty(i), CONSUMERS * 4);
        }
#pragma unroll 1
        for (int i = 0; i < 2 * CONSUMERS; ++i) mbarrier_init(shared.residual(0, i), 1);
        fence_mbarrier_init();
    }
    __syncthreads();
}
