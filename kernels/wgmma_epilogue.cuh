// The end of the wgmma kernels: the sums of a tile become elements of y, y = act((sum + bias) + residual) in f32, rounded once.
//
// Each consumer works for itself, piece by piece, through its two staging buffers of 64 rows x 128 bytes, in which 16-byte piece c
// of row r lies at piece c ^ (r % 8): the 128-byte swizzle of bulk copies.
//
// y_bulk (NHWC): a piece is 64 pixels x 64 (16-bit) or 32 (f32) filters, finished in registers, put down as stored, and written
// by one bulk copy, which drops what lies beyond the tensor. The residual comes the same way, into the buffer that its piece will
// use, while the main loop runs. Two pieces are under way at a time; with a residual a piece's copy ends before the next one's.
// Otherwise: a piece is 64 rows x 32 columns of f32 sums; the threads take rows from it and end with `finish` (output.cuh).
//
// Bank conflicts: 16-bit, stmatrix and ldmatrix: the eight rows of a matrix are 128 bytes apart with eight different pieces. f32, 8
// bytes a lane, half a warp at a time: four rows of 32 bytes each; an odd row swaps its blocks of eight columns pairwise (block ^ 2),
// so that rows 0 to 3 hold blocks b, b^2, b^1^.. of different pieces: all banks once. Taking: whole rows of 128 bytes.
#pragma once

#include "output.cuh"
#include "wgmma_consumer.cuh"

constexpr int PIECE = 128 / SIZE;      // filters of a bulk piece
constexpr int SUM_PIECE = 32;          // columns of a piece of sums
static_assert(ROW_TILES <= 2, "fetch_piece");
constexpr int BIASES = LAYOUT_NHWC ? (TILE_M + 127) / 128 : 1;

DEVICE unsigned staged(unsigned buffer, int row, int sixteen) {
    return buffer + row * 128 + ((sixteen ^ (row & 7)) << 4);
}
DEVICE float2 load_pair(unsigned from) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(from) : "memory");
    return pair;
}
DEVICE void store_pair(unsigned to, float2 pair) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(pair.x), "f"(pair.y) : "memory");
}
// Two elements of 16 bits, rounded to nearest even, and back.
DEVICE unsigned pack(float low, float high) {
    unsigned both;
#if KERNEL_DTYPE == 1
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}
DEVICE float2 unpack(unsigned both) {
    return make_float2(to_float(static_cast<storage_t>(both & 0xffff)), to_float(static_cast<storage_t>(both >> 16)));
}

struct Epilogue {
    const WgmmaArgs& args;
    Shared shared;
    int index;   // which consumer
    int thread;  // of the warpgroup
    unsigned phases = 0;  // bit b: the parity of the residual's next arrival in buffer b
    int turn = 0;         // the buffer that the next piece takes
    float bias[BIASES];   // of filters thread, thread + 128

    DEVICE const ConvArgs& conv() const { return args.tensor.conv; }
    DEVICE bool bulk() const { return LAYOUT_NHWC && args.y_bulk; }
    DEVICE void meet() const { named_barrier(2 + index, 128); }
    // First pixel (NHWC) or filter (NCHW) of the consumer's row tile.
    DEVICE int first_row(int row_tile) const { return index * CONSUMER_ROWS + row_tile * 64; }

    // ---- before the main loop: bias and residual set out
    DEVICE void prepare(const Item& item) {
        if (!bulk()) return;
#pragma unroll
        for (int i = 0; i < BIASES; ++i) {
            int m = thread + 128 * i;
            bias[i] = 0.0f;
            if (conv().bias && m < TILE_M && item.m + m < conv().group_k)
                bias[i] = to_float(static_cast<const storage_t*>(conv().bias)[item.group * conv().group_k + item.m + m]);
        }
    }
    // Has the residual of the first two pieces brought.
    DEVICE void fetch_residual(const Item& item) const {
        if (!bulk() || !conv().residual || thread != 0) return;
        store_wait_read<0>();
        fetch_piece(item, 0, turn);
        fetch_piece(item, 1, turn ^ 1);
    }

    // ---- bulk pieces: those that exist are numbered along filters, then along pixels
    static constexpr int ACROSS = TILE_M / PIECE;
    DEVICE int piece_m(const Item& item, int column) const { return item.m + column * PIECE; }
    DEVICE unsigned piece_n(const Item& item, int row_tile) const { return item.n + first_row(row_tile); }
    DEVICE bool exists(const Item& item, int row_tile, int column) const {
        return piece_m(item, column) < conv().group_k && piece_n(item, row_tile) < conv().gemm_n;
    }
    DEVICE void fetch_piece(const Item& item, int piece, int buffer) const {
        int across = min(ACROSS, (conv().group_k - item.m + PIECE - 1) / PIECE);
        int row_tile = piece >= across ? 1 : 0;
        int column = piece - row_tile * across;
        if (column >= across || row_tile >= ROW_TILES || !exists(item, row_tile, column)) return;
        unsigned barrier = shared.residual(index, buffer);
        barrier_arrive_expect(barrier, STAGING_BYTES);
        copy_tile(shared.staging(index, buffer), args.residual, barrier, piece_m(item, column), item.group,
                  static_cast<int>(piece_n(item, row_tile)));
    }

    DEVICE float finished(float sum, float bias, float residual) const {
        float value = (sum + bias) + residual;
        return conv().relu ? relu(value) : value;
    }

    // Finishes a piece into its buffer, from which its residual is taken first.
    DEVICE void put_finished(const float* sums, unsigned buffer, int column) const {
        int lane = thread % 32, warp = thread / 32;
        unsigned biases = shared.bias(index) + (column * PIECE + lane % 4 * 2) * 4;
        bool residual = conv().residual;
#if KERNEL_DTYPE != 0
        int row = 16 * warp + lane % 16;
#pragma unroll
        for (int i = 0; i < 4; ++i) {  // sixteen filters each
            unsigned at = staged(buffer, row, 2 * i + lane / 16);
            unsigned old[4] = {0, 0, 0, 0};
            if (residual)
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(old[0]), "=r"(old[1]), "=r"(old[2]), "=r"(old[3])
                             : "r"(at)
                             : "memory");
            unsigned result[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {  // rows 0-7, 8-15 of the first eight filters, then of the others
                float2 b = load_pair(biases + (16 * i + j / 2 * 8) * 4), r = unpack(old[j]);
                const float* v = sums + 8 * i + 2 * j;
                result[j] = pack(finished(v[0], b.x, r.x), finished(v[1], b.y, r.y));
            }
            asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(result[0]),
                         "r"(result[1]), "r"(result[2]), "r"(result[3])
                         : "memory");
        }
#else
        int swap = lane / 4 % 2 * 2;
#pragma unroll
        for (int block = 0; block < 4; ++block) {  // eight filters each
            float2 b = load_pair(biases + (block ^ swap) * 32);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float *v = sums + 4 * block + 2 * half, *other = sums + 4 * (block ^ 2) + 2 * half;
                unsigned at = staged(buffer, 16 * warp + 8 * half + lane / 4, 2 * (block ^ swap) + lane % 4 / 2) + lane % 2 * 8;
                float2 r = residual ? load_pair(at) : make_float2(0.0f, 0.0f);
                store_pair(at, make_float2(finished(swap ? other[0] : v[0], b.x, r.x), finished(swap ? other[1] : v[1], b.y, r.y)));
            }
        }
#endif
    }

    DEVICE void write_bulk(const Item& item, const Sums& sums) {
#pragma unroll
        for (int i = 0; i < BIASES; ++i) {
            int m = thread + 128 * i;
            if (m < TILE_M) asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared.bias(index) + 4 * m), "f"(bias[i]) : "memory");
        }
        int number = 0;
#pragma unroll
        for (int i = 0; i < ROW_TILES * ACROSS; ++i) {
            int row_tile = i / ACROSS, column = i % ACROSS;
            if (!exists(item, row_tile, column)) continue;
            unsigned buffer = shared.staging(index, turn);
            if (conv().residual) {
                barrier_wait(shared.residual(index, turn), phases >> turn & 1);
                phases ^= 1u << turn;
            } else if (thread == 0) {
                store_wait_read<1>();  // the piece before last has left the buffer
            }
            meet();
            put_finished(sums[row_tile] + column * (PIECE / 2), buffer, column);
            fence_proxy_async();
            meet();
            if (thread == 0) {
                store_tile(args.y, buffer, piece_m(item, column), item.group, static_cast<int>(piece_n(item, row_tile)));
                store_commit();
                if (conv().residual) {
                    store_wait_read<0>();
                    fetch_piece(item, number + 2, turn);
                }
            }
            ++number;
            turn ^= 1;
        }
    }

    // ---- pieces of sums
    DEVICE void put_sums(const float* sums, unsigned buffer) const {
        int lane = thread % 32, warp = thread / 32;
        int swap = lane / 4 % 2 * 2;
#pragma unroll
        for (int block = 0; block < 4; ++block)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float *v = sums + 4 * block + 2 * half, *other = sums + 4 * (block ^ 2) + 2 * half;
                unsigned at = staged(buffer, 16 * warp + 8 * half + lane / 4, 2 * (block ^ swap) + lane % 4 / 2) + lane % 2 * 8;
                store_pair(at, make_float2(swap ? other[0] : v[0], swap ? other[1] : v[1]));
            }
    }

    // Takes WIDTH columns of a row at a time and ends with them. `row`, `column`: of the tile, where the piece starts.
    template <int WIDTH>
    DEVICE void take_sums(const Item& item, unsigned buffer, int row, int column) const {
        constexpr int LANES = SUM_PIECE / WIDTH;
        int inner = thread % LANES * WIDTH;
#pragma unroll 2
        for (int i = thread / LANES; i < 64; i += 128 / LANES) {
            int m = item.m + (LAYOUT_NHWC ? column + inner : row + i);
            unsigned n = item.n + (LAYOUT_NHWC ? row + i : column + inner);
            if (m >= conv().group_k || n >= conv().gemm_n) continue;
            Floats<WIDTH> values;
            unsigned from = staged(buffer, i, inner / 4) + inner % 4 * 4;
            if constexpr (WIDTH == 4)
                asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                             : "=f"(values.v[0]), "=f"(values.v[1]), "=f"(values.v[2]), "=f"(values.v[3])
                             : "r"(from)
                             : "memory");
            else
                asm volatile("ld.shared.f32 %0, [%1];" : "=f"(values.v[0]) : "r"(from) : "memory");
            finish<WIDTH>(conv(), values, OutputPixel(conv(), n), item.group * conv().group_k + m);
        }
    }

    DEVICE void write_sums(const Item& item, const Sums& sums) {
        constexpr int ACROSS_SUMS = COLUMNS / SUM_PIECE;
#pragma unroll 1
        for (int piece = 0; piece < ROW_TILES * ACROSS_SUMS; ++piece) {
            int row = first_row(piece / ACROSS_SUMS), column = piece % ACROSS_SUMS * SUM_PIECE;
            if (item.m + (LAYOUT_NHWC ? column : row) >= conv().group_k || item.n + (LAYOUT_NHWC ? row : column) >= conv().gemm_n)
                continue;
            unsigned buffer = shared.staging(index, turn);
            turn ^= 1;
#pragma unroll
            for (int i = 0; i < ROW_TILES * ACROSS_SUMS; ++i)  // sums are registers: their indices must be known here
                if (i == piece) put_sums(sums[i / ACROSS_SUMS] + i % ACROSS_SUMS * (SUM_PIECE / 2), buffer);
            meet();  // also: what was taken from the other buffer has been taken
            if (conv().y_vector)
                take_sums<4>(item, buffer, row, column);
            else
                take_sums<1>(item, buffer, row, column);
        }
    }

    DEVICE void write(const Item& item, const Sums& sums) {
        if (bulk())
            write_bulk(item, sums);
        else
            write_sums(item, sums);
    }
    // Before the block ends: shared memory must outlive the copies from it.
    DEVICE void drain() const {
        if (bulk() && thread == 0) store_wait<0>();
    }
};

// All that a consumer does.
DEVICE void consume(const WgmmaArgs& args, Shared shared, int index) {
    int thread = threadIdx.x % 128;
    Consumer consumer{args, shared, index, thread, Ring()};
    Epilogue epilogue{args, shared, index, thread};
    const TensorArgs& tensor = args.tensor;
    unsigned items = tensor.tiles * tensor.splits;
#pragma unroll 1
    for (unsigned i = blockIdx.x; i < items; i += gridDim.x) {
        Item item(args, i);
        epilogue.prepare(item);
        if (tensor.splits == 1) epilogue.fetch_residual(item);
        Sums sums;
        consumer.main_loop(item, sums);
        if (tensor.splits > 1) {
            if (!consumer.add_splits(item, sums)) continue;
            epilogue.fetch_residual(item);
        }
        epilogue.write(item, sums);
    }
    epilogue.drain();
}

// Sets up the barriers. full: arrivals a stage of those who bring it.
DEVICE void start_barriers(Shared shared, int full_arrivals) {
    if (threadIdx.x == 0) {
#pragma unroll 1
        for (int i = 0; i < STAGES; ++i) {
            barrier_init(shared.full(i), full_arrivals);
            barrier_init(shared.empty(i), CONSUMERS * 4);  // each warp says when it has read a stage
        }
#pragma unroll 1
        for (int i = 0; i < 2 * CONSUMERS; ++i) barrier_init(shared.residual(0, i), 1);
        barrier_init_fence();
    }
    __syncthreads();
}
