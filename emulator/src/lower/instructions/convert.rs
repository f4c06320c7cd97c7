//! `cvt` in its many forms.

use crate::ir::{CvtTy, FloatMode, Fp8, Op, Reg, Rounding, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands, width};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Operand, Type};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "cvt" => b.cvt(i, m),
        _ => return None,
    })
}

fn convert_type(ty: Type) -> Option<CvtTy> {
    Some(match ty {
        Type::U8 => CvtTy::U8,
        Type::S8 => CvtTy::S8,
        Type::U16 => CvtTy::U16,
        Type::S16 => CvtTy::S16,
        Type::U32 => CvtTy::U32,
        Type::S32 => CvtTy::S32,
        Type::U64 => CvtTy::U64,
        Type::S64 => CvtTy::S64,
        Type::F16 => CvtTy::F16,
        Type::Bf16 => CvtTy::Bf16,
        Type::F32 => CvtTy::F32,
        Type::F64 => CvtTy::F64,
        _ => return None,
    })
}

/// Significand bits, the hidden one included, and exponent bits, which determine whether a
/// conversion is exact.
fn precision(ty: Type) -> (u32, u32) {
    match ty {
        Type::F16 => (11, 5),
        Type::Bf16 => (8, 8),
        Type::F32 => (24, 8),
        _ => (53, 11),
    }
}

impl<'a> Builder<'_, 'a> {
    /// `cvt`
    fn cvt(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if m.take("pack") {
            return self.cvt_pack_int(i, m);
        }
        let mode = self.convert_mode(m)?;
        if m.take("tf32") {
            return self.cvt_tf32(mode, i, m);
        }
        if let Some(ty) = m.take_of(&[("e4m3x2", Fp8::E4m3), ("e5m2x2", Fp8::E5m2)]) {
            return self.cvt_fp8(ty, mode, i, m);
        }
        let (to, from) = (m.need_type()?, m.need_type()?);
        if matches!(to, Type::F16x2 | Type::Bf16x2) {
            return self.cvt_pack(to, from, mode, i, m);
        }
        let (Some(to_cvt), Some(from_cvt)) = (convert_type(to), convert_type(from)) else {
            return m.error(&format!("converting {from} to {to} is not supported"));
        };
        self.check_mode(to, from, mode, m)?;
        let [d, a] = operands(i, m)?;
        let a = self.convert_source(a, from)?;
        let d = self.convert_destination(d, to)?;
        let reg = self.width_of(d);
        if to == from && mode == FloatMode::RN && width(to) == reg && to.bits() >= 16 {
            self.emit(Op::Mov { w: reg, d, a });
        } else {
            self.emit(Op::Cvt {
                to: to_cvt,
                from: from_cvt,
                mode,
                reg,
                d,
                a,
            });
        }
        Ok(())
    }

    fn convert_mode(&self, m: &mut Mods<'a>) -> Result<FloatMode> {
        let integral = [
            ("rni", Rounding::Rni),
            ("rzi", Rounding::Rzi),
            ("rmi", Rounding::Rmi),
            ("rpi", Rounding::Rpi),
        ];
        let rounding = match m.take_of(&integral) {
            Some(rounding) => rounding,
            None if m.take("rna") => Rounding::Rna,
            None => m.take_rounding(),
        };
        Ok(FloatMode {
            rounding,
            ftz: m.take("ftz"),
            sat: m.take("sat"),
            relu: m.take("relu"),
            finite: m.take("satfinite"),
        })
    }

    /// Checks that a rounding is present exactly where the conversion needs one: a missing one is
    /// an error in PTX too, and a default would change results.
    fn check_mode(&self, to: Type, from: Type, mode: FloatMode, m: &Mods<'a>) -> Result<()> {
        let integral = matches!(
            mode.rounding,
            Rounding::Rni | Rounding::Rzi | Rounding::Rmi | Rounding::Rpi
        );
        let fractional = matches!(
            mode.rounding,
            Rounding::Rn | Rounding::Rz | Rounding::Rm | Rounding::Rp
        );
        let fits = match (from.is_float(), to.is_float()) {
            (false, false) => mode.rounding == Rounding::None,
            (true, false) => integral,
            (false, true) => fractional,
            (true, true) if to == from => integral || mode.rounding == Rounding::None,
            (true, true) => {
                let (narrow, wide) = (precision(to), precision(from));
                let exact = narrow.0 >= wide.0 && narrow.1 >= wide.1;
                if exact {
                    mode.rounding == Rounding::None
                } else {
                    fractional
                }
            }
        };
        if !fits {
            return m.error(&format!(
                "the rounding does not fit a conversion of {from} to {to}"
            ));
        }
        if mode.relu && !matches!(to, Type::F16 | Type::Bf16) {
            return m.error("`.relu` needs a 16-bit floating-point destination");
        }
        if mode.finite && !(from == Type::F32 && matches!(to, Type::F16 | Type::Bf16)) {
            return m.error("`.satfinite` does not exist for the types");
        }
        if mode.finite {
            self.need(m, 80, (8, 1))?;
        }
        if mode.ftz && to != Type::F32 && from != Type::F32 {
            return m.error("`.ftz` needs an .f32 operand");
        }
        Ok(())
    }

    /// The source, at least as wide as its type; of a wider register the low bits are used.
    fn convert_source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        let a = self.any_source(operand, ty)?;
        let (found, wanted) = (self.width_of(a), width(ty));
        if found == wanted {
            return Ok(a);
        }
        let from = match found {
            Width::W16 => return self.width_error(operand, found, ty),
            Width::W32 if wanted == Width::W64 => return self.width_error(operand, found, ty),
            Width::W32 => CvtTy::U32,
            Width::W64 => CvtTy::U64,
        };
        if ty.is_float() {
            return self.width_error(operand, found, ty);
        }
        let d = self.new_reg(wanted)?;
        let to = if wanted == Width::W16 {
            CvtTy::U16
        } else {
            CvtTy::U32
        };
        self.emit(Op::Cvt {
            to,
            from,
            mode: FloatMode::RN,
            reg: wanted,
            d,
            a,
        });
        Ok(d)
    }

    /// The destination, at least as wide as its type.
    fn convert_destination(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        let d = self.any_destination(operand)?;
        if d.is_none() {
            return self.new_reg(width(ty));
        }
        let found = self.width_of(d);
        let bits = match found {
            Width::W16 => 16,
            Width::W32 => 32,
            Width::W64 => 64,
        };
        if bits < ty.bits() || (ty.is_float() && bits != ty.bits()) {
            return self.width_error(operand, found, ty);
        }
        Ok(d)
    }

    /// `cvt.rna.tf32.f32` and, since 9.0, `cvt.rn.tf32.f32`
    fn cvt_tf32(&mut self, mode: FloatMode, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let from = m.need_type()?;
        let rounded = matches!(mode.rounding, Rounding::Rna | Rounding::Rn | Rounding::Rz);
        if from != Type::F32 || !rounded || mode.ftz || mode.sat {
            return m.error("only .f32 converts to .tf32, with a rounding");
        }
        match (mode.rounding == Rounding::Rna, mode.finite) {
            (true, _) if mode.relu => return m.error("`.rna` has no `.relu`"),
            (true, false) => self.need(m, 80, (7, 0))?,
            (true, true) => self.need(m, 80, (8, 1))?,
            (false, false) => self.need(m, 90, (7, 8))?,
            (false, true) => self.need(m, 100, (8, 6))?,
        }
        let (d, [a]) = self.registers(Type::B32, [Type::F32], i, m)?;
        self.emit(Op::Cvt {
            to: CvtTy::Tf32,
            from: CvtTy::F32,
            mode,
            reg: Width::W32,
            d,
            a,
        });
        Ok(())
    }

    /// `cvt.rn.satfinite.e4m3x2.f32`, `cvt.rn.satfinite.e4m3x2.f16x2`, `cvt.rn.f16x2.e4m3x2`, and
    /// the same with `e5m2x2`.
    fn cvt_fp8(
        &mut self,
        ty: Fp8,
        mode: FloatMode,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let other = m.need_type()?;
        if mode.rounding != Rounding::Rn || mode.ftz || mode.sat {
            return m.error("conversions of pairs of 8 bits have `.rn`");
        }
        self.need(m, 89, (7, 8))?;
        let relu = mode.relu;
        match (mode.finite, other, i.operands.as_slice()) {
            (true, Type::F32, [d, a, b]) => {
                let (a, b) = (self.source(a, Type::F32)?, self.source(b, Type::F32)?);
                let d = self.destination(d, Type::B16)?;
                self.emit(Op::CvtToFp8 { ty, relu, d, a, b });
            }
            (true, Type::F16x2, [d, a]) => {
                let a = self.source(a, Type::F16x2)?;
                let d = self.destination(d, Type::B16)?;
                let b = Reg::NONE;
                self.emit(Op::CvtToFp8 { ty, relu, d, a, b });
            }
            (false, Type::F16x2, [d, a]) => {
                let a = self.source(a, Type::B16)?;
                let d = self.destination(d, Type::F16x2)?;
                self.emit(Op::CvtFromFp8 { ty, relu, d, a });
            }
            _ => {
                return m.error(
                    "pairs of 8 bits are converted from .f32 and .f16x2 with `.satfinite`, and to \
                    .f16x2",
                );
            }
        }
        Ok(())
    }

    /// `cvt.rn.f16x2.f32`, `cvt.rn.bf16x2.f32`
    fn cvt_pack(
        &mut self,
        to: Type,
        from: Type,
        mode: FloatMode,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        if from != Type::F32
            || !matches!(mode.rounding, Rounding::Rn | Rounding::Rz)
            || mode.ftz
            || mode.sat
        {
            return m.error(&format!(
                "converting {from} to {to} in this way is not supported"
            ));
        }
        self.need(m, 80, if mode.finite { (8, 1) } else { (7, 0) })?;
        let (d, [a, b]) = self.registers(to, [from, from], i, m)?;
        self.emit(Op::CvtPack {
            bf16: to == Type::Bf16x2,
            mode,
            d,
            a,
            b,
        });
        Ok(())
    }

    /// `cvt.pack.sat.s16.s32 d, a, b` and `cvt.pack.sat.s8.s32.b32 d, a, b, c`
    fn cvt_pack_int(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (to, from) = (m.need_type()?, m.need_type()?);
        let third = m.take("b32");
        let to_cvt = match to {
            Type::U16 | Type::S16 if !third => convert_type(to),
            Type::U8 | Type::S8 if third => convert_type(to),
            _ => None,
        };
        let (Some(to), Type::S32, true) = (to_cvt, from, m.take("sat")) else {
            return m.error(&format!("packing {from} as {to} is not supported"));
        };
        let [d, a, b, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        let (a, b) = (self.source(a, from)?, self.source(b, from)?);
        let c = match rest {
            [] if !third => Reg::NONE,
            [c] if third => self.source(c, Type::B32)?,
            _ => return m.error("has a wrong number of operands"),
        };
        let d = self.destination(d, Type::B32)?;
        self.emit(Op::CvtPackInt { to, d, a, b, c });
        Ok(())
    }
}
