//! Bulk tensor copies.

use crate::ir::{AtomOp, LoadMode, Op, Reg, Space};
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Base, Instruction, Operand, Type};

impl<'a> Builder<'_, 'a> {
    /// `cp.async.bulk.tensor`, and the corresponding `cp.reduce`.
    pub(crate) fn tensor_copy(
        &mut self,
        loads: bool,
        reduce: Option<AtomOp>,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let ranks = [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];
        let rank = m.need_of("the number of dimensions", &ranks)?;
        let im2col = m.take(if loads { "im2col" } else { "im2col_no_offs" });
        if m.take("tile") && im2col {
            return m.error("`.tile` and `.im2col` exclude each other");
        }
        if im2col && rank < 3 {
            return m.error("im2col is for 3 to 5 dimensions");
        }
        let multicast = loads && m.take("multicast::cluster");
        let all = self.without_policy(i, m)?;
        let (all, mask) = self.cluster_mask(multicast, all, m)?;
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
        let home = if loads { Space::Cluster } else { Space::Shared };
        let (shared, _) = self.address(shared, home)?;
        regs.extend(mask);
        let list = self.new_list()?;
        match barrier {
            Some(barrier) => {
                let (barrier, _) = self.address(barrier, Space::Cluster)?;
                self.emit(Op::TensorLoad {
                    dst: shared,
                    map,
                    barrier,
                    mode: match (im2col, multicast) {
                        (false, false) => LoadMode::Tile,
                        (true, false) => LoadMode::Im2col,
                        (false, true) => LoadMode::TileMulticast,
                        (true, true) => LoadMode::Im2colMulticast,
                    },
                    list,
                });
            }
            None => self.emit(Op::TensorStore {
                map,
                src: shared,
                im2col,
                reduce,
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
