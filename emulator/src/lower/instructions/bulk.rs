//! Bulk copies.

use crate::ir::{AtomOp, AtomTy, Op, Reg, SharedReduction, Space};
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::modifiers::Mods;
use crate::ptx::ast::{Instruction, Type};

/// Operation of a reduction of elements of a type; `None` where it does not exist.
fn reduced_type(op: AtomOp, ty: Type) -> Option<AtomTy> {
    use AtomOp::{Add, And, Dec, Inc, Max, Min, Or, Xor};
    Some(match (op, ty) {
        (Add | Min | Max | Inc | Dec, Type::U32) | (And | Or | Xor, Type::B32) => AtomTy::U32,
        (Add | Min | Max, Type::U64) | (And | Or | Xor, Type::B64) => AtomTy::U64,
        (Add | Min | Max, Type::S32) => AtomTy::S32,
        (Min | Max, Type::S64) => AtomTy::S64,
        (Add, Type::F32) => AtomTy::F32,
        (Add, Type::F64) => AtomTy::F64,
        (Add | Min | Max, Type::F16) => AtomTy::F16,
        (Add | Min | Max, Type::Bf16) => AtomTy::Bf16,
        _ => return None,
    })
}

/// The same for reductions in shared memory.
fn shared_reduction(op: AtomOp, ty: Type) -> Option<SharedReduction> {
    Some(match (op, ty) {
        (AtomOp::Add, Type::U32 | Type::S32) => SharedReduction::Add32,
        (AtomOp::Add, Type::U64) => SharedReduction::Add64,
        (AtomOp::Min, Type::U32) => SharedReduction::MinU32,
        (AtomOp::Min, Type::S32) => SharedReduction::MinS32,
        (AtomOp::Max, Type::U32) => SharedReduction::MaxU32,
        (AtomOp::Max, Type::S32) => SharedReduction::MaxS32,
        (AtomOp::Inc, Type::U32) => SharedReduction::Inc,
        (AtomOp::Dec, Type::U32) => SharedReduction::Dec,
        (AtomOp::And, Type::B32) => SharedReduction::And,
        (AtomOp::Or, Type::B32) => SharedReduction::Or,
        (AtomOp::Xor, Type::B32) => SharedReduction::Xor,
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `cp.async.bulk`; its other modifiers have not been taken yet.
    pub(crate) fn bulk(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
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
        let cluster = m.take("shared::cluster");
        let cta = m.take("shared::cta");
        let shared = if cluster {
            Some(Space::Cluster)
        } else if cta {
            Some(Space::Shared)
        } else {
            Self::take_shared(m)
        };
        let loads = m.take("mbarrier::complete_tx::bytes");
        if cluster && cta && loads && !global && !tensor {
            return self.bulk_between(None, i, m);
        }
        if !global || cluster && cta || shared.is_none() || loads == m.take("bulk_group") {
            return m.error(
                "copies go between `.global` and `.shared`, loads with \
                `.mbarrier::complete_tx::bytes`, stores with `.bulk_group`",
            );
        }
        match (tensor, loads) {
            (true, _) => self.tensor_copy(loads, None, i, m),
            (false, true) => self.bulk_load(i, m),
            (false, false) => self.bulk_store(None, i, m),
        }
    }

    /// `cp.reduce.async.bulk` from shared memory: to global memory, with or without `.tensor`, or
    /// to the shared memory of a block of the cluster.
    pub(crate) fn bulk_reduce(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if !m.take("async") || !m.take("bulk") {
            return m.error("the instruction is not supported");
        }
        let tensor = m.take("tensor");
        let cluster = !tensor && m.take("shared::cluster");
        let way = if cluster {
            m.take("mbarrier::complete_tx::bytes")
        } else {
            m.take("global") && m.take("bulk_group")
        };
        if !way || !m.take("shared::cta") {
            return m.error(
                "reductions go from `.shared::cta` to `.global` with `.bulk_group`, or \
                to `.shared::cluster` with `.mbarrier::complete_tx::bytes`",
            );
        }
        let operations = [
            ("add", AtomOp::Add),
            ("min", AtomOp::Min),
            ("max", AtomOp::Max),
            ("inc", AtomOp::Inc),
            ("dec", AtomOp::Dec),
            ("and", AtomOp::And),
            ("or", AtomOp::Or),
            ("xor", AtomOp::Xor),
        ];
        let op = m.need_of("the operation", &operations)?;
        if tensor {
            return self.tensor_copy(false, Some(op), i, m);
        }
        if cluster {
            let ty = m.need_type()?;
            return match shared_reduction(op, ty) {
                Some(reduce) => self.bulk_between(Some(reduce), i, m),
                None => m.error(&format!(
                    "the operation does not exist for {ty} in shared memory"
                )),
            };
        }
        let halves = m.take("noftz");
        let ty = m.need_type()?;
        let reduced = reduced_type(op, ty);
        let half = matches!(ty, Type::F16 | Type::Bf16);
        match reduced {
            Some(reduced) if halves == (half && op == AtomOp::Add) => {
                self.bulk_store(Some((op, reduced)), i, m)
            }
            _ => m.error(&format!("the operation does not exist for {ty}")),
        }
    }

    fn bulk_load(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let multicast = m.take("multicast::cluster");
        let all = self.without_policy(i, m)?;
        let (all, mask) = self.cluster_mask(multicast, all, m)?;
        let [dst, src, size, barrier] = all else {
            return m.error("has a wrong number of operands");
        };
        let size = self.source(size, Type::U32)?;
        let (dst, _) = self.address(dst, Space::Cluster)?;
        let (src, _) = self.address(src, Space::Global)?;
        let (barrier, _) = self.address(barrier, Space::Cluster)?;
        let list = self.new_list()?;
        self.emit(Op::BulkLoad {
            dst,
            src,
            barrier,
            list,
        });
        let mask = mask.unwrap_or(Reg::NONE);
        self.emit_list(list, false, &[size, mask]);
        Ok(())
    }

    fn bulk_store(
        &mut self,
        reduce: Option<(AtomOp, AtomTy)>,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let [dst, src, size] = self.without_policy(i, m)? else {
            return m.error("takes 3 operands");
        };
        let size = self.source(size, Type::U32)?;
        let (dst, _) = self.address(dst, Space::Global)?;
        let (src, _) = self.address(src, Space::Shared)?;
        self.emit(Op::BulkStore {
            dst,
            src,
            size,
            reduce,
        });
        Ok(())
    }
}
