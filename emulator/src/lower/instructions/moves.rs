//! Moves, packing, and conversions of addresses.

use crate::ir::{BoolOp, Op, Packing, PredSrc, Reg, Space, Width};
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
        "mov" => b.mov(i, m),
        "cvta" => b.cvta(i, m),
        "isspacep" => b.isspacep(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `mov`
    fn mov(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let [d, a] = operands(i, m)?;
        match (ty, d, a) {
            (Type::Pred, ..) => {
                let a = self.pred_source(a)?;
                let d = self.pred_operand(d)?;
                self.emit(Op::PredLogic {
                    op: BoolOp::And,
                    d,
                    a,
                    b: PredSrc::TRUE,
                });
            }
            (Type::B8 | Type::U8 | Type::S8 | Type::B128, ..) => {
                return m.error(&format!("type {ty} is not supported"));
            }
            (_, _, Operand::Vector(_)) => return self.pack(ty, d, a, m),
            (_, Operand::Vector(_), _) => return self.unpack(ty, d, a, m),
            _ => {
                let a = self.source(a, ty)?;
                let d = self.destination(d, ty)?;
                self.emit(Op::Mov { w: width(ty), d, a });
            }
        }
        Ok(())
    }

    fn pack(&mut self, ty: Type, d: &Operand<'a>, a: &Operand<'a>, m: &Mods<'a>) -> Result<()> {
        let Operand::Vector(elements) = a else {
            return m.error("operands do not fit");
        };
        let (kind, part) = self.packing(ty, elements.len(), m)?;
        let mut parts = [Reg::NONE; 4];
        for (reg, element) in parts.iter_mut().zip(elements) {
            *reg = self.source(element, part)?;
        }
        let d = self.destination(d, ty)?;
        self.emit(Op::Pack { kind, d, parts });
        Ok(())
    }

    fn unpack(&mut self, ty: Type, d: &Operand<'a>, a: &Operand<'a>, m: &Mods<'a>) -> Result<()> {
        let (parts, count) = self.destination_vector(d)?;
        let (kind, part) = self.packing(ty, count, m)?;
        for reg in parts.into_iter().filter(|reg| !reg.is_none()) {
            if self.width_of(reg) != width(part) {
                return self.width_error(d, self.width_of(reg), part);
            }
        }
        let a = self.source(a, ty)?;
        self.emit(Op::Unpack { kind, parts, a });
        Ok(())
    }

    fn packing(&self, ty: Type, count: usize, m: &Mods<'a>) -> Result<(Packing, Type)> {
        match (ty.bits(), count) {
            (32, 2) => Ok((Packing::B32By16, Type::B16)),
            (64, 2) => Ok((Packing::B64By32, Type::B32)),
            (64, 4) => Ok((Packing::B64By16, Type::B16)),
            (16, 2) => Ok((Packing::B16By8, Type::B16)),
            (32, 4) => Ok((Packing::B32By8, Type::B16)),
            _ => m.error(&format!("{count} parts of {ty} are not supported")),
        }
    }

    fn address_space(m: &mut Mods<'a>) -> Result<Space> {
        let spaces = [
            ("global", Space::Global),
            ("const", Space::Const),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Cluster),
            ("local", Space::Local),
            ("param", Space::Param),
            ("param::entry", Space::Param),
        ];
        m.need_of("a state space", &spaces)
    }

    /// `cvta`. Global and constant addresses are already generic ones.
    fn cvta(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if ty != Type::U64 {
            return m.error("only 64-bit addresses are supported");
        }
        let to_space = m.take("to");
        let space = Self::address_space(m)?;
        let (d, [a]) = self.registers(ty, [ty], i, m)?;
        match space {
            Space::Global | Space::Const => self.emit(Op::Mov {
                w: Width::W64,
                d,
                a,
            }),
            // A device function's parameters are in local memory.
            Space::Param if self.stack.len() > 1 => {
                self.emit(Op::Cvta {
                    space: Space::Local,
                    to_space,
                    wide: true,
                    d,
                    a,
                });
            }
            _ => self.emit(Op::Cvta {
                space,
                to_space,
                wide: true,
                d,
                a,
            }),
        }
        Ok(())
    }

    /// `isspacep`
    fn isspacep(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let space = Self::address_space(m)?;
        let [p, a] = operands(i, m)?;
        let a = self.source(a, Type::U64)?;
        let p = self.pred_operand(p)?;
        self.emit(Op::IsSpace { space, p, a });
        Ok(())
    }
}
