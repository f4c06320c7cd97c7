//! Asynchronous copies to other blocks of a cluster.

use crate::ir::{AtomOp, AtomTy, Op, SharedReduction, Space, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Type};

impl<'a> Builder<'_, 'a> {
    /// `cp.async.bulk.shared::cluster.shared::cta`, and the corresponding `cp.reduce`.
    pub(crate) fn bulk_between(
        &mut self,
        reduce: Option<SharedReduction>,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let [dst, src, size, barrier] = self.without_policy(i, m)? else {
            return m.error("takes 4 operands");
        };
        let size = self.source(size, Type::U32)?;
        let (dst, _) = self.address(dst, Space::Cluster)?;
        let (src, _) = self.address(src, Space::Shared)?;
        let (barrier, _) = self.address(barrier, Space::Cluster)?;
        let list = self.new_list()?;
        self.emit(Op::BulkShared {
            reduce,
            dst,
            src,
            barrier,
            list,
        });
        self.emit_list(list, false, &[size]);
        Ok(())
    }

    /// `st.async`: `.weak`, completed by a barrier.
    pub(crate) fn store_async(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.need(m, 90, (8, 1))?;
        m.take("weak");
        self.take_async(m)?;
        let count = m.take_of(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
        let ty = m.need_type()?;
        let whole = matches!(ty.bits(), 32 | 64) && !matches!(ty, Type::F16x2 | Type::Bf16x2);
        if !whole || ty.bits() * count > 128 {
            return m.error(&format!("{count} elements of type {ty} are not supported"));
        }
        let [addr, value, barrier] = operands(i, m)?;
        let (src, given) = self.source_vector(value, ty)?;
        if given != count as usize {
            return m.error(&format!("{given} registers for {count} elements"));
        }
        let wanted = if ty.bits() == 64 {
            Width::W64
        } else {
            Width::W32
        };
        for &reg in &src[..given] {
            if self.width_of(reg) != wanted {
                return self.width_error(value, self.width_of(reg), ty);
            }
        }
        let (addr, _) = self.address(addr, Space::Cluster)?;
        let (barrier, _) = self.address(barrier, Space::Cluster)?;
        let list = self.new_list()?;
        self.emit(Op::StoreAsync {
            bytes: ty.bytes() as u8,
            addr,
            barrier,
            list,
        });
        self.emit_list(list, false, &src[..given]);
        Ok(())
    }

    fn take_async(&self, m: &mut Mods<'a>) -> Result<()> {
        if m.take("shared::cluster") && m.take("mbarrier::complete_tx::bytes") {
            return Ok(());
        }
        m.error("only `.shared::cluster` with `.mbarrier::complete_tx::bytes` is supported")
    }

    /// `red.async`
    pub(crate) fn reduce_async(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        self.need(m, 90, (8, 1))?;
        m.ignore(&["relaxed", "cluster"]);
        self.take_async(m)?;
        let ops = [
            ("inc", AtomOp::Inc),
            ("dec", AtomOp::Dec),
            ("min", AtomOp::Min),
            ("max", AtomOp::Max),
            ("add", AtomOp::Add),
            ("and", AtomOp::And),
            ("or", AtomOp::Or),
            ("xor", AtomOp::Xor),
        ];
        let op = m.need_of("an operation", &ops)?;
        let ty = m.need_type()?;
        use AtomOp::{Add, And, Dec, Inc, Max, Min, Or, Xor};
        let atom = match (ty, op) {
            (Type::U32, Inc | Dec | Min | Max | Add) => AtomTy::U32,
            (Type::S32, Min | Max | Add) => AtomTy::S32,
            (Type::B32, And | Or | Xor) => AtomTy::U32,
            (Type::U64 | Type::S64, Add) => AtomTy::U64,
            _ => return m.error(&format!("the operation does not exist for {ty}")),
        };
        let [addr, b, barrier] = operands(i, m)?;
        let b = self.source(b, ty)?;
        let (addr, _) = self.address(addr, Space::Cluster)?;
        let (barrier, _) = self.address(barrier, Space::Cluster)?;
        self.emit(Op::ReduceAsync {
            op,
            ty: atom,
            addr,
            barrier,
            b,
        });
        Ok(())
    }
}
