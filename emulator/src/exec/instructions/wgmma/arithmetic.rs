//! Arithmetic of a warpgroup's matrix products, and the layout of their operands in shared memory.
//!
//! Sums round as those of `mma.sync` do, see [`crate::exec::instructions::matrix`]: products are
//! added in the order of the summed dimension, each with one rounding to nearest.
use crate::exec::instructions::float::canonical;
use crate::exec::instructions::fp8;
use crate::exec::instructions::matrix::half_value;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::softfloat::f32_to_f16;
use crate::exec::machine::warp::Warp;
use crate::exec::machine::wgmma_state::Factors;
use crate::exec::memory::shared::{actor, byte_slice};
use crate::ir::{Fp8, MatrixSum, MatrixTy, Reg, Space, Wgmma};
use crate::report::{AccessKind, AsyncFault, FaultKind};
use crate::sanitizer::async_proxy::AsyncReader;
use crate::sanitizer::{Outcome, UnlocatedFault};
use crate::tensor_map::Swizzle;

/// Rows of the left matrix.
const ROWS: usize = 64;

/// A matrix in shared memory, as given by its descriptor.
///
/// Memory is divided into chunks of 16 bytes. Rows (of the left matrix; columns of the right one)
/// come in groups of eight. If the summed dimension is contiguous (`!transposed`), a row has two
/// chunks. Otherwise a chunk has adjacent rows, and there is one chunk per position along the
/// summed dimension.
#[derive(Clone, Copy)]
struct Matrix {
    start: u32,
    /// The descriptor's leading and stride byte offsets.
    leading: u32,
    stride: u32,
    swizzle: Swizzle,
    transposed: bool,
}

impl Matrix {
    fn new(descriptor: u64, transposed: bool) -> Result<Matrix, Box<UnlocatedFault>> {
        let field = |at: u32| (descriptor >> at & 0x3fff) as u32 * 16;
        if descriptor >> 49 & 7 != 0 {
            let fault = AsyncFault::BaseOffset { descriptor };
            return Err(UnlocatedFault::warp(fault.into()));
        }
        Ok(Matrix {
            start: field(0),
            leading: field(16),
            stride: field(32),
            swizzle: match descriptor >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
            transposed,
        })
    }

    /// The address of a chunk: the `k`-th of row `row` or, transposed, that of the `row`-th group
    /// of eight rows at position `k`.
    fn piece(&self, row: u32, k: u32) -> u32 {
        let span = self.swizzle.span();
        let offset = match (self.transposed, self.swizzle) {
            (false, Swizzle::None) => row % 8 * 16 + row / 8 * self.stride + k * self.leading,
            (false, _) => row % 8 * span + row / 8 * self.stride + k * 16,
            (true, Swizzle::None) => row * self.stride + k % 8 * 16 + k / 8 * self.leading,
            (true, _) => {
                let pieces = span / 16;
                row % pieces * 16 + row / pieces * self.leading + k % 8 * span + k / 8 * self.stride
            }
        };
        self.swizzle
            .apply(self.start.wrapping_add(offset) & 0x3_ffff)
    }
}

/// Converts the elements of a chunk.
#[inline(always)]
fn elements(ty: MatrixTy, piece: &[u8; 16], negate: bool, out: &mut [f32; 16]) -> usize {
    let sign = if negate { 1 << 31 } else { 0 };
    let word = |i: usize| {
        u32::from_le_bytes([
            piece[4 * i],
            piece[4 * i + 1],
            piece[4 * i + 2],
            piece[4 * i + 3],
        ])
    };
    let flip = |value: f32| f32::from_bits(value.to_bits() ^ sign);
    if ty.bits() == 8 {
        for (out, &byte) in out.iter_mut().zip(piece) {
            *out = flip(byte_value(ty, byte));
        }
        return 16;
    }
    if ty == MatrixTy::Tf32 {
        for (i, out) in out.iter_mut().enumerate().take(4) {
            *out = flip(f32::from_bits(word(i) & !0x1fff));
        }
        return 4;
    }
    for i in 0..4 {
        let words = [word(i), word(i) >> 16];
        for (part, word) in words.into_iter().enumerate() {
            out[2 * i + part] = flip(match ty {
                MatrixTy::F16 => half_value(word),
                _ => f32::from_bits(word << 16),
            });
        }
    }
    8
}

/// Converts an 8-bit element.
#[inline(always)]
fn byte_value(ty: MatrixTy, byte: u8) -> f32 {
    match ty {
        MatrixTy::E4m3 => fp8::value(Fp8::E4m3, byte.into()),
        MatrixTy::E5m2 => fp8::value(Fp8::E5m2, byte.into()),
        MatrixTy::S8 => f32::from(byte.cast_signed()),
        _ => f32::from(byte),
    }
}

/// Reads a matrix of `rows` rows (or columns) of one product and calls `each` with row, position
/// and value.
#[inline(always)]
fn read(
    cx: &mut Context,
    w: &Warp,
    matrix: Matrix,
    (rows, ty, negate): (u32, MatrixTy, bool),
    time: u32,
    mut each: impl FnMut(usize, usize, f32),
) -> Outcome {
    let group = w.own / 4;
    let mut check = AsyncReader::new(w.index..w.index + 4, &cx.fences, actor(w, 0, false));
    let depth = 256 / ty.bits();
    let (outer, inner) = if matrix.transposed {
        (rows / 8, depth)
    } else {
        (rows, 2)
    };
    let shift = cx.shared.shadow.shift;
    let mut values = [0f32; 16];
    for row in 0..outer {
        for k in 0..inner {
            let at = matrix.piece(row, k);
            let bytes = byte_slice(&cx.shared.words).get(at as usize..);
            let Some(&piece) = bytes
                .and_then(|bytes| bytes.first_chunk::<16>())
                .filter(|_| at + 16 <= cx.shared.bytes)
            else {
                let touch = touch(AccessKind::Read, Space::Shared, at.into(), 16);
                let nearest = cx.shared_region(at.into());
                return Err(UnlocatedFault::warp(FaultKind::OutOfBounds {
                    touch,
                    nearest,
                }));
            };
            for unit in at >> shift..(at + 16) >> shift {
                let read = cx
                    .shared
                    .shadow
                    .read_async(unit as usize, &cx.order, &mut check);
                if let Err(conflict) = read {
                    let touch = touch(AccessKind::Read, Space::Shared, at.into(), 16);
                    let unit = u64::from(unit) << shift;
                    let mut trouble = cx.shared_trouble(conflict, touch, unit, &check.actor);
                    trouble.lane = None;
                    return Err(trouble);
                }
            }
            cx.shared
                .shadow
                .note_async_read(at as usize / 16, group as usize, time);
            let count = elements(ty, &piece, negate, &mut values);
            for (i, &value) in values.iter().enumerate().take(count) {
                if matrix.transposed {
                    each(8 * row as usize + i, k as usize, value);
                } else {
                    each(row as usize, count * k as usize + i, value);
                }
            }
        }
    }
    Ok(())
}

/// Reads the right matrix from shared memory.
pub(crate) fn load_right(
    cx: &mut Context,
    w: &Warp,
    factors: &mut Factors,
    wgmma: Wgmma,
    descriptor: u64,
    time: u32,
) -> Outcome {
    let matrix = Matrix::new(descriptor, wgmma.transpose_b)?;
    let what = (u32::from(wgmma.columns), wgmma.ty_b, wgmma.negate_b);
    read(cx, w, matrix, what, time, |column, k, value| {
        factors.set_right(column, k, value);
    })
}

/// Reads the left matrix from shared memory.
pub(crate) fn load_left(
    cx: &mut Context,
    w: &Warp,
    factors: &mut Factors,
    wgmma: Wgmma,
    descriptor: u64,
    time: u32,
) -> Outcome {
    let matrix = Matrix::new(descriptor, wgmma.transpose_a)?;
    let what = (ROWS as u32, wgmma.ty, wgmma.negate_a);
    read(cx, w, matrix, what, time, |row, k, value| {
        factors.set_left(row, k, value);
    })
}

/// Reads a warp's part of the left matrix from its registers: they hold words `t` and `t + 4` of
/// rows `g` and `g + 8`, as in `mma.sync`.
pub(crate) fn take_left(w: &Warp, warp: usize, factors: &mut Factors, wgmma: Wgmma, regs: &[Reg]) {
    let sign = if wgmma.negate_a { 1u32 << 31 } else { 0 };
    for (i, &reg) in regs.iter().enumerate() {
        for (lane, &word) in w.u32s(reg).iter().enumerate() {
            let row = 16 * warp + 8 * (i % 2) + lane / 4;
            let at = lane % 4 + 4 * (i / 2);
            let mut set = |k: usize, value: f32| {
                factors.set_left(row, k, f32::from_bits(value.to_bits() ^ sign));
            };
            match wgmma.ty {
                MatrixTy::F16 => {
                    set(2 * at, half_value(word & 0xffff));
                    set(2 * at + 1, half_value(word >> 16));
                }
                MatrixTy::Tf32 => set(at, f32::from_bits(word & !0x1fff)),
                ty if ty.bits() == 8 => {
                    for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
                        set(4 * at + i, byte_value(ty, byte));
                    }
                }
                _ => {
                    set(2 * at, f32::from_bits(word << 16));
                    set(2 * at + 1, f32::from_bits(word & 0xffff_0000));
                }
            }
        }
    }
}

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

/// Adds a warp's part of the product to its accumulators, or overwrites them.
#[inline(always)]
pub(crate) fn multiply(w: &mut Warp, sums: &[Reg], factors: &Factors, warp: usize, keep: bool) {
    let depth = factors.depth;
    for half in 0..2 {
        let left = &factors.left[(2 * warp + half) * depth..][..depth];
        // Two registers of adjacent columns at a time share the loads of the left matrix.
        for (j, four) in sums.chunks_exact(4).enumerate() {
            let regs = [four[2 * half], four[2 * half + 1]];
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
