//! Arithmetic of a warpgroup's matrix products.
//!
//! Sums round as those of `mma.sync` do, see [`crate::exec::instructions::matrix`]: products are
//! added in the order of the summed dimension, each with one rounding to nearest.
//!
//! In partly filled tiles most rows or columns are zero. Their products are left out where that
//! changes no bit.
use crate::exec::instructions::float::canonical;
use crate::exec::instructions::matrix::{half_value, keep_halves, keep_words};
use crate::exec::machine::softfloat::f32_to_f16;
use crate::exec::machine::warp::Warp;
use crate::exec::machine::wgmma_state::Factors;
use crate::ir::{MatrixSum, Reg};

/// Eight lanes, a vector of the host's processor.
#[derive(Clone, Copy)]
struct Eight([f32; 8]);

impl Eight {
    #[inline(always)]
    fn of(values: &[f32], octet: usize) -> Eight {
        let mut out = [0.0; 8];
        out.copy_from_slice(&values[8 * octet..8 * octet + 8]);
        Eight(out)
    }

    #[inline(always)]
    fn bits(row: &[u32; 32], octet: usize) -> Eight {
        Eight(std::array::from_fn(|i| f32::from_bits(row[8 * octet + i])))
    }

    /// `self + a * b`
    #[inline(always)]
    fn plus(self, a: Eight, b: Eight) -> Eight {
        Eight(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
    }

    #[inline(always)]
    fn put(self, row: &mut [u32; 32], octet: usize) {
        for i in 0..8 {
            row[8 * octet + i] = canonical(self.0[i]);
        }
    }
}

/// Completes a part of a product that adds nothing: without `keep` its accumulators become 0,
/// otherwise they stay if adding 0 changes none of them (`unchanged`). Returns whether it did.
/// A closure in place of `unchanged` would be compiled without wide vectors.
#[inline(always)]
fn is_done(w: &mut Warp, regs: &[Reg], keep: bool, unchanged: bool) -> bool {
    if !keep {
        for &reg in regs {
            *w.u32s_mut(reg) = [0; 32];
        }
    }
    !keep || unchanged
}

/// Adds a warp's part of the product to its accumulators, or overwrites them.
#[inline(always)]
pub(crate) fn multiply(w: &mut Warp, sums: &[Reg], factors: &Factors, warp: usize, keep: bool) {
    let depth = factors.depth;
    for half in 0..2 {
        let left = &factors.left[(2 * warp + half) * depth..][..depth];
        // Two registers of adjacent columns at a time share the loads of the left matrix.
        for (j, four) in sums.chunks_exact(4).enumerate() {
            let regs = [four[2 * half], four[2 * half + 1]];
            let place = (2 * warp + half, j);
            if factors.adds_nothing(place) && is_done(w, &regs, keep, keep_words(w, &regs)) {
                continue;
            }
            let right = &factors.right[2 * j * depth..][..2 * depth];
            let before = regs.map(|reg| if keep { *w.u32s(reg) } else { [0; 32] });
            let after = pair(before, left, right.split_at(depth));
            for (reg, row) in regs.into_iter().zip(after) {
                *w.u32s_mut(reg) = row;
            }
        }
    }
}

/// The same with 16-bit accumulators: computed in f32, rounded once.
#[inline(always)]
pub(crate) fn multiply_half(
    w: &mut Warp,
    sums: &[Reg],
    factors: &Factors,
    warp: usize,
    keep: bool,
) {
    let depth = factors.depth;
    for (i, &reg) in sums.iter().enumerate() {
        let (j, half) = (i / 2, i % 2);
        let place = (2 * warp + half, j);
        if factors.adds_nothing(place) && is_done(w, &[reg], keep, keep_halves(w, &[reg])) {
            continue;
        }
        let left = &factors.left[(2 * warp + half) * depth..][..depth];
        let right = &factors.right[2 * j * depth..][..2 * depth];
        let row = *w.u32s(reg);
        let before = [0, 16].map(|shift| match keep {
            true => row.map(|word| half_value(word >> shift & 0xffff).to_bits()),
            false => [0; 32],
        });
        let [even, odd] = pair(before, left, right.split_at(depth));
        let row = w.u32s_mut(reg);
        for (lane, word) in row.iter_mut().enumerate() {
            *word = f32_to_f16(odd[lane]) << 16 | f32_to_f16(even[lane]);
        }
    }
}

/// The same with integers, which are exact.
#[inline(always)]
pub(crate) fn multiply_integers(
    w: &mut Warp,
    sums: &[Reg],
    factors: &Factors,
    warp: usize,
    (keep, sum): (bool, MatrixSum),
) {
    let depth = factors.depth;
    for (i, &reg) in sums.iter().enumerate() {
        let (j, half, e) = (i / 4, i / 2 % 2, i % 2);
        let place = (2 * warp + half, j);
        if factors.adds_nothing(place) && is_done(w, &[reg], keep, true) {
            continue;
        }
        let left = &factors.left[(2 * warp + half) * depth..][..depth];
        let right = &factors.right[(2 * j + e) * depth..][..depth];
        // Thirty-two products of 16 bits cannot overflow.
        let mut products = [0i32; 32];
        for (left, right) in left.iter().zip(right) {
            for (lane, product) in products.iter_mut().enumerate() {
                *product += left[lane] as i32 * right[lane % 8] as i32;
            }
        }
        for (word, product) in w.u32s_mut(reg).iter_mut().zip(products) {
            let old = if keep { word.cast_signed() } else { 0 };
            let new = match sum {
                MatrixSum::S32Sat => old.saturating_add(product),
                _ => old.wrapping_add(product),
            };
            *word = new.cast_unsigned();
        }
    }
}

/// Accumulators of two registers. The eight vectors are separate variables so that they stay in
/// registers of the host's processor.
#[inline(always)]
fn pair(
    [first, second]: [[u32; 32]; 2],
    left: &[[f32; 32]],
    (even, odd): (&[[f32; 8]], &[[f32; 8]]),
) -> [[u32; 32]; 2] {
    let (mut a0, mut a1) = (Eight::bits(&first, 0), Eight::bits(&first, 1));
    let (mut a2, mut a3) = (Eight::bits(&first, 2), Eight::bits(&first, 3));
    let (mut b0, mut b1) = (Eight::bits(&second, 0), Eight::bits(&second, 1));
    let (mut b2, mut b3) = (Eight::bits(&second, 2), Eight::bits(&second, 3));
    for ((left, even), odd) in left.iter().zip(even).zip(odd) {
        let (even, odd) = (Eight(*even), Eight(*odd));
        let (l0, l1) = (Eight::of(left, 0), Eight::of(left, 1));
        let (l2, l3) = (Eight::of(left, 2), Eight::of(left, 3));
        (a0, b0) = (a0.plus(l0, even), b0.plus(l0, odd));
        (a1, b1) = (a1.plus(l1, even), b1.plus(l1, odd));
        (a2, b2) = (a2.plus(l2, even), b2.plus(l2, odd));
        (a3, b3) = (a3.plus(l3, even), b3.plus(l3, odd));
    }
    [[a0, a1, a2, a3], [b0, b1, b2, b3]].map(|sums| {
        let mut row = [0; 32];
        for (octet, sum) in sums.into_iter().enumerate() {
            sum.put(&mut row, octet);
        }
        row
    })
}

#[cfg(test)]
mod tests;
