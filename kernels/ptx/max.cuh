// max.NaN of a register of stored elements: one f32, or two of 16 bits.
#pragma once

#include "types.cuh"

// -infinity in each element of a register.
constexpr unsigned MINUS_INFINITY = DTYPE == DType::F32   ? 0xff800000u
                                    : DTYPE == DType::F16 ? 0xfc00fc00u
                                                          : 0xff80ff80u;

// The larger of each element of two registers, NaN if one is.
DEVICE unsigned max_nan(unsigned a, unsigned b) {
    unsigned result;
    if constexpr (DTYPE == DType::F32)
        asm("max.NaN.f32 %0, %1, %2;"
            : "=f"(*reinterpret_cast<float*>(&result))
            : "f"(__uint_as_float(a)), "f"(__uint_as_float(b)));
    else if constexpr (DTYPE == DType::F16)
        asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    else
        asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
}
