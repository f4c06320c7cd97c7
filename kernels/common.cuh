// What every kernel shares: how elements are stored, division by a constant, ReLU. No header of the CUDA toolkit is
// needed beyond what nvcc includes by itself.
//
// KERNEL_DTYPE (from the catalog) names the storage type: 0 = f32, 1 = f16, 2 = bf16. Arithmetic is always in f32; an
// element is widened where it is read and rounded once, to nearest even, where it is written. No fast math anywhere:
// denormals are kept and a fused multiply-add stays one rounding.
#pragma once

#include "args.cuh"

#if KERNEL_DTYPE == 0
typedef float storage_t;
#elif KERNEL_DTYPE == 1 || KERNEL_DTYPE == 2
typedef unsigned short storage_t;  // the bits of an f16 or a bf16
#else
#error "KERNEL_DTYPE is 0 (f32), 1 (f16) or 2 (bf16)"
#endif

#define DEVICE __device__ __forceinline__

// Widens a stored element to f32. Exact for every value; NaN stays NaN.
DEVICE float to_float(storage_t value) {
#if KERNEL_DTYPE == 0
    return value;
#elif KERNEL_DTYPE == 1
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
    return result;
#else
    return __uint_as_float(static_cast<unsigned>(value) << 16);
#endif
}

// Rounds an f32 to the storage type, to nearest even. Beyond the largest finite value it gives infinity, never a
// saturated number; NaN stays NaN.
DEVICE storage_t from_float(float value) {
#if KERNEL_DTYPE == 0
    return value;
#elif KERNEL_DTYPE == 1
    storage_t result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
#else
    // By hand, since compute_75 has no cvt to bf16: adding 0x7fff plus the lowest kept bit carries into the upper half
    // exactly where rounding to nearest even goes up. NaN is set apart, as the carry could turn it into infinity.
    unsigned bits = __float_as_uint(value);
    unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return static_cast<storage_t>(value == value ? rounded : (bits >> 16) | 0x0040u);
#endif
}

// n / d.divisor for n < 2^31. The host made shift = ceil(log2(divisor)) and mul = ceil(2^(31 + shift) / divisor), which
// fits 32 bits; the product is exact because mul is too large by less than 2^shift / divisor parts in 2^(31 + shift).
DEVICE unsigned fast_div(unsigned n, const FastDiv& d) {
    return __umulhi(n << 1, d.mul) >> d.shift;
}

// max(value, 0) that keeps NaN, as PyTorch's and ONNX's ReLU do (fmaxf would return 0).
DEVICE float relu(float value) {
    return value < 0.0f ? 0.0f : value;
}
