// Types that every kernel shares: storage types and their conversions, vectors of elements,
// division by a constant, ReLU. No header of the CUDA toolkit is needed beyond what nvcc includes
// by itself.
//
// Arithmetic is in f32; an element is widened where it is read and rounded once, to nearest even,
// where it is written. No fast math anywhere: denormals are kept, and a fused multiply-add stays
// one rounding.
#pragma once

#include "config.cuh"

#define DEVICE __device__ __forceinline__

// The storage of each type, and its conversions. to_float is exact; NaN stays NaN. from_float
// rounds to nearest even; beyond the largest finite value it gives infinity, never a saturated
// number.
template <DType>
struct Storage;

template <>
struct Storage<DType::F32> {
    typedef float type;
    static DEVICE float to_float(float value) { return value; }
    static DEVICE float from_float(float value) { return value; }
};

template <>
struct Storage<DType::F16> {
    typedef unsigned short type;  // its bits
    static DEVICE float to_float(unsigned short value) {
        float result;
        asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
        return result;
    }
    static DEVICE unsigned short from_float(float value) {
        unsigned short result;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
        return result;
    }
};

template <>
struct Storage<DType::BF16> {
    typedef unsigned short type;  // its bits
    static DEVICE float to_float(unsigned short value) {
        return __uint_as_float(static_cast<unsigned>(value) << 16);
    }
    // By hand, since compute_75 has no cvt to bf16: adding 0x7fff plus the lowest kept bit carries
    // into the upper half exactly where rounding to nearest even goes up. NaN is set apart, as the
    // carry could turn it into infinity.
    static DEVICE unsigned short from_float(float value) {
        unsigned bits = __float_as_uint(value);
        unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        return static_cast<unsigned short>(value == value ? rounded : (bits >> 16) | 0x0040u);
    }
};

typedef Storage<DTYPE>::type storage_t;
constexpr int ELEMENT_BYTES = sizeof(storage_t);

DEVICE float to_float(storage_t value) { return Storage<DTYPE>::to_float(value); }
DEVICE storage_t from_float(float value) { return Storage<DTYPE>::from_float(value); }

// Two elements of 16 bits in one register, widened.
DEVICE float2 to_float2(unsigned both) {
    return make_float2(to_float(static_cast<storage_t>(both & 0xffff)),
                       to_float(static_cast<storage_t>(both >> 16)));
}
// Two values of 16 bits in one register; of registers, the lower halves.
DEVICE unsigned pack_u16(unsigned short low, unsigned short high) {
    return static_cast<unsigned>(high) << 16 | low;
}
DEVICE unsigned pack_u16(unsigned low, unsigned high) { return __byte_perm(low, high, 0x5410); }

// WIDTH neighbouring elements as stored, and as f32: one access each.
template <int WIDTH>
struct alignas(WIDTH * sizeof(storage_t)) Vec {
    storage_t v[WIDTH];
};
template <int WIDTH>
struct alignas(WIDTH * sizeof(float)) FloatVec {
    float v[WIDTH];
};

// Elements of a 16-byte access.
constexpr int VECTOR_ELEMENTS = 16 / ELEMENT_BYTES;

// One of two types, as std::conditional: Select<FIRST, A, B>::type.
template <bool FIRST, class A, class B>
struct Select {
    typedef A type;
};
template <class A, class B>
struct Select<false, A, B> {
    typedef B type;
};

// Division of a 31-bit unsigned n by a constant: n / divisor == __umulhi(2 * n, mul) >> shift,
// where shift = ceil(log2(divisor)), 0 for 1, and mul = ceil(2^(31 + shift) / divisor), which fits
// 32 bits for 1 <= divisor < 2^31. The product is exact because mul is too large by less than
// 2^shift / divisor parts in 2^(31 + shift).
struct FastDiv {
    unsigned mul;
    unsigned shift;
    unsigned divisor;
};

DEVICE unsigned fast_div(unsigned n, const FastDiv& d) {
    return __umulhi(n << 1, d.mul) >> d.shift;
}

DEVICE float minus_infinity() { return __int_as_float(0xff800000); }

// max(value, 0) that keeps NaN, as PyTorch's and ONNX's ReLU do (fmaxf would return 0).
DEVICE float relu(float value) { return value < 0.0f ? 0.0f : value; }
