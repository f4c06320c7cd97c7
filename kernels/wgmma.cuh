// The tensor core's asynchronous matrix product of a warpgroup (128 threads), and what orders it.
//
//   D[64][N] (+)= A[64][k] * B[N][k], k = 32 bytes of elements (16 of 16 bits, 8 of tf32); A and B in shared memory, rows of
//   128, 64 or 32 bytes, swizzled as bulk copies do it: of the address, bits 4.. are xored with bits 7.. (3, 2, 1 of them).
//   D in registers: value 4 * j + 2 * i + e of lane l of warp w is row 16 * w + 8 * i + l / 4, column 8 * j + 2 * (l % 4) + e.
#pragma once

#include "common.cuh"

// Makes registers and ordinary shared memory written so far visible to the products that follow.
DEVICE void products_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DEVICE void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most PENDING of the committed groups are unfinished.
template <int PENDING>
DEVICE void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// The matrix descriptor of rows of `row_bytes` (128, 64, 32: as many bytes of swizzle) that start at a shared address: groups of
// eight rows follow each other. A step of 32 bytes along k adds 2 to it, as the swizzle works on addresses.
DEVICE unsigned long long matrix_descriptor(unsigned address, int row_bytes) {
    unsigned long long swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
    unsigned long long eight_rows = 8 * row_bytes / 16;
    return (swizzle << 62) | (eight_rows << 32) | (1ull << 16) | ((address & 0x3ffff) >> 4);
}

// What the type makes of the instruction. accumulate: 0 overwrites D.
#if KERNEL_DTYPE == 0
#define PRODUCT_TYPES "k8.f32.tf32.tf32 "
#define PRODUCT_FLAGS ", p, 1, 1;}"
#elif KERNEL_DTYPE == 1
#define PRODUCT_TYPES "k16.f32.f16.f16 "
#define PRODUCT_FLAGS ", p, 1, 1, 0, 0;}"
#else
#define PRODUCT_TYPES "k16.f32.bf16.bf16 "
#define PRODUCT_FLAGS ", p, 1, 1, 0, 0;}"
#endif

#define SUMS_8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_32(d, i) SUMS_8(d, i), SUMS_8(d, i + 8), SUMS_8(d, i + 16), SUMS_8(d, i + 24)

DEVICE void product(float (&d)[32], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64" PRODUCT_TYPES
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
                 ", %32, %33" PRODUCT_FLAGS
                 : SUMS_32(d, 0)
                 : "l"(a), "l"(b), "r"(accumulate)
                 : "memory");
}

DEVICE void product(float (&d)[64], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128" PRODUCT_TYPES
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
                 ", %64, %65" PRODUCT_FLAGS
                 : SUMS_32(d, 0), SUMS_32(d, 32)
                 : "l"(a), "l"(b), "r"(accumulate)
                 : "memory");
}

DEVICE void product(float (&d)[128], unsigned long long a, unsigned long long b, int accumulate) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256" PRODUCT_TYPES
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
                 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
                 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}"
                 ", %128, %129" PRODUCT_FLAGS
                 : SUMS_32(d, 0), SUMS_32(d, 32), SUMS_32(d, 64), SUMS_32(d, 96)
                 : "l"(a), "l"(b), "r"(accumulate)
                 : "memory");
}

// Keeps the compiler from moving uses of the sums to before the wait that precedes this.
template <int COUNT>
DEVICE void settle(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
