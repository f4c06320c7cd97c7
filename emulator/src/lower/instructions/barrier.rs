//! Block barriers.

use crate::ir::{BarrierKind, Op, Pred, PredSrc, Reg};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
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
        "bar" | "barrier" => b.barrier(base, i, m),
        _ => return None,
    })
}

impl<'m, 'a> Builder<'m, 'a> {
    /// `bar`, `barrier`, `bar.warp.sync`
    fn barrier(&mut self, base: &str, i: &'m Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if m.take("warp") {
            if !m.take("sync") {
                return m.error("only `.sync` is supported");
            }
            let [mask] = operands(i, m)?;
            let mask = self.source(mask, Type::B32)?;
            self.emit(Op::WarpSync { mask });
            return Ok(());
        }
        if m.take("cluster") {
            return self.cluster_barrier(i, m);
        }
        m.take("cta");
        let aligned = m.take("aligned") || base == "bar";
        let kinds = [("sync", 0), ("arrive", 1), ("red", 2)];
        let kind = m.need_of("`.sync`, `.arrive` or `.red`", &kinds)?;
        if kind == 2 {
            return self.barrier_reduction(aligned, i, m);
        }
        let (id, count) = match i.operands.as_slice() {
            [id] if kind == 0 => (id, None),
            [id, count] => (id, Some(count)),
            _ => return m.error("has a wrong number of operands"),
        };
        let (id, count) = self.barrier_operands(id, count)?;
        let kind = if kind == 0 {
            BarrierKind::Sync
        } else {
            BarrierKind::Arrive
        };
        self.emit(Op::Barrier {
            kind,
            aligned,
            id,
            count,
            src: PredSrc::TRUE,
            d: Reg::NONE,
            p: Pred::NONE,
        });
        Ok(())
    }

    fn barrier_operands(
        &mut self,
        id: &Operand<'a>,
        count: Option<&Operand<'a>>,
    ) -> Result<(Reg, Reg)> {
        let id = self.source(id, Type::U32)?;
        let count = count.map_or(Ok(Reg::NONE), |count| self.source(count, Type::U32))?;
        Ok((id, count))
    }

    fn barrier_reduction(
        &mut self,
        aligned: bool,
        i: &'m Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let kinds = [
            ("popc", BarrierKind::RedPopc),
            ("and", BarrierKind::RedAnd),
            ("or", BarrierKind::RedOr),
        ];
        let kind = m.need_of("a reduction", &kinds)?;
        let ty = m.need_type()?;
        let (d, id, count, src) = match i.operands.as_slice() {
            [d, id, src] => (d, id, None, src),
            [d, id, count, src] => (d, id, Some(count), src),
            _ => return m.error("has a wrong number of operands"),
        };
        let (id, count) = self.barrier_operands(id, count)?;
        let src = self.pred_source(src)?;
        let (d, p) = match (kind, ty) {
            (BarrierKind::RedPopc, Type::U32) => (self.destination(d, ty)?, Pred::NONE),
            (BarrierKind::RedAnd | BarrierKind::RedOr, Type::Pred) => {
                (Reg::NONE, self.pred_operand(d)?)
            }
            _ => return m.error(&format!("type {ty} does not fit the reduction")),
        };
        self.emit(Op::Barrier {
            kind,
            aligned,
            id,
            count,
            src,
            d,
            p,
        });
        Ok(())
    }
}
