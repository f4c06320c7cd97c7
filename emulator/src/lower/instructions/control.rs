//! Branches, exits and barriers.

use crate::ir::{NO_PC, Op};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::lower::names::Entity;
use crate::ptx::ast::{Instruction, Operand, Type};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "bra" => b.branch(i, m),
        "brx" => b.branch_indexed(i, m),
        "ret" | "exit" | "trap" | "brkpt" => b.leave(base, i, m),
        _ => return None,
    })
}

impl<'m, 'a> Builder<'m, 'a> {
    /// `bra`. `.uni` guarantees that all lanes agree, which is not used here.
    fn branch(&mut self, i: &'m Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.take("uni");
        let [Operand::Name(target)] = *operands::<1>(i, m)? else {
            return m.error("the operand must be a label");
        };
        let target = self.label(target)?;
        self.emit(Op::Bra {
            target,
            reconverge: NO_PC,
        });
        Ok(())
    }

    /// `brx.idx`
    fn branch_indexed(&mut self, i: &'m Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.take("uni");
        if !m.take("idx") {
            return m.error("the instruction is not supported");
        }
        let [index, Operand::Name(table)] = operands(i, m)? else {
            return m.error("the second operand must be a list of branch targets");
        };
        let Some(Entity::Table(table)) = self.find(table)? else {
            return m.error(&format!(
                "there is no list of branch targets `{table}` here"
            ));
        };
        let index = self.source(index, Type::U32)?;
        self.emit(Op::BrxIdx {
            index,
            table,
            reconverge: NO_PC,
        });
        Ok(())
    }

    /// `ret`, `exit`, `trap`, and `brkpt`, which ends the launch without a debugger.
    fn leave(&mut self, base: &str, i: &'m Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if base == "ret" {
            m.take("uni");
        }
        operands::<0>(i, m)?;
        let op = match (base, self.returns.last()) {
            ("ret", Some(&target)) => Op::Bra {
                target,
                reconverge: NO_PC,
            },
            ("ret" | "exit", _) => Op::Exit,
            _ => Op::Trap,
        };
        self.emit(op);
        Ok(())
    }
}
