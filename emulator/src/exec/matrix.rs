//! Matrix products of a warp.
//!
//! How sums of floating-point products round: here the sum begins with `c`, and the products are added one after the
//! other in the order of the summed dimension, each with one rounding to nearest (a fused multiply-add in f32).
//! Hardware adds some of the products (4, 8 or 16 of them, by architecture and type) and the sum so far at a time, all
//! shifted to the largest exponent among them and cut off below about the 24th bit; which ones, and in what order it
//! takes them, is not specified. With `k` products either differs from the exact sum by at most
//! `k * 2^-22 * (|c| + the sum of |a * b|)` (and by `k * 2^-149`, where subnormal numbers are lost). So a test that
//! compares the two may allow twice that, over all products of a sum that goes through several instructions.
//!
//! Sums in f16 are formed like that in f32 and rounded once, to nearest, at the end of each instruction. NaN is
//! 0x7fffffff (0x7fff in f16). Integers are exact.
use super::float::canonical;
use super::soft::{bf16_to_f32, f16_to_f32, f32_to_f16};
use super::warp::Warp;
use crate::check::{Outcome, Trouble};
use crate::ir::{MatrixSum, MatrixTy, Mma, Reg};
use crate::report::FaultKind;

/// Rows of the left matrix and of the sums.
const ROWS: usize = 16;
/// Columns of the right matrix and of the sums, a vector of which is in this order: 0, 2, 4, 6, 1, 3, 5, 7. So the
/// fragments of the sums are stretches of it, and those of the right matrix come into it by exchanges within halves
/// of vectors.
const COLUMNS: usize = 8;

/// The fault of an instruction that all lanes of the warp must execute, if not all do.
#[inline(always)]
pub(crate) fn all_lanes(m: u32) -> Outcome {
    if m == u32::MAX {
        return Ok(());
    }
    let lane = m.trailing_zeros() as usize;
    Err(Trouble::lane(lane, FaultKind::MissingLanes { active: m }))
}

/// `mma`, by all lanes.
#[inline(always)]
pub(crate) fn mma(w: &mut Warp, mma: Mma, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2]) {
    let f16 = |word: u32, part: usize| f16_to_f32(word >> (16 * part) & 0xffff);
    let bf16 = |word: u32, part: usize| bf16_to_f32(word >> (16 * part) & 0xffff);
    let tf32 = |word: u32, _| word & !0x1fff;
    match (mma.a, mma.words) {
        (MatrixTy::F16, 4) => float::<1, 8>(w, mma.sum, d, a, b, f16),
        (MatrixTy::F16, _) => float::<2, 16>(w, mma.sum, d, a, b, f16),
        (MatrixTy::Bf16, 4) => float::<1, 8>(w, mma.sum, d, a, b, bf16),
        (MatrixTy::Bf16, _) => float::<2, 16>(w, mma.sum, d, a, b, bf16),
        (MatrixTy::Tf32, 4) => float::<1, 4>(w, mma.sum, d, a, b, tf32),
        (MatrixTy::Tf32, _) => float::<2, 8>(w, mma.sum, d, a, b, tf32),
        _ => integer(w, mma, d, a, b),
    }
}

/// The product of matrices whose fragments have `2 * HALVES` and `HALVES` registers, with `DEPTH` elements along the
/// summed dimension. `part` gives the bits of an element of a word as f32.
#[inline(always)]
fn float<const HALVES: usize, const DEPTH: usize>(
    w: &mut Warp,
    sum: MatrixSum,
    d: [Reg; 4],
    a: [Reg; 4],
    b: [Reg; 2],
    part: impl Fn(u32, usize) -> u32,
) {
    let value = |word: u32, i: usize| f32::from_bits(part(word, i));
    let left = left::<HALVES, DEPTH, f32>(w, a, value);
    let right = right::<HALVES, DEPTH, f32>(w, b, value);
    let packed = sum == MatrixSum::F16;
    let mut sums = if packed {
        sums_of_pairs(w, d)
    } else {
        sums_of_words(w, d).map(|row| row.map(f32::from_bits))
    };
    // Four rows at a time share what is loaded of the right matrix.
    for (sums, left) in sums.chunks_exact_mut(4).zip(left.chunks_exact(4)) {
        let mut four = [[0f32; COLUMNS]; 4];
        four.copy_from_slice(sums);
        for k in 0..DEPTH {
            for row in 0..4 {
                for column in 0..COLUMNS {
                    four[row][column] = left[row][k].mul_add(right[k][column], four[row][column]);
                }
            }
        }
        sums.copy_from_slice(&four);
    }
    if packed {
        put_pairs(w, d, &sums);
    } else {
        put_words(w, d, &sums.map(|row| row.map(canonical)));
    }
}

/// The left matrix, by rows.
#[inline(always)]
fn left<const HALVES: usize, const DEPTH: usize, T: Copy + Default>(
    w: &Warp,
    a: [Reg; 4],
    part: impl Fn(u32, usize) -> T,
) -> [[T; DEPTH]; ROWS] {
    let per_word = DEPTH / (4 * HALVES);
    let mut out = [[T::default(); DEPTH]; ROWS];
    for half in 0..HALVES {
        for upper in 0..2 {
            let words = w.u32s(a[2 * half + upper]);
            for group in 0..8 {
                let row = &mut out[8 * upper + group][half * 4 * per_word..][..4 * per_word];
                for i in 0..4 * per_word {
                    row[i] = part(words[4 * group + i / per_word], i % per_word);
                }
            }
        }
    }
    out
}

/// The right matrix, by rows.
#[inline(always)]
fn right<const HALVES: usize, const DEPTH: usize, T: Copy + Default>(
    w: &Warp,
    b: [Reg; 2],
    part: impl Fn(u32, usize) -> T,
) -> [[T; COLUMNS]; DEPTH] {
    let per_word = DEPTH / (4 * HALVES);
    let mut out = [[T::default(); COLUMNS]; DEPTH];
    for half in 0..HALVES {
        let words = w.u32s(b[half]);
        for i in 0..4 * per_word {
            for column in 0..COLUMNS {
                let word = words[8 * (column % 4) + 4 * (column / 4) + i / per_word];
                out[half * 4 * per_word + i][column] = part(word, i % per_word);
            }
        }
    }
    out
}

/// The sums, by rows, a register each.
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

/// Writes the sums likewise.
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

/// The sums, by rows, of registers with pairs of f16.
#[inline(always)]
fn sums_of_pairs(w: &Warp, d: [Reg; 4]) -> [[f32; COLUMNS]; ROWS] {
    let mut out = [[0.0; COLUMNS]; ROWS];
    for upper in 0..2 {
        let words = w.u32s(d[upper]);
        for group in 0..8 {
            for t in 0..4 {
                let word = words[4 * group + t];
                let row = &mut out[8 * upper + group];
                row[t] = f32::from_bits(f16_to_f32(word & 0xffff));
                row[t + 4] = f32::from_bits(f16_to_f32(word >> 16));
            }
        }
    }
    out
}

/// Rounds the sums and writes them likewise.
#[inline(always)]
fn put_pairs(w: &mut Warp, d: [Reg; 4], sums: &[[f32; COLUMNS]; ROWS]) {
    for upper in 0..2 {
        let target = w.u32s_mut(d[upper]);
        for group in 0..8 {
            let row = &sums[8 * upper + group];
            for t in 0..4 {
                let (low, high) = (row[t].to_bits(), row[t + 4].to_bits());
                target[4 * group + t] = f32_to_f16(low) | f32_to_f16(high) << 16;
            }
        }
    }
}

/// The product of integer matrices.
#[inline(always)]
fn integer(w: &mut Warp, mma: Mma, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2]) {
    match (mma.a.bits(), mma.words) {
        (8, 4) => integer_of::<1, 16>(w, mma, d, a, b),
        (8, _) => integer_of::<2, 32>(w, mma, d, a, b),
        (_, 4) => integer_of::<1, 32>(w, mma, d, a, b),
        _ => integer_of::<2, 64>(w, mma, d, a, b),
    }
}

#[inline(always)]
fn integer_of<const HALVES: usize, const DEPTH: usize>(
    w: &mut Warp,
    mma: Mma,
    d: [Reg; 4],
    a: [Reg; 4],
    b: [Reg; 2],
) {
    let bits = mma.a.bits();
    let part = |signed: bool| {
        move |word: u32, i: usize| {
            let top = word << (32 - bits - bits * i as u32);
            if signed {
                top.cast_signed() >> (32 - bits)
            } else {
                (top >> (32 - bits)).cast_signed()
            }
        }
    };
    let signed = |ty: MatrixTy| matches!(ty, MatrixTy::S8 | MatrixTy::S4);
    let left = left::<HALVES, DEPTH, i32>(w, a, part(signed(mma.a)));
    let right = right::<HALVES, DEPTH, i32>(w, b, part(signed(mma.b)));
    let mut sums = sums_of_words(w, d);
    for (sums, left) in sums.iter_mut().zip(&left) {
        // Sixty-four products of 16 bits do not overflow.
        let mut products = [0i32; COLUMNS];
        for k in 0..DEPTH {
            for column in 0..COLUMNS {
                products[column] += left[k] * right[k][column];
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

/// A matrix of eight rows of four words, transposed as one of eight times eight halves.
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
