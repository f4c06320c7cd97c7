//! Integer arithmetic and logic; `add`, `mul` and the like go on to [`super::float`] if their type is one of its.

use super::Result;
use super::builder::{Builder, operands, width};
use super::mods::Mods;
use crate::ast::{Instruction, Operand, Type};
use crate::ir::{BoolOp, CarryOp, IntBinary, IntTy, IntUnary, MadPart, Op, PrmtMode};

/// The integer type of a PTX type, untyped bits being unsigned.
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

/// The same width, unsigned: for operations that do not care.
fn unsigned(ty: IntTy) -> IntTy {
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
    /// The integer type that an instruction must have.
    fn int(&self, ty: Type, m: &Mods<'a>) -> Result<IntTy> {
        match int_type(ty) {
            Some(int) => Ok(int),
            None => m.error(&format!("type {ty} is not supported")),
        }
    }

    /// `add`, `sub`, `mul`, `mad`, `min`, `max`, `div`, `rem` of any type.
    pub(super) fn arithmetic(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
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
        let [d, a, b] = operands(i, m)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let d = self.destination(d, ty)?;
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
        if matches!(b, Operand::Value(crate::ast::Value::Int(0))) {
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
        let [d, a, b, c] = operands(i, m)?;
        let (a, b, c) = (
            self.source(a, ty)?,
            self.source(b, ty)?,
            self.source(c, result)?,
        );
        let d = self.destination(d, result)?;
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
    pub(super) fn mul24(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
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
    pub(super) fn with_carry(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
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
    pub(super) fn sign(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
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

    fn unary(
        &mut self,
        op: IntUnary,
        ty: Type,
        result: Type,
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let int = self.int(ty, m)?;
        let [d, a] = operands(i, m)?;
        let a = self.source(a, ty)?;
        let d = self.destination(d, result)?;
        self.emit(Op::IntUnary { op, ty: int, d, a });
        Ok(())
    }

    /// `cnot`, `brev`: untyped, the result as wide as the operand.
    pub(super) fn int_unary(
        &mut self,
        op: IntUnary,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ty = m.need_type()?;
        if !matches!(ty, Type::B16 | Type::B32 | Type::B64)
            || (op == IntUnary::Brev && ty == Type::B16)
        {
            return m.error(&format!("type {ty} is not supported"));
        }
        self.unary(op, ty, ty, i, m)
    }

    /// `popc`, `clz`, `bfind`: the result has 32 bits.
    pub(super) fn count_bits(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
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

    /// `and`, `or`, `xor` of integers and predicates.
    pub(super) fn bitwise(
        &mut self,
        op: IntBinary,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
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
    pub(super) fn bitwise_not(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
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

    /// `shl`, `shr`: the amount has 32 bits.
    pub(super) fn shift(
        &mut self,
        left: bool,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ty = m.need_type()?;
        let int = self.int(ty, m)?;
        let [d, a, b] = operands(i, m)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, Type::U32)?);
        let d = self.destination(d, ty)?;
        let (op, ty) = if left {
            (IntBinary::Shl, unsigned(int))
        } else {
            (IntBinary::Shr, int)
        };
        self.emit(Op::IntBinary { op, ty, d, a, b });
        Ok(())
    }

    /// `sad`, `bfe`, `lop3`, `prmt`, `shf`, `fns`.
    pub(super) fn ternary(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ty = m.need_type()?;
        let int = self.int(ty, m)?;
        if base == "lop3" {
            return self.lop3(ty, i, m);
        }
        let b_type = if base == "sad" { ty } else { Type::U32 };
        let [d, a, b, c] = operands(i, m)?;
        let (a, b, c) = (
            self.source(a, ty)?,
            self.source(b, b_type)?,
            self.source(c, b_type)?,
        );
        let d = self.destination(d, ty)?;
        let op = match base {
            "sad" => Op::Sad {
                ty: int,
                d,
                a,
                b,
                c,
            },
            "bfe" if ty.bits() >= 32 => Op::Bfe {
                ty: int,
                d,
                a,
                b,
                c,
            },
            _ if ty != Type::B32 => return m.error(&format!("type {ty} is not supported")),
            "prmt" => Op::Prmt {
                mode: prmt_mode(m),
                d,
                a,
                b,
                c,
            },
            "fns" => Op::Fns {
                d,
                mask: a,
                base: b,
                offset: c,
            },
            _ => {
                let left = m.need_of("`.l` or `.r`", &[("l", true), ("r", false)])?;
                let clamp =
                    m.need_of("`.clamp` or `.wrap`", &[("clamp", true), ("wrap", false)])?;
                Op::Shf {
                    left,
                    clamp,
                    d,
                    a,
                    b,
                    c,
                }
            }
        };
        self.emit(op);
        Ok(())
    }

    fn lop3(&mut self, ty: Type, i: &Instruction<'a>, m: &Mods<'a>) -> Result<()> {
        if ty != Type::B32 {
            return m.error(&format!("type {ty} is not supported"));
        }
        let [d, a, b, c, lut] = operands(i, m)?;
        let (a, b, c) = (
            self.source(a, ty)?,
            self.source(b, ty)?,
            self.source(c, ty)?,
        );
        let d = self.destination(d, ty)?;
        let lut = self.immediate(lut)? as u8;
        self.emit(Op::Lop3 { lut, d, a, b, c });
        Ok(())
    }

    /// `bfi`
    pub(super) fn bfi(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if !matches!(ty, Type::B32 | Type::B64) {
            return m.error(&format!("type {ty} is not supported"));
        }
        let [d, a, b, pos, len] = operands(i, m)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (pos, len) = (self.source(pos, Type::U32)?, self.source(len, Type::U32)?);
        let d = self.destination(d, ty)?;
        self.emit(Op::Bfi {
            w: width(ty),
            d,
            a,
            b,
            pos,
            len,
        });
        Ok(())
    }

    /// `bmsk`, `szext`
    pub(super) fn mask_or_extend(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ty = m.need_type()?;
        let clamp = m.need_of("`.clamp` or `.wrap`", &[("clamp", true), ("wrap", false)])?;
        let [d, a, b] = operands(i, m)?;
        let (a, b) = (self.source(a, Type::U32)?, self.source(b, Type::U32)?);
        let d = self.destination(d, Type::U32)?;
        let op = match (base, ty) {
            ("bmsk", Type::B32) => Op::Bmsk { clamp, d, a, b },
            ("szext", Type::U32 | Type::S32) => Op::Szext {
                signed: ty.is_signed(),
                clamp,
                d,
                a,
                b,
            },
            _ => return m.error(&format!("type {ty} is not supported")),
        };
        self.emit(op);
        Ok(())
    }

    /// `dp4a`, `dp2a`
    pub(super) fn dot_product(
        &mut self,
        base: &str,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let (a_type, b_type) = (m.need_type()?, m.need_type()?);
        for ty in [a_type, b_type] {
            if !matches!(ty, Type::U32 | Type::S32) {
                return m.error(&format!("type {ty} is not supported"));
            }
        }
        let (a_signed, b_signed) = (a_type.is_signed(), b_type.is_signed());
        let [d, a, b, c] = operands(i, m)?;
        let (a, b, c) = (
            self.source(a, a_type)?,
            self.source(b, b_type)?,
            self.source(c, Type::U32)?,
        );
        let d = self.destination(d, Type::U32)?;
        let op = if base == "dp4a" {
            Op::Dp4a {
                a_signed,
                b_signed,
                d,
                a,
                b,
                c,
            }
        } else {
            let hi = m.need_of("`.lo` or `.hi`", &[("lo", false), ("hi", true)])?;
            Op::Dp2a {
                a_signed,
                b_signed,
                hi,
                d,
                a,
                b,
                c,
            }
        };
        self.emit(op);
        Ok(())
    }
}

fn prmt_mode(m: &mut Mods<'_>) -> PrmtMode {
    let modes = [
        ("f4e", PrmtMode::F4e),
        ("b4e", PrmtMode::B4e),
        ("rc8", PrmtMode::Rc8),
        ("ecl", PrmtMode::Ecl),
        ("ecr", PrmtMode::Ecr),
        ("rc16", PrmtMode::Rc16),
    ];
    m.take_of(&modes).unwrap_or(PrmtMode::Index)
}
