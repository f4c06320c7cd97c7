// The operands of mma.sync in registers, in the three ways of multiplying (Math).
//
// STRICT: f16 or bf16, whose products are exact in f32. TF32: operands rounded to nearest, ties
// away from zero. TF32X3: three products of tf32: each operand is the sum of a big and a small
// part; small * small is dropped.
#pragma once

#include "common/address.cuh"
#include "ptx/cvt.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/mma.cuh"

constexpr int CHUNK_ELEMENTS = 16 / ELEMENT_BYTES;  // of a chunk
constexpr int K_BYTES = 32;                         // of a row that an instruction takes

// big + small is `value` to 22 bits. What is not finite (or rounds to infinity) meets only big
// parts: times a small part, which may be zero or of the other sign, it would give NaN. So its
// small part is zero, and `finite`, else equal to big, too.
DEVICE void split_tf32(unsigned value, unsigned& big, unsigned& small, unsigned& finite) {
    big = cvt_rna_tf32(value);
    float rest = __uint_as_float(value) - __uint_as_float(big);
    bool valid = fabsf(rest) <= 3.402823466e38f;  // false for the NaN of inf - inf
    small = cvt_rna_tf32(__float_as_uint(valid ? rest : 0.0f));
    finite = valid ? big : 0;
}

// Filters of 32 bytes of k as ldmatrix loads them, eight per column, two registers each.
template <int COLUMNS>
struct FilterOperand {
    static constexpr int MATRICES = (COLUMNS + 1) / 2;
    // TF32X3: the big parts.
    unsigned v[MATRICES][4];
    // See split_tf32.
    unsigned small[MATH == Math::TF32X3 ? MATRICES : 1][4],
        finite[MATH == Math::TF32X3 ? MATRICES : 1][4];

    // Converts stored values to operands.
    DEVICE void convert() {
#pragma unroll
        for (int j = 0; j < MATRICES; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                constexpr int ALL = MATH == Math::TF32X3;
                if (MATH == Math::TF32) v[j][e] = cvt_rna_tf32(v[j][e]);
                if (MATH == Math::TF32X3)
                    split_tf32(v[j][e], v[j][e], small[ALL * j][e], finite[ALL * j][e]);
            }
    }
};

// accumulators[first .. first + count] += x * w of these columns, 16 pixels by 8 filters each.
template <int COLUMNS, int ALL>
DEVICE void multiply_columns(float (&acc)[ALL][4], const unsigned (&x)[4],
                             const unsigned (&w)[(COLUMNS + 1) / 2][4], int first, int count) {
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j)
        if (j >= first && j < first + count)
            mma(acc[j], x, w[j / 2][j % 2 * 2], w[j / 2][j % 2 * 2 + 1]);
}

// The same for x as stored, in the mode of the kernel.
template <int COLUMNS>
DEVICE void multiply_row(float (&acc)[COLUMNS][4], unsigned (&x)[4],
                         const FilterOperand<COLUMNS>& w, int first, int count) {
    if constexpr (MATH == Math::TF32X3) {
        unsigned small[4], finite[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) split_tf32(x[e], x[e], small[e], finite[e]);
        multiply_columns<COLUMNS>(acc, small, w.finite, first, count);
        multiply_columns<COLUMNS>(acc, finite, w.small, first, count);
    } else if constexpr (MATH == Math::TF32) {
#pragma unroll
        for (int e = 0; e < 4; ++e) x[e] = cvt_rna_tf32(x[e]);
    }
    multiply_columns<COLUMNS>(acc, x, w.v, first, count);
}
