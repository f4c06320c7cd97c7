//! Comparisons and predicates.
use crate::exec::instructions::half;
use crate::exec::instructions::isa::{Comparison, Isa};
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::s16;
use crate::exec::machine::lanes::{lane_count, lanes, test2, wide_test2};
use crate::exec::machine::softfloat::flush;
use crate::exec::machine::warp::Warp;
use crate::ir::{BoolOp, Cmp, CmpTy, FloatTy, IntTy, Op, Pred, PredSrc, Reg, SetTy, Width};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(_: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Selp {
            w: width,
            d,
            a,
            b,
            p,
        } => I::selp(w, m, width, d, a, b, p),
        Op::Setp {
            cmp,
            ty,
            ftz,
            combine,
            c,
            p,
            q,
            a,
            b,
        } => {
            I::setp(
                w,
                m,
                &Comparison {
                    cmp,
                    ty,
                    ftz,
                    combine,
                    c,
                },
                p,
                q,
                a,
                b,
            );
        }
        Op::PredLogic { op, d, a, b } => logic(w, m, op, d, a, b),
        _ => return rare(w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare(w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Set {
            cmp,
            ty,
            ftz,
            combine,
            c,
            to,
            d,
            a,
            b,
        } => {
            Comparison {
                cmp,
                ty,
                ftz,
                combine,
                c,
            }
            .set(w, m, to, d, a, b);
        }
        Op::SlctS32 {
            w: width,
            d,
            a,
            b,
            c,
        } => slct_s32(w, m, width, d, [a, b, c]),
        Op::SlctF32 {
            w: width,
            d,
            a,
            b,
            c,
            ftz,
        } => slct_f32(w, m, width, d, [a, b, c], ftz),
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

#[inline(always)]
fn combine(op: BoolOp, a: u32, b: u32) -> u32 {
    match op {
        BoolOp::And => a & b,
        BoolOp::Or => a | b,
        BoolOp::Xor => a ^ b,
    }
}

/// Compares ordered values.
#[inline(always)]
fn holds<T: PartialOrd>(cmp: Cmp, a: T, b: T) -> bool {
    match cmp {
        Cmp::Eq | Cmp::Equ => a == b,
        Cmp::Ne | Cmp::Neu => a != b,
        Cmp::Lt | Cmp::Ltu => a < b,
        Cmp::Le | Cmp::Leu => a <= b,
        Cmp::Gt | Cmp::Gtu => a > b,
        Cmp::Ge | Cmp::Geu => a >= b,
        Cmp::Num => true,
        Cmp::Nan => false,
    }
}

/// Compares floating-point numbers, including NaN.
#[inline(always)]
fn float_holds(cmp: Cmp, a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return matches!(
            cmp,
            Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu | Cmp::Nan
        );
    }
    holds(cmp, a, b)
}

/// The lanes for which a comparison of words is true.
#[inline(always)]
fn words(w: &Warp, cmp: Cmp, a: Reg, b: Reg, key: impl Fn(u32) -> u32) -> u32 {
    match cmp {
        Cmp::Eq | Cmp::Equ => test2(w, a, b, |x, y| key(x) == key(y)),
        Cmp::Ne | Cmp::Neu => test2(w, a, b, |x, y| key(x) != key(y)),
        Cmp::Lt | Cmp::Ltu => test2(w, a, b, |x, y| key(x) < key(y)),
        Cmp::Le | Cmp::Leu => test2(w, a, b, |x, y| key(x) <= key(y)),
        Cmp::Gt | Cmp::Gtu => test2(w, a, b, |x, y| key(x) > key(y)),
        Cmp::Ge | Cmp::Geu => test2(w, a, b, |x, y| key(x) >= key(y)),
        Cmp::Num => u32::MAX,
        Cmp::Nan => 0,
    }
}

#[inline(always)]
fn doubles(w: &Warp, cmp: Cmp, a: Reg, b: Reg, flip: u64) -> u32 {
    match cmp {
        Cmp::Eq | Cmp::Equ => wide_test2(w, a, b, |x, y| x == y),
        Cmp::Ne | Cmp::Neu => wide_test2(w, a, b, |x, y| x != y),
        Cmp::Lt | Cmp::Ltu => wide_test2(w, a, b, |x, y| x ^ flip < y ^ flip),
        Cmp::Le | Cmp::Leu => wide_test2(w, a, b, |x, y| x ^ flip <= y ^ flip),
        Cmp::Gt | Cmp::Gtu => wide_test2(w, a, b, |x, y| x ^ flip > y ^ flip),
        Cmp::Ge | Cmp::Geu => wide_test2(w, a, b, |x, y| x ^ flip >= y ^ flip),
        Cmp::Num => u32::MAX,
        Cmp::Nan => 0,
    }
}

#[inline(always)]
fn floats(w: &Warp, cmp: Cmp, ftz: bool, a: Reg, b: Reg) -> u32 {
    let value = |x: u32| f32::from_bits(if ftz { flush(x) } else { x });
    match cmp {
        Cmp::Eq => test2(w, a, b, |x, y| value(x) == value(y)),
        Cmp::Neu => test2(w, a, b, |x, y| value(x) != value(y)),
        Cmp::Lt => test2(w, a, b, |x, y| value(x) < value(y)),
        Cmp::Le => test2(w, a, b, |x, y| value(x) <= value(y)),
        Cmp::Gt => test2(w, a, b, |x, y| value(x) > value(y)),
        Cmp::Ge => test2(w, a, b, |x, y| value(x) >= value(y)),
        _ => test2(w, a, b, |x, y| {
            float_holds(cmp, f64::from(value(x)), f64::from(value(y)))
        }),
    }
}

impl Comparison {
    /// The lanes for which the plain comparison is true: of the value or the low half, and of the
    /// high half.
    #[inline(always)]
    fn test(&self, w: &Warp, a: Reg, b: Reg) -> (u32, u32) {
        let cmp = self.cmp;
        match self.ty {
            CmpTy::Int(IntTy::U32) => (words(w, cmp, a, b, |x| x), 0),
            // Flipping the sign bit maps signed order to unsigned order.
            CmpTy::Int(IntTy::S32) => (words(w, cmp, a, b, |x| x ^ 0x8000_0000), 0),
            CmpTy::Int(IntTy::U16) => (words(w, cmp, a, b, |x| x & 0xffff), 0),
            CmpTy::Int(IntTy::S16) => (words(w, cmp, a, b, |x| s16(x) as u32 ^ 0x8000_0000), 0),
            CmpTy::Int(IntTy::U64) => (doubles(w, cmp, a, b, 0), 0),
            CmpTy::Int(IntTy::S64) => (doubles(w, cmp, a, b, 1 << 63), 0),
            CmpTy::Float(FloatTy::F32) => (floats(w, cmp, self.ftz, a, b), 0),
            CmpTy::Float(FloatTy::F64) => {
                let f = |x: u64, y: u64| float_holds(cmp, f64::from_bits(x), f64::from_bits(y));
                (wide_test2(w, a, b, f), 0)
            }
            CmpTy::Float(ty) => {
                let (bf16, packed) = half::kind(ty);
                let value = |x: u32| {
                    let x = if self.ftz && !bf16 && x & 0x7c00 == 0 {
                        x & 0x8000
                    } else {
                        x
                    };
                    f64::from(half::value(x, bf16))
                };
                let at = |s: u32| {
                    test2(w, a, b, |x, y| {
                        float_holds(cmp, value(x >> s), value(y >> s))
                    })
                };
                (at(0), if packed { at(16) } else { 0 })
            }
        }
    }

    fn is_packed(&self) -> bool {
        matches!(self.ty, CmpTy::Float(FloatTy::F16x2 | FloatTy::Bf16x2))
    }

    /// `setp`.
    #[inline(always)]
    pub fn setp(&self, w: &mut Warp, m: u32, p: Pred, q: Pred, a: Reg, b: Reg) {
        let (low, high) = self.test(w, a, b);
        let c = w.pred(self.c);
        w.set_pred(m, p, combine(self.combine, low, c));
        let second = if self.is_packed() { high } else { !low };
        w.set_pred(m, q, combine(self.combine, second, c));
    }

    /// `set`.
    pub fn set(&self, w: &mut Warp, m: u32, to: SetTy, d: Reg, a: Reg, b: Reg) {
        let (low, high) = self.test(w, a, b);
        let c = w.pred(self.c);
        let (low, high) = (
            combine(self.combine, low, c),
            combine(self.combine, high, c),
        );
        let (one, shift) = match to {
            SetTy::Int16 => (0xffff, 16),
            SetTy::Int32 => (u32::MAX, 0),
            SetTy::F32 => (0x3f80_0000, 0),
            SetTy::F16 => (0x3c00, 16),
            SetTy::Bf16 => (0x3f80, 16),
        };
        let packed = self.is_packed() && shift != 0;
        let out = std::array::from_fn(|i| {
            let first = if low >> i & 1 != 0 { one } else { 0 };
            let second = if packed && high >> i & 1 != 0 {
                one << 16
            } else {
                0
            };
            first | second
        });
        w.set32(m, d, &out);
    }
}

/// Logical operations on predicates.
#[inline(always)]
pub(crate) fn logic(w: &mut Warp, m: u32, op: BoolOp, d: Pred, a: PredSrc, b: PredSrc) {
    let value = combine(op, w.pred(a), w.pred(b));
    w.set_pred(m, d, value);
}

/// `p ? a : b`.
#[inline(always)]
pub(crate) fn selp(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg, b: Reg, p: PredSrc) {
    let p = w.pred(p);
    select(w, m, width, d, a, b, p);
}

/// The lanes of `choice` from `a`, other lanes from `b`.
#[inline(always)]
fn select(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg, b: Reg, choice: u32) {
    if width == Width::W64 {
        let (a, b) = (w.u64s(a), w.u64s(b));
        let mut out = [0; 32];
        for i in 0..lane_count() {
            // Arithmetic select: the compiler would turn a condition into a choice of two
            // addresses.
            let from_a = 0u64.wrapping_sub(u64::from(choice >> i & 1));
            out[i] = a[i] & from_a | b[i] & !from_a;
        }
        w.set64(m, d, &out);
    } else {
        let (a, b) = (w.u32s(a), w.u32s(b));
        let mut out = [0; 32];
        for i in 0..lane_count() {
            let from_a = 0u32.wrapping_sub(choice >> i & 1);
            out[i] = a[i] & from_a | b[i] & !from_a;
        }
        w.set32(m, d, &out);
    }
}

/// `c >= 0 ? a : b` of integers.
pub(crate) fn slct_s32(w: &mut Warp, m: u32, width: Width, d: Reg, [a, b, c]: [Reg; 3]) {
    let c = *w.u32s(c);
    let choice = lanes(u32::MAX).fold(0, |bits, i| bits | u32::from(c[i] as i32 >= 0) << i);
    select(w, m, width, d, a, b, choice);
}

/// `c >= 0 ? a : b` of f32.
pub(crate) fn slct_f32(w: &mut Warp, m: u32, width: Width, d: Reg, [a, b, c]: [Reg; 3], ftz: bool) {
    let c = *w.u32s(c);
    let value = |x: u32| f32::from_bits(if ftz { flush(x) } else { x });
    let choice = lanes(u32::MAX).fold(0, |bits, i| bits | u32::from(value(c[i]) >= 0.0) << i);
    select(w, m, width, d, a, b, choice);
}
