//! `atom` and `red`.

use crate::ir::{AtomOp, AtomTy, Op, Reg, Space};
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::instructions::memory::SPACES;
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
        "atom" | "red" => b.atomic(base == "atom", i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `atom`, `red`
    fn atomic(&mut self, returns: bool, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if !returns && m.take("async") {
            return self.reduce_async(i, m);
        }
        let space = m.take_of(&SPACES).unwrap_or(Space::Generic);
        if space != Space::Global && !space.may_be_shared() {
            return m.error("atomics work on global and shared memory");
        }
        m.ignore(&[
            "relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys", "noftz",
        ]);
        let ops = [
            ("add", AtomOp::Add),
            ("min", AtomOp::Min),
            ("max", AtomOp::Max),
            ("and", AtomOp::And),
            ("or", AtomOp::Or),
            ("xor", AtomOp::Xor),
            ("exch", AtomOp::Exch),
            ("cas", AtomOp::Cas),
            ("inc", AtomOp::Inc),
            ("dec", AtomOp::Dec),
        ];
        let op = m.need_of("an operation", &ops)?;
        let ty = m.need_type()?;
        let Some(atom) = atom_type(op, ty) else {
            return m.error(&format!("the operation does not exist for {ty}"));
        };
        let all = self.without_policy(i, m)?;
        let (d, rest) = match all {
            [d, rest @ ..] if returns => (Some(d), rest),
            _ => (None, all),
        };
        let (address, b, c) = match rest {
            [address, b] if op != AtomOp::Cas => (address, b, None),
            [address, b, c] if op == AtomOp::Cas => (address, b, Some(c)),
            _ => return m.error("has a wrong number of operands"),
        };
        let (addr, space) = self.address(address, space)?;
        let b = self.source(b, ty)?;
        let c = c.map_or(Ok(Reg::NONE), |c| self.source(c, ty))?;
        let d = match d {
            None | Some(Operand::Name("_")) => Reg::NONE,
            Some(d) => self.destination(d, ty)?,
        };
        self.emit(Op::Atom {
            space,
            op,
            ty: atom,
            d,
            addr,
            b,
            c,
        });
        Ok(())
    }
}

/// The type of an atomic, if the operation supports it.
fn atom_type(op: AtomOp, ty: Type) -> Option<AtomTy> {
    use AtomOp::{Add, And, Cas, Dec, Exch, Inc, Max, Min, Or, Xor};
    Some(match (ty, op) {
        (Type::B16, Cas | Exch) => AtomTy::B16,
        (Type::B32, And | Or | Xor | Exch | Cas) => AtomTy::U32,
        (Type::B64, And | Or | Xor | Exch | Cas) => AtomTy::U64,
        (Type::U32, Add | Min | Max | Inc | Dec | Exch | Cas) => AtomTy::U32,
        (Type::S32, Add | Min | Max) => AtomTy::S32,
        (Type::U64, Add | Min | Max | Exch | Cas) => AtomTy::U64,
        (Type::S64, Add | Min | Max) => AtomTy::S64,
        (Type::F32, Add) => AtomTy::F32,
        (Type::F32, Exch) => AtomTy::U32,
        (Type::F64, Add) => AtomTy::F64,
        (Type::F16, Add) => AtomTy::F16,
        (Type::F16x2, Add) => AtomTy::F16x2,
        (Type::Bf16, Add) => AtomTy::Bf16,
        (Type::Bf16x2, Add) => AtomTy::Bf16x2,
        _ => return None,
    })
}
