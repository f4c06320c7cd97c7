//! The registers and predicates that an instruction reads and writes.

use crate::ir::{Address, Inst, Op, Pred, PredSrc, Reg};

/// How an instruction uses a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It reads it.
    Use,
    /// It writes it.
    Def,
    /// It reads and writes it: one operand that is both, visited once.
    Update,
}

impl Role {
    /// Whether the old value is read.
    pub fn reads(self) -> bool {
        self != Role::Def
    }

    /// Whether a new value is written.
    pub fn writes(self) -> bool {
        self != Role::Use
    }
}

/// A register or a predicate of an instruction.
pub enum Place<'i> {
    /// A register.
    Reg(&'i mut Reg),
    /// A predicate.
    Pred(&'i mut Pred),
}

/// Calls `visit` for every register and predicate of `inst` that is there, sources first.
pub fn visit(inst: &mut Inst, visit: &mut impl FnMut(Place<'_>, Role)) {
    let mut v = Visitor { visit };
    v.pred_use(&mut inst.guard);
    v.op(&mut inst.op);
}

/// Whether the instruction may be dropped if nothing reads what it writes. Loads stay, for the sake
/// of their checks, except those of parameters, which cannot fail if their address is fixed.
pub fn is_pure(op: &Op) -> bool {
    match op {
        Op::Ld { access, addr, .. } => {
            access.space == crate::ir::Space::Param && addr.base.is_none()
        }
        Op::Carry { carry_out, .. } => !carry_out,
        Op::St { .. }
        | Op::Atom { .. }
        | Op::CpAsync { .. }
        | Op::CpAsyncCommit
        | Op::CpAsyncWait { .. }
        | Op::CpAsyncWaitAll
        | Op::Fence
        | Op::Nop
        | Op::Bra { .. }
        | Op::BrxIdx { .. }
        | Op::Exit
        | Op::Trap
        | Op::AssertFail { .. }
        | Op::Printf { .. }
        | Op::Barrier { .. }
        | Op::WarpSync { .. }
        | Op::Shfl { .. }
        | Op::Vote { .. }
        | Op::Match { .. }
        | Op::Redux { .. }
        | Op::Elect { .. }
        | Op::LdMatrix { .. }
        | Op::StMatrix { .. }
        | Op::MovMatrix { .. }
        | Op::Mma { .. }
        | Op::Extra { .. }
        | Op::Wgmma { .. }
        | Op::WgmmaFence
        | Op::WgmmaCommit
        | Op::WgmmaWait { .. }
        | Op::BulkLoad { .. }
        | Op::BulkStore { .. }
        | Op::BulkShared { .. }
        | Op::StoreAsync { .. }
        | Op::ReduceAsync { .. }
        | Op::ClusterArrive { .. }
        | Op::ClusterWait { .. }
        | Op::MapBlock { .. }
        | Op::RankOf { .. }
        | Op::BulkCommit
        | Op::BulkWait { .. }
        | Op::TensorLoad { .. }
        | Op::TensorStore { .. }
        | Op::ReplaceField { .. }
        | Op::CopyMap { .. }
        | Op::Mbarrier { .. }
        | Op::ProxyFence { .. }
        | Op::SetMaxRegisters { .. } => false,
        _ => true,
    }
}

struct Visitor<'f, F> {
    visit: &'f mut F,
}

impl<F: FnMut(Place<'_>, Role)> Visitor<'_, F> {
    fn uses(&mut self, regs: &mut [&mut Reg]) {
        for reg in regs {
            if !reg.is_none() {
                (self.visit)(Place::Reg(reg), Role::Use);
            }
        }
    }

    fn def(&mut self, reg: &mut Reg) {
        if !reg.is_none() {
            (self.visit)(Place::Reg(reg), Role::Def);
        }
    }

    fn pred_use(&mut self, source: &mut PredSrc) {
        if source.pred != Pred::TRUE {
            (self.visit)(Place::Pred(&mut source.pred), Role::Use);
        }
    }

    fn pred_def(&mut self, pred: &mut Pred) {
        if !pred.is_none() {
            (self.visit)(Place::Pred(pred), Role::Def);
        }
    }

    fn address(&mut self, address: &mut Address) {
        self.uses(&mut [&mut address.base]);
    }

    fn op(&mut self, op: &mut Op) {
        match op {
            Op::Mov { d, a, .. }
            | Op::Cvta { d, a, .. }
            | Op::IntUnary { d, a, .. }
            | Op::FloatUnary { d, a, .. }
            | Op::Cvt { d, a, .. }
            | Op::CvtFromFp8 { d, a, .. } => self.unary(d, a),
            Op::IntBinary { d, a, b, .. }
            | Op::Bmsk { d, a, b, .. }
            | Op::Szext { d, a, b, .. }
            | Op::FloatBinary { d, a, b, .. }
            | Op::CvtPack { d, a, b, .. }
            | Op::CvtToFp8 { d, a, b, .. } => self.binary(d, a, b),
            Op::SlctS32 { d, a, b, c, .. }
            | Op::SlctF32 { d, a, b, c, .. }
            | Op::Mad { d, a, b, c, .. }
            | Op::Sad { d, a, b, c, .. }
            | Op::Carry { d, a, b, c, .. }
            | Op::Lop3 { d, a, b, c, .. }
            | Op::Shf { d, a, b, c, .. }
            | Op::Prmt { d, a, b, c, .. }
            | Op::Bfe { d, a, b, c, .. }
            | Op::Fns {
                d,
                mask: a,
                base: b,
                offset: c,
            }
            | Op::Dp4a { d, a, b, c, .. }
            | Op::Dp2a { d, a, b, c, .. }
            | Op::Fma { d, a, b, c, .. }
            | Op::CvtPackInt { d, a, b, c, .. } => {
                self.uses(&mut [a, b, c]);
                self.def(d);
            }
            Op::Pack { d, parts, .. } => {
                parts.iter_mut().for_each(|part| self.uses(&mut [part]));
                self.def(d);
            }
            Op::Unpack { parts, a, .. } => {
                self.uses(&mut [a]);
                parts.iter_mut().for_each(|part| self.def(part));
            }
            Op::Bfi {
                d, a, b, pos, len, ..
            } => {
                self.uses(&mut [a, b, pos, len]);
                self.def(d);
            }
            Op::ReadClock { d, .. } | Op::ActiveMask { d } => self.def(d),
            _ => self.predicates(op),
        }
    }

    fn unary(&mut self, d: &mut Reg, a: &mut Reg) {
        self.uses(&mut [a]);
        self.def(d);
    }

    fn binary(&mut self, d: &mut Reg, a: &mut Reg, b: &mut Reg) {
        self.uses(&mut [a, b]);
        self.def(d);
    }

    /// Instructions with predicates among their operands, and warp-wide ones. Long because it is a
    /// table: one entry an instruction.
    fn predicates(&mut self, op: &mut Op) {
        match op {
            Op::Selp { d, a, b, p, .. } => {
                self.pred_use(p);
                self.binary(d, a, b);
            }
            Op::IsSpace { p, a, .. } | Op::TestP { p, a, .. } => {
                self.uses(&mut [a]);
                self.pred_def(p);
            }
            Op::Setp { c, p, q, a, b, .. } => {
                self.uses(&mut [a, b]);
                self.pred_use(c);
                self.pred_def(p);
                self.pred_def(q);
            }
            Op::Set { c, d, a, b, .. } => {
                self.pred_use(c);
                self.binary(d, a, b);
            }
            Op::PredLogic { d, a, b, .. } => {
                self.pred_use(a);
                self.pred_use(b);
                self.pred_def(d);
            }
            Op::Barrier {
                id,
                count,
                src,
                d,
                p,
                ..
            } => {
                self.uses(&mut [id, count]);
                self.pred_use(src);
                self.def(d);
                self.pred_def(p);
            }
            Op::WarpSync { mask } => self.uses(&mut [mask]),
            Op::Shfl {
                d,
                p,
                a,
                b,
                c,
                mask,
                ..
            } => {
                self.uses(&mut [a, b, c, mask]);
                self.def(d);
                self.pred_def(p);
            }
            Op::Vote {
                d, p, src, mask, ..
            } => {
                self.uses(&mut [mask]);
                self.pred_use(src);
                self.def(d);
                self.pred_def(p);
            }
            Op::Match { d, p, a, mask, .. } => {
                self.binary(d, a, mask);
                self.pred_def(p);
            }
            Op::Redux { d, a, mask, .. } => self.binary(d, a, mask),
            Op::Elect { d, p, mask } => {
                self.unary(d, mask);
                self.pred_def(p);
            }
            _ => self.memory(op),
        }
    }

    /// Memory and control. Everything else was matched before.
    fn memory(&mut self, op: &mut Op) {
        match op {
            Op::Ld { d, addr, .. } => {
                self.address(addr);
                d.iter_mut().for_each(|reg| self.def(reg));
            }
            Op::St { src, addr, .. } => {
                self.address(addr);
                src.iter_mut().for_each(|reg| self.uses(&mut [reg]));
            }
            Op::Atom { d, addr, b, c, .. } => {
                self.address(addr);
                self.binary(d, b, c);
            }
            Op::CpAsync {
                dst, src, src_size, ..
            } => {
                self.address(dst);
                self.address(src);
                self.uses(&mut [src_size]);
            }
            Op::BrxIdx { index, .. } => self.uses(&mut [index]),
            Op::AssertFail {
                message,
                file,
                line,
                function,
            } => {
                self.uses(&mut [message, file, line, function]);
            }
            Op::Printf { d, format, args } => self.binary(d, format, args),
            _ => self.matrices(op),
        }
    }

    /// Matrix instructions.
    fn matrices(&mut self, op: &mut Op) {
        match op {
            Op::LdMatrix { d, addr, .. } => {
                self.address(addr);
                d.iter_mut().for_each(|reg| self.def(reg));
            }
            Op::StMatrix { src, addr, .. } => {
                self.address(addr);
                src.iter_mut().for_each(|reg| self.uses(&mut [reg]));
            }
            Op::MovMatrix { d, a } => self.unary(d, a),
            Op::Mma { d, a, b, .. } => {
                a.iter_mut().for_each(|reg| self.uses(&mut [reg]));
                b.iter_mut().for_each(|reg| self.uses(&mut [reg]));
                // It is one place that is read and then written: a copy is shown to who looks at
                // what is read, so that the place itself is rewritten only once.
                let mut read = *d;
                read.iter_mut().for_each(|reg| self.uses(&mut [reg]));
                d.iter_mut().for_each(|reg| self.def(reg));
            }
            _ => self.asynchronous(op),
        }
    }

    /// Barriers in shared memory, bulk copies and matrix products of a warpgroup.
    fn asynchronous(&mut self, op: &mut Op) {
        match op {
            Op::Mbarrier { addr, d, p, a, .. } => {
                self.address(addr);
                self.unary(d, a);
                self.pred_def(p);
            }
            Op::BulkLoad {
                dst, src, barrier, ..
            }
            | Op::BulkShared {
                dst, src, barrier, ..
            } => {
                self.address(dst);
                self.address(src);
                self.address(barrier);
            }
            Op::StoreAsync { addr, barrier, .. } => {
                self.address(addr);
                self.address(barrier);
            }
            Op::ReduceAsync {
                addr, barrier, b, ..
            } => {
                self.address(addr);
                self.address(barrier);
                self.uses(&mut [b]);
            }
            Op::MapBlock { d, a, b, .. } => self.binary(d, a, b),
            Op::RankOf { d, a, .. } => self.unary(d, a),
            Op::BulkStore { dst, src, size, .. } => {
                self.address(dst);
                self.address(src);
                self.uses(&mut [size]);
            }
            Op::TensorLoad {
                dst, map, barrier, ..
            } => {
                self.address(dst);
                self.address(map);
                self.address(barrier);
            }
            Op::TensorStore { map, src, .. } => {
                self.address(map);
                self.address(src);
            }
            Op::ReplaceField { map, value, .. } => {
                self.address(map);
                self.uses(&mut [value]);
            }
            Op::CopyMap { dst, src } => {
                self.address(dst);
                self.address(src);
            }
            Op::Wgmma { a, b, scale, .. } => {
                self.uses(&mut [a, b]);
                self.pred_use(scale);
            }
            Op::Extra { update, regs, .. } => {
                let role = if *update { Role::Update } else { Role::Use };
                for reg in regs.iter_mut().filter(|reg| !reg.is_none()) {
                    (self.visit)(Place::Reg(reg), role);
                }
            }
            _ => {}
        }
    }
}
