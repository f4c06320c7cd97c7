//! Operands as registers.

use crate::ir::{ConstantValue, Op, Pred, PredSrc, Reg, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, width};
use crate::lower::draft::Kind;
use crate::lower::modifiers::Mods;
use crate::lower::names::Entity;
use crate::lower::special;
use crate::lower::special::SpecialRegister;
use crate::ptx::ast::{Instruction, Operand, Type, Value};

impl<'a> Builder<'_, 'a> {
    /// A source operand of a type: a register of its size, a literal, the address of a variable, or
    /// a special register.
    pub(crate) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        let reg = self.any_source(operand, ty)?;
        let found = self.width_of(reg);
        if found != width(ty) {
            return self.width_error(operand, found, ty);
        }
        Ok(reg)
    }

    /// The registers of an instruction `d, a, b, ...`: its destination, of type `result`, and its
    /// sources, of the types `sources`.
    pub(crate) fn registers<const N: usize>(
        &mut self,
        result: Type,
        sources: [Type; N],
        i: &Instruction<'a>,
        m: &Mods<'a>,
    ) -> Result<(Reg, [Reg; N])> {
        let (d, operands) = match i.operands.as_slice() {
            [d, operands @ ..] if operands.len() == N => (d, operands),
            all => return m.error(&format!("takes {} operands, not {}", N + 1, all.len())),
        };
        let mut regs = [Reg::NONE; N];
        for ((reg, operand), ty) in regs.iter_mut().zip(operands).zip(sources) {
            *reg = self.source(operand, ty)?;
        }
        Ok((self.destination(d, result)?, regs))
    }

    pub(crate) fn width_error<T>(
        &self,
        operand: &Operand<'a>,
        found: Width,
        ty: Type,
    ) -> Result<T> {
        let bits = match found {
            Width::W16 => 16,
            Width::W32 => 32,
            Width::W64 => 64,
        };
        let name = match operand {
            Operand::Name(name) => name,
            _ => "an operand",
        };
        self.error(format!(
            "`{name}` has {bits} bits, where the instruction takes {ty}"
        ))
    }

    /// A source operand with the width of its register; literals have the width of `ty`.
    pub(crate) fn any_source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        match *operand {
            Operand::Name(name) => self.named_source(name, ty),
            Operand::Value(value) => self.literal(value, ty),
            _ => self.error(format!(
                "an operand of type {ty} must be a register or a literal"
            )),
        }
    }

    fn named_source(&mut self, name: &'a str, ty: Type) -> Result<Reg> {
        match self.find(name)? {
            Some(Entity::Reg(reg, _)) => Ok(reg),
            Some(Entity::Pred(_)) => self.error(format!(
                "`{name}` is a predicate, where the instruction takes {ty}"
            )),
            Some(Entity::Label(_) | Entity::Table(_)) => {
                self.error(format!("`{name}` is a label, not a value"))
            }
            Some(entity) => self.address_of(entity, 0, ty),
            None => self.special(name),
        }
    }

    /// A literal as a constant of the type.
    pub(crate) fn literal(&mut self, value: Value<'a>, ty: Type) -> Result<Reg> {
        let bits = match (value, ty) {
            (Value::Int(_), Type::F32 | Type::F64) => {
                return self.error(format!(
                    "an integer literal where the instruction takes {ty}"
                ));
            }
            (Value::Int(bits), _) => bits,
            (Value::F32(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_bits(),
            (Value::F32(bits), Type::F32 | Type::B32) => u64::from(bits),
            (Value::F64(bits), Type::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            (Value::F64(bits), Type::F64 | Type::B64) => bits,
            // These occur only in initialisers.
            (Value::Zeros(_), _) => 0,
            (Value::F32(_) | Value::F64(_), _) => {
                return self.error(format!(
                    "a floating-point literal where the instruction takes {ty}"
                ));
            }
            (Value::Address { name, offset, .. }, _) => {
                return match self.find(name)? {
                    Some(
                        Entity::Reg(..) | Entity::Pred(_) | Entity::Label(_) | Entity::Table(_),
                    )
                    | None => self.error(format!("`{name}` with an offset is no operand")),
                    Some(entity) => self.address_of(entity, offset, ty),
                };
            }
        };
        self.constant(bits, width(ty))
    }

    /// The address of a variable in its own space, as a value of a type.
    pub(crate) fn address_of(&mut self, entity: Entity, offset: i64, ty: Type) -> Result<Reg> {
        let width = width(ty);
        if width == Width::W16 {
            return self.error(format!("an address does not fit {ty}"));
        }
        let base = match entity {
            Entity::Global(symbol) if width == Width::W64 => {
                let value = ConstantValue::Symbol {
                    symbol,
                    addend: offset,
                };
                return self.filled(Kind::Constant(value), width);
            }
            Entity::Global(_) => {
                return self.error("the address of a variable in device memory needs 64 bits");
            }
            Entity::DynamicShared => return self.filled(Kind::DynamicShared(offset), width),
            Entity::Local(base) | Entity::KernelParam(base) | Entity::Shared(base) => base,
            _ => return self.error("the operand is not a variable"),
        };
        self.constant(i64::from(base).wrapping_add(offset).cast_unsigned(), width)
    }

    fn special(&mut self, name: &'a str) -> Result<Reg> {
        let width = |wide| if wide { Width::W64 } else { Width::W32 };
        match special::find(name) {
            Some(SpecialRegister::Row(special, wide)) => {
                self.filled(Kind::Special(special), width(wide))
            }
            Some(SpecialRegister::Clock(clock, wide)) => {
                let d = self.new_reg(width(wide))?;
                self.emit(Op::ReadClock { clock, d });
                Ok(d)
            }
            None if name == "WARP_SZ" => self.word(32),
            None if name.starts_with('%') => {
                self.error(format!("`{name}` is no register that is declared or known"))
            }
            None => self.error(format!("`{name}` is not declared")),
        }
    }

    /// A destination of a type. `_` gets a register that is never read.
    pub(crate) fn destination(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        let reg = self.any_destination(operand)?;
        if reg.is_none() {
            return self.new_reg(width(ty));
        }
        let found = self.width_of(reg);
        if found != width(ty) {
            return self.width_error(operand, found, ty);
        }
        Ok(reg)
    }

    /// A destination with the width of its register; [`Reg::NONE`] for `_`.
    pub(crate) fn any_destination(&mut self, operand: &Operand<'a>) -> Result<Reg> {
        let Operand::Name(name) = *operand else {
            return self.error("the destination must be a register");
        };
        if name == "_" {
            return Ok(Reg::NONE);
        }
        match self.find(name)? {
            Some(Entity::Reg(reg, _)) => Ok(reg),
            Some(_) => self.error(format!(
                "`{name}` is not a register of the kind that the destination needs"
            )),
            None => self.error(format!("`{name}` is not declared")),
        }
    }

    /// The predicate with a name.
    pub(crate) fn pred(&mut self, name: &'a str) -> Result<Pred> {
        match self.find(name)? {
            Some(Entity::Pred(pred)) => Ok(pred),
            Some(_) => self.error(format!("`{name}` is not a predicate")),
            None => self.error(format!("`{name}` is not declared")),
        }
    }

    /// A predicate destination; [`Pred::NONE`] for `_`.
    pub(crate) fn pred_destination(&mut self, name: &'a str) -> Result<Pred> {
        if name == "_" {
            Ok(Pred::NONE)
        } else {
            self.pred(name)
        }
    }

    /// A predicate source.
    pub(crate) fn pred_source(&mut self, operand: &Operand<'a>) -> Result<PredSrc> {
        match *operand {
            Operand::Name("%is_explicit_cluster") => self.explicit_cluster(),
            Operand::Name(name) => Ok(PredSrc {
                pred: self.pred(name)?,
                negated: false,
            }),
            Operand::Not(name) => Ok(PredSrc {
                pred: self.pred(name)?,
                negated: true,
            }),
            Operand::Value(Value::Int(value)) => Ok(if value == 0 {
                PredSrc::FALSE
            } else {
                PredSrc::TRUE
            }),
            _ => self.error("the operand must be a predicate"),
        }
    }

    /// Returns whether an operand is the name of a predicate.
    pub(crate) fn is_pred(&mut self, operand: &Operand<'a>) -> Result<bool> {
        Ok(match *operand {
            Operand::Not(_) => true,
            Operand::Name(name) => matches!(self.find(name)?, Some(Entity::Pred(_))),
            _ => false,
        })
    }

    /// A literal integer.
    pub(crate) fn immediate(&self, operand: &Operand<'a>) -> Result<u64> {
        match operand {
            Operand::Value(Value::Int(value)) => Ok(*value),
            _ => self.error("the operand must be an integer literal"),
        }
    }
}
