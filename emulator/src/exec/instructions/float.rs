//! f32 and f64 arithmetic.
//!
//! NaN results of f32 are the canonical 0x7fffffff, as on NVIDIA hardware; those of f64 are the
//! host's. The approximate functions are computed in f64 and rounded once to f32; their special
//! values are those of the PTX ISA.
use crate::exec::instructions::half;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::{map1, map2, map3, wide1, wide2, wide3};
use crate::exec::machine::softfloat;
use crate::exec::machine::softfloat::{F32, flush, transcendental};
use crate::exec::machine::warp::Warp;
use crate::ir::{FloatBinary, FloatMode, FloatTy, FloatUnary, Op, Pred, Reg, Rounding, TestP};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(_: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Fma {
            ty: FloatTy::F32,
            mode,
            d,
            a,
            b,
            c,
        } => I::fma32(w, m, mode, d, [a, b, c]),
        Op::FloatBinary {
            op,
            ty: FloatTy::F32,
            mode,
            d,
            a,
            b,
        } => {
            I::float32(w, m, op, mode, d, a, b);
        }
        _ => return rare::<I>(w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare<I: Isa>(w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Fma {
            ty: FloatTy::F64,
            mode,
            d,
            a,
            b,
            c,
        } => fma64(w, m, mode, d, [a, b, c]),
        Op::Fma {
            ty,
            mode,
            d,
            a,
            b,
            c,
        } => I::half_fma(w, m, ty, mode, d, [a, b, c]),
        Op::FloatBinary {
            op,
            ty: FloatTy::F64,
            mode,
            d,
            a,
            b,
        } => {
            binary64(w, m, op, mode, d, a, b);
        }
        Op::FloatBinary {
            op,
            ty,
            mode,
            d,
            a,
            b,
        } => I::half_binary(w, m, op, ty, mode, d, [a, b]),
        Op::FloatUnary { op, ty, mode, d, a } => match ty {
            FloatTy::F32 => I::float_unary32(w, m, op, mode, d, a),
            FloatTy::F64 => unary64(w, m, op, mode, d, a),
            _ => half::unary(w, m, op, ty, mode, d, a),
        },
        Op::TestP { test, ty, p, a } => testp(w, m, test, ty, p, a),
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// The canonical NaN of f32 arithmetic.
pub(crate) const NAN32: u32 = 0x7fff_ffff;

/// The bits of a result, with NaN made canonical.
#[inline(always)]
pub(crate) fn canonical(x: f32) -> u32 {
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

/// Returns whether a mode is round-to-nearest-even without modifiers.
#[inline(always)]
pub(crate) fn is_plain(mode: FloatMode) -> bool {
    nearest(mode.rounding) && !mode.ftz && !mode.sat && !mode.relu
}

#[inline(always)]
fn nearest(rounding: Rounding) -> bool {
    matches!(rounding, Rounding::None | Rounding::Rn)
}

/// Applies `.ftz`, `.sat` and `.relu` to a result.
#[inline(always)]
fn finish(bits: u32, mode: FloatMode) -> u32 {
    let mut bits = if mode.ftz { flush(bits) } else { bits };
    let x = f32::from_bits(bits);
    if mode.sat {
        bits = if x > 0.0 { x.min(1.0).to_bits() } else { 0 };
    }
    if mode.relu && !x.is_nan() {
        bits = if x > 0.0 { bits } else { 0 };
    }
    bits
}

/// An operand with `.ftz` applied.
#[inline(always)]
fn operand(bits: u32, mode: FloatMode) -> f32 {
    f32::from_bits(if mode.ftz { flush(bits) } else { bits })
}

/// Rounds an f64 to f32 in a mode; returns the bits.
#[inline(always)]
fn round32(x: f64, mode: FloatMode) -> u32 {
    if nearest(mode.rounding) {
        canonical(x as f32)
    } else {
        softfloat::round(x, F32, mode.rounding)
    }
}

/// `fma.f32`: one rounding.
#[inline(always)]
pub(crate) fn fma32(w: &mut Warp, m: u32, mode: FloatMode, d: Reg, abc: [Reg; 3]) {
    if is_plain(mode) {
        return map3(w, m, d, abc, |a, b, c| {
            canonical(f32::from_bits(a).mul_add(f32::from_bits(b), f32::from_bits(c)))
        });
    }
    if nearest(mode.rounding) {
        return map3(w, m, d, abc, |a, b, c| {
            let sum = operand(a, mode).mul_add(operand(b, mode), operand(c, mode));
            finish(canonical(sum), mode)
        });
    }
    map3(w, m, d, abc, |a, b, c| {
        let product = f64::from(operand(a, mode)) * f64::from(operand(b, mode));
        let c = f64::from(operand(c, mode));
        let sum = softfloat::add_odd(product, c);
        finish(
            round32(softfloat::signed_zero(sum, product, c, mode.rounding), mode),
            mode,
        )
    });
}

/// `fma.f64`.
pub(crate) fn fma64(w: &mut Warp, m: u32, mode: FloatMode, d: Reg, abc: [Reg; 3]) {
    wide3(w, m, d, abc, |a, b, c| {
        softfloat::fma64(
            f64::from_bits(a),
            f64::from_bits(b),
            f64::from_bits(c),
            mode.rounding,
        )
        .to_bits()
    });
}

/// Two-operand operations of f32.
#[inline(always)]
pub(crate) fn binary32(
    w: &mut Warp,
    m: u32,
    op: FloatBinary,
    mode: FloatMode,
    d: Reg,
    a: Reg,
    b: Reg,
) {
    use FloatBinary as B;
    let plain = is_plain(mode);
    match op {
        B::Add if plain => map2(w, m, d, a, b, |x, y| {
            canonical(f32::from_bits(x) + f32::from_bits(y))
        }),
        B::Sub if plain => map2(w, m, d, a, b, |x, y| {
            canonical(f32::from_bits(x) - f32::from_bits(y))
        }),
        B::Mul if plain => map2(w, m, d, a, b, |x, y| {
            canonical(f32::from_bits(x) * f32::from_bits(y))
        }),
        B::Min if plain => map2(w, m, d, a, b, |x, y| min_max(x, y, false)),
        B::Max if plain => map2(w, m, d, a, b, |x, y| min_max(x, y, true)),
        B::MinNan if plain => map2(w, m, d, a, b, |x, y| min_max_nan(x, y, false)),
        B::MaxNan if plain => map2(w, m, d, a, b, |x, y| min_max_nan(x, y, true)),
        _ => map2(w, m, d, a, b, |x, y| {
            let (x, y) = (operand(x, mode), operand(y, mode));
            finish(binary32_lane(op, mode, x, y), mode)
        }),
    }
}

/// The smaller or larger number; NaN only if both are.
#[inline(always)]
pub(crate) fn min_max(x: u32, y: u32, max: bool) -> u32 {
    let (a, b) = (f32::from_bits(x), f32::from_bits(y));
    // For equal numbers the sign decides: only zeros differ in it.
    let equal = if max { x & y } else { x | y };
    let first = if max { a > b } else { a < b };
    let second = if max { b > a } else { b < a };
    let number = if first {
        x
    } else if second {
        y
    } else {
        equal
    };
    let without_a = if b.is_nan() { NAN32 } else { y };
    if a.is_nan() {
        without_a
    } else if b.is_nan() {
        x
    } else {
        number
    }
}

/// The smaller or larger number; NaN if either is.
#[inline(always)]
pub(crate) fn min_max_nan(x: u32, y: u32, max: bool) -> u32 {
    let any = f32::from_bits(x).is_nan() || f32::from_bits(y).is_nan();
    if any { NAN32 } else { min_max(x, y, max) }
}

fn binary32_lane(op: FloatBinary, mode: FloatMode, x: f32, y: f32) -> u32 {
    use FloatBinary as B;
    let (wide_x, wide_y) = (f64::from(x), f64::from(y));
    let (bits_x, bits_y) = (x.to_bits(), y.to_bits());
    let directed = !nearest(mode.rounding);
    let sign = (bits_x ^ bits_y) & 0x8000_0000;
    let magnitude = 0x7fff_ffff;
    let xorsign = |bits: u32| {
        if bits == NAN32 {
            bits
        } else {
            bits & magnitude | sign
        }
    };
    match op {
        B::Add | B::Sub => {
            let wide_y = if op == B::Sub { -wide_y } else { wide_y };
            let sum = softfloat::add_odd(wide_x, wide_y);
            round32(
                softfloat::signed_zero(sum, wide_x, wide_y, mode.rounding),
                mode,
            )
        }
        // Exact in f64.
        B::Mul => round32(wide_x * wide_y, mode),
        B::Div if directed => {
            softfloat::round(softfloat::div_odd(wide_x, wide_y), F32, mode.rounding)
        }
        B::Div => canonical(x / y),
        B::DivApprox => canonical((wide_x / wide_y) as f32),
        B::Min => min_max(bits_x, bits_y, false),
        B::Max => min_max(bits_x, bits_y, true),
        B::MinNan => min_max_nan(bits_x, bits_y, false),
        B::MaxNan => min_max_nan(bits_x, bits_y, true),
        B::MinXorsign => xorsign(min_max(bits_x & magnitude, bits_y & magnitude, false)),
        B::MaxXorsign => xorsign(min_max(bits_x & magnitude, bits_y & magnitude, true)),
        B::MinNanXorsign => xorsign(min_max_nan(bits_x & magnitude, bits_y & magnitude, false)),
        B::MaxNanXorsign => xorsign(min_max_nan(bits_x & magnitude, bits_y & magnitude, true)),
        B::Copysign => bits_y & magnitude | bits_x & 0x8000_0000,
    }
}

/// Two-operand operations of f64.
pub(crate) fn binary64(
    w: &mut Warp,
    m: u32,
    op: FloatBinary,
    mode: FloatMode,
    d: Reg,
    a: Reg,
    b: Reg,
) {
    use FloatBinary as B;
    let rounding = mode.rounding;
    wide2(w, m, d, a, b, |x, y| {
        let (x, y) = (f64::from_bits(x), f64::from_bits(y));
        let any_nan = x.is_nan() || y.is_nan();
        let result = match op {
            B::Add => softfloat::add64(x, y, rounding),
            B::Sub => softfloat::add64(x, -y, rounding),
            B::Mul if nearest(rounding) => x * y,
            B::Mul => softfloat::fma64(x, y, -0.0, rounding),
            B::Div | B::DivApprox => softfloat::div64(x, y, rounding),
            B::MinNan | B::MaxNan | B::MinNanXorsign | B::MaxNanXorsign if any_nan => f64::NAN,
            B::Min | B::MinNan | B::MinXorsign | B::MinNanXorsign => min64(x, y),
            B::Max | B::MaxNan | B::MaxXorsign | B::MaxNanXorsign => -min64(-x, -y),
            B::Copysign => y.copysign(x),
        };
        result.to_bits()
    });
}

fn min64(x: f64, y: f64) -> f64 {
    match () {
        () if x.is_nan() => y,
        () if y.is_nan() || x < y => x,
        () if y < x => y,
        () => f64::from_bits(x.to_bits() | y.to_bits()),
    }
}

/// One-operand operations of f32.
#[inline(always)]
pub(crate) fn unary32(w: &mut Warp, m: u32, op: FloatUnary, mode: FloatMode, d: Reg, a: Reg) {
    match op {
        FloatUnary::Neg => map1(
            w,
            m,
            d,
            a,
            |x| if mode.ftz { flush(x) } else { x } ^ 0x8000_0000,
        ),
        FloatUnary::Abs => map1(
            w,
            m,
            d,
            a,
            |x| if mode.ftz { flush(x) } else { x } & 0x7fff_ffff,
        ),
        FloatUnary::Sqrt if is_plain(mode) => {
            map1(w, m, d, a, |x| canonical(f32::from_bits(x).sqrt()));
        }
        FloatUnary::Rcp if is_plain(mode) => {
            map1(w, m, d, a, |x| canonical(1.0 / f32::from_bits(x)));
        }
        _ => map1(w, m, d, a, |x| {
            finish(unary32_lane(op, mode, operand(x, mode)), mode)
        }),
    }
}

fn unary32_lane(op: FloatUnary, mode: FloatMode, x: f32) -> u32 {
    let wide = f64::from(x);
    let directed = !nearest(mode.rounding);
    match op {
        FloatUnary::Rcp if directed => {
            softfloat::round(softfloat::div_odd(1.0, wide), F32, mode.rounding)
        }
        FloatUnary::Sqrt if directed => {
            softfloat::round(softfloat::sqrt_odd(wide), F32, mode.rounding)
        }
        FloatUnary::Rcp => canonical(1.0 / x),
        FloatUnary::Sqrt => canonical(x.sqrt()),
        FloatUnary::Neg => x.to_bits() ^ 0x8000_0000,
        FloatUnary::Abs => x.to_bits() & 0x7fff_ffff,
        _ => canonical(transcendental(op, wide) as f32),
    }
}

/// One-operand operations of f64. The results of `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`
/// keep only the upper 32 bits.
pub(crate) fn unary64(w: &mut Warp, m: u32, op: FloatUnary, mode: FloatMode, d: Reg, a: Reg) {
    wide1(w, m, d, a, |bits| {
        let x = f64::from_bits(bits);
        let result = match op {
            FloatUnary::Neg => return bits ^ 1 << 63,
            FloatUnary::Abs => return bits & !(1 << 63),
            FloatUnary::Rcp if mode.ftz => return (1.0 / x).to_bits() & 0xffff_ffff_0000_0000,
            FloatUnary::Rsqrt if mode.ftz => {
                return (1.0 / x.sqrt()).to_bits() & 0xffff_ffff_0000_0000;
            }
            FloatUnary::Rcp => softfloat::div64(1.0, x, mode.rounding),
            FloatUnary::Sqrt => softfloat::sqrt64(x, mode.rounding),
            _ => transcendental(op, x),
        };
        result.to_bits()
    });
}

/// `testp`.
fn testp(w: &mut Warp, m: u32, test: TestP, ty: FloatTy, p: Pred, a: Reg) {
    let mut bits = 0;
    for i in 0..32 {
        let class = if ty == FloatTy::F64 {
            f64::from_bits(w.u64s(a)[i]).classify()
        } else {
            f32::from_bits(w.u32s(a)[i]).classify()
        };
        use std::num::FpCategory as C;
        let holds = match test {
            TestP::Finite => !matches!(class, C::Nan | C::Infinite),
            TestP::Infinite => class == C::Infinite,
            TestP::Number => class != C::Nan,
            TestP::NotANumber => class == C::Nan,
            TestP::Normal => class == C::Normal,
            TestP::Subnormal => class == C::Subnormal,
        };
        bits |= u32::from(holds) << i;
    }
    w.set_pred(m, p, bits);
}
