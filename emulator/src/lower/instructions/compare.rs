//! Comparisons and selections.

use crate::ir::{BoolOp, Cmp, CmpTy, FloatTy, IntTy, Op, Pred, PredSrc, SetTy};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands, width};
use crate::lower::instructions::float::float_type;
use crate::lower::instructions::integer::int_type;
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
        "setp" => b.setp(i, m),
        "set" => b.set(i, m),
        "selp" => b.selp(i, m),
        "slct" => b.slct(i, m),
        _ => return None,
    })
}

/// The comparisons, each with the class of types that have it.
const COMPARISONS: [(&str, (Cmp, Class)); 18] = [
    ("eq", (Cmp::Eq, Class::Any)),
    ("ne", (Cmp::Ne, Class::Any)),
    ("lt", (Cmp::Lt, Class::Number)),
    ("le", (Cmp::Le, Class::Number)),
    ("gt", (Cmp::Gt, Class::Number)),
    ("ge", (Cmp::Ge, Class::Number)),
    ("lo", (Cmp::Lt, Class::Unsigned)),
    ("ls", (Cmp::Le, Class::Unsigned)),
    ("hi", (Cmp::Gt, Class::Unsigned)),
    ("hs", (Cmp::Ge, Class::Unsigned)),
    ("equ", (Cmp::Equ, Class::Float)),
    ("neu", (Cmp::Neu, Class::Float)),
    ("ltu", (Cmp::Ltu, Class::Float)),
    ("leu", (Cmp::Leu, Class::Float)),
    ("gtu", (Cmp::Gtu, Class::Float)),
    ("geu", (Cmp::Geu, Class::Float)),
    ("num", (Cmp::Num, Class::Float)),
    ("nan", (Cmp::Nan, Class::Float)),
];

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Any,
    Number,
    Unsigned,
    Float,
}

/// Shared parts of `setp` and `set`.
struct Comparison {
    cmp: Cmp,
    ty: CmpTy,
    ftz: bool,
    combine: BoolOp,
}

impl<'a> Builder<'_, 'a> {
    fn comparison(
        &self,
        ty: Type,
        cmp: (Cmp, Class),
        combine: Option<BoolOp>,
        m: &mut Mods<'a>,
    ) -> Result<Comparison> {
        let (cmp, class) = cmp;
        let compared = match (int_type(ty), float_type(ty)) {
            (Some(int), _) => CmpTy::Int(int),
            (_, Some(float)) => CmpTy::Float(float),
            _ => return m.error(&format!("type {ty} is not supported")),
        };
        let untyped = matches!(ty, Type::B16 | Type::B32 | Type::B64);
        let allowed = match class {
            Class::Any => true,
            Class::Number => !untyped,
            Class::Unsigned => matches!(compared, CmpTy::Int(IntTy::U16 | IntTy::U32 | IntTy::U64)),
            Class::Float => ty.is_float(),
        };
        if !allowed {
            return m.error(&format!("the comparison does not exist for {ty}"));
        }
        let ftz = m.take("ftz");
        if ftz
            && !matches!(
                compared,
                CmpTy::Float(FloatTy::F32 | FloatTy::F16 | FloatTy::F16x2)
            )
        {
            return m.error(&format!("type {ty} has no `.ftz`"));
        }
        Ok(Comparison {
            cmp,
            ty: compared,
            ftz,
            combine: combine.unwrap_or(BoolOp::And),
        })
    }

    fn take_bool(m: &mut Mods<'a>) -> Option<BoolOp> {
        m.take_of(&[
            ("and", BoolOp::And),
            ("or", BoolOp::Or),
            ("xor", BoolOp::Xor),
        ])
    }

    /// The predicate operand of a combination, which must be present exactly if there is one.
    fn combined(
        &mut self,
        rest: &[Operand<'a>],
        combine: Option<BoolOp>,
        m: &Mods<'a>,
    ) -> Result<PredSrc> {
        match (rest, combine) {
            ([], None) => Ok(PredSrc::TRUE),
            ([c], Some(_)) => self.pred_source(c),
            _ => m.error("has a wrong number of operands"),
        }
    }

    /// `setp`
    fn setp(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let cmp = m.need_of("a comparison", &COMPARISONS)?;
        let combine = Self::take_bool(m);
        let ty = m.need_type()?;
        let comparison = self.comparison(ty, cmp, combine, m)?;
        let [d, a, b, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let c = self.combined(rest, combine, m)?;
        let (p, q) = match *d {
            Operand::Pair(p, q) => (self.pred_destination(p)?, self.pred_destination(q)?),
            _ => (self.pred_operand(d)?, Pred::NONE),
        };
        if q.is_none() && matches!(ty, Type::F16x2 | Type::Bf16x2) {
            return m.error("packed types need two destinations");
        }
        let Comparison {
            cmp,
            ty,
            ftz,
            combine,
        } = comparison;
        self.emit(Op::Setp {
            cmp,
            ty,
            ftz,
            combine,
            c,
            p,
            q,
            a,
            b,
        });
        Ok(())
    }

    /// A predicate destination that is a separate operand.
    pub(crate) fn pred_operand(&mut self, operand: &Operand<'a>) -> Result<Pred> {
        match *operand {
            Operand::Name("_") => self.new_pred(),
            Operand::Name(name) => self.pred(name),
            _ => self.error("the destination must be a predicate"),
        }
    }

    /// `set`
    fn set(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let cmp = m.need_of("a comparison", &COMPARISONS)?;
        let combine = Self::take_bool(m);
        let (to_type, ty) = (m.need_type()?, m.need_type()?);
        let comparison = self.comparison(ty, cmp, combine, m)?;
        let to = match to_type {
            Type::U32 | Type::S32 => SetTy::Int32,
            Type::U16 | Type::S16 => SetTy::Int16,
            Type::F32 => SetTy::F32,
            Type::F16 | Type::F16x2 => SetTy::F16,
            Type::Bf16 | Type::Bf16x2 => SetTy::Bf16,
            _ => return m.error(&format!("type {to_type} is not supported")),
        };
        let packed = |ty| matches!(ty, Type::F16x2 | Type::Bf16x2);
        if packed(to_type) && !packed(ty) || packed(ty) && to_type.bits() != 32 {
            return m.error("packed and scalar types do not go together");
        }
        if packed(ty) && to == SetTy::F32 {
            return m.error("packed types do not set .f32");
        }
        let [d, a, b, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let c = self.combined(rest, combine, m)?;
        let d = self.destination(d, to_type)?;
        let Comparison {
            cmp,
            ty,
            ftz,
            combine,
        } = comparison;
        self.emit(Op::Set {
            cmp,
            ty,
            ftz,
            combine,
            c,
            to,
            d,
            a,
            b,
        });
        Ok(())
    }

    /// `selp`
    fn selp(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if ty.bits() < 16 {
            return m.error(&format!("type {ty} is not supported"));
        }
        let [d, a, b, p] = operands(i, m)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let p = self.pred_source(p)?;
        let d = self.destination(d, ty)?;
        self.emit(Op::Selp {
            w: width(ty),
            d,
            a,
            b,
            p,
        });
        Ok(())
    }

    /// `slct`
    fn slct(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (ty, c_type) = (m.need_type()?, m.need_type()?);
        let ftz = m.take("ftz");
        if ty.bits() < 16 {
            return m.error(&format!("type {ty} is not supported"));
        }
        let (d, [a, b, c]) = self.registers(ty, [ty, ty, c_type], i, m)?;
        let w = width(ty);
        let op = match c_type {
            Type::S32 if !ftz => Op::SlctS32 { w, d, a, b, c },
            Type::F32 => Op::SlctF32 { w, d, a, b, c, ftz },
            _ => return m.error(&format!("selecting by {c_type} is not supported")),
        };
        self.emit(op);
        Ok(())
    }
}
