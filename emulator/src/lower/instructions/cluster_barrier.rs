//! `barrier.cluster`.

use crate::ir::Op;
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::Instruction;

impl<'a> Builder<'_, 'a> {
    /// `barrier.cluster`; its other modifiers have not been taken yet.
    pub(crate) fn cluster_barrier(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.need(m, 90, (7, 8))?;
        operands::<0>(i, m)?;
        let kinds = [("arrive", true), ("wait", false)];
        let arrive = m.need_of("`.arrive` or `.wait`", &kinds)?;
        let aligned = m.take("aligned");
        if !arrive {
            m.take("acquire");
            self.emit(Op::ClusterWait { aligned });
            return Ok(());
        }
        let relaxed = m.take("relaxed");
        if m.take("release") && relaxed {
            return m.error("`.release` and `.relaxed` exclude each other");
        }
        self.emit(Op::ClusterArrive { relaxed, aligned });
        Ok(())
    }
}
