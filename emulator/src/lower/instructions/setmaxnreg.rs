//! `setmaxnreg`.

use crate::ir::Op;
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::Instruction;

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "setmaxnreg" => b.set_max_registers(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `setmaxnreg`
    fn set_max_registers(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.need_sm90a(m)?;
        let more = m.need_of("`.inc` or `.dec`", &[("inc", true), ("dec", false)])?;
        m.ignore(&["sync", "aligned", "u32"]);
        let [count] = operands(i, m)?;
        let count = self.immediate(count)?;
        if !count.is_multiple_of(8) || !(24..=256).contains(&count) {
            return m.error(&format!("{count} is no multiple of 8 from 24 to 256"));
        }
        self.emit(Op::SetMaxRegisters {
            count: count as u16,
            more,
        });
        Ok(())
    }
}
