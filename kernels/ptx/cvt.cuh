// cvt: roundings that the language has no type for.
#pragma once

#include "types.cuh"

// An f32 rounded to tf32, to nearest, ties away from zero; NaN stays NaN. Types other than f32, and
// Math::STRICT, pass unchanged.
DEVICE unsigned cvt_rna_tf32(unsigned value) {
    if constexpr (MATH != Math::STRICT)
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(value) : "f"(__uint_as_float(value)));
    return value;
}

// Two f32 rounded to the 16-bit storage type, to nearest even, in one register.
DEVICE unsigned cvt_rn_x2(float low, float high) {
    unsigned both = 0;
    if constexpr (DTYPE == DType::F16)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    else if constexpr (DTYPE == DType::BF16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
// The same after max(., 0); NaN stays NaN (the canonical one).
DEVICE unsigned cvt_rn_relu_x2(float low, float high) {
    unsigned both = 0;
    if constexpr (DTYPE == DType::F16)
        asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    else if constexpr (DTYPE == DType::BF16)
        asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
