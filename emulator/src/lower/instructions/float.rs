//! Floating-point arithmetic.

use crate::ir::{FloatBinary, FloatMode, FloatTy, FloatUnary, Op, Rounding, TestP};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Type};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "fma" => b.fma(i, m),
        "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => {
            b.float_function(base, i, m)
        }
        "testp" => b.testp(i, m),
        "copysign" => b.copysign(i, m),
        _ => return None,
    })
}

/// The floating-point type of a PTX type.
pub fn float_type(ty: Type) -> Option<FloatTy> {
    Some(match ty {
        Type::F16 => FloatTy::F16,
        Type::F16x2 => FloatTy::F16x2,
        Type::Bf16 => FloatTy::Bf16,
        Type::Bf16x2 => FloatTy::Bf16x2,
        Type::F32 => FloatTy::F32,
        Type::F64 => FloatTy::F64,
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    fn float(&self, ty: Type, m: &Mods<'a>) -> Result<FloatTy> {
        match float_type(ty) {
            Some(float) => Ok(float),
            None => m.error(&format!("type {ty} is not supported")),
        }
    }

    /// Takes the arithmetic mode, and refuses modes that the type does not support.
    fn mode(&self, ty: Type, relu: bool, m: &mut Mods<'a>) -> Result<FloatMode> {
        let mode = m.take_float_mode();
        let half = !matches!(ty, Type::F32 | Type::F64);
        if mode.rounding != Rounding::None && half {
            return m.error(&format!("type {ty} only rounds to nearest"));
        }
        if mode.ftz && ty == Type::F64
            || (mode.ftz || mode.sat) && matches!(ty, Type::Bf16 | Type::Bf16x2)
        {
            return m.error(&format!("type {ty} has no `.ftz` or `.sat`"));
        }
        if mode.sat && ty == Type::F64 {
            return m.error("type .f64 has no `.sat`");
        }
        if mode.relu && !(relu && half) {
            return m.error("`.relu` is not supported here");
        }
        Ok(mode)
    }

    /// `add`, `sub`, `mul`, `mad`, `min`, `max`, `div` of floating-point types.
    pub(crate) fn float_arithmetic(
        &mut self,
        base: &str,
        ty: Type,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let op = match base {
            "add" => FloatBinary::Add,
            "sub" => FloatBinary::Sub,
            "mul" => FloatBinary::Mul,
            "min" | "max" => return self.min_max(base == "min", ty, i, m),
            "mad" => return self.emit_fma(ty, i, m),
            "div" if matches!(ty, Type::F32 | Type::F64) => {
                let approximate = m.take_of(&[("approx", ()), ("full", ())]).is_some();
                if approximate && ty == Type::F64 {
                    return m.error("type .f64 has no approximate division");
                }
                if approximate {
                    FloatBinary::DivApprox
                } else {
                    FloatBinary::Div
                }
            }
            _ => return m.error(&format!("type {ty} is not supported")),
        };
        let mode = self.mode(ty, false, m)?;
        self.float_binary(op, ty, mode, i, m)
    }

    fn float_binary(
        &mut self,
        op: FloatBinary,
        ty: Type,
        mode: FloatMode,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let float = self.float(ty, m)?;
        let (d, [a, b]) = self.registers(ty, [ty, ty], i, m)?;
        self.emit(Op::FloatBinary {
            op,
            ty: float,
            mode,
            d,
            a,
            b,
        });
        Ok(())
    }

    fn min_max(
        &mut self,
        min: bool,
        ty: Type,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ftz = m.take("ftz");
        let op = match (min, m.take("NaN"), m.take("xorsign")) {
            (true, false, false) => FloatBinary::Min,
            (false, false, false) => FloatBinary::Max,
            (true, true, false) => FloatBinary::MinNan,
            (false, true, false) => FloatBinary::MaxNan,
            (true, false, true) => FloatBinary::MinXorsign,
            (false, false, true) => FloatBinary::MaxXorsign,
            (true, true, true) => FloatBinary::MinNanXorsign,
            (false, true, true) => FloatBinary::MaxNanXorsign,
        };
        let xorsign = matches!(
            op,
            FloatBinary::MinXorsign
                | FloatBinary::MaxXorsign
                | FloatBinary::MinNanXorsign
                | FloatBinary::MaxNanXorsign
        );
        if xorsign && !m.take("abs") {
            return m.error("`.xorsign` needs `.abs`");
        }
        if ftz && matches!(ty, Type::F64 | Type::Bf16 | Type::Bf16x2) {
            return m.error(&format!("type {ty} has no `.ftz`"));
        }
        if ty == Type::F64 && !matches!(op, FloatBinary::Min | FloatBinary::Max) {
            return m.error("type .f64 has no `.NaN` or `.xorsign`");
        }
        self.float_binary(
            op,
            ty,
            FloatMode {
                ftz,
                ..FloatMode::RN
            },
            i,
            m,
        )
    }

    /// `fma`
    fn fma(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        self.emit_fma(ty, i, m)
    }

    fn emit_fma(&mut self, ty: Type, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let float = self.float(ty, m)?;
        let mode = self.mode(ty, true, m)?;
        let (d, [a, b, c]) = self.registers(ty, [ty, ty, ty], i, m)?;
        self.emit(Op::Fma {
            ty: float,
            mode,
            d,
            a,
            b,
            c,
        });
        Ok(())
    }

    /// `abs`, `neg` of floating-point types.
    pub(crate) fn float_sign(
        &mut self,
        base: &str,
        ty: Type,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ftz = m.take("ftz");
        if ftz && matches!(ty, Type::F64 | Type::Bf16 | Type::Bf16x2) {
            return m.error(&format!("type {ty} has no `.ftz`"));
        }
        let op = if base == "abs" {
            FloatUnary::Abs
        } else {
            FloatUnary::Neg
        };
        self.float_unary(
            op,
            ty,
            FloatMode {
                ftz,
                ..FloatMode::RN
            },
            i,
            m,
        )
    }

    fn float_unary(
        &mut self,
        op: FloatUnary,
        ty: Type,
        mode: FloatMode,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let float = self.float(ty, m)?;
        let (d, [a]) = self.registers(ty, [ty], i, m)?;
        self.emit(Op::FloatUnary {
            op,
            ty: float,
            mode,
            d,
            a,
        });
        Ok(())
    }

    /// `rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`.
    ///
    /// The results of `.approx` forms are not specified exactly; the emulator's are more accurate
    /// than the hardware's. `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64` are start values of an
    /// iteration, for which a more accurate value is harmless.
    fn float_function(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let approximate = m.take("approx");
        let (op, half, double) = match base {
            "rcp" => (FloatUnary::Rcp, false, true),
            "sqrt" => (FloatUnary::Sqrt, false, !approximate),
            "rsqrt" => (FloatUnary::Rsqrt, false, true),
            "ex2" => (FloatUnary::Ex2, true, false),
            "lg2" => (FloatUnary::Lg2, false, false),
            "sin" => (FloatUnary::Sin, false, false),
            "cos" => (FloatUnary::Cos, false, false),
            _ => (FloatUnary::Tanh, true, false),
        };
        let known = match ty {
            Type::F32 => true,
            Type::F64 => double,
            _ => half && ty.is_float(),
        };
        if !known {
            return m.error(&format!("type {ty} is not supported"));
        }
        let ftz = m.take("ftz");
        let rounding = m.take_of(&[
            ("rn", Rounding::None),
            ("rz", Rounding::Rz),
            ("rm", Rounding::Rm),
            ("rp", Rounding::Rp),
        ]);
        let exact = matches!(op, FloatUnary::Rcp | FloatUnary::Sqrt);
        if approximate == rounding.is_some() || (rounding.is_some() && !exact) {
            return m.error("`.approx` or a rounding must be given, as the instruction has it");
        }
        let mode = FloatMode {
            rounding: rounding.unwrap_or(Rounding::None),
            ftz,
            ..FloatMode::RN
        };
        self.float_unary(op, ty, mode, i, m)
    }

    /// `copysign`: the first source gives the sign, the second the magnitude, in PTX as in the
    /// program.
    fn copysign(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if !matches!(ty, Type::F32 | Type::F64) {
            return m.error(&format!("type {ty} is not supported"));
        }
        self.float_binary(FloatBinary::Copysign, ty, FloatMode::RN, i, m)
    }

    /// `testp`
    fn testp(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let tests = [
            ("finite", TestP::Finite),
            ("infinite", TestP::Infinite),
            ("number", TestP::Number),
            ("notanumber", TestP::NotANumber),
            ("normal", TestP::Normal),
            ("subnormal", TestP::Subnormal),
        ];
        let test = m.need_of("a test", &tests)?;
        let ty = m.need_type()?;
        let float = match ty {
            Type::F32 => FloatTy::F32,
            Type::F64 => FloatTy::F64,
            _ => return m.error(&format!("type {ty} is not supported")),
        };
        let [p, a] = operands(i, m)?;
        let a = self.source(a, ty)?;
        let p = self.pred_operand(p)?;
        self.emit(Op::TestP {
            test,
            ty: float,
            p,
            a,
        });
        Ok(())
    }
}
