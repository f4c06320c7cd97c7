//! Instructions that the lanes of a warp execute together.

use crate::ir::{Op, Pred, ReduxOp, Reg, ShflMode, VoteMode};
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
        "shfl" => b.shuffle(i, m),
        "vote" => b.vote(i, m),
        "match" => b.match_lanes(i, m),
        "redux" => b.redux(i, m),
        "activemask" => b.active_mask(i, m),
        "elect" => b.elect(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `d` or `d|p`, either of which may be `_`.
    fn with_pred(&mut self, operand: &Operand<'a>, ty: Type) -> Result<(Reg, Pred)> {
        let Operand::Pair(d, p) = *operand else {
            return Ok((self.destination(operand, ty)?, Pred::NONE));
        };
        Ok((
            self.destination(&Operand::Name(d), ty)?,
            self.pred_destination(p)?,
        ))
    }

    /// The member mask of `.sync`; [`Reg::NONE`] without it.
    fn member_mask(&mut self, sync: bool, rest: &[Operand<'a>], m: &Mods<'a>) -> Result<Reg> {
        match rest {
            [] if !sync => Ok(Reg::NONE),
            [mask] if sync => self.source(mask, Type::B32),
            _ => m.error("has a wrong number of operands"),
        }
    }

    /// `shfl`
    fn shuffle(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let sync = m.take("sync");
        let modes = [
            ("up", ShflMode::Up),
            ("down", ShflMode::Down),
            ("bfly", ShflMode::Bfly),
            ("idx", ShflMode::Idx),
        ];
        let mode = m.need_of("a mode", &modes)?;
        let ty = m.need_type()?;
        if ty != Type::B32 {
            return m.error(&format!("type {ty} is not supported"));
        }
        let [d, a, b, c, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        let (a, b, c) = (
            self.source(a, ty)?,
            self.source(b, ty)?,
            self.source(c, ty)?,
        );
        let mask = self.member_mask(sync, rest, m)?;
        let (d, p) = self.with_pred(d, ty)?;
        self.emit(Op::Shfl {
            mode,
            d,
            p,
            a,
            b,
            c,
            mask,
        });
        Ok(())
    }

    /// `vote`
    fn vote(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let sync = m.take("sync");
        let modes = [
            ("all", VoteMode::All),
            ("any", VoteMode::Any),
            ("uni", VoteMode::Uni),
            ("ballot", VoteMode::Ballot),
        ];
        let mode = m.need_of("a mode", &modes)?;
        let ty = m.need_type()?;
        let [d, src, rest @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        let src = self.pred_source(src)?;
        let mask = self.member_mask(sync, rest, m)?;
        let (d, p) = match (mode, ty) {
            (VoteMode::Ballot, Type::B32) => (self.destination(d, ty)?, Pred::NONE),
            (VoteMode::All | VoteMode::Any | VoteMode::Uni, Type::Pred) => {
                (Reg::NONE, self.pred_operand(d)?)
            }
            _ => return m.error(&format!("type {ty} does not fit the mode")),
        };
        self.emit(Op::Vote {
            mode,
            d,
            p,
            src,
            mask,
        });
        Ok(())
    }

    /// `match`
    fn match_lanes(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.take("sync");
        let all = m.need_of("`.any` or `.all`", &[("any", false), ("all", true)])?;
        let ty = m.need_type()?;
        if !matches!(ty, Type::B32 | Type::B64) {
            return m.error(&format!("type {ty} is not supported"));
        }
        let [d, a, mask] = operands(i, m)?;
        if !all && matches!(d, Operand::Pair(..)) {
            return m.error("`.any` has no predicate");
        }
        let (a, mask) = (self.source(a, ty)?, self.source(mask, Type::B32)?);
        let (d, p) = self.with_pred(d, Type::B32)?;
        self.emit(Op::Match {
            all,
            w: width(ty),
            d,
            p,
            a,
            mask,
        });
        Ok(())
    }

    /// `redux.sync`
    fn redux(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.take("sync");
        let ops = [
            ("add", ReduxOp::Add),
            ("min", ReduxOp::Min),
            ("max", ReduxOp::Max),
            ("and", ReduxOp::And),
            ("or", ReduxOp::Or),
            ("xor", ReduxOp::Xor),
        ];
        let op = m.need_of("an operation", &ops)?;
        let ty = m.need_type()?;
        let bitwise = matches!(op, ReduxOp::And | ReduxOp::Or | ReduxOp::Xor);
        if !matches!(
            (bitwise, ty),
            (true, Type::B32) | (false, Type::U32 | Type::S32)
        ) {
            return m.error(&format!("the operation does not exist for {ty}"));
        }
        let (d, [a, mask]) = self.registers(ty, [ty, Type::B32], i, m)?;
        self.emit(Op::Redux {
            op,
            signed: ty.is_signed(),
            d,
            a,
            mask,
        });
        Ok(())
    }

    /// `activemask`
    fn active_mask(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let [d] = operands(i, m)?;
        let d = self.destination(d, ty)?;
        self.emit(Op::ActiveMask { d });
        Ok(())
    }

    /// `elect.sync`
    fn elect(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.take("sync");
        let [d, mask] = operands(i, m)?;
        let mask = self.source(mask, Type::B32)?;
        let (d, p) = self.with_pred(d, Type::B32)?;
        self.emit(Op::Elect { d, p, mask });
        Ok(())
    }
}
