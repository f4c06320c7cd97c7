//! Bulk copies.

use super::Result;
use super::builder::Builder;
use super::mods::Mods;
use crate::ast::{Base, Instruction, Operand, Type};
use crate::ir::{Op, Reg, Space};

impl<'a> Builder<'_, 'a> {
    /// `cp.async.bulk`, whose other modifiers are left.
    pub(super) fn bulk(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if m.take("commit_group") {
            self.emit(Op::BulkCommit);
            return Ok(());
        }
        if m.take("wait_group") {
            m.take("read");
            let [pending] = i.operands.as_slice() else {
                return m.error("takes 1 operand");
            };
            let pending = self.immediate(pending)?.min(u64::from(u16::MAX)) as u16;
            self.emit(Op::BulkWait { pending });
            return Ok(());
        }
        if m.take("prefetch") {
            m.ignore(&["L2", "global", "tensor", "tile", "im2col", "L2::cache_hint"]);
            m.ignore(&["1d", "2d", "3d", "4d", "5d"]);
            self.emit(Op::Nop);
            return Ok(());
        }
        let tensor = m.take("tensor");
        let global = m.take("global");
        let shared = Self::take_shared(m);
        let loads = m.take("mbarrier::complete_tx::bytes");
        if !global || shared.is_none() || loads == m.take("bulk_group") {
            return m.error("copies go between `.global` and `.shared`, loads with `.mbarrier::complete_tx::bytes`, stores with `.bulk_group`");
        }
        match (tensor, loads) {
            (true, _) => self.tensor_copy(loads, i, m),
            (false, true) => self.bulk_load(i, m),
            (false, false) => self.bulk_store(i, m),
        }
    }

    fn bulk_load(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let [dst, src, size, barrier] = self.without_policy(i, m)? else {
            return m.error("takes 4 operands");
        };
        let size = self.source(size, Type::U32)?;
        let (dst, _) = self.address(dst, Space::Shared)?;
        let (src, _) = self.address(src, Space::Global)?;
        let (barrier, _) = self.address(barrier, Space::Shared)?;
        let list = self.new_list()?;
        self.emit(Op::BulkLoad {
            dst,
            src,
            barrier,
            list,
        });
        self.emit_list(list, false, &[size]);
        Ok(())
    }

    fn bulk_store(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let [dst, src, size] = self.without_policy(i, m)? else {
            return m.error("takes 3 operands");
        };
        let size = self.source(size, Type::U32)?;
        let (dst, _) = self.address(dst, Space::Global)?;
        let (src, _) = self.address(src, Space::Shared)?;
        self.emit(Op::BulkStore { dst, src, size });
        Ok(())
    }

    fn tensor_copy(&mut self, loads: bool, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let ranks = [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];
        let rank = m.need_of("the number of dimensions", &ranks)?;
        let im2col = m.take(if loads { "im2col" } else { "im2col_no_offs" });
        if m.take("tile") && im2col {
            return m.error("`.tile` and `.im2col` exclude each other");
        }
        if im2col && rank < 3 {
            return m.error("im2col is for 3 to 5 dimensions");
        }
        let all = self.without_policy(i, m)?;
        let (shared, map, barrier, offsets) = match all {
            [map, src] if !loads => (src, map, None, None),
            [dst, map, barrier] if loads && !im2col => (dst, map, Some(barrier), None),
            [dst, map, barrier, offsets] if loads && im2col => {
                (dst, map, Some(barrier), Some(offsets))
            }
            _ => return m.error("has a wrong number of operands"),
        };
        let Operand::Tensor(base, offset, coordinates) = map else {
            return m.error("the map must be `[address, {coordinates}]`");
        };
        let mut regs = self.coordinates(coordinates, Type::S32, rank, m)?;
        if let Some(offsets) = offsets {
            let Operand::Vector(offsets) = offsets else {
                return m.error("the offsets must be in braces");
            };
            regs.extend(self.coordinates(offsets, Type::U16, rank - 2, m)?);
        }
        let base: Base<'a> = *base;
        let (map, space) = self.address(&Operand::Address(base, *offset), Space::Generic)?;
        if space != Space::Generic && space != Space::Global {
            return m.error("the map's address must be generic");
        }
        let (shared, _) = self.address(shared, Space::Shared)?;
        let list = self.new_list()?;
        match barrier {
            Some(barrier) => {
                let (barrier, _) = self.address(barrier, Space::Shared)?;
                self.emit(Op::TensorLoad {
                    dst: shared,
                    map,
                    barrier,
                    im2col,
                    list,
                });
            }
            None => self.emit(Op::TensorStore {
                map,
                src: shared,
                im2col,
                list,
            }),
        }
        self.emit_list(list, false, &regs);
        Ok(())
    }

    fn coordinates(
        &mut self,
        operands: &[Operand<'a>],
        ty: Type,
        count: usize,
        m: &Mods<'a>,
    ) -> Result<Vec<Reg>> {
        if operands.len() != count {
            return m.error(&format!(
                "{} coordinates or offsets, where {count} are needed",
                operands.len()
            ));
        }
        operands
            .iter()
            .map(|operand| self.source(operand, ty))
            .collect()
    }
}
