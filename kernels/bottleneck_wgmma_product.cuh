// The products of the fused bottleneck on wgmma, and how their operands and sums go between registers and shared memory.
//
// Filters lie along the 64 rows, pixels along the N columns (a multiple of 8): D[filter][pixel], value 4 * j + 2 * i + e of lane l
// of warp w is filter 16 * w + 8 * i + l / 4, pixel 8 * j + 2 * (l % 4) + e. So the filters of the 3x3 can stay in registers
// for good, and only pixels are read from shared memory.
// Pixels lie in shared memory as rows of 128 bytes (64 channels), 16-byte piece c of row r at piece c ^ (r % 8). Eight rows
// (1024 bytes, aligned) are what a descriptor steps by; the transposing stmatrix makes such rows of sums, ldmatrix reads them.
#pragma once

#include "mbarrier.cuh"
#include "wgmma.cuh"

static_assert(KERNEL_DTYPE != 0, "rows of 128 bytes are 64 channels of 16 bits");

// The distance between groups of eight rows, in place of the 1024 bytes of matrix_descriptor.
DEVICE unsigned long long with_group_distance(unsigned long long descriptor, int bytes) {
    return descriptor + (static_cast<unsigned long long>((bytes - 1024) / 16) << 32);
}

#define SUMS_16(d, i) SUMS_8(d, i), SUMS_8(d, i + 8)
#define NAMES_8(a, b, c, d, e, f, g, h) "%" #a ", %" #b ", %" #c ", %" #d ", %" #e ", %" #f ", %" #g ", %" #h
#define NAMES_16 NAMES_8(0, 1, 2, 3, 4, 5, 6, 7) ", " NAMES_8(8, 9, 10, 11, 12, 13, 14, 15)
#define NAMES_56                                                                                                  \
    NAMES_16 ", " NAMES_8(16, 17, 18, 19, 20, 21, 22, 23) ", " NAMES_8(24, 25, 26, 27, 28, 29, 30, 31) ", "       \
        NAMES_8(32, 33, 34, 35, 36, 37, 38, 39) ", " NAMES_8(40, 41, 42, 43, 44, 45, 46, 47) ", "                 \
        NAMES_8(48, 49, 50, 51, 52, 53, 54, 55)
#define NAMES_80                                                                                                  \
    NAMES_56 ", " NAMES_8(56, 57, 58, 59, 60, 61, 62, 63) ", " NAMES_8(64, 65, 66, 67, 68, 69, 70, 71) ", "       \
        NAMES_8(72, 73, 74, 75, 76, 77, 78, 79)

// 160 pixels, both operands in shared memory.
DEVICE void product(float (&d)[80], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %82, 0; wgmma.mma_async.sync.aligned.m64n160" PRODUCT_TYPES "{" NAMES_80
                 "}, %80, %81" PRODUCT_FLAGS
                 : SUMS_32(d, 0), SUMS_32(d, 32), SUMS_16(d, 64)
                 : "l"(a), "l"(b), "r"(accumulate)
                 : "memory");
}
// 112 pixels.
DEVICE void product(float (&d)[56], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %58, 0; wgmma.mma_async.sync.aligned.m64n112" PRODUCT_TYPES "{" NAMES_56
                 "}, %56, %57" PRODUCT_FLAGS
                 : SUMS_32(d, 0), SUMS_16(d, 32), SUMS_8(d, 48)
                 : "l"(a), "l"(b), "r"(accumulate)
                 : "memory");
}
// 32 pixels.
DEVICE void product(float (&d)[16], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %18, 0; wgmma.mma_async.sync.aligned.m64n32" PRODUCT_TYPES "{" NAMES_16
                 "}, %16, %17" PRODUCT_FLAGS
                 : SUMS_16(d, 0)
                 : "l"(a), "l"(b), "r"(accumulate)
                 : "memory");
}

// The same with the filters in registers: as ldmatrix brings 16 rows of 32 bytes.
#define PRODUCT_FLAGS_REGISTERS ", p, 1, 1, 0;}"
DEVICE void product(float (&d)[56], const unsigned (&a)[4], unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %61, 0; wgmma.mma_async.sync.aligned.m64n112" PRODUCT_TYPES "{" NAMES_56
                 "}, {%56, %57, %58, %59}, %60" PRODUCT_FLAGS_REGISTERS
                 : SUMS_32(d, 0), SUMS_16(d, 32), SUMS_8(d, 48)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate)
                 : "memory");
}
DEVICE void product(float (&d)[16], const unsigned (&a)[4], unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %21, 0; wgmma.mma_async.sync.aligned.m64n32" PRODUCT_TYPES "{" NAMES_16
                 "}, {%16, %17, %18, %19}, %20" PRODUCT_FLAGS_REGISTERS
                 : SUMS_16(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate)
                 : "memory");
}

// Two sums, rounded to nearest even and packed.
DEVICE unsigned pack(float low, float high) {
    unsigned both;
#if KERNEL_DTYPE == 1
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}
// The same after max(., 0); NaN stays NaN (the canonical one).
DEVICE unsigned pack_relu(float low, float high) {
    unsigned both;
#if KERNEL_DTYPE == 1
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}
DEVICE float2 unpack(unsigned both) {
    return make_float2(to_float(static_cast<storage_t>(both & 0xffff)), to_float(static_cast<storage_t>(both >> 16)));
}

// Whether the phase of this parity is complete (barrier_wait).
DEVICE bool barrier_done(unsigned barrier, unsigned parity) {
    unsigned done;
    asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done;
}

// Four 8x8 matrices of sums (filters along their rows) to rows of pixels and back. Lanes 8 m .. 8 m + 7 give the rows of
// matrix m: eight filters of a pixel.
DEVICE void put_pixels(unsigned to, const unsigned (&v)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
                 "r"(v[2]), "r"(v[3])
                 : "memory");
}
DEVICE void take_pixels(unsigned from, unsigned (&v)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(from)
                 : "memory");
}
// Filters as the products take them from registers.
DEVICE void take_filters(unsigned from, unsigned (&v)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(from)
                 : "memory");
}
// Where piece `piece` of row `row` lies, rows counted from a multiple of 1024 bytes.
DEVICE unsigned piece_at(unsigned row, unsigned piece) {
    return row * 128 + ((piece ^ (row & 7)) << 4);
}
// A predicated load, where the compiler would make a branch.
DEVICE unsigned short load_16(const storage_t* from, bool exists) {
    unsigned short value;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b16 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=h"(value)
                 : "l"(from), "r"(static_cast<int>(exists))
                 : "memory");
    return value;
}
// Copies `bytes` of BYTES (8, 16), the rest as zeros, later.
template <int BYTES>
DEVICE void copy_later(unsigned to, const void* from, int bytes) {
    unsigned long long at = __cvta_generic_to_global(from);
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(at), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(at), "n"(BYTES), "r"(bytes) : "memory");
}
DEVICE void copies_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int PENDING>
DEVICE void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
