// What the kernels on tensor cores by mma.sync share: the tile, its place in shared memory, the instructions.
//
//   D[pixel][filter] = sum_k X[pixel][k] * W[filter][k]
//
// A block computes TILE_N pixels (n, p, q flattened) by TILE_M filters, in f32. Pixels are the rows of mma's product and
// filters its columns, for both layouts: the sums reach y through shared memory, which transposes them for NCHW
// (mma_epilogue.cuh). Both operands lie in shared memory with k contiguous, as ldmatrix wants them: f16, bf16 in rows of
// 16 terms an instruction (m16n8k16; m16n8k8 twice on compute_75), f32 as tf32 in rows of 8 (m16n8k8): 32 bytes either way,
// so one code serves all types.
//
// Threads: a warp computes WARP_ROWS pixels by WARP_COLUMNS filters; warps lie row by row, along filters first.
//
// Shared memory, dynamic, SHARED_BYTES of it: stages[STAGES] of x[TILE_N][X_ROW bytes], w[TILE_M][W_ROW bytes], then the
// tables of the loaders. A row is made of chunks of 16 bytes. Chunk c of row r lies at chunk c ^ (r / R % C) of the row, C
// being the chunks a row and R the rows in 128 bytes: eight neighbouring rows have their chunks c in eight different sixteenths
// of the banks, so that ldmatrix (eight rows, one chunk) and the fills meet no bank twice.
//
// KERNEL_MATH: 0: f16 or bf16, whose products are exact in f32. 1: tf32, operands rounded to nearest, ties away from zero.
// 2: three products of tf32: each operand is the sum of a big and a small part; small * small is dropped.
#pragma once

#include "common.cuh"
#include "tensor_args.cuh"

#ifndef GROUPS_A_TILE
#define GROUPS_A_TILE 1  // mma_small_groups.cu has several
#endif

constexpr int ELEMENT = sizeof(storage_t);
constexpr int CHUNK = 16 / ELEMENT;  // elements of a chunk
constexpr int W_ROW = TILE_K * ELEMENT;
constexpr int X_ROW = W_ROW * GROUPS_A_TILE;
constexpr int X_BYTES = TILE_N * X_ROW;
constexpr int W_BYTES = TILE_M * W_ROW;
constexpr int STAGE_BYTES = X_BYTES + W_BYTES;
constexpr int K_BYTES = 32;  // of a row that an instruction takes

constexpr int WARPS = THREADS / 32;
// The warps along pixels: as many as leave a warp's part no narrower than long.
constexpr int warps_along_pixels() {
    int warps = 1;
    while (2 * warps <= WARPS && TILE_N / (2 * warps) >= TILE_M / (WARPS / (2 * warps))) warps *= 2;
    return warps;
}
constexpr int WARPS_ROWS = warps_along_pixels();
constexpr int WARPS_COLUMNS = WARPS / WARPS_ROWS;
constexpr int WARP_ROWS = TILE_N / WARPS_ROWS;
constexpr int WARP_COLUMNS = TILE_M / WARPS_COLUMNS;
constexpr int MMA_ROWS = WARP_ROWS / 16;
constexpr int MMA_COLUMNS = WARP_COLUMNS / 8;

static_assert(X_ROW <= 128 && W_ROW >= 16 && 128 % X_ROW == 0 && 128 % W_ROW == 0, "rows that the swizzle covers");
static_assert(WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0, "whole instructions, filters by pairs of them");
static_assert(X_BYTES % 128 == 0 && W_BYTES % 128 == 0, "stages keep the swizzle's alignment");
static_assert(KERNEL_DTYPE == 0 ? KERNEL_MATH > 0 : KERNEL_MATH == 0, "tf32 is for f32, and f32 for tf32");

#if __CUDA_ARCH__ >= 800
#define ASYNC_COPY 1
static_assert(STAGES >= 3, "cp.async: one stage read, one being waited for, one in flight");
#else
#define ASYNC_COPY 0
static_assert(STAGES == 2, "through registers: one stage read, one filled");
static_assert(KERNEL_DTYPE == 1, "compute_75 has f16 only");
#endif

extern __shared__ __align__(128) unsigned char shared_bytes[];

typedef float Sums[MMA_ROWS][MMA_COLUMNS][4];

typedef unsigned long long address_t;  // a byte address in global memory

DEVICE address_t global_address(const void* pointer) {
    return static_cast<address_t>(__cvta_generic_to_global(pointer));
}
DEVICE unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
// The address of an element of an image or a filter: `offset` is under 2^31 wherever the element exists, and wraps
// harmlessly where it does not (padding), since then it is never read.
DEVICE address_t element(address_t base, unsigned offset) {
    return base + static_cast<address_t>(offset) * ELEMENT;
}
// The address `count` strides further on; count * ELEMENT fits 32 bits.
DEVICE address_t strided(address_t base, int stride, int count) {
    return base + static_cast<long long>(stride) * (count * ELEMENT);
}

// The byte in an array of rows of ROW bytes where chunk `chunk` of row `row` lies.
template <int ROW>
DEVICE unsigned swizzled(unsigned row, unsigned chunk) {
    constexpr unsigned CHUNKS = ROW / 16, ROWS = 128 / ROW;
    return row * ROW + ((chunk ^ (row / ROWS % CHUNKS)) << 4);
}

// ---------------------------------------------------------------------------------------------------------------------
// Copies

// An access that does not exist reads nothing and gives zeros. Wholes and parts are told apart because a part takes five
// more instructions.
template <int BYTES>
DEVICE void copy_async(unsigned to, address_t from, bool exists) {
#if ASYNC_COPY
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from), "r"(exists ? BYTES : 0), "n"(BYTES)
                     : "memory");
#endif
}
template <int BYTES>
DEVICE void copy_part_async(unsigned to, address_t from, int bytes) {
#if ASYNC_COPY
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(to), "l"(from), "r"(bytes), "n"(BYTES) : "memory");
#endif
}
DEVICE void commit() {
#if ASYNC_COPY
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `PENDING` stages of this thread are in flight.
template <int PENDING>
DEVICE void wait() {
#if ASYNC_COPY
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// Predicated loads, where the compiler would make branches.
DEVICE unsigned load_2(address_t from, bool exists) {
    unsigned value;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=r"(value)
                 : "l"(from), "r"(static_cast<int>(exists))
                 : "memory");
    return value;
}
DEVICE uint4 load_16(address_t from, bool exists) {
    uint4 value;
    asm volatile(
        "{.reg .pred p; setp.ne.s32 p, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;"
        " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
        : "l"(from), "r"(static_cast<int>(exists))
        : "memory");
    return value;
}
DEVICE void store_4(unsigned to, unsigned value) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
DEVICE void store_8(unsigned to, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(first), "f"(second) : "memory");
}
DEVICE void store_16(unsigned to, uint4 value) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
                 : "memory");
}
DEVICE unsigned pair(unsigned low, unsigned high) { return __byte_perm(low, high, 0x5410); }

// ---------------------------------------------------------------------------------------------------------------------
// Matrix instructions

// Four matrices of 8 rows x 16 bytes: lane l names row l % 8 of matrix l / 8.
DEVICE void load_matrices(unsigned (&to)[4], unsigned from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
}

// d += a * b over 16 bytes of k, 16-bit types: m16n8k8.
DEVICE void multiply_add_half(float (&d)[4], unsigned a0, unsigned a1, unsigned b) {
#if KERNEL_DTYPE == 1
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b));
#elif KERNEL_DTYPE == 2
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b));
#endif
}

// d += a * b over 32 bytes of k.
DEVICE void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if KERNEL_DTYPE == 1 && !ASYNC_COPY
    multiply_add_half(d, a[0], a[1], b0);
    multiply_add_half(d, a[2], a[3], b1);
#elif KERNEL_DTYPE == 0
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif KERNEL_DTYPE == 1
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Rounds an f32 to tf32, to nearest, ties away from zero. NaN stays NaN.
DEVICE unsigned to_tf32(unsigned value) {
#if KERNEL_MATH > 0
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(value) : "f"(__uint_as_float(value)));
#endif
    return value;
}
// big + small is `value` to 22 bits. What is not finite (or rounds to infinity) meets only big parts: times a small part, which
// may be zero or of the other sign, it would give NaN. So its small part is zero, and `finite`, else equal to big, too.
DEVICE void split(unsigned value, unsigned& big, unsigned& small, unsigned& finite) {
    big = to_tf32(value);
    float rest = __uint_as_float(value) - __uint_as_float(big);
    bool exists = fabsf(rest) <= 3.402823466e38f;  // false for the NaN of inf - inf
    small = to_tf32(__float_as_uint(exists ? rest : 0.0f));
    finite = exists ? big : 0;
}

// Filters of 32 bytes of k as ldmatrix brings them, eight a column, two registers each.
template <int COLUMNS>
struct FilterOperand {
    static constexpr int MATRICES = (COLUMNS + 1) / 2;
    unsigned v[MATRICES][4];                                                            // KERNEL_MATH 2: the big parts
    unsigned small[KERNEL_MATH == 2 ? MATRICES : 1][4], finite[KERNEL_MATH == 2 ? MATRICES : 1][4];  // see split()

    // From what is stored to what is multiplied.
    DEVICE void convert() {
#pragma unroll
        for (int j = 0; j < MATRICES; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                constexpr int ALL = KERNEL_MATH == 2;
                if (KERNEL_MATH == 1) v[j][e] = to_tf32(v[j][e]);
                if (KERNEL_MATH == 2) split(v[j][e], v[j][e], small[ALL * j][e], finite[ALL * j][e]);
            }
    }
};

// sums[first .. first + count] += x * w of these columns, 16 pixels by 8 filters each.
template <int COLUMNS, int ALL>
DEVICE void multiply_columns(float (&sums)[ALL][4], const unsigned (&x)[4], const unsigned (&w)[(COLUMNS + 1) / 2][4], int first,
                             int count) {
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j)
        if (j >= first && j < first + count) multiply_add(sums[j], x, w[j / 2][j % 2 * 2], w[j / 2][j % 2 * 2 + 1]);
}

// The same for x as stored, in the mode of the kernel.
template <int COLUMNS>
DEVICE void multiply_row(float (&sums)[COLUMNS][4], unsigned (&x)[4], const FilterOperand<COLUMNS>& w, int first, int count) {
#if KERNEL_MATH == 2
    unsigned small[4], finite[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) split(x[e], x[e], small[e], finite[e]);
    multiply_columns<COLUMNS>(sums, small, w.finite, first, count);
    multiply_columns<COLUMNS>(sums, finite, w.small, first, count);
#elif KERNEL_MATH == 1
#pragma unroll
    for (int e = 0; e < 4; ++e) x[e] = to_tf32(x[e]);
#endif
    multiply_columns<COLUMNS>(sums, x, w.v, first, count);
}

// The lane's address for ldmatrix in rows of X_ROW or W_ROW bytes, of chunks 0 and 1: chunks 2 k and 2 k + 1 of the row are
// at that address ^ 32 k, since only k decides those bits.
// Pixels: rows 0-7 and 8-15 of the first chunk, then of the second: the order of mma's first operand.
DEVICE unsigned pixels_at(unsigned row, unsigned lane) { return swizzled<X_ROW>(row + lane % 16, lane / 16); }
// Filters: rows 0-7 of the first and the second chunk, then rows 8-15: two of mma's second operand.
DEVICE unsigned filters_at(unsigned row, unsigned lane) {
    return X_BYTES + swizzled<W_ROW>(row + lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

DEVICE void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < MMA_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < MMA_COLUMNS; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tiles

// Which tile the block computes, and which part of its sum. Grid: tiles * splits blocks, block = tile * splits + split,
// tile = tile_n * (groups * tiles_m) + group * tiles_m + tile_m: neighbours share their pixels of x through L2.
struct Tile {
    unsigned index;  // of the tile
    int split;
    int group;   // mma_small_groups.cu: the first of the tile
    int m;       // first filter of the tile, counted in the group
    unsigned n;  // first pixel

    DEVICE Tile(const TensorArgs& args) {
        const ConvArgs& conv = args.conv;
        unsigned block;
        asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));  // read anew where it is needed, and no register held
        index = fast_div(block, args.by_splits);
        split = block - index * args.splits;
        unsigned rest = fast_div(index, conv.by_tiles_m);
        m = (index - rest * conv.tiles_m) * TILE_M;
        unsigned tile_n = fast_div(rest, conv.by_groups);
        group = rest - tile_n * conv.by_groups.divisor;
        if (GROUPS_A_TILE > 1) {
            group = m / TILE_M * GROUPS_A_TILE;
            m = 0;
        }
        n = tile_n * TILE_N;
    }
};

// The steps of the sum that a block takes: first .. first + count.
struct Steps {
    int first, count;

    DEVICE Steps(const TensorArgs& args, const Tile& tile) {
        first = tile.split * args.steps_a_split;
        count = min(args.steps_a_split, args.steps - first);
    }
};

// Where the warp's part of the tile begins.
DEVICE int warp_row(unsigned thread) { return thread / 32 / WARPS_COLUMNS * WARP_ROWS; }
DEVICE int warp_column(unsigned thread) { return thread / 32 % WARPS_COLUMNS * WARP_COLUMNS; }
