//! `cvt`.
use crate::exec::instructions::float::canonical;
use crate::exec::instructions::fp8;
use crate::exec::instructions::half::value;
use crate::exec::instructions::isa::{Conversion, Isa};
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::{map1, map2, map3};
use crate::exec::machine::softfloat;
use crate::exec::machine::softfloat::{
    BF16, F16, F32, Format, TF32, f32_to_bf16, f32_to_f16, flush,
};
use crate::exec::machine::warp::Warp;
use crate::ir::{CvtTy, FloatMode, Op, Reg, Rounding, Width};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(_: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Cvt {
            to,
            from,
            mode,
            reg,
            d,
            a,
        } => {
            I::convert(
                w,
                m,
                &Conversion {
                    to,
                    from,
                    mode,
                    reg,
                },
                d,
                a,
            );
        }
        _ => return rare(w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare(w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::CvtPack {
            bf16,
            mode,
            d,
            a,
            b,
        } => pack(w, m, bf16, mode, d, a, b),
        Op::CvtToFp8 { ty, relu, d, a, b } => fp8::pack(w, m, (ty, relu), d, a, b),
        Op::CvtFromFp8 { ty, relu, d, a } => fp8::unpack(w, m, (ty, relu), d, a),
        Op::CvtPackInt { to, d, a, b, c } => pack_int(w, m, to, d, [a, b, c]),
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// A value during a conversion: integers exactly, floats as f64, which represents all the others.
#[derive(Clone, Copy)]
enum Value {
    Int(i128),
    Float(f64),
}

fn is_wide(ty: CvtTy) -> bool {
    matches!(ty, CvtTy::U64 | CvtTy::S64 | CvtTy::F64)
}

/// Bits and signedness of an integer type.
fn int_type(ty: CvtTy) -> Option<(u32, bool)> {
    Some(match ty {
        CvtTy::U8 => (8, false),
        CvtTy::S8 => (8, true),
        CvtTy::U16 => (16, false),
        CvtTy::S16 => (16, true),
        CvtTy::U32 => (32, false),
        CvtTy::S32 => (32, true),
        CvtTy::U64 => (64, false),
        CvtTy::S64 => (64, true),
        CvtTy::F16 | CvtTy::Bf16 | CvtTy::F32 | CvtTy::F64 | CvtTy::Tf32 => return None,
    })
}

impl Conversion {
    /// Executes the conversion.
    #[inline(always)]
    pub fn run(&self, w: &mut Warp, m: u32, d: Reg, a: Reg) {
        let nearest = matches!(self.mode.rounding, Rounding::None | Rounding::Rn);
        let plain =
            nearest && !self.mode.ftz && !self.mode.sat && !self.mode.relu && !self.mode.finite;
        match (self.from, self.to) {
            (CvtTy::F16, CvtTy::F32) if plain => {
                map1(w, m, d, a, |x| softfloat::f16_to_f32(x & 0xffff))
            }
            (CvtTy::Bf16, CvtTy::F32) if plain => {
                map1(w, m, d, a, |x| softfloat::bf16_to_f32(x & 0xffff))
            }
            (CvtTy::F32, CvtTy::F16) if plain => map1(w, m, d, a, f32_to_f16),
            (CvtTy::F32, CvtTy::Bf16) if plain => map1(w, m, d, a, f32_to_bf16),
            (CvtTy::F32, CvtTy::Tf32) if self.mode.is_plain_in(Rounding::Rna) => {
                map1(w, m, d, a, softfloat::f32_to_tf32_away);
            }
            (CvtTy::F32, CvtTy::Tf32) if self.mode.is_plain_in(Rounding::Rn) => {
                map1(w, m, d, a, softfloat::f32_to_tf32_even);
            }
            (CvtTy::S32, CvtTy::F32) if plain => map1(w, m, d, a, |x| (x as i32 as f32).to_bits()),
            (CvtTy::U32, CvtTy::F32) if plain => map1(w, m, d, a, |x| (x as f32).to_bits()),
            (CvtTy::S32, CvtTy::S64) => {
                crate::exec::machine::lanes::widen1(w, m, d, a, |x| x as i32 as i64 as u64)
            }
            (CvtTy::U32, CvtTy::U64) => crate::exec::machine::lanes::widen1(w, m, d, a, u64::from),
            (CvtTy::U64 | CvtTy::S64, CvtTy::U32 | CvtTy::S32)
                if !self.mode.sat && self.reg == Width::W32 =>
            {
                crate::exec::machine::lanes::narrow1(w, m, d, a, |x| x as u32);
            }
            _ => match (int_type(self.from), int_type(self.to)) {
                (Some((from, signed)), Some((to, to_signed)))
                    if from <= 32 && to <= 32 && !self.mode.sat && self.reg != Width::W64 =>
                {
                    let keep = if self.reg == Width::W16 {
                        0xffff
                    } else {
                        u32::MAX
                    };
                    map1(w, m, d, a, |x| {
                        extend(extend(x, from, signed), to, to_signed) & keep
                    });
                }
                _ => self.run_any(w, m, d, a),
            },
        }
    }

    #[inline(never)]
    fn run_any(&self, w: &mut Warp, m: u32, d: Reg, a: Reg) {
        let source: [u64; 32] = if is_wide(self.from) {
            *w.u64s(a)
        } else {
            w.u32s(a).map(u64::from)
        };
        let out = source.map(|bits| self.lane(bits));
        if self.reg == Width::W64 {
            w.set64(m, d, &out);
        } else {
            w.set32(m, d, &out.map(|x| x as u32));
        }
    }

    /// Converts one value; the result is extended to the register's width.
    fn lane(&self, bits: u64) -> u64 {
        let value = self.read(bits);
        match int_type(self.to) {
            Some((width, signed)) => {
                let integer = match value {
                    Value::Int(x) if self.mode.sat => clamp(x, width, signed),
                    Value::Int(x) => wrap(x, width, signed),
                    Value::Float(x) => clamp(self.rounded(x, width, signed), width, signed),
                };
                self.extend(integer as u64)
            }
            None => self.write_float(value),
        }
    }

    fn read(&self, bits: u64) -> Value {
        match self.from {
            CvtTy::F16 => Value::Float(f64::from(value(bits as u32, false))),
            CvtTy::Bf16 => Value::Float(f64::from(value(bits as u32, true))),
            CvtTy::F32 | CvtTy::Tf32 => {
                let bits = if self.mode.ftz {
                    flush(bits as u32)
                } else {
                    bits as u32
                };
                Value::Float(f64::from(f32::from_bits(bits)))
            }
            CvtTy::F64 => Value::Float(f64::from_bits(bits)),
            _ => {
                let (width, signed) = int_type(self.from).unwrap_or((64, false));
                Value::Int(wrap(i128::from(bits), width, signed))
            }
        }
    }

    /// Rounds a float to an integer. NaN gives 0, or only the highest bit where source or
    /// destination has 64 bits (PTX ISA 9.0, `cvt`).
    fn rounded(&self, x: f64, width: u32, signed: bool) -> i128 {
        if x.is_nan() {
            let wide = self.from == CvtTy::F64 || width == 64;
            let highest = 1i128 << (width - 1);
            return match (wide, signed) {
                (false, _) => 0,
                (true, false) => highest,
                (true, true) => -highest,
            };
        }
        round_integral(x, self.mode.rounding, Rounding::Rzi) as i128
    }

    /// Sign- or zero-extends an integer to the destination register's width.
    fn extend(&self, integer: u64) -> u64 {
        match self.reg {
            Width::W16 => integer & 0xffff,
            Width::W32 => integer & 0xffff_ffff,
            Width::W64 => integer,
        }
    }

    /// Applies `.satfinite` to a rounded number of a format.
    fn finite(&self, bits: u32, format: Format) -> u32 {
        let infinity = ((1 << format.exponent) - 1) << format.fraction;
        let sign = 1 << (format.fraction + format.exponent);
        if self.mode.finite && bits & !sign == infinity {
            bits - 1
        } else {
            bits
        }
    }

    fn write_float(&self, value: Value) -> u64 {
        let rounding = match self.mode.rounding {
            Rounding::None => Rounding::Rn,
            other => other,
        };
        let mut x = match value {
            Value::Float(x) => x,
            Value::Int(x) if self.to == CvtTy::F64 => return int_to_f64(x, rounding).to_bits(),
            Value::Int(x) => int_to_odd(x),
        };
        if matches!(
            rounding,
            Rounding::Rni | Rounding::Rzi | Rounding::Rmi | Rounding::Rpi
        ) {
            x = round_integral(x, rounding, Rounding::Rni);
        }
        if self.mode.sat {
            x = if x > 0.0 { x.min(1.0) } else { 0.0 };
        }
        if self.mode.relu && !x.is_nan() {
            x = if x > 0.0 { x } else { 0.0 };
        }
        match self.to {
            CvtTy::F16 => u64::from(self.finite(softfloat::round(x, F16, rounding), F16)),
            CvtTy::Bf16 => u64::from(self.finite(softfloat::round(x, BF16, rounding), BF16)),
            CvtTy::Tf32 if x.is_nan() => u64::from(crate::exec::instructions::float::NAN32),
            CvtTy::Tf32 => u64::from(self.finite(softfloat::round(x, TF32, rounding), TF32) << 13),
            CvtTy::F64 => x.to_bits(),
            _ => {
                let bits = match rounding {
                    Rounding::Rn => canonical(x as f32),
                    _ => softfloat::round(x, F32, rounding),
                };
                u64::from(if self.mode.ftz { flush(bits) } else { bits })
            }
        }
    }
}

/// Extends the low bits of a word to the whole word.
#[inline(always)]
fn extend(x: u32, bits: u32, signed: bool) -> u32 {
    let up = x << (32 - bits);
    if signed {
        (up as i32 >> (32 - bits)) as u32
    } else {
        up >> (32 - bits)
    }
}

/// Rounds to an integral value.
fn round_integral(x: f64, rounding: Rounding, default: Rounding) -> f64 {
    let rounding = if rounding == Rounding::None {
        default
    } else {
        rounding
    };
    match rounding {
        Rounding::Rzi | Rounding::Rz => x.trunc(),
        Rounding::Rmi | Rounding::Rm => x.floor(),
        Rounding::Rpi | Rounding::Rp => x.ceil(),
        _ => x.round_ties_even(),
    }
}

fn range(width: u32, signed: bool) -> (i128, i128) {
    if signed {
        (-(1 << (width - 1)), (1 << (width - 1)) - 1)
    } else {
        (0, (1 << width) - 1)
    }
}

fn clamp(x: i128, width: u32, signed: bool) -> i128 {
    let (low, high) = range(width, signed);
    x.clamp(low, high)
}

/// Wraps an integer to the low bits of a type.
fn wrap(x: i128, width: u32, signed: bool) -> i128 {
    let shift = 128 - width;
    if signed {
        x << shift >> shift
    } else {
        ((x as u128) << shift >> shift) as i128
    }
}

/// Converts an integer to f64, rounded to odd.
fn int_to_odd(x: i128) -> f64 {
    let nearest = x as f64;
    let error = x - nearest as i128;
    let bits = nearest.to_bits();
    if error == 0 || bits & 1 != 0 {
        nearest
    } else if (error > 0) == (x > 0) {
        f64::from_bits(bits + 1)
    } else {
        f64::from_bits(bits - 1)
    }
}

fn int_to_f64(x: i128, rounding: Rounding) -> f64 {
    let nearest = x as f64;
    let error = (x - nearest as i128) as f64;
    softfloat::direct(nearest, error, rounding)
}

/// Packs two f32 into a pair of halves, `a` into the upper one.
#[inline(always)]
pub(crate) fn pack(w: &mut Warp, m: u32, bf16: bool, mode: FloatMode, d: Reg, a: Reg, b: Reg) {
    let nearest = matches!(mode.rounding, Rounding::None | Rounding::Rn);
    let simple = nearest && !mode.relu && !mode.sat && !mode.finite;
    match bf16 {
        true if simple => map2(w, m, d, a, b, |a, b| f32_to_bf16(a) << 16 | f32_to_bf16(b)),
        false if simple => map2(w, m, d, a, b, |a, b| f32_to_f16(a) << 16 | f32_to_f16(b)),
        _ => {
            let to = if bf16 { CvtTy::Bf16 } else { CvtTy::F16 };
            let one = Conversion {
                to,
                from: CvtTy::F32,
                mode,
                reg: Width::W16,
            };
            map2(w, m, d, a, b, |a, b| {
                (one.lane(u64::from(a)) << 16 | one.lane(u64::from(b))) as u32
            });
        }
    }
}

/// `cvt.pack`: packs two saturated integers.
pub(crate) fn pack_int(w: &mut Warp, m: u32, to: CvtTy, d: Reg, [a, b, c]: [Reg; 3]) {
    let (width, signed) = int_type(to).unwrap_or((16, false));
    let saturate =
        |x: u32| (clamp(i128::from(x as i32), width, signed) as u64 & ((1 << width) - 1)) as u32;
    if c.is_none() || width == 16 {
        map2(w, m, d, a, b, |a, b| saturate(a) << width | saturate(b));
    } else {
        map3(w, m, d, [a, b, c], |a, b, c| {
            c << 16 | saturate(a) << 8 | saturate(b)
        });
    }
}
