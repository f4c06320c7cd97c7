// wgmma: the asynchronous matrix product of a warpgroup (128 threads), with its fences and groups
// (sm_90a).
//
//   D[64][N] (+)= A[64][k] * B[N][k], k = 32 bytes of elements (16 of 16 bits, 8 of tf32). B, and A
//   where it is no register operand, in shared memory: rows of 128, 64 or 32 bytes, swizzled as TMA
//   does it (common/swizzle.cuh).
//   D in registers: value 4 * j + 2 * i + e of lane l of warp w is row 16 * w + 8 * i + l / 4,
//   column 8 * j + 2 * (l % 4) + e.
#pragma once

#include "common/swizzle.cuh"
#include "types.cuh"

constexpr int WARPGROUP_THREADS = 128;

// Makes registers and ordinary shared memory written so far visible to the products that follow.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most PENDING of the committed groups are unfinished.
template <int PENDING>
DEVICE void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Keeps the compiler from moving uses of the accumulators to before the wait that precedes this.
template <int COUNT>
DEVICE void wgmma_fence_operand(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// The matrix descriptor of rows of `row_bytes` (128, 64, 32: as many bytes of swizzle) that start
// at a shared address: groups of eight rows follow each other. A step of 32 bytes along k adds 2 to
// it, as the swizzle works on addresses.
DEVICE unsigned long long wgmma_descriptor(unsigned address, int row_bytes) {
    unsigned long long swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
    unsigned long long eight_rows = 8 * row_bytes / 16;
    return (swizzle << 62) | (eight_rows << 32) | (1ull << 16) | ((address & 0x3ffff) >> 4);
}
// The distance between groups of eight rows, in place of SWIZZLE_ATOM_BYTES.
DEVICE unsigned long long wgmma_descriptor_stride(unsigned long long descriptor, int bytes) {
    return descriptor + (static_cast<unsigned long long>((bytes - SWIZZLE_ATOM_BYTES) / 16) << 32);
}

// The names and the outputs of the accumulators, for the overloads below. The predicate operand
// decides between D = A * B (0) and D += A * B.
#define ACC_8(d, i)                                                                             \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define ACC_16(d, i) ACC_8(d, i), ACC_8(d, i + 8)
#define ACC_32(d, i) ACC_16(d, i), ACC_16(d, i + 16)
#define NAMES_16                       \
    "%0, %1, %2, %3, %4, %5, %6, %7, " \
    "%8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, "         \
    "%8, %9, %10, %11, %12, %13, %14, %15, "   \
    "%16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_56                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, "         \
    "%8, %9, %10, %11, %12, %13, %14, %15, "   \
    "%16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, " \
    "%40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55"
#define NAMES_64                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, "         \
    "%8, %9, %10, %11, %12, %13, %14, %15, "   \
    "%16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, " \
    "%40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, " \
    "%56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_80                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, "         \
    "%8, %9, %10, %11, %12, %13, %14, %15, "   \
    "%16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, " \
    "%40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, " \
    "%56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71, " \
    "%72, %73, %74, %75, %76, %77, %78, %79"
#define NAMES_128                                      \
    "%0, %1, %2, %3, %4, %5, %6, %7, "                 \
    "%8, %9, %10, %11, %12, %13, %14, %15, "           \
    "%16, %17, %18, %19, %20, %21, %22, %23, "         \
    "%24, %25, %26, %27, %28, %29, %30, %31, "         \
    "%32, %33, %34, %35, %36, %37, %38, %39, "         \
    "%40, %41, %42, %43, %44, %45, %46, %47, "         \
    "%48, %49, %50, %51, %52, %53, %54, %55, "         \
    "%56, %57, %58, %59, %60, %61, %62, %63, "         \
    "%64, %65, %66, %67, %68, %69, %70, %71, "         \
    "%72, %73, %74, %75, %76, %77, %78, %79, "         \
    "%80, %81, %82, %83, %84, %85, %86, %87, "         \
    "%88, %89, %90, %91, %92, %93, %94, %95, "         \
    "%96, %97, %98, %99, %100, %101, %102, %103, "     \
    "%104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, " \
    "%120, %121, %122, %123, %124, %125, %126, %127"

#define ACC_ALL_16 ACC_16(d, 0)
#define ACC_ALL_32 ACC_32(d, 0)
#define ACC_ALL_56 ACC_32(d, 0), ACC_16(d, 32), ACC_8(d, 48)
#define ACC_ALL_64 ACC_32(d, 0), ACC_32(d, 32)
#define ACC_ALL_80 ACC_32(d, 0), ACC_32(d, 32), ACC_16(d, 64)
#define ACC_ALL_128 ACC_32(d, 0), ACC_32(d, 32), ACC_32(d, 64), ACC_32(d, 96)

#define WGMMA(SHAPE, NAMES, OPERANDS, PREDICATE, HALF_FLAGS, ACC, ...)                  \
    if constexpr (DTYPE == DType::F32)                                                  \
        asm volatile("{.reg .pred p; setp.ne.b32 p, " PREDICATE                         \
                     ", 0;"                                                             \
                     " wgmma.mma_async.sync.aligned." SHAPE "k8.f32.tf32.tf32 {" NAMES  \
                     "}, " OPERANDS ", p, 1, 1;}"                                       \
                     : ACC                                                              \
                     : __VA_ARGS__                                                      \
                     : "memory");                                                       \
    else if constexpr (DTYPE == DType::F16)                                             \
        asm volatile("{.reg .pred p; setp.ne.b32 p, " PREDICATE                         \
                     ", 0;"                                                             \
                     " wgmma.mma_async.sync.aligned." SHAPE "k16.f32.f16.f16 {" NAMES   \
                     "}, " OPERANDS ", p, 1, 1" HALF_FLAGS ";}"                         \
                     : ACC                                                              \
                     : __VA_ARGS__                                                      \
                     : "memory");                                                       \
    else                                                                                \
        asm volatile("{.reg .pred p; setp.ne.b32 p, " PREDICATE                         \
                     ", 0;"                                                             \
                     " wgmma.mma_async.sync.aligned." SHAPE "k16.f32.bf16.bf16 {" NAMES \
                     "}, " OPERANDS ", p, 1, 1" HALF_FLAGS ";}"                         \
                     : ACC                                                              \
                     : __VA_ARGS__                                                      \
                     : "memory");

// Both operands in shared memory, by descriptors. The length of d chooses N.
DEVICE void wgmma(float (&d)[16], unsigned long long a, unsigned long long b,
                  int accumulate){WGMMA("m64n32", NAMES_16, "%16, %17", "%18", ", 0, 0", ACC_ALL_16,
                                        "l"(a), "l"(b), "r"(accumulate))} DEVICE
    void wgmma(float (&d)[32], unsigned long long a, unsigned long long b,
               int accumulate){WGMMA("m64n64", NAMES_32, "%32, %33", "%34", ", 0, 0", ACC_ALL_32,
                                     "l"(a), "l"(b), "r"(accumulate))} DEVICE
    void wgmma(float (&d)[56], unsigned long long a, unsigned long long b,
               int accumulate){WGMMA("m64n112", NAMES_56, "%56, %57", "%58", ", 0, 0", ACC_ALL_56,
                                     "l"(a), "l"(b), "r"(accumulate))} DEVICE
    void wgmma(float (&d)[64], unsigned long long a, unsigned long long b,
               int accumulate){WGMMA("m64n128", NAMES_64, "%64, %65", "%66", ", 0, 0", ACC_ALL_64,
                                     "l"(a), "l"(b), "r"(accumulate))} DEVICE
    void wgmma(float (&d)[80], unsigned long long a, unsigned long long b,
               int accumulate){WGMMA("m64n160", NAMES_80, "%80, %81", "%82", ", 0, 0", ACC_ALL_80,
                                     "l"(a), "l"(b), "r"(accumulate))} DEVICE
    void wgmma(float (&d)[128], unsigned long long a, unsigned long long b,
               int accumulate){WGMMA("m64n256", NAMES_128, "%128, %129", "%130", ", 0, 0",
                                     ACC_ALL_128, "l"(a), "l"(b), "r"(accumulate))}

// A of 16-bit types in registers, as ldmatrix loads 16 rows of 32 bytes.
DEVICE void wgmma(float (&d)[16], const unsigned (&a)[4], unsigned long long b, int accumulate){
    WGMMA("m64n32", NAMES_16, "{%16, %17, %18, %19}, %20", "%21", ", 0", ACC_ALL_16, "r"(a[0]),
          "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))} DEVICE
    void wgmma(float (&d)[56], const unsigned (&a)[4], unsigned long long b, int accumulate) {
    WGMMA("m64n112", NAMES_56, "{%56, %57, %58, %59}, %60", "%61", ", 0", ACC_ALL_56, "r"(a[0]),
          "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
}

#undef WGMMA
#undef ACC_ALL_16
#undef NAMES_16
#undef ACC_ALL_32
#undef NAMES_32
#undef ACC_ALL_56
#undef NAMES_56
#undef ACC_ALL_64
#undef NAMES_64
#undef ACC_ALL_80
#undef NAMES_80
#undef ACC_ALL_128
#undef NAMES_128
#undef ACC_8
#undef ACC_16
#undef ACC_32
