// Convolution of few channels on tensor cores, groups = 1: first layers, where a block of TILE_K
// channels would be mostly padding.
//
//   y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h]
//                                         [q * stride_w - pad_left + s * dilation_w]
//                                   * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
//
// gemm_k = the terms (tap, c) in one row, c fastest, TILE_K per step. Tile, shared memory and
// instructions: mma/tile.cuh; barriers: mma/main_loop.cuh, mma/epilogue.cuh. x, y, residual NCHW or
// NHWC (LAYOUT_NHWC); w as [k][w_channels], w_channels = c * r * s rounded up to 16 bytes with
// zeros, see common/tensor_args.cuh. Padding is zero in x and multiplied, as in mma/loader.cuh;
// terms beyond the last are zero in both operands.
//
// Neighbouring lanes have neighbouring pixels.
// 16-bit: a thread loads the eight terms of a chunk and stores them as one word of 16 bytes; eight
// lanes, eight neighbouring rows, no bank conflict. f32: cp.async of 4 bytes; the four quarters of
// a warp copy the four terms of a chunk in turn, so that the lanes of a quarter differ in the
// sixteenth of the banks, the quarters in the word. Warps whose windows all lie inside the image
// make no test of the terms.
//
// Shared memory: terms[FEW_CHANNELS_MAX_GEMM_K + STAGES * TILE_K] after the stages, 16 bytes each,
// made at the start, so that the main loop does no division. A warp reads one term, or four
// neighbours.
// Barrier: one after they are written, before other threads read them.
//
// Constraints: groups = 1, c * r * s <= FEW_CHANNELS_MAX_GEMM_K, rows of w a multiple of 16 bytes
// and aligned to 16, one image of x, y, residual under 2^31 elements. x of any alignment.
// Grid: tiles * split_k blocks (mma/tile.cuh), tiles_m = ceil(k / TILE_M), tiles_n = ceil(n * p * q
// / TILE_N), steps = ceil(w_channels / TILE_K).
#include "mma/epilogue.cuh"
#include "mma/main_loop.cuh"

// The fills ahead of the last step reach beyond the last term.
constexpr int TERMS = FEW_CHANNELS_MAX_GEMM_K + STAGES * TILE_K;
static_assert(SHARED_BYTES >= STAGES * STAGE_BYTES + TERMS * 16, "stages and terms");

// A term of the sum.
struct MmaTerm {
    unsigned place;  // where x of this tap and channel lies, from tap (0, 0) of channel 0 on
    // r * dilation_h, s * dilation_w; beyond the last term a column that no pixel has inside.
    int row, column;
    unsigned valid;  // 0 for those

    static DEVICE unsigned at(int index) {
        return shared_address(shared_bytes) + SHARED_BYTES - (TERMS - index) * 16;
    }

    static DEVICE void make(const ConvArgs& conv, int index) {
        int tap = index / conv.c, c = index - tap * conv.c, r = tap / conv.s, s = tap - r * conv.s;
        bool valid = r < conv.r;
        int row = valid ? r * conv.dilation_h : 0, column = s * conv.dilation_w;
        unsigned place = (row * conv.width + column) * x_pixel(conv) + c * x_channel(conv);
        st_shared_v4(at(index), make_uint4(place, row, valid ? column : Pixel::NONE, valid));
    }
    static DEVICE MmaTerm load(unsigned at) {
        uint4 words = ld_shared_v4(at);
        return MmaTerm{words.x, static_cast<int>(words.y), static_cast<int>(words.z), words.w};
    }
};

// The window of a thread's pixel.
struct Window {
    Pixel pixel;
    unsigned place;  // of tap (0, 0), from the image's first element; wraps in the padding

    DEVICE void init(const ConvArgs& conv, address_t x, unsigned n) {
        pixel = Pixel(conv, x, n);
        place = (static_cast<unsigned>(pixel.row) * conv.width + pixel.column) * x_pixel(conv);
    }
    DEVICE bool whole(const ConvArgs& conv) const {
        return pixel.row >= 0 && pixel.column >= 0 &&
               pixel.row + (conv.r - 1) * conv.dilation_h < conv.h &&
               pixel.column + (conv.s - 1) * conv.dilation_w < conv.width;
    }
    DEVICE address_t at(const MmaTerm& term) const {
        return element(pixel.image, place + term.place);
    }
    // WHOLE: all of its terms are inside.
    template <bool WHOLE>
    DEVICE bool in_bounds(const ConvArgs& conv, const MmaTerm& term) const {
        if (WHOLE) return term.valid != 0;
        unsigned h = pixel.row + term.row, w = pixel.column + term.column;
        return h < static_cast<unsigned>(conv.h) && w < static_cast<unsigned>(conv.width);
    }
};

struct MmaFewChannelsLoader {
    static constexpr bool ASYNC = ELEMENT_BYTES == 4;
    static constexpr int OWN = TILE_N > THREADS ? TILE_N / THREADS : 1;  // pixels of a thread
    // Threads that share a pixel.
    static constexpr int LANES = THREADS > TILE_N ? THREADS / TILE_N : 1;
    // A thread's, of a pixel.
    static constexpr int CHUNKS = X_ROW / 16 / LANES;
    static constexpr int TASKS = OWN * CHUNKS / HALVES;  // chunks of a half
    static_assert(CHUNKS >= 1 && OWN * CHUNKS % HALVES == 0, "every chunk once");
    static_assert(TILE_N % 32 == 0 && THREADS % TILE_N % 32 == 0, "a warp's pixels are neighbours");

    const TensorArgs& args;
    MmaKIterator now;
    FilterLoader filters;
    Window windows[OWN];
    bool whole;  // all windows of the warp
    unsigned values[ASYNC ? 1 : TASKS][8];
    unsigned pending;  // the stage that the values belong to

    static DEVICE int row() { return threadIdx.x % TILE_N; }
    static DEVICE int chunk() { return LANES > 1 ? threadIdx.x / TILE_N * CHUNKS : 0; }

    DEVICE MmaFewChannelsLoader(const TensorArgs& args, const WorkTile& tile)
        : args(args), filters(args, tile) {
        KRange steps = k_range(args, tile);
        now.row = now.column = now.tap_offset = 0;
        now.channel = steps.first * TILE_K;
        now.left = steps.count();
#pragma unroll 1
        for (int i = threadIdx.x; i < TERMS; i += THREADS) MmaTerm::make(args.conv, i);
        address_t x = global_address(args.conv.x);
        whole = true;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            windows[i].init(args.conv, x, tile.n + row() + i * THREADS);
            whole = whole && windows[i].whole(args.conv);
        }
        whole = __all_sync(0xffffffffu, whole);
        pending = 0;
        __syncthreads();
    }
    DEVICE void part(int part, unsigned stage) {
        if constexpr (ASYNC) {
            if (whole)
                copy<true>(part, stage);
            else
                copy<false>(part, stage);
        } else if (half_of(part) >= 0) {
            if (LATE && pending != 0) store(pending, (half_of(part) + 1) % HALVES);
            if (whole)
                load<true>(half_of(part));
            else
                load<false>(half_of(part));
            pending = stage;
        }
        filters.part(args, now, part, stage);
    }
    DEVICE void end(unsigned stage) {
        if (!ASYNC && !LATE) store(stage, 0);
        filters.end(stage);
        now.channel += TILE_K;
        now.left -= 1;
    }
    // The first term of the thread's chunks, past the table's end never: it has STAGES steps more
    // than terms.
    DEVICE unsigned first_term() const {
        return MmaTerm::at(now.channel + chunk() * CHUNK_ELEMENTS);
    }

    template <bool WHOLE>
    DEVICE void load(int half) {
#pragma unroll
        for (int task = 0; task < TASKS; ++task) {
            int index = half * TASKS + task;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                MmaTerm term = MmaTerm::load(first_term() +
                                             (index % CHUNKS * CHUNK_ELEMENTS + i) * 16);
                const Window& window = windows[index / CHUNKS];
                values[ASYNC ? 0 : task][i] = ld_global_u16_x32(
                    window.at(term), window.in_bounds<WHOLE>(args.conv, term) && now.left > 0);
            }
        }
    }
    DEVICE void store(unsigned stage, int half) {
#pragma unroll
        for (int task = 0; task < TASKS; ++task) {
            int index = half * TASKS + task;
            const unsigned (&v)[8] = values[ASYNC ? 0 : task];
            unsigned at = stage + swizzled<X_ROW>(row() + index / CHUNKS * THREADS,
                                                  chunk() + index % CHUNKS);
            st_shared_v4(at, make_uint4(pack_u16(v[0], v[1]), pack_u16(v[2], v[3]),
                                        pack_u16(v[4], v[5]), pack_u16(v[6], v[7])));
        }
    }
    static constexpr DEVICE bool is_of(int part, int i) {
        return i >= share(4 * CHUNKS, part) && i < share(4 * CHUNKS, part + 1);
    }
    template <bool WHOLE>
    DEVICE void copy(int part, unsigned stage) {
        int quarter = threadIdx.x / 8 % 4;
#pragma unroll
        for (int turn = 0; turn < 4; ++turn) {
            int word = (turn + quarter) % 4;
            // Loaded in one run: shared loads between copies cost issue slots.
            MmaTerm terms[CHUNKS];
#pragma unroll
            for (int j = 0; j < CHUNKS; ++j)
                if (is_of(part, turn * CHUNKS + j))
                    terms[j] = MmaTerm::load(first_term() + (j * CHUNK_ELEMENTS + word) * 16);
#pragma unroll
            for (int j = 0; j < CHUNKS; ++j)
#pragma unroll
                for (int i = 0; i < OWN; ++i)
                    if (is_of(part, turn * CHUNKS + j)) {
                        unsigned at = stage + swizzled<X_ROW>(row() + i * THREADS, chunk() + j) +
                                      word * ELEMENT_BYTES;
                        cp_async<4>(
                            at, windows[i].at(terms[j]),
                            windows[i].in_bounds<WHOLE>(args.conv, terms[j]) && now.left > 0);
                    }
        }
    }
};

KERNEL(TensorArgs args) {
    WorkTile tile = ConvScheduler::tile(args);
    MmaFewChannelsLoader loader(args, tile);
    MmaAcc acc;
    main_loop(loader, k_range(args, tile).count(), acc);
    epilogue<ConvScheduler>(args, acc);
}
