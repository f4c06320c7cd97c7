//! mbarrier operations, proxy fences, and `setmaxnreg`.

use crate::ir::{Address, MbarrierOp, Op, Pred, Reg, Space};
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
        "mbarrier" => b.mbarrier(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// An address in shared memory, and its space. The instruction's space has already been taken.
    pub(crate) fn shared_address(
        &mut self,
        operand: &Operand<'a>,
        space: Option<Space>,
    ) -> Result<(Address, Space)> {
        let (addr, space) = self.address(operand, space.unwrap_or(Space::Generic))?;
        if space.may_be_shared() {
            return Ok((addr, space));
        }
        self.error("the address must be in shared memory")
    }

    /// Takes `.shared`, `.shared::cta` or `.shared::cluster`.
    pub(crate) fn take_shared(m: &mut Mods<'a>) -> Option<Space> {
        m.take_of(&[
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Cluster),
        ])
    }

    /// `mbarrier`
    fn mbarrier(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let relaxed = m.take("relaxed");
        m.ignore(&["release", "acquire", "cta", "cluster"]);
        let space = Self::take_shared(m);
        if m.take_type() != Some(Type::B64) {
            return m.error("the type must be `.b64`");
        }
        if m.take("pending_count") {
            let [d, state] = operands(i, m)?;
            let (a, d) = (
                self.source(state, Type::B64)?,
                self.destination(d, Type::B32)?,
            );
            let addr = NOWHERE;
            self.emit_mbarrier(MbarrierOp::PendingCount, false, (addr, Space::Shared), d, a);
            return Ok(());
        }
        for (name, op) in [("init", MbarrierOp::Init), ("inval", MbarrierOp::Inval)] {
            if m.take(name) {
                return self.mbarrier_simple(op, relaxed, space, i, m);
            }
        }
        let kinds = [("arrive", false), ("arrive_drop", true)];
        if let Some(drop) = m.take_of(&kinds) {
            return self.mbarrier_arrive(drop, relaxed, space, i, m);
        }
        if m.take("test_wait") || m.take("try_wait") {
            return self.mbarrier_wait(relaxed, space, i, m);
        }
        let bytes = [
            ("expect_tx", MbarrierOp::ExpectTx),
            ("complete_tx", MbarrierOp::CompleteTx),
        ];
        let op = m.need_of("an operation", &bytes)?;
        self.mbarrier_simple(op, relaxed, space, i, m)
    }

    fn emit_mbarrier(
        &mut self,
        op: MbarrierOp,
        relaxed: bool,
        (addr, space): (Address, Space),
        d: Reg,
        a: Reg,
    ) {
        self.emit(Op::Mbarrier {
            op,
            relaxed,
            space,
            addr,
            d,
            p: Pred::NONE,
            a,
        });
    }

    /// Operations with an address and at most one number.
    fn mbarrier_simple(
        &mut self,
        op: MbarrierOp,
        relaxed: bool,
        space: Option<Space>,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let (address, a) = match i.operands.as_slice() {
            [address] if op == MbarrierOp::Inval => (address, Reg::NONE),
            [address, a] if op != MbarrierOp::Inval => (address, self.source(a, Type::U32)?),
            _ => return m.error("has a wrong number of operands"),
        };
        let bytes = matches!(op, MbarrierOp::ExpectTx | MbarrierOp::CompleteTx);
        if space == Some(Space::Cluster) && !bytes {
            return m.error("only a barrier of the block itself can be initialised or invalidated");
        }
        let address = self.shared_address(address, space)?;
        self.emit_mbarrier(op, relaxed, address, Reg::NONE, a);
        Ok(())
    }

    fn mbarrier_arrive(
        &mut self,
        drop: bool,
        relaxed: bool,
        space: Option<Space>,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let op = MbarrierOp::Arrive {
            drop,
            no_complete: m.take("noComplete"),
            expect_tx: m.take("expect_tx"),
        };
        let (d, address, a) = match i.operands.as_slice() {
            [d, address @ Operand::Address(..)] => (Some(d), address, None),
            [d, address, a] => (Some(d), address, Some(a)),
            [address, a] => (None, address, Some(a)),
            _ => return m.error("has a wrong number of operands"),
        };
        let a = a.map_or(Ok(Reg::NONE), |a| self.source(a, Type::U32))?;
        let wants = match op {
            MbarrierOp::Arrive {
                no_complete,
                expect_tx,
                ..
            } => no_complete || expect_tx,
            _ => false,
        };
        if a.is_none() && wants {
            return m.error("the count is missing");
        }
        let d = match d {
            None | Some(Operand::Name("_")) => Reg::NONE,
            Some(d) => self.destination(d, Type::B64)?,
        };
        if space == Some(Space::Cluster) && !d.is_none() {
            return m.error("`.shared::cluster` gives no state: the destination must be `_`");
        }
        let address = self.shared_address(address, space)?;
        self.emit_mbarrier(op, relaxed, address, d, a);
        Ok(())
    }

    fn mbarrier_wait(
        &mut self,
        relaxed: bool,
        space: Option<Space>,
        i: &Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<()> {
        let parity = m.take("parity");
        let [p, address, a, hint @ ..] = i.operands.as_slice() else {
            return m.error("operands are missing");
        };
        match hint {
            [] => {}
            // A time limit, which is ignored: here a wait lasts until no other warp can continue.
            [hint] => drop(self.source(hint, Type::U32)?),
            _ => return m.error("has a wrong number of operands"),
        }
        let a = self.source(a, if parity { Type::B32 } else { Type::B64 })?;
        let p = self.pred_operand(p)?;
        if space == Some(Space::Cluster) {
            return m.error("only a barrier of the block itself can be waited for");
        }
        let (addr, space) = self.shared_address(address, space)?;
        self.emit(Op::Mbarrier {
            op: MbarrierOp::Wait { parity },
            relaxed,
            space,
            addr,
            d: Reg::NONE,
            p,
            a,
        });
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`
    pub(crate) fn copy_arrive(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if !m.take("arrive") || m.take_type() != Some(Type::B64) {
            return m.error("the instruction is not supported");
        }
        let noinc = m.take("noinc");
        let space = Self::take_shared(m);
        let [address] = operands(i, m)?;
        let address = self.shared_address(address, space)?;
        let op = MbarrierOp::CopyArrive { noinc };
        self.emit_mbarrier(op, false, address, Reg::NONE, Reg::NONE);
        Ok(())
    }
}

/// The address operand of an operation without one.
const NOWHERE: Address = Address {
    base: Reg::NONE,
    wide: true,
    offset: 0,
};
