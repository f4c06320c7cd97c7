//! Bit fields, permutations, masks and dot products.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::{map2, map3};
use crate::exec::machine::warp::Warp;
use crate::ir::{IntTy, Op, PrmtMode, Reg, Width};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(_: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Lop3 { lut, d, a, b, c } => I::lop3(w, m, lut, d, [a, b, c]),
        Op::Shf {
            left,
            clamp,
            d,
            a,
            b,
            c,
        } => I::shf(w, m, left, clamp, d, [a, b, c]),
        _ => return rare(w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare(w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Prmt { mode, d, a, b, c } => prmt(w, m, mode, d, [a, b, c]),
        Op::Bfe { ty, d, a, b, c } => bfe(w, m, ty, d, a, b, c),
        Op::Bfi {
            w: width,
            d,
            a,
            b,
            pos,
            len,
        } => bfi(w, m, width, d, [a, b, pos, len]),
        Op::Bmsk { clamp, d, a, b } => bmsk(w, m, clamp, d, a, b),
        Op::Szext {
            signed,
            clamp,
            d,
            a,
            b,
        } => szext(w, m, signed, clamp, d, a, b),
        Op::Fns {
            d,
            mask,
            base,
            offset,
        } => fns(w, m, d, mask, base, offset),
        Op::Dp4a {
            a_signed,
            b_signed,
            d,
            a,
            b,
            c,
        } => {
            dp4a(w, m, [a_signed, b_signed], d, [a, b, c]);
        }
        Op::Dp2a {
            a_signed,
            b_signed,
            hi,
            d,
            a,
            b,
            c,
        } => {
            dp2a(w, m, [a_signed, b_signed], hi, d, [a, b, c]);
        }
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Funnel shift of `{b, a}`.
#[inline(always)]
pub(crate) fn shf(w: &mut Warp, m: u32, left: bool, clamp: bool, d: Reg, abc: [Reg; 3]) {
    map3(w, m, d, abc, |a, b, c| {
        let n = if clamp { c.min(32) } else { c & 31 };
        let both = u64::from(b) << 32 | u64::from(a);
        if left {
            ((both << n) >> 32) as u32
        } else {
            (both >> n) as u32
        }
    });
}

/// Byte permutation.
pub(crate) fn prmt(w: &mut Warp, m: u32, mode: PrmtMode, d: Reg, abc: [Reg; 3]) {
    map3(w, m, d, abc, |a, b, c| prmt_lane(mode, a, b, c));
}

fn prmt_lane(mode: PrmtMode, a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let byte = |i: u32| (bytes >> (i * 8)) as u32 & 0xff;
    let pick = |indices: [u32; 4]| indices.iter().rev().fold(0, |word, &i| word << 8 | byte(i));
    let n = c & 3;
    match mode {
        PrmtMode::Index => (0..4).rev().fold(0, |word, i| {
            let selector = c >> (i * 4) & 0xf;
            let value = byte(selector & 7);
            let value = if selector & 8 != 0 {
                if value & 0x80 != 0 { 0xff } else { 0 }
            } else {
                value
            };
            word << 8 | value
        }),
        PrmtMode::F4e => pick([n, n + 1, n + 2, n + 3]),
        PrmtMode::B4e => pick([n, (n + 7) & 7, (n + 6) & 7, (n + 5) & 7]),
        PrmtMode::Rc8 => pick([n; 4]),
        PrmtMode::Ecl => pick([n, n.max(1), n.max(2), 3]),
        PrmtMode::Ecr => pick([0, n.min(1), n.min(2), n]),
        PrmtMode::Rc16 => {
            let low = (n & 1) * 2;
            pick([low, low + 1, low, low + 1])
        }
    }
}

/// Extracts a bit field.
pub(crate) fn bfe(w: &mut Warp, m: u32, ty: IntTy, d: Reg, a: Reg, b: Reg, c: Reg) {
    match ty {
        IntTy::U64 | IntTy::S64 => {
            let signed = ty == IntTy::S64;
            let (a, b, c) = (w.u64s(a), w.u32s(b), w.u32s(c));
            let mut out = [0; 32];
            for i in 0..32 {
                out[i] = bfe_lane(a[i], b[i], c[i], 64, signed);
            }
            w.set64(m, d, &out);
        }
        _ => {
            let signed = ty == IntTy::S32;
            map3(w, m, d, [a, b, c], |a, b, c| {
                bfe_lane(u64::from(a), b, c, 32, signed) as u32
            });
        }
    }
}

fn bfe_lane(a: u64, b: u32, c: u32, width: u32, signed: bool) -> u64 {
    let (position, length) = (b & 0xff, c & 0xff);
    let top = width - 1;
    let sign_at = position.saturating_add(length).saturating_sub(1).min(top);
    let sign = signed && length > 0 && a >> sign_at & 1 != 0;
    let field = if position <= top { a >> position } else { 0 };
    let available = width.saturating_sub(position);
    let taken = length.min(available);
    let low = if taken >= 64 {
        u64::MAX
    } else {
        (1u64 << taken) - 1
    };
    if sign {
        field & low | !low
    } else {
        field & low
    }
}

/// Inserts a bit field.
pub(crate) fn bfi(w: &mut Warp, m: u32, width: Width, d: Reg, [a, b, pos, len]: [Reg; 4]) {
    let (pos, len) = (*w.u32s(pos), *w.u32s(len));
    if width == Width::W64 {
        let (a, b) = (w.u64s(a), w.u64s(b));
        let mut out = [0; 32];
        for i in 0..32 {
            out[i] = bfi_lane(a[i], b[i], pos[i], len[i], 64);
        }
        w.set64(m, d, &out);
    } else {
        let (a, b) = (w.u32s(a), w.u32s(b));
        let mut out = [0; 32];
        for i in 0..32 {
            out[i] = bfi_lane(u64::from(a[i]), u64::from(b[i]), pos[i], len[i], 32) as u32;
        }
        w.set32(m, d, &out);
    }
}

fn bfi_lane(a: u64, b: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= width {
        return b;
    }
    let len = len.min(width - pos);
    let low = if len >= 64 {
        u64::MAX
    } else {
        (1u64 << len) - 1
    };
    let field = low << pos;
    (b & !field) | (a << pos & field)
}

/// A mask of `b` bits at `a`.
pub(crate) fn bmsk(w: &mut Warp, m: u32, clamp: bool, d: Reg, a: Reg, b: Reg) {
    map2(w, m, d, a, b, |a, b| {
        let (a, b) = if clamp {
            (a.min(32), b.min(32))
        } else {
            (a & 31, b & 31)
        };
        ((((1u64 << b) - 1) << a) & 0xffff_ffff) as u32
    });
}

/// Extends from the low `b` bits.
pub(crate) fn szext(w: &mut Warp, m: u32, signed: bool, clamp: bool, d: Reg, a: Reg, b: Reg) {
    map2(w, m, d, a, b, |a, b| {
        let n = if clamp { b.min(32) } else { b & 31 };
        match n {
            0 => 0,
            32 => a,
            _ if signed => ((a << (32 - n)) as i32 >> (32 - n)) as u32,
            _ => a & ((1 << n) - 1),
        }
    });
}

/// Finds the n-th set bit.
pub(crate) fn fns(w: &mut Warp, m: u32, d: Reg, mask: Reg, base: Reg, offset: Reg) {
    map3(w, m, d, [mask, base, offset], |mask, base, offset| {
        let base = (base & 31) as i32;
        let offset = offset as i32;
        if offset == 0 {
            return if mask >> base & 1 != 0 {
                base as u32
            } else {
                u32::MAX
            };
        }
        let (mut at, step, mut left) = (base, offset.signum(), offset.abs());
        while (0..32).contains(&at) {
            if mask >> at & 1 != 0 {
                left -= 1;
                if left == 0 {
                    return at as u32;
                }
            }
            at += step;
        }
        u32::MAX
    });
}

/// Extracts a byte or half of a word, sign- or zero-extended.
fn part(word: u32, shift: u32, bits: u32, signed: bool) -> i64 {
    let up = 32 - bits - shift;
    let top = word << up;
    if signed {
        i64::from(top as i32 >> (32 - bits))
    } else {
        i64::from(top >> (32 - bits))
    }
}

/// Four-way dot product of bytes.
pub(crate) fn dp4a(w: &mut Warp, m: u32, [sa, sb]: [bool; 2], d: Reg, abc: [Reg; 3]) {
    map3(w, m, d, abc, |a, b, c| {
        (0..4).fold(c, |sum, i| {
            sum.wrapping_add((part(a, i * 8, 8, sa) * part(b, i * 8, 8, sb)) as u32)
        })
    });
}

/// Two-way dot product of halves with bytes.
pub(crate) fn dp2a(w: &mut Warp, m: u32, [sa, sb]: [bool; 2], hi: bool, d: Reg, abc: [Reg; 3]) {
    let first = if hi { 16 } else { 0 };
    map3(w, m, d, abc, |a, b, c| {
        (0..2).fold(c, |sum, i| {
            sum.wrapping_add((part(a, i * 16, 16, sa) * part(b, first + i * 8, 8, sb)) as u32)
        })
    });
}

/// Bitwise function of three inputs, given by its truth table.
#[inline(always)]
pub(crate) fn lop3(w: &mut Warp, m: u32, lut: u8, d: Reg, abc: [Reg; 3]) {
    match lut {
        0x96 => map3(w, m, d, abc, |a, b, c| a ^ b ^ c),
        0x80 => map3(w, m, d, abc, |a, b, c| a & b & c),
        0xfe => map3(w, m, d, abc, |a, b, c| a | b | c),
        0xea => map3(w, m, d, abc, |a, b, c| (a & b) | c),
        _ => {
            let table: [u32; 8] =
                std::array::from_fn(|i| if lut >> i & 1 != 0 { u32::MAX } else { 0 });
            map3(w, m, d, abc, |a, b, c| {
                (table[0] & !a & !b & !c)
                    | (table[1] & !a & !b & c)
                    | (table[2] & !a & b & !c)
                    | (table[3] & !a & b & c)
                    | (table[4] & a & !b & !c)
                    | (table[5] & a & !b & c)
                    | (table[6] & a & b & !c)
                    | (table[7] & a & b & c)
            });
        }
    }
}
