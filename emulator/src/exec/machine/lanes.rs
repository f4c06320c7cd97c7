//! Loops over the lanes of register rows, written so that the compiler vectorises them for the
//! caller's target features.
use crate::exec::machine::warp::Warp;
use crate::ir::Reg;
use std::hint::black_box;

/// The number of lanes, hidden from the compiler. It unrolls loops of constant length before it
/// vectorises them, which then fails for additions and logic.
#[inline(always)]
pub(crate) fn lane_count() -> usize {
    black_box(32).min(32)
}

/// `d = f(a)`.
#[inline(always)]
pub(crate) fn map1(w: &mut Warp, m: u32, d: Reg, a: Reg, f: impl Fn(u32) -> u32) {
    let a = w.u32s(a);
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i]);
    }
    w.set32(m, d, &out);
}

/// `d = f(a, b)`.
#[inline(always)]
pub(crate) fn map2(w: &mut Warp, m: u32, d: Reg, a: Reg, b: Reg, f: impl Fn(u32, u32) -> u32) {
    let (a, b) = (w.u32s(a), w.u32s(b));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i], b[i]);
    }
    w.set32(m, d, &out);
}

/// `d = f(a, b, c)`.
#[inline(always)]
pub(crate) fn map3(
    w: &mut Warp,
    m: u32,
    d: Reg,
    [a, b, c]: [Reg; 3],
    f: impl Fn(u32, u32, u32) -> u32,
) {
    let (a, b, c) = (w.u32s(a), w.u32s(b), w.u32s(c));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i], b[i], c[i]);
    }
    w.set32(m, d, &out);
}

/// `d = f(a)` of 64-bit registers.
#[inline(always)]
pub(crate) fn wide1(w: &mut Warp, m: u32, d: Reg, a: Reg, f: impl Fn(u64) -> u64) {
    let a = w.u64s(a);
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i]);
    }
    w.set64(m, d, &out);
}

/// `d = f(a, b)` of 64-bit registers.
#[inline(always)]
pub(crate) fn wide2(w: &mut Warp, m: u32, d: Reg, a: Reg, b: Reg, f: impl Fn(u64, u64) -> u64) {
    let (a, b) = (w.u64s(a), w.u64s(b));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i], b[i]);
    }
    w.set64(m, d, &out);
}

/// `d = f(a, b, c)` of 64-bit registers.
#[inline(always)]
pub(crate) fn wide3(
    w: &mut Warp,
    m: u32,
    d: Reg,
    [a, b, c]: [Reg; 3],
    f: impl Fn(u64, u64, u64) -> u64,
) {
    let (a, b, c) = (w.u64s(a), w.u64s(b), w.u64s(c));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i], b[i], c[i]);
    }
    w.set64(m, d, &out);
}

/// 64-bit `d = f(a, b)` of 32-bit sources.
#[inline(always)]
pub(crate) fn widen2(w: &mut Warp, m: u32, d: Reg, a: Reg, b: Reg, f: impl Fn(u32, u32) -> u64) {
    let (a, b) = (w.u32s(a), w.u32s(b));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i], b[i]);
    }
    w.set64(m, d, &out);
}

/// 64-bit `d = f(a)` of a 32-bit source.
#[inline(always)]
pub(crate) fn widen1(w: &mut Warp, m: u32, d: Reg, a: Reg, f: impl Fn(u32) -> u64) {
    let a = w.u32s(a);
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i]);
    }
    w.set64(m, d, &out);
}

/// 64-bit `d = f(a, b)` of a 64-bit and a 32-bit source.
#[inline(always)]
pub(crate) fn wide_by32(w: &mut Warp, m: u32, d: Reg, a: Reg, b: Reg, f: impl Fn(u64, u32) -> u64) {
    let (a, b) = (w.u64s(a), w.u32s(b));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i], b[i]);
    }
    w.set64(m, d, &out);
}

/// 32-bit `d = f(a)` of a 64-bit source.
#[inline(always)]
pub(crate) fn narrow1(w: &mut Warp, m: u32, d: Reg, a: Reg, f: impl Fn(u64) -> u32) {
    let a = w.u64s(a);
    let mut out = [0; 32];
    for i in 0..lane_count() {
        out[i] = f(a[i]);
    }
    w.set32(m, d, &out);
}

/// The lanes for which `f(a, b)` is true.
#[inline(always)]
pub(crate) fn test2(w: &Warp, a: Reg, b: Reg, f: impl Fn(u32, u32) -> bool) -> u32 {
    let (a, b) = (w.u32s(a), w.u32s(b));
    let mut bits = 0;
    for i in 0..lane_count() {
        bits |= u32::from(f(a[i], b[i])) << i;
    }
    bits
}

/// The lanes for which `f(a, b)` of 64-bit registers is true.
#[inline(always)]
pub(crate) fn wide_test2(w: &Warp, a: Reg, b: Reg, f: impl Fn(u64, u64) -> bool) -> u32 {
    let (a, b) = (w.u64s(a), w.u64s(b));
    let mut bits = 0;
    for i in 0..lane_count() {
        bits |= u32::from(f(a[i], b[i])) << i;
    }
    bits
}

/// The lanes for which `f` is true.
#[inline(always)]
pub(crate) fn where_true(f: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for i in 0..lane_count() {
        bits |= u32::from(f(i)) << i;
    }
    bits
}

/// The bitwise or of all words.
#[inline(always)]
pub(crate) fn any_bits(words: &[u32; 32]) -> u32 {
    let mut bits = 0;
    for &word in words {
        bits |= word;
    }
    bits
}

/// The lanes of a mask, lowest first.
#[inline(always)]
pub(crate) fn lanes(mut m: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if m == 0 {
            return None;
        }
        let lane = m.trailing_zeros() as usize;
        m &= m - 1;
        Some(lane)
    })
}

/// Sign-extends the low half.
#[inline(always)]
pub(crate) fn s16(x: u32) -> i32 {
    i32::from(x as u16 as i16)
}
