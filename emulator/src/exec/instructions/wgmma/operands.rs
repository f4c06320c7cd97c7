//! Factors of a warpgroup's matrix products: their layout in shared memory and in registers, and
//! their elements as numbers.
use crate::exec::instructions::fp8;
use crate::exec::instructions::matrix::half_value;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::warp::Warp;
use crate::exec::machine::wgmma_state::{Factors, Summary};
use crate::exec::memory::shared::{actor, byte_slice};
use crate::ir::{Fp8, MatrixTy, Reg, Space, Wgmma};
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

/// Chunks of eight rows (or columns) of a matrix.
pub(super) const PIECES: usize = 16;

/// Reads a matrix of `rows` rows (or columns) of one product. Calls `each` with the number of each
/// group of eight rows and their chunks: two per row or, transposed, one per position along the
/// summed dimension.
#[inline(always)]
fn read(
    cx: &mut Context,
    w: &Warp,
    matrix: Matrix,
    rows: u32,
    time: u32,
    mut each: impl FnMut(usize, &[[u8; 16]; PIECES]),
) -> Outcome {
    let group = w.own / 4;
    let mut check = AsyncReader::new(w.index..w.index + 4, &cx.fences, actor(w, 0, false));
    let shift = cx.shared.shadow.shift;
    for octet in 0..rows / 8 {
        let mut pieces = [[0; 16]; PIECES];
        for (i, piece) in (0..).zip(&mut pieces) {
            let at = if matrix.transposed {
                matrix.piece(octet, i)
            } else {
                matrix.piece(8 * octet + i / 2, i % 2)
            };
            let bytes = byte_slice(&cx.shared.words).get(at as usize..);
            let Some(&found) = bytes
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
            *piece = found;
            let (first, len) = (at as usize >> shift, 16 >> shift);
            let shadow = &mut cx.shared.shadow;
            if !shadow.may_read_async(first, len, &check) {
                for unit in first..first + len {
                    if let Err(conflict) = shadow.read_async(unit, &cx.order, &mut check) {
                        let touch = touch(AccessKind::Read, Space::Shared, at.into(), 16);
                        let unit = (unit as u64) << shift;
                        let mut trouble = cx.shared_trouble(conflict, touch, unit, &check.actor);
                        trouble.lane = None;
                        return Err(trouble);
                    }
                }
            }
            shadow.note_async_read(at as usize / 16, group as usize, time);
        }
        each(octet as usize, &pieces);
    }
    Ok(())
}

/// Masks of a word's bits without the signs of its elements, and the bits that are all set in an
/// element that is not finite, by element. Integers are always finite.
fn masks(ty: MatrixTy) -> (u32, &'static [u32]) {
    match ty {
        MatrixTy::F16 => (0x7fff_7fff, &[0x7c00, 0x7c00_0000]),
        MatrixTy::Bf16 => (0x7fff_7fff, &[0x7f80, 0x7f80_0000]),
        MatrixTy::Tf32 => (0x7fff_e000, &[0x7f80_0000]),
        MatrixTy::E4m3 => (0x7f7f_7f7f, &[0x7f, 0x7f00, 0x7f_0000, 0x7f00_0000]),
        MatrixTy::E5m2 => (0x7f7f_7f7f, &[0x7c, 0x7c00, 0x7c_0000, 0x7c00_0000]),
        _ => (u32::MAX, &[]),
    }
}

/// Determines of some words of a matrix whether all elements are zero, and whether all are finite.
#[inline(always)]
fn summary<'a>(ty: MatrixTy, words: impl Iterator<Item = &'a u32> + Clone) -> Summary {
    let (numbers, specials) = masks(ty);
    let zero = words.clone().fold(0, |all, &word| all | word) & numbers == 0;
    let mut special = false;
    if !zero {
        for &word in words {
            for &bits in specials {
                special |= word & bits == bits;
            }
        }
    }
    Summary {
        zero,
        finite: !special,
    }
}

/// The words of chunks.
#[inline(always)]
pub(super) fn words_of(pieces: &[[u8; 16]; PIECES]) -> [u32; 4 * PIECES] {
    std::array::from_fn(|i| {
        let at = i % 4 * 4;
        let piece = &pieces[i / 4];
        u32::from_le_bytes([piece[at], piece[at + 1], piece[at + 2], piece[at + 3]])
    })
}

/// Converts the elements of eight rows, and calls `set` with row, position and value.
#[inline(always)]
pub(super) fn convert(
    (ty, negate, transposed): (MatrixTy, bool, bool),
    octet: usize,
    pieces: &[[u8; 16]; PIECES],
    mut set: impl FnMut(usize, usize, f32),
) {
    let mut values = [0f32; 16];
    for (i, piece) in pieces.iter().enumerate() {
        let count = elements(ty, piece, negate, &mut values);
        for (j, &value) in values.iter().enumerate().take(count) {
            if transposed {
                set(8 * octet + j, i, value);
            } else {
                set(8 * octet + i / 2, i % 2 * count + j, value);
            }
        }
    }
}

/// Reads the right matrix from shared memory.
#[inline(always)]
pub(crate) fn load_right(
    cx: &mut Context,
    w: &Warp,
    factors: &mut Factors,
    wgmma: Wgmma,
    (descriptor, time): (u64, u32),
) -> Outcome {
    let matrix = Matrix::new(descriptor, wgmma.transpose_b)?;
    let columns = u32::from(wgmma.columns);
    read(cx, w, matrix, columns, time, |octet, pieces| {
        put_right(factors, wgmma, octet, pieces);
    })
}

/// Reads the left matrix from shared memory.
#[inline(always)]
pub(crate) fn load_left(
    cx: &mut Context,
    w: &Warp,
    factors: &mut Factors,
    wgmma: Wgmma,
    (descriptor, time): (u64, u32),
) -> Outcome {
    let matrix = Matrix::new(descriptor, wgmma.transpose_a)?;
    read(cx, w, matrix, ROWS as u32, time, |octet, pieces| {
        put_left(factors, wgmma, octet, pieces);
    })
}

/// Stores eight columns of the right matrix.
#[inline(always)]
pub(super) fn put_right(
    factors: &mut Factors,
    wgmma: Wgmma,
    octet: usize,
    pieces: &[[u8; 16]; PIECES],
) {
    let words = words_of(pieces);
    let summary = summary(wgmma.ty_b, words.iter());
    let clear = !wgmma.negate_b && words == [0; 4 * PIECES];
    if factors.begin_right(octet, summary, clear) {
        let what = (wgmma.ty_b, wgmma.negate_b, wgmma.transpose_b);
        convert(what, octet, pieces, |column, k, value| {
            factors.set_right(column, k, value);
        });
    }
}

/// Stores eight rows of the left matrix.
#[inline(always)]
pub(super) fn put_left(
    factors: &mut Factors,
    wgmma: Wgmma,
    octet: usize,
    pieces: &[[u8; 16]; PIECES],
) {
    let words = words_of(pieces);
    let summary = summary(wgmma.ty, words.iter());
    let clear = !wgmma.negate_a && words == [0; 4 * PIECES];
    if factors.begin_left(octet, summary, clear) {
        let what = (wgmma.ty, wgmma.negate_a, wgmma.transpose_a);
        convert(what, octet, pieces, |row, k, value| {
            factors.set_left(row, k, value);
        });
    }
}

/// Reads a warp's part of the left matrix from its registers: they hold words `t` and `t + 4` of
/// rows `g` and `g + 8`, as in `mma.sync`.
pub(crate) fn take_left(w: &Warp, warp: usize, factors: &mut Factors, wgmma: Wgmma, regs: &[Reg]) {
    let sign = if wgmma.negate_a { 1u32 << 31 } else { 0 };
    for half in 0..2 {
        let own = regs.iter().skip(half).step_by(2);
        let words = own.flat_map(|&reg| w.u32s(reg));
        factors.begin_left(2 * warp + half, summary(wgmma.ty, words), false);
    }
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
