//! Shifts, bit fields and other integer instructions that work on bits and bytes.

use crate::ir::{Op, PrmtMode};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands, width};
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
        "lop3" => b.lop3(i, m),
        "bfe" | "prmt" | "shf" | "fns" => b.ternary(base, i, m),
        "bfi" => b.bfi(i, m),
        "bmsk" | "szext" => b.mask_or_extend(base, i, m),
        "dp4a" | "dp2a" => b.dot_product(base, i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `bfe`, `prmt`, `shf`, `fns`.
    fn ternary(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let int = self.int(ty, m)?;
        let (d, [a, b, c]) = self.registers(ty, [ty, Type::U32, Type::U32], i, m)?;
        let op = match base {
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

    /// `lop3`
    fn lop3(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
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
    fn bfi(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        if !matches!(ty, Type::B32 | Type::B64) {
            return m.error(&format!("type {ty} is not supported"));
        }
        let (d, [a, b, pos, len]) = self.registers(ty, [ty, ty, Type::U32, Type::U32], i, m)?;
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
    fn mask_or_extend(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ty = m.need_type()?;
        let clamp = m.need_of("`.clamp` or `.wrap`", &[("clamp", true), ("wrap", false)])?;
        let (d, [a, b]) = self.registers(Type::U32, [Type::U32, Type::U32], i, m)?;
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
    fn dot_product(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (a_type, b_type) = (m.need_type()?, m.need_type()?);
        for ty in [a_type, b_type] {
            if !matches!(ty, Type::U32 | Type::S32) {
                return m.error(&format!("type {ty} is not supported"));
            }
        }
        let (a_signed, b_signed) = (a_type.is_signed(), b_type.is_signed());
        let (d, [a, b, c]) = self.registers(Type::U32, [a_type, b_type, Type::U32], i, m)?;
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
