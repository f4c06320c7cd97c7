//! Integer arithmetic, shifts and logic.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::s16;
use crate::exec::machine::lanes::{
    lane_count, map1, map2, map3, narrow1, wide_by32, wide1, wide2, wide3, widen2,
};
use crate::exec::machine::warp::Warp;
use crate::ir::{CarryOp, IntBinary, IntTy, IntUnary, MadPart, Op, Reg};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(_: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::IntBinary { op, ty, d, a, b } => I::int_binary(w, m, op, ty, d, a, b),
        Op::Mad {
            part,
            ty,
            d,
            a,
            b,
            c,
        } => I::mad(w, m, part, ty, d, [a, b, c]),
        _ => return rare(w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare(w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::IntUnary { op, ty, d, a } => unary(w, m, op, ty, d, a),
        Op::Sad { ty, d, a, b, c } => sad(w, m, ty, d, [a, b, c]),
        Op::Carry {
            op,
            ty,
            carry_in,
            carry_out,
            d,
            a,
            b,
            c,
        } => {
            Carry {
                op,
                ty,
                carry_in,
                carry_out,
            }
            .run(w, m, d, [a, b, c]);
        }
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Sign-extends the low 24 bits.
#[inline(always)]
fn s24(x: u32) -> i32 {
    (x << 8) as i32 >> 8
}

/// Returns whether values of the type take two rows.
fn is_wide(ty: IntTy) -> bool {
    matches!(ty, IntTy::U64 | IntTy::S64)
}

/// Two-operand integer operations.
#[inline(always)]
pub(crate) fn binary(w: &mut Warp, m: u32, op: IntBinary, ty: IntTy, d: Reg, a: Reg, b: Reg) {
    match op {
        IntBinary::Shl | IntBinary::Shr => shift(w, m, op, ty, d, a, b),
        IntBinary::MulWide => mul_wide(w, m, ty, d, a, b),
        _ if is_wide(ty) => binary64(w, m, op, ty == IntTy::S64, d, a, b),
        _ if matches!(ty, IntTy::U16 | IntTy::S16) => binary16(w, m, op, ty == IntTy::S16, d, a, b),
        _ => binary32(w, m, op, ty == IntTy::S32, d, a, b),
    }
}

#[inline(always)]
fn binary32(w: &mut Warp, m: u32, op: IntBinary, signed: bool, d: Reg, a: Reg, b: Reg) {
    use IntBinary as B;
    match (op, signed) {
        (B::Add, _) => map2(w, m, d, a, b, u32::wrapping_add),
        (B::AddSat, _) => map2(w, m, d, a, b, |x, y| {
            (x as i32).saturating_add(y as i32) as u32
        }),
        (B::Sub, _) => map2(w, m, d, a, b, u32::wrapping_sub),
        (B::SubSat, _) => map2(w, m, d, a, b, |x, y| {
            (x as i32).saturating_sub(y as i32) as u32
        }),
        (B::MulLo, _) => map2(w, m, d, a, b, u32::wrapping_mul),
        (B::MulHi, false) => map2(w, m, d, a, b, mul_hi_u32),
        (B::MulHi, true) => map2(w, m, d, a, b, mul_hi_s32),
        (B::Mul24Lo, false) => map2(w, m, d, a, b, |x, y| {
            (x & 0xff_ffff).wrapping_mul(y & 0xff_ffff)
        }),
        (B::Mul24Lo, true) => map2(w, m, d, a, b, |x, y| s24(x).wrapping_mul(s24(y)) as u32),
        (B::Mul24Hi, false) => map2(w, m, d, a, b, mul24_hi_u32),
        (B::Mul24Hi, true) => map2(w, m, d, a, b, mul24_hi_s32),
        (B::Div, false) => map2(w, m, d, a, b, |x, y| x.checked_div(y).unwrap_or(u32::MAX)),
        (B::Div, true) => map2(w, m, d, a, b, |x, y| match y {
            0 => u32::MAX,
            _ => (x as i32).wrapping_div(y as i32) as u32,
        }),
        (B::Rem, false) => map2(w, m, d, a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
        (B::Rem, true) => map2(w, m, d, a, b, |x, y| match y {
            0 => x,
            _ => (x as i32).wrapping_rem(y as i32) as u32,
        }),
        (B::Min, false) => map2(w, m, d, a, b, u32::min),
        (B::Min, true) => map2(w, m, d, a, b, |x, y| (x as i32).min(y as i32) as u32),
        (B::Max, false) => map2(w, m, d, a, b, u32::max),
        (B::Max, true) => map2(w, m, d, a, b, |x, y| (x as i32).max(y as i32) as u32),
        (B::And, _) => map2(w, m, d, a, b, |x, y| x & y),
        (B::Or, _) => map2(w, m, d, a, b, |x, y| x | y),
        (B::Xor, _) => map2(w, m, d, a, b, |x, y| x ^ y),
        (B::MulWide | B::Shl | B::Shr, _) => {}
    }
}

#[inline(always)]
fn mul_hi_u32(x: u32, y: u32) -> u32 {
    ((u64::from(x) * u64::from(y)) >> 32) as u32
}

#[inline(always)]
fn mul_hi_s32(x: u32, y: u32) -> u32 {
    ((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32
}

#[inline(always)]
fn mul24_hi_u32(x: u32, y: u32) -> u32 {
    ((u64::from(x & 0xff_ffff) * u64::from(y & 0xff_ffff)) >> 16) as u32
}

#[inline(always)]
fn mul24_hi_s32(x: u32, y: u32) -> u32 {
    ((i64::from(s24(x)) * i64::from(s24(y))) >> 16) as u32
}

fn binary16(w: &mut Warp, m: u32, op: IntBinary, signed: bool, d: Reg, a: Reg, b: Reg) {
    map2(w, m, d, a, b, |x, y| {
        let wide = if signed {
            binary16_lane(op, i64::from(s16(x)), i64::from(s16(y)), x)
        } else {
            binary16_lane(op, i64::from(x & 0xffff), i64::from(y & 0xffff), x)
        };
        wide & 0xffff
    });
}

fn binary16_lane(op: IntBinary, x: i64, y: i64, bits: u32) -> u32 {
    use IntBinary as B;
    let limit = |v: i64| v.clamp(i64::from(i16::MIN), i64::from(i16::MAX));
    let value = match op {
        B::Add => x + y,
        B::AddSat => limit(x + y),
        B::Sub => x - y,
        B::SubSat => limit(x - y),
        B::MulLo | B::Mul24Lo => x * y,
        B::MulHi | B::Mul24Hi => (x * y) >> 16,
        B::Div => x.checked_div(y).unwrap_or(-1),
        B::Rem => x.checked_rem(y).unwrap_or(i64::from(bits)),
        B::Min => x.min(y),
        B::Max => x.max(y),
        B::And => x & y,
        B::Or => x | y,
        B::Xor => x ^ y,
        B::MulWide | B::Shl | B::Shr => 0,
    };
    value as u32
}

#[inline(always)]
fn binary64(w: &mut Warp, m: u32, op: IntBinary, signed: bool, d: Reg, a: Reg, b: Reg) {
    use IntBinary as B;
    match (op, signed) {
        (B::Add | B::AddSat, _) => wide2(w, m, d, a, b, u64::wrapping_add),
        (B::Sub | B::SubSat, _) => wide2(w, m, d, a, b, u64::wrapping_sub),
        (B::MulLo | B::Mul24Lo, _) => wide2(w, m, d, a, b, u64::wrapping_mul),
        (B::MulHi | B::Mul24Hi, false) => wide2(w, m, d, a, b, mul_hi_u64),
        (B::MulHi | B::Mul24Hi, true) => wide2(w, m, d, a, b, mul_hi_s64),
        (B::Div, false) => wide2(w, m, d, a, b, |x, y| x.checked_div(y).unwrap_or(u64::MAX)),
        (B::Div, true) => wide2(w, m, d, a, b, |x, y| match y {
            0 => u64::MAX,
            _ => (x as i64).wrapping_div(y as i64) as u64,
        }),
        (B::Rem, false) => wide2(w, m, d, a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
        (B::Rem, true) => wide2(w, m, d, a, b, |x, y| match y {
            0 => x,
            _ => (x as i64).wrapping_rem(y as i64) as u64,
        }),
        (B::Min, false) => wide2(w, m, d, a, b, u64::min),
        (B::Min, true) => wide2(w, m, d, a, b, |x, y| (x as i64).min(y as i64) as u64),
        (B::Max, false) => wide2(w, m, d, a, b, u64::max),
        (B::Max, true) => wide2(w, m, d, a, b, |x, y| (x as i64).max(y as i64) as u64),
        (B::And, _) => wide2(w, m, d, a, b, |x, y| x & y),
        (B::Or, _) => wide2(w, m, d, a, b, |x, y| x | y),
        (B::Xor, _) => wide2(w, m, d, a, b, |x, y| x ^ y),
        (B::MulWide | B::Shl | B::Shr, _) => {}
    }
}

fn mul_hi_u64(x: u64, y: u64) -> u64 {
    ((u128::from(x) * u128::from(y)) >> 64) as u64
}

fn mul_hi_s64(x: u64, y: u64) -> u64 {
    ((i128::from(x as i64) * i128::from(y as i64)) >> 64) as u64
}

/// Shifts. The amount is one 32-bit row for every type, and is not reduced modulo the width.
#[inline(always)]
fn shift(w: &mut Warp, m: u32, op: IntBinary, ty: IntTy, d: Reg, a: Reg, b: Reg) {
    let left = op == IntBinary::Shl;
    match ty {
        IntTy::U32 | IntTy::S32 if left => map2(w, m, d, a, b, shl32),
        IntTy::U32 => map2(w, m, d, a, b, shr_u32),
        IntTy::S32 => map2(w, m, d, a, b, |x, n| (x as i32 >> n.min(31)) as u32),
        IntTy::U16 | IntTy::S16 if left => map2(w, m, d, a, b, |x, n| shl32(x, n) & 0xffff),
        IntTy::U16 => map2(w, m, d, a, b, |x, n| shr_u32(x & 0xffff, n)),
        IntTy::S16 => map2(w, m, d, a, b, |x, n| (s16(x) >> n.min(31)) as u32 & 0xffff),
        IntTy::U64 | IntTy::S64 if left => {
            wide_by32(w, m, d, a, b, |x, n| if n < 64 { x << (n & 63) } else { 0 });
        }
        IntTy::U64 => wide_by32(w, m, d, a, b, |x, n| if n < 64 { x >> (n & 63) } else { 0 }),
        IntTy::S64 => wide_by32(w, m, d, a, b, |x, n| (x as i64 >> n.min(63)) as u64),
    }
}

#[inline(always)]
fn shl32(x: u32, n: u32) -> u32 {
    if n < 32 { x << (n & 31) } else { 0 }
}

#[inline(always)]
fn shr_u32(x: u32, n: u32) -> u32 {
    if n < 32 { x >> (n & 31) } else { 0 }
}

#[inline(always)]
fn mul_wide(w: &mut Warp, m: u32, ty: IntTy, d: Reg, a: Reg, b: Reg) {
    match ty {
        IntTy::U32 | IntTy::U64 => widen2(w, m, d, a, b, |x, y| u64::from(x) * u64::from(y)),
        IntTy::S32 | IntTy::S64 => widen2(w, m, d, a, b, |x, y| {
            (i64::from(x as i32) * i64::from(y as i32)) as u64
        }),
        IntTy::U16 => map2(w, m, d, a, b, |x, y| (x & 0xffff).wrapping_mul(y & 0xffff)),
        IntTy::S16 => map2(w, m, d, a, b, |x, y| s16(x).wrapping_mul(s16(y)) as u32),
    }
}

/// One-operand integer operations.
#[inline(always)]
pub(crate) fn unary(w: &mut Warp, m: u32, op: IntUnary, ty: IntTy, d: Reg, a: Reg) {
    match ty {
        IntTy::U32 | IntTy::S32 => unary32(w, m, op, ty == IntTy::S32, d, a),
        IntTy::U16 | IntTy::S16 => unary16(w, m, op, d, a),
        IntTy::U64 | IntTy::S64 => unary64(w, m, op, ty == IntTy::S64, d, a),
    }
}

fn unary32(w: &mut Warp, m: u32, op: IntUnary, signed: bool, d: Reg, a: Reg) {
    match op {
        IntUnary::Neg => map1(w, m, d, a, u32::wrapping_neg),
        IntUnary::Abs => map1(w, m, d, a, |x| (x as i32).wrapping_abs() as u32),
        IntUnary::Not => map1(w, m, d, a, |x| !x),
        IntUnary::Cnot => map1(w, m, d, a, |x| u32::from(x == 0)),
        IntUnary::Popc => map1(w, m, d, a, u32::count_ones),
        IntUnary::Clz => map1(w, m, d, a, u32::leading_zeros),
        IntUnary::Brev => map1(w, m, d, a, u32::reverse_bits),
        IntUnary::Bfind => map1(w, m, d, a, |x| 31u32.wrapping_sub(find32(x, signed))),
        IntUnary::BfindShift => map1(w, m, d, a, |x| match find32(x, signed) {
            32 => u32::MAX,
            zeros => zeros,
        }),
    }
}

/// Number of leading bits that equal the sign.
fn find32(x: u32, signed: bool) -> u32 {
    let x = if signed && (x as i32) < 0 { !x } else { x };
    x.leading_zeros()
}

fn unary16(w: &mut Warp, m: u32, op: IntUnary, d: Reg, a: Reg) {
    map1(w, m, d, a, |x| {
        let x = x as u16;
        match op {
            IntUnary::Neg => u32::from(x.wrapping_neg()),
            IntUnary::Abs => u32::from((x as i16).wrapping_abs() as u16),
            IntUnary::Not => u32::from(!x),
            IntUnary::Cnot => u32::from(x == 0),
            IntUnary::Popc => x.count_ones(),
            IntUnary::Clz => x.leading_zeros(),
            IntUnary::Brev => u32::from(x.reverse_bits()),
            IntUnary::Bfind => 15u32.wrapping_sub(x.leading_zeros()),
            IntUnary::BfindShift => x.leading_zeros(),
        }
    });
}

fn unary64(w: &mut Warp, m: u32, op: IntUnary, signed: bool, d: Reg, a: Reg) {
    let find = |x: u64| if signed && (x as i64) < 0 { !x } else { x }.leading_zeros();
    match op {
        IntUnary::Neg => wide1(w, m, d, a, u64::wrapping_neg),
        IntUnary::Abs => wide1(w, m, d, a, |x| (x as i64).wrapping_abs() as u64),
        IntUnary::Not => wide1(w, m, d, a, |x| !x),
        IntUnary::Cnot => wide1(w, m, d, a, |x| u64::from(x == 0)),
        IntUnary::Popc => narrow1(w, m, d, a, u64::count_ones),
        IntUnary::Clz => narrow1(w, m, d, a, u64::leading_zeros),
        IntUnary::Brev => wide1(w, m, d, a, u64::reverse_bits),
        IntUnary::Bfind => narrow1(w, m, d, a, |x| 63u32.wrapping_sub(find(x))),
        IntUnary::BfindShift => narrow1(w, m, d, a, |x| match find(x) {
            64 => u32::MAX,
            zeros => zeros,
        }),
    }
}

/// Integer multiply-add.
#[inline(always)]
pub(crate) fn mad(w: &mut Warp, m: u32, part: MadPart, ty: IntTy, d: Reg, abc: [Reg; 3]) {
    match (part, ty) {
        (MadPart::Lo, IntTy::U32 | IntTy::S32) => {
            map3(w, m, d, abc, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
        }
        (MadPart::Wide, IntTy::U32 | IntTy::S32) => mad_wide(w, m, ty == IntTy::S32, d, abc),
        (MadPart::Lo, IntTy::U64 | IntTy::S64) => {
            wide3(w, m, d, abc, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
        }
        (_, IntTy::U64) => wide3(w, m, d, abc, |a, b, c| mul_hi_u64(a, b).wrapping_add(c)),
        (_, IntTy::S64) => wide3(w, m, d, abc, |a, b, c| mul_hi_s64(a, b).wrapping_add(c)),
        (_, IntTy::U16 | IntTy::S16) => mad16(w, m, part, ty == IntTy::S16, d, abc),
        _ => mad32(w, m, part, ty == IntTy::S32, d, abc),
    }
}

#[inline(always)]
fn mad_wide(w: &mut Warp, m: u32, signed: bool, d: Reg, [a, b, c]: [Reg; 3]) {
    let (a, b, c) = (w.u32s(a), w.u32s(b), w.u64s(c));
    let mut out = [0; 32];
    for i in 0..lane_count() {
        let product = if signed {
            (i64::from(a[i] as i32) * i64::from(b[i] as i32)) as u64
        } else {
            u64::from(a[i]) * u64::from(b[i])
        };
        out[i] = product.wrapping_add(c[i]);
    }
    w.set64(m, d, &out);
}

#[inline(always)]
fn mad32(w: &mut Warp, m: u32, part: MadPart, signed: bool, d: Reg, abc: [Reg; 3]) {
    let sat = |x: u32, c: u32| (x as i32).saturating_add(c as i32) as u32;
    map3(w, m, d, abc, |a, b, c| match (part, signed) {
        (MadPart::Hi, false) => mul_hi_u32(a, b).wrapping_add(c),
        (MadPart::Hi, true) => mul_hi_s32(a, b).wrapping_add(c),
        (MadPart::HiSat, _) => sat(mul_hi_s32(a, b), c),
        (MadPart::Lo24, false) => (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c),
        (MadPart::Lo24, true) => (s24(a).wrapping_mul(s24(b)) as u32).wrapping_add(c),
        (MadPart::Hi24, false) => mul24_hi_u32(a, b).wrapping_add(c),
        (MadPart::Hi24, true) => mul24_hi_s32(a, b).wrapping_add(c),
        (MadPart::Hi24Sat, _) => sat(mul24_hi_s32(a, b), c),
        (MadPart::Lo | MadPart::Wide, _) => a.wrapping_mul(b).wrapping_add(c),
    });
}

#[inline(always)]
fn mad16(w: &mut Warp, m: u32, part: MadPart, signed: bool, d: Reg, abc: [Reg; 3]) {
    map3(w, m, d, abc, |a, b, c| {
        let product = if signed {
            s16(a).wrapping_mul(s16(b)) as u32
        } else {
            (a & 0xffff).wrapping_mul(b & 0xffff)
        };
        match part {
            MadPart::Wide => product.wrapping_add(c),
            MadPart::Hi => (product >> 16).wrapping_add(c) & 0xffff,
            _ => product.wrapping_add(c) & 0xffff,
        }
    });
}

/// `c + |a - b|`.
pub(crate) fn sad(w: &mut Warp, m: u32, ty: IntTy, d: Reg, abc: [Reg; 3]) {
    match ty {
        IntTy::U16 => map3(w, m, d, abc, |a, b, c| {
            ((a & 0xffff).abs_diff(b & 0xffff)).wrapping_add(c) & 0xffff
        }),
        IntTy::S16 => map3(w, m, d, abc, |a, b, c| {
            s16(a).abs_diff(s16(b)).wrapping_add(c) & 0xffff
        }),
        IntTy::U32 => map3(w, m, d, abc, |a, b, c| a.abs_diff(b).wrapping_add(c)),
        IntTy::S32 => map3(w, m, d, abc, |a, b, c| {
            (a as i32).abs_diff(b as i32).wrapping_add(c)
        }),
        IntTy::U64 => wide3(w, m, d, abc, |a, b, c| a.abs_diff(b).wrapping_add(c)),
        IntTy::S64 => wide3(w, m, d, abc, |a, b, c| {
            (a as i64).abs_diff(b as i64).wrapping_add(c)
        }),
    }
}

/// Additions and multiply-adds with carry.
pub(crate) struct Carry {
    pub op: CarryOp,
    pub ty: IntTy,
    pub carry_in: bool,
    pub carry_out: bool,
}

impl Carry {
    /// Executes the operation. Subtraction keeps the borrow in the flag.
    pub fn run(&self, w: &mut Warp, m: u32, d: Reg, [a, b, c]: [Reg; 3]) {
        let wide = matches!(self.ty, IntTy::U64 | IntTy::S64);
        let flags = if self.carry_in { w.carry } else { 0 };
        let value = |w: &Warp, r: Reg, i: usize| match (r.is_none(), wide) {
            (true, _) => 0,
            (false, true) => w.u64s(r)[i],
            (false, false) => u64::from(w.u32s(r)[i]),
        };
        let mut out = [0u64; 32];
        let mut carries = 0u32;
        for (i, out) in out.iter_mut().enumerate() {
            let flag = flags >> i & 1;
            let (sum, carry) =
                self.lane(value(w, a, i), value(w, b, i), value(w, c, i), flag, wide);
            *out = sum;
            carries |= u32::from(carry) << i;
        }
        if self.carry_out {
            w.carry = (w.carry & !m) | (carries & m);
        }
        if d.is_none() {
            return;
        }
        if wide {
            w.set64(m, d, &out);
        } else {
            w.set32(m, d, &out.map(|x| x as u32));
        }
    }

    fn lane(&self, a: u64, b: u64, c: u64, flag: u32, wide: bool) -> (u64, bool) {
        let bits = if wide { 64 } else { 32 };
        let mask = if wide {
            u128::from(u64::MAX)
        } else {
            u128::from(u32::MAX)
        };
        let signed = |x: u64| {
            if wide {
                i128::from(x as i64)
            } else {
                i128::from(x as u32 as i32)
            }
        };
        let product = u128::from(a) * u128::from(b);
        let (x, y) = match self.op {
            CarryOp::Add => (a, b),
            CarryOp::Sub => {
                let wanted = u128::from(b) + u128::from(flag);
                let difference = u128::from(a).wrapping_sub(wanted) & mask;
                return (difference as u64, u128::from(a) < wanted);
            }
            CarryOp::MadLo => ((product & mask) as u64, c),
            CarryOp::MadHi => ((product >> bits & mask) as u64, c),
            CarryOp::MadHiSigned => (((signed(a) * signed(b)) as u128 >> bits & mask) as u64, c),
        };
        let sum = u128::from(x) + u128::from(y) + u128::from(flag);
        ((sum & mask) as u64, sum > mask)
    }
}
