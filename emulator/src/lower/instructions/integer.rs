//! Integer arithmetic and logic; `add`, `mul` and the like dispatch to
//! [`crate::lower::instructions::float`] for floating-point types.

use crate::ir::{BoolOp, CarryOp, IntBinary, IntTy, IntUnary, MadPart, Op};
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
        "add" | "sub" | "mul" | "mad" | "min" | "max" | "div" | "rem" => b.arithmetic(base, i, m),
        "abs" | "neg" => b.sign(base, i, m),
        "and" => b.bitwise(IntBinary::And, i, m),
        "or" => b.bitwise(IntBinary::Or, i, m),
        "xor" => b.bitwise(IntBinary::Xor, i, m),
        "not" => b.bitwise_not(i, m),
        "shl" | "shr" => b.shift(base == "shl", i, m),
        "cnot" => b.int_unary(IntUnary::Cnot, i, m),
        "brev" => b.int_unary(IntUnary::Brev, i, m),
        "popc" | "clz" | "bfind" => b.count_bits(base, i, m),
        "addc" | "subc" | "madc" => b.with_carry(base, i, m),
        "mul24" | "mad24" => b.mul24(base, i, m),
        "sad" => b.sad(i, m),
        _ => return None,
    })
}

/// The integer type of a PTX type; untyped bits are unsigned.
pub fn int_type(ty: Type) -> Option<IntTy> {
    Some(match ty {
        Type::U16 | Type::B16 => IntTy::U16,
        Type::S16 => IntTy::S16,
        Type::U32 | Type::B32 => IntTy::U32,
        Type::S32 => IntTy::S32,
        Type::U64 | Type::B64 => IntTy::U64,
        Type::S64 => IntTy::S64,
        _ => return None,
    })
}

/// The unsigned type of the same width, for operations that do not depend on the sign.
pub fn unsigned(ty: IntTy) -> IntTy {
    match ty {
        IntTy::S16 => IntTy::U16,
        IntTy::S32 => IntTy::U32,
        IntTy::S64 => IntTy::U64,
        other => other,
    }
}

/// The type of twice the width.
fn doubled(ty: Type) -> Option<Type> {
    Some(match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        Type::S32 => Type::S64,
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// The integer type of an instruction, an error for other types.
    pub(crate) fn int(&self, ty: Type, m: &Mods<'a>) -> Result<IntTy> {
        match int_type(ty) {
            Some(int) => Ok(int),
            None => m.error(&format!("type {ty} is not supported")),
        }
    }

    /// `add`, `sub`, `mul`, `mad`, `min`, `max`, `div`, `rem` of any type.
    fn arithmetic(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if ty.is_float() {
            return self.float_arithmetic(base, ty, i, m);
        }
        match base {
            "add" | "sub" if m.take("cc") => self.carry(base, ty, false, true, i, m),
            "mad" if m.take("cc") => self.carry(base, ty, false, true, i, m),
            "add" | "sub" => self.add_or_sub(base == "add", ty, i, m),
            "mul" => self.mul(ty, i, m),
            "mad" => self.mad(ty, i, m),
            "min" => self.int_binary(IntBinary::Min, ty, i, m),
            "max" => self.int_binary(IntBinary::Max, ty, i, m),
            "div" => self.int_binary(IntBinary::Div, ty, i, m),
            _ => self.int_binary(IntBinary::Rem, ty, i, m),
        }
    }

    fn int_binary(
        &mut self,
        op: IntBinary,
        ty: Type,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let int = self.int(ty, m)?;
        let (d, [a, b]) = self.registers(ty, [ty, ty], i, m)?;
        self.emit(Op::IntBinary {
            op,
            ty: int,
            d,
            a,
            b,
        });
        Ok(())
    }

    fn add_or_sub(
        &mut self,
        add: bool,
        ty: Type,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let int = self.int(ty, m)?;
        if m.take("sat") {
            if int != IntTy::S32 {
                return m.error("`.sat` of integers needs type .s32");
            }
            return self.int_binary(
                if add {
                    IntBinary::AddSat
                } else {
                    IntBinary::SubSat
                },
                ty,
                i,
                m,
            );
        }
        let [d, a, b] = operands(i, m)?;
        if matches!(b, Operand::Value(crate::ptx::ast::Value::Int(0))) {
            let a = self.source(a, ty)?;
            let d = self.destination(d, ty)?;
            self.emit(Op::Mov { w: width(ty), d, a });
            return Ok(());
        }
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let d = self.destination(d, ty)?;
        let op = if add { IntBinary::Add } else { IntBinary::Sub };
        self.emit(Op::IntBinary {
            op,
            ty: unsigned(int),
            d,
            a,
            b,
        });
        Ok(())
    }

    fn mul(&mut self, ty: Type, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let int = self.int(ty, m)?;
        let parts = [
            ("lo", MadPart::Lo),
            ("hi", MadPart::Hi),
            ("wide", MadPart::Wide),
        ];
        let part = m.need_of("`.lo`, `.hi` or `.wide`", &parts)?;
        let [d, a, b] = operands(i, m)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (op, int, result) = match part {
            MadPart::Lo => (IntBinary::MulLo, unsigned(int), ty),
            MadPart::Hi => (IntBinary::MulHi, int, ty),
            _ => match doubled(ty) {
                Some(wide) => (IntBinary::MulWide, int, wide),
                None => return m.error(&format!("`.wide` of {ty} does not exist")),
            },
        };
        let d = self.destination(d, result)?;
        self.emit(Op::IntBinary {
            op,
            ty: int,
            d,
            a,
            b,
        });
        Ok(())
    }

    fn mad(&mut self, ty: Type, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let int = self.int(ty, m)?;
        let parts = [
            ("lo", MadPart::Lo),
            ("hi", MadPart::Hi),
            ("wide", MadPart::Wide),
        ];
        let mut part = m.need_of("`.lo`, `.hi` or `.wide`", &parts)?;
        if m.take("sat") {
            if part != MadPart::Hi || int != IntTy::S32 {
                return m.error("`.sat` needs `.hi.s32`");
            }
            part = MadPart::HiSat;
        }
        let result = match (part, doubled(ty)) {
            (MadPart::Wide, Some(wide)) => wide,
            (MadPart::Wide, None) => return m.error(&format!("`.wide` of {ty} does not exist")),
            _ => ty,
        };
        let int = if part == MadPart::Lo {
            unsigned(int)
        } else {
            int
        };
        self.emit_mad(part, int, ty, result, i, m)
    }

    fn emit_mad(
        &mut self,
        part: MadPart,
        int: IntTy,
        ty: Type,
        result: Type,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let (d, [a, b, c]) = self.registers(result, [ty, ty, result], i, m)?;
        self.emit(Op::Mad {
            part,
            ty: int,
            d,
            a,
            b,
            c,
        });
        Ok(())
    }

    /// `mul24`, `mad24`.
    fn mul24(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let int = self.int(ty, m)?;
        if !matches!(int, IntTy::U32 | IntTy::S32) {
            return m.error(&format!("type {ty} is not supported"));
        }
        let hi = m.need_of("`.lo` or `.hi`", &[("lo", false), ("hi", true)])?;
        if base == "mul24" {
            return self.int_binary(
                if hi {
                    IntBinary::Mul24Hi
                } else {
                    IntBinary::Mul24Lo
                },
                ty,
                i,
                m,
            );
        }
        let part = match (hi, m.take("sat")) {
            (false, false) => MadPart::Lo24,
            (true, false) => MadPart::Hi24,
            (true, true) if int == IntTy::S32 => MadPart::Hi24Sat,
            _ => return m.error("`.sat` needs `.hi.s32`"),
        };
        self.emit_mad(part, int, ty, ty, i, m)
    }

    /// `addc`, `subc`, `madc`.
    fn with_carry(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let carry_out = m.take("cc");
        self.carry(&base[..3], ty, true, carry_out, i, m)
    }

    fn carry(
        &mut self,
        base: &str,
        ty: Type,
        carry_in: bool,
        carry_out: bool,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let int = self.int(ty, m)?;
        if matches!(int, IntTy::U16 | IntTy::S16) {
            return m.error(&format!("type {ty} is not supported with carry"));
        }
        let op = match base {
            "add" => CarryOp::Add,
            "sub" => CarryOp::Sub,
            _ => match (
                m.need_of("`.lo` or `.hi`", &[("lo", false), ("hi", true)])?,
                ty.is_signed(),
            ) {
                (false, _) => CarryOp::MadLo,
                (true, false) => CarryOp::MadHi,
                (true, true) => CarryOp::MadHiSigned,
            },
        };
        let [d, a, b, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let c = match (rest, base) {
            ([], "add" | "sub") => crate::ir::Reg::NONE,
            ([c], "mad") => self.source(c, ty)?,
            _ => return m.error("has a wrong number of operands"),
        };
        let d = self.destination(d, ty)?;
        self.emit(Op::Carry {
            op,
            ty: unsigned(int),
            carry_in,
            carry_out,
            d,
            a,
            b,
            c,
        });
        Ok(())
    }

    /// `abs`, `neg` of any type.
    fn sign(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if ty.is_float() {
            return self.float_sign(base, ty, i, m);
        }
        if !ty.is_signed() {
            return m.error(&format!("type {ty} is not supported"));
        }
        self.unary(
            if base == "abs" {
                IntUnary::Abs
            } else {
                IntUnary::Neg
            },
            ty,
            ty,
            i,
            m,
        )
    }

    pub(crate) fn unary(
        &mut self,
        op: IntUnary,
        ty: Type,
        result: Type,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let int = self.int(ty, m)?;
        let (d, [a]) = self.registers(result, [ty], i, m)?;
        self.emit(Op::IntUnary { op, ty: int, d, a });
        Ok(())
    }

    /// `cnot`, `brev`: untyped, the result as wide as the operand.
    fn int_unary(&mut self, op: IntUnary, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if !matches!(ty, Type::B16 | Type::B32 | Type::B64)
            || (op == IntUnary::Brev && ty == Type::B16)
        {
            return m.error(&format!("type {ty} is not supported"));
        }
        self.unary(op, ty, ty, i, m)
    }

    /// `and`, `or`, `xor` of integers and predicates.
    fn bitwise(&mut self, op: IntBinary, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if ty == Type::Pred {
            let op = match op {
                IntBinary::And => BoolOp::And,
                IntBinary::Or => BoolOp::Or,
                _ => BoolOp::Xor,
            };
            let [d, a, b] = operands(i, m)?;
            let (a, b) = (self.pred_source(a)?, self.pred_source(b)?);
            let d = self.pred_operand(d)?;
            self.emit(Op::PredLogic { op, d, a, b });
            return Ok(());
        }
        if !matches!(ty, Type::B16 | Type::B32 | Type::B64) {
            return m.error(&format!("type {ty} is not supported"));
        }
        self.int_binary(op, ty, i, m)
    }

    /// `not` of integers and predicates.
    fn bitwise_not(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        match ty {
            Type::Pred => {
                let [d, a] = operands(i, m)?;
                let mut a = self.pred_source(a)?;
                a.negated = !a.negated;
                let d = self.pred_operand(d)?;
                self.emit(Op::PredLogic {
                    op: BoolOp::And,
                    d,
                    a,
                    b: crate::ir::PredSrc::TRUE,
                });
                Ok(())
            }
            Type::B16 | Type::B32 | Type::B64 => self.unary(IntUnary::Not, ty, ty, i, m),
            _ => m.error(&format!("type {ty} is not supported")),
        }
    }

    /// `popc`, `clz`, `bfind`: the result has 32 bits.
    fn count_bits(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let op = match base {
            "popc" => IntUnary::Popc,
            "clz" => IntUnary::Clz,
            _ if m.take("shiftamt") => IntUnary::BfindShift,
            _ => IntUnary::Bfind,
        };
        if ty.bits() < 32 {
            return m.error(&format!("type {ty} is not supported"));
        }
        self.unary(op, ty, Type::U32, i, m)
    }

    /// `shl`, `shr`: the amount has 32 bits.
    fn shift(&mut self, left: bool, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let int = self.int(ty, m)?;
        let (d, [a, b]) = self.registers(ty, [ty, Type::U32], i, m)?;
        let (op, ty) = if left {
            (IntBinary::Shl, unsigned(int))
        } else {
            (IntBinary::Shr, int)
        };
        self.emit(Op::IntBinary { op, ty, d, a, b });
        Ok(())
    }

    /// `sad`
    fn sad(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let int = self.int(ty, m)?;
        let (d, [a, b, c]) = self.registers(ty, [ty, ty, ty], i, m)?;
        self.emit(Op::Sad {
            ty: int,
            d,
            a,
            b,
            c,
        });
        Ok(())
    }
}
