//! f16 and bf16 arithmetic, scalar and packed in pairs.
//!
//! A result is the exact one rounded once: sums and products are computed in f64, rounded to odd.
//! The approximate functions are computed in f64. NaN results are the canonical 0x7fff.
use crate::exec::machine::lanes::{map1, map2, map3};
use crate::exec::machine::softfloat;
use crate::exec::machine::softfloat::{
    BF16, F16, Format, add_odd, bf16_to_f32, div_odd, f16_to_f32, f32_to_bf16, f32_to_f16,
    transcendental,
};
use crate::exec::machine::warp::Warp;
use crate::ir::{FloatBinary, FloatMode, FloatTy, FloatUnary, Reg, Rounding};

/// Returns whether the type is a bfloat16 one, and whether it is packed.
pub(crate) fn kind(ty: FloatTy) -> (bool, bool) {
    match ty {
        FloatTy::Bf16 => (true, false),
        FloatTy::Bf16x2 => (true, true),
        FloatTy::F16x2 => (false, true),
        _ => (false, false),
    }
}

/// The value of a half.
#[inline(always)]
pub(crate) fn value(half: u32, bf16: bool) -> f32 {
    f32::from_bits(if bf16 {
        bf16_to_f32(half & 0xffff)
    } else {
        f16_to_f32(half & 0xffff)
    })
}

fn format(bf16: bool) -> Format {
    if bf16 { BF16 } else { F16 }
}

/// Applies modifiers and rounds.
fn finish(x: f64, bf16: bool, mode: FloatMode) -> u32 {
    let mut x = x;
    if mode.sat {
        x = if x > 0.0 { x.min(1.0) } else { 0.0 };
    }
    if mode.relu && !x.is_nan() {
        x = if x > 0.0 { x } else { 0.0 };
    }
    let rounding = if mode.rounding == Rounding::None {
        Rounding::Rn
    } else {
        mode.rounding
    };
    let bits = softfloat::round(x, format(bf16), rounding);
    // `.ftz` of f16 flushes subnormal halves.
    if mode.ftz && !bf16 && bits & 0x7c00 == 0 {
        bits & 0x8000
    } else {
        bits
    }
}

#[inline(always)]
fn operand(half: u32, bf16: bool, mode: FloatMode) -> f64 {
    let half = if mode.ftz && !bf16 && half & 0x7c00 == 0 {
        half & 0x8000
    } else {
        half
    };
    f64::from(value(half, bf16))
}

/// Applies `f` to both halves if the type is packed.
#[inline(always)]
fn both(packed: bool, f: impl Fn(u32) -> u32) -> u32 {
    let low = f(0) & 0xffff;
    if packed { low | f(16) << 16 } else { low }
}

/// `fma`.
#[inline(always)]
pub(crate) fn fma(w: &mut Warp, m: u32, ty: FloatTy, mode: FloatMode, d: Reg, abc: [Reg; 3]) {
    let (bf16, packed) = kind(ty);
    map3(w, m, d, abc, |a, b, c| {
        both(packed, |s| {
            // The product is exact in f64.
            let product = operand(a >> s, bf16, mode) * operand(b >> s, bf16, mode);
            finish(add_odd(product, operand(c >> s, bf16, mode)), bf16, mode)
        })
    });
}

/// Two-operand operations of f16 and bf16.
#[inline(always)]
pub(crate) fn binary(
    w: &mut Warp,
    m: u32,
    op: FloatBinary,
    ty: FloatTy,
    mode: FloatMode,
    d: Reg,
    [a, b]: [Reg; 2],
) {
    let (bf16, packed) = kind(ty);
    let simple = !mode.sat && !mode.relu && !mode.ftz;
    use FloatBinary as B;
    // f32 has more than twice the bits of a half, so rounding an f32 result once more equals
    // rounding the exact result.
    match op {
        B::Add if simple => map2(w, m, d, a, b, |x, y| {
            both(packed, |s| quick(x >> s, y >> s, bf16, |x, y| x + y))
        }),
        B::Sub if simple => map2(w, m, d, a, b, |x, y| {
            both(packed, |s| quick(x >> s, y >> s, bf16, |x, y| x - y))
        }),
        B::Mul if simple && !bf16 => map2(w, m, d, a, b, |x, y| {
            both(packed, |s| quick(x >> s, y >> s, bf16, |x, y| x * y))
        }),
        _ => map2(w, m, d, a, b, |x, y| {
            both(packed, |s| lane(op, bf16, mode, x >> s, y >> s))
        }),
    }
}

/// An operation in f32, rounded to nearest-even.
#[inline(always)]
fn quick(x: u32, y: u32, bf16: bool, f: impl Fn(f32, f32) -> f32) -> u32 {
    let bits = f(value(x, bf16), value(y, bf16)).to_bits();
    if bf16 {
        f32_to_bf16(bits)
    } else {
        f32_to_f16(bits)
    }
}

fn lane(op: FloatBinary, bf16: bool, mode: FloatMode, x: u32, y: u32) -> u32 {
    use FloatBinary as B;
    let (x, y) = (x & 0xffff, y & 0xffff);
    let (a, b) = (operand(x, bf16, mode), operand(y, bf16, mode));
    let sign = (x ^ y) & 0x8000;
    let any_nan = a.is_nan() || b.is_nan();
    let pick = |a: f64, b: f64, max: bool| match () {
        () if a.is_nan() => b,
        () if b.is_nan() => a,
        // For zeros the sign decides.
        () if a == b && max => {
            if a.is_sign_positive() {
                a
            } else {
                b
            }
        }
        () if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        () if max => a.max(b),
        () => a.min(b),
    };
    let signed = |x: f64| {
        if x.is_nan() {
            x
        } else if sign != 0 {
            -x.abs()
        } else {
            x.abs()
        }
    };
    let result = match op {
        B::Add => add_odd(a, b),
        B::Sub => add_odd(a, -b),
        B::Mul => a * b,
        B::Div | B::DivApprox => div_odd(a, b),
        B::Copysign => return y & 0x7fff | x & 0x8000,
        B::MinNan | B::MaxNan | B::MinNanXorsign | B::MaxNanXorsign if any_nan => f64::NAN,
        B::Min | B::MinNan => pick(a, b, false),
        B::Max | B::MaxNan => pick(a, b, true),
        B::MinXorsign | B::MinNanXorsign => signed(pick(a.abs(), b.abs(), false)),
        B::MaxXorsign | B::MaxNanXorsign => signed(pick(a.abs(), b.abs(), true)),
    };
    finish(result, bf16, mode)
}

/// One-operand operations of f16 and bf16.
#[inline(always)]
pub(crate) fn unary(
    w: &mut Warp,
    m: u32,
    op: FloatUnary,
    ty: FloatTy,
    mode: FloatMode,
    d: Reg,
    a: Reg,
) {
    let (bf16, packed) = kind(ty);
    match op {
        FloatUnary::Neg => map1(w, m, d, a, |x| {
            x ^ if packed { 0x8000_8000 } else { 0x8000 }
        }),
        FloatUnary::Abs => map1(w, m, d, a, |x| {
            x & if packed { 0x7fff_7fff } else { 0x7fff }
        }),
        _ => map1(w, m, d, a, |x| {
            both(packed, |s| {
                finish(transcendental(op, operand(x >> s, bf16, mode)), bf16, mode)
            })
        }),
    }
}
