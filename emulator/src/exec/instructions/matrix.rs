//! Matrix products of a warp.
//!
//! Rounding of floating-point sums: here the sum starts with `c`. The products are added one after
//! another in the order of the summed dimension, each with one rounding to nearest (a fused
//! multiply-add in f32). Hardware adds several products (4, 8 or 16, by architecture and type) and
//! the current sum at a time. It aligns them to the largest exponent among them and truncates below
//! about the 24th bit; their grouping and order are not specified. With `k` products either result
//! differs from the exact sum by at most `k * 2^-22 * (|c| + the sum of |a * b|)` (and by `k *
//! 2^-149`, where subnormal numbers are lost). A test that compares the two may therefore allow
//! twice that, over all products of a sum across several instructions.
//!
//! Sums in f16 are computed in the same way in f32 and rounded once, to nearest, at the end of each
//! instruction. NaN is 0x7fffffff (0x7fff in f16). Integers are exact.
use crate::exec::instructions::float::canonical;
use crate::exec::instructions::fp8;
use crate::exec::instructions::isa::{Isa, Matrices};
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::any_bits;
use crate::exec::machine::softfloat::f32_to_f16;
use crate::exec::machine::warp::Warp;
use crate::ir::{Fp8, MatrixSum, MatrixTy, Mma, Op, Reg};
use crate::report::FaultKind;
use crate::sanitizer::{Outcome, UnlocatedFault};
use std::hint::black_box;

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Mma { mma, d, a, b } => {
            all_lanes(m)?;
            I::mma(w, mma, d, a, b);
        }
        Op::LdMatrix {
            count,
            trans,
            generic,
            d,
            addr,
        } => {
            let kind = Matrices {
                count,
                trans,
                generic,
            };
            I::ldmatrix(cx, w, m, kind, d, addr)?;
        }
        _ => return rare::<I>(cx, w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::StMatrix {
            count,
            trans,
            generic,
            src,
            addr,
        } => {
            let kind = Matrices {
                count,
                trans,
                generic,
            };
            I::stmatrix(cx, w, m, kind, src, addr)?;
        }
        Op::MovMatrix { d, a } => {
            all_lanes(m)?;
            transpose(w, d, a);
        }
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Rows of the left matrix and of the accumulators.
const ROWS: usize = 16;
/// Columns of the right matrix and of the accumulators. A vector of accumulators has them in the
/// order 0, 2, 4, 6, 1, 3, 5, 7. So accumulator fragments are contiguous in it, and fragments of
/// the right matrix need only exchanges within halves of vectors.
const COLUMNS: usize = 8;

/// The fault of an instruction that all lanes of the warp must execute, if some do not.
#[inline(always)]
pub(crate) fn all_lanes(m: u32) -> Outcome {
    if m == u32::MAX {
        return Ok(());
    }
    let lane = m.trailing_zeros() as usize;
    Err(UnlocatedFault::lane(
        lane,
        FaultKind::MissingLanes { active: m },
    ))
}

/// `mma`, by all lanes.
#[inline(always)]
pub(crate) fn mma(w: &mut Warp, mma: Mma, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2]) {
    if adds_nothing(w, mma, d, a, b) {
        return;
    }
    // Two copies of the call, so that loops have constant lengths.
    if mma.words == 4 {
        product(w, mma, d, &a[..2], &b[..1]);
    } else {
        product(w, mma, d, &a, &b);
    }
}

/// Returns whether adding the product changes no bit of the accumulators. One factor must be zero
/// and the other finite. No accumulator may be a NaN, which would become canonical, or -0, which
/// would become 0. Partly filled tiles have many such products.
#[inline(always)]
fn adds_nothing(w: &Warp, mma: Mma, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2]) -> bool {
    // Masks of a word's bits without signs, and of its exponents.
    let (numbers, exponents) = match mma.a {
        MatrixTy::F16 => (0x7fff_7fff, [0x7c00, 0x7c00_0000]),
        MatrixTy::Bf16 => (0x7fff_7fff, [0x7f80, 0x7f80_0000]),
        MatrixTy::Tf32 => (0x7fff_e000, [0x7f80_0000; 2]),
        _ => return false,
    };
    let (a, b) = if mma.words == 4 {
        (&a[..2], &b[..1])
    } else {
        (&a[..], &b[..])
    };
    let zero = match (is_zero(w, a, numbers), is_zero(w, b, numbers)) {
        (false, false) => return false,
        (true, false) => is_finite(w, b, exponents),
        (false, true) => is_finite(w, a, exponents),
        (true, true) => true,
    };
    zero && if mma.sum == MatrixSum::F16 {
        keep_halves(w, &d[..2])
    } else {
        keep_words(w, &d)
    }
}

/// Returns whether no register has a bit of a mask set.
#[inline(always)]
fn is_zero(w: &Warp, regs: &[Reg], mask: u32) -> bool {
    for &reg in regs {
        // The first register usually decides.
        if any_bits(w.u32s(reg)) & mask != 0 {
            return false;
        }
    }
    true
}

/// Returns whether no number has an exponent of all ones.
#[inline(always)]
fn is_finite(w: &Warp, regs: &[Reg], [low, high]: [u32; 2]) -> bool {
    let mut special = 0;
    for &reg in regs {
        for &word in w.u32s(reg) {
            special |= u32::from(word & low == low) | u32::from(word & high == high);
        }
    }
    special == 0
}

/// Returns whether adding zero leaves f32 accumulators unchanged.
#[inline(always)]
pub(crate) fn keep_words(w: &Warp, sums: &[Reg]) -> bool {
    let mut changed = 0;
    for &reg in sums {
        for &word in w.u32s(reg) {
            let magnitude = word & 0x7fff_ffff;
            changed |= u32::from(magnitude > 0x7f80_0000) | u32::from(word == 1 << 31);
        }
    }
    changed == 0
}

/// Returns whether adding zero leaves f16 accumulators, two per word, unchanged.
#[inline(always)]
pub(crate) fn keep_halves(w: &Warp, sums: &[Reg]) -> bool {
    let mut changed = 0;
    for &reg in sums {
        for &word in w.u32s(reg) {
            let (low, high) = (word << 16, word & 0xffff_0000);
            let special = |half: u32| half & 0x7fff_ffff > 0x7c00_0000;
            changed |= u32::from(special(low)) | u32::from(special(high));
            changed |= u32::from(low == 1 << 31) | u32::from(high == 1 << 31);
        }
    }
    changed == 0
}

#[inline(always)]
fn product(w: &mut Warp, mma: Mma, d: [Reg; 4], a: &[Reg], b: &[Reg]) {
    match mma.a {
        MatrixTy::F16 => {
            let part = |word: u32, part: u32| half_value(word >> (16 * part));
            float::<2>(w, mma.sum, d, split(w, a, b, part));
        }
        MatrixTy::Bf16 => {
            let part = |word: u32, part: u32| f32::from_bits(word >> (16 * part) << 16);
            float::<2>(w, mma.sum, d, split(w, a, b, part));
        }
        MatrixTy::Tf32 => {
            let part = |word: u32, _| f32::from_bits(word & !0x1fff);
            float::<1>(w, mma.sum, d, split(w, a, b, part));
        }
        MatrixTy::E4m3 | MatrixTy::E5m2 => {
            let part = |ty: MatrixTy| {
                let ty = match ty {
                    MatrixTy::E4m3 => Fp8::E4m3,
                    _ => Fp8::E5m2,
                };
                move |word: u32, part: u32| fp8::value(ty, word >> (8 * part))
            };
            let left = split::<f32, 4>(w, a, &[], part(mma.a));
            let right = split::<f32, 4>(w, &[], b, part(mma.b));
            let both = Factors {
                left: left.left,
                ..right
            };
            float::<4>(w, mma.sum, d, both);
        }
        MatrixTy::S8 | MatrixTy::U8 => integer::<4>(w, mma, d, a, b),
        MatrixTy::S4 | MatrixTy::U4 => integer::<8>(w, mma, d, a, b),
    }
}

/// The value of the low half of a word, exactly. NaN stays NaN.
#[inline(always)]
pub(crate) fn half_value(word: u32) -> f32 {
    // As bits of an f32 the exponent is 112 too small, also for a subnormal number.
    let scaled = f32::from_bits((word & 0x7fff) << 13) * f32::from_bits((112 + 127) << 23);
    let special = if word & 0x7c00 == 0x7c00 {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(scaled.to_bits() | special | (word & 0x8000) << 16)
}

/// The elements of both matrices, `PARTS` per word.
struct Factors<T, const PARTS: usize> {
    /// Registers along the summed dimension: 1 or 2.
    halves: usize,
    /// Indexed by half of the summed dimension, half of the rows, part of the word: as in the
    /// register, element `4 * row + word`.
    left: [[[[T; 32]; PARTS]; 2]; 2],
    /// Indexed by half of the summed dimension, part of the word: element `8 * word + column`.
    right: [[[T; 32]; PARTS]; 2],
}

/// Splits the factors' registers into elements.
#[inline(always)]
fn split<T: Copy + Default, const PARTS: usize>(
    w: &Warp,
    a: &[Reg],
    b: &[Reg],
    part: impl Fn(u32, u32) -> T,
) -> Factors<T, PARTS> {
    let mut out = Factors {
        halves: b.len(),
        left: [[[[T::default(); 32]; PARTS]; 2]; 2],
        right: [[[T::default(); 32]; PARTS]; 2],
    };
    for (at, &reg) in a.iter().enumerate() {
        let words = w.u32s(reg);
        for (i, out) in out.left[at / 2][at % 2].iter_mut().enumerate() {
            for lane in 0..32 {
                out[lane] = part(words[lane], i as u32);
            }
        }
    }
    for (at, &reg) in b.iter().enumerate() {
        // Forced into memory: otherwise the compiler gathers the elements one by one at their use.
        let words = black_box(turned(w.u32s(reg)));
        for (i, out) in out.right[at].iter_mut().enumerate() {
            for lane in 0..32 {
                out[lane] = part(words[lane], i as u32);
            }
        }
    }
    out
}

/// Transposes a register of the right matrix from element `4 * column + word` to element
/// `8 * word + column`.
#[inline(always)]
fn turned(words: &[u32; 32]) -> [u32; 32] {
    let mut out = [0; 32];
    for word in 0..4 {
        for column in 0..COLUMNS {
            out[COLUMNS * word + column] = words[8 * (column % 4) + 4 * (column / 4) + word];
        }
    }
    out
}

/// Adds the product of matrices of floating-point numbers.
#[inline(always)]
fn float<const PARTS: usize>(
    w: &mut Warp,
    sum: MatrixSum,
    d: [Reg; 4],
    factors: Factors<f32, PARTS>,
) {
    // Forced into memory, for the same reason.
    let factors = black_box(&factors);
    let packed = sum == MatrixSum::F16;
    let mut sums = if packed {
        sums_of_pairs(w, d)
    } else {
        sums_of_words(w, d)
    };
    // Four rows at a time share the loads of the right matrix.
    for (block, rows) in sums.chunks_exact_mut(4).enumerate() {
        let mut four = [[0f32; COLUMNS]; 4];
        for (sums, row) in four.iter_mut().zip(&*rows) {
            *sums = row.map(f32::from_bits);
        }
        for half in 0..factors.halves {
            for word in 0..4 {
                for part in 0..PARTS {
                    let right = &factors.right[half][part][COLUMNS * word..][..COLUMNS];
                    let left = &factors.left[half][block / 2][part][16 * (block % 2)..][..16];
                    for row in 0..4 {
                        for column in 0..COLUMNS {
                            four[row][column] =
                                left[4 * row + word].mul_add(right[column], four[row][column]);
                        }
                    }
                }
            }
        }
        for (row, sums) in rows.iter_mut().zip(&four) {
            *row = sums.map(canonical);
        }
    }
    if packed {
        put_pairs(w, d, &sums);
    } else {
        put_words(w, d, &sums);
    }
}

/// The accumulators of one register each, by rows.
#[inline(always)]
fn sums_of_words(w: &Warp, d: [Reg; 4]) -> [[u32; COLUMNS]; ROWS] {
    let mut out = [[0; COLUMNS]; ROWS];
    for upper in 0..2 {
        let (even, odd) = (w.u32s(d[2 * upper]), w.u32s(d[2 * upper + 1]));
        for group in 0..8 {
            let row = &mut out[8 * upper + group];
            row[..4].copy_from_slice(&even[4 * group..][..4]);
            row[4..].copy_from_slice(&odd[4 * group..][..4]);
        }
    }
    out
}

/// Writes accumulators of one register each.
#[inline(always)]
fn put_words(w: &mut Warp, d: [Reg; 4], sums: &[[u32; COLUMNS]; ROWS]) {
    for upper in 0..2 {
        for odd in 0..2 {
            let target = w.u32s_mut(d[2 * upper + odd]);
            for group in 0..8 {
                target[4 * group..][..4].copy_from_slice(&sums[8 * upper + group][4 * odd..][..4]);
            }
        }
    }
}

/// The accumulators of registers with pairs of f16, as f32, by rows.
#[inline(always)]
fn sums_of_pairs(w: &Warp, d: [Reg; 4]) -> [[u32; COLUMNS]; ROWS] {
    let mut out = [[0; COLUMNS]; ROWS];
    for upper in 0..2 {
        let words = w.u32s(d[upper]);
        for group in 0..8 {
            let row = &mut out[8 * upper + group];
            for t in 0..4 {
                let word = words[4 * group + t];
                row[t] = half_value(word).to_bits();
                row[t + 4] = half_value(word >> 16).to_bits();
            }
        }
    }
    out
}

/// Rounds accumulators to f16 and writes them in pairs.
#[inline(always)]
fn put_pairs(w: &mut Warp, d: [Reg; 4], sums: &[[u32; COLUMNS]; ROWS]) {
    for upper in 0..2 {
        let target = w.u32s_mut(d[upper]);
        for group in 0..8 {
            let row = &sums[8 * upper + group];
            for t in 0..4 {
                target[4 * group + t] = f32_to_f16(row[t]) | f32_to_f16(row[t + 4]) << 16;
            }
        }
    }
}

/// Adds the product of matrices of integers.
#[inline(always)]
fn integer<const PARTS: usize>(w: &mut Warp, mma: Mma, d: [Reg; 4], a: &[Reg], b: &[Reg]) {
    let bits = 32 / PARTS as u32;
    let value = |signed: bool, word: u32, i: u32| {
        let top = word << (32 - bits - bits * i);
        if signed {
            top.cast_signed() >> (32 - bits)
        } else {
            (top >> (32 - bits)).cast_signed()
        }
    };
    let signed = |ty: MatrixTy| matches!(ty, MatrixTy::S8 | MatrixTy::S4);
    let (a_signed, b_signed) = (signed(mma.a), signed(mma.b));
    let left: Factors<i32, PARTS> = split(w, a, &[], |word, i| value(a_signed, word, i));
    let right: Factors<i32, PARTS> = split(w, &[], b, |word, i| value(b_signed, word, i));
    let mut sums = sums_of_words(w, d);
    for (row, sums) in sums.iter_mut().enumerate() {
        // Sixty-four products of 16 bits cannot overflow.
        let mut products = [0i32; COLUMNS];
        for half in 0..right.halves {
            for word in 0..4 {
                for part in 0..PARTS {
                    let left = left.left[half][row / 8][part][4 * (row % 8) + word];
                    let right = &right.right[half][part][COLUMNS * word..][..COLUMNS];
                    for (product, right) in products.iter_mut().zip(right) {
                        *product += left * right;
                    }
                }
            }
        }
        for (sum, product) in sums.iter_mut().zip(products) {
            let old = sum.cast_signed();
            let new = if mma.sum == MatrixSum::S32Sat {
                old.saturating_add(product)
            } else {
                old.wrapping_add(product)
            };
            *sum = new.cast_unsigned();
        }
    }
    put_words(w, d, &sums);
}

/// `movmatrix`, by all lanes.
pub(crate) fn transpose(w: &mut Warp, d: Reg, a: Reg) {
    let rows = *w.u32s(a);
    *w.u32s_mut(d) = transposed(&rows);
}

/// Transposes a matrix of eight rows of four words, as 8x8 halves.
#[inline(always)]
pub(crate) fn transposed(words: &[u32; 32]) -> [u32; 32] {
    let half =
        |row: usize, column: usize| words[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
    let mut out = [0; 32];
    for row in 0..8 {
        for pair in 0..4 {
            out[4 * row + pair] = half(2 * pair, row) | half(2 * pair + 1, row) << 16;
        }
    }
    out
}

#[cfg(test)]
mod tests;
