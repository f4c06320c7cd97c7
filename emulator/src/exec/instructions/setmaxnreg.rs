//! `setmaxnreg`: warps release and acquire registers.
//!
//! The initial number of registers per thread is known if the kernel has `.maxnreg`. Otherwise it
//! is assumed to be a compiler's choice: an even share of the 65536 registers of an SM, rounded to
//! a multiple of eight.
use crate::exec::instructions::isa::Isa;
use crate::exec::instructions::mbarrier;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::register_pool::AHEAD;
use crate::exec::machine::warp::Warp;
use crate::ir::Op;
use crate::report::{AsyncFault, FaultKind, WaitsFor};
use crate::sanitizer::UnlocatedFault;

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::SetMaxRegisters { count, more } => set(cx, w, m, count.into(), more),
        _ => no_execution(op),
    }
}

/// `setmaxnreg`. The split waits if there are not enough free registers yet.
pub(crate) fn set(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    count: u32,
    more: bool,
) -> Result<Flow, Box<UnlocatedFault>> {
    let warp = w.own as usize;
    let known = cx.grid.kernel.max_registers.is_some();
    let registers = &mut cx.registers;
    let current = registers.current[warp];
    let asked = registers.history[warp].len();
    let before = registers.asked[warp];
    let bad = |what| {
        let fault = AsyncFault::Registers {
            count,
            current,
            what,
        };
        Err(UnlocatedFault::warp(fault.into()))
    };
    if m != u32::MAX {
        return bad("not all lanes of the warp execute it");
    }
    // The compiler's choice is known only if the kernel has `.maxnreg`.
    if (known || before) && more != (count > current) && count != current {
        return bad("the wrong direction");
    }
    let others = warp / 4 * 4..(warp / 4 * 4 + 4).min(registers.history.len());
    for other in others {
        if let Some(&theirs) = registers.history[other].get(asked)
            && theirs != count
        {
            let (count, other) = (Some(count), Some(theirs));
            let fault = AsyncFault::RegistersDiffer { count, other };
            return Err(UnlocatedFault::warp(fault.into()));
        }
    }
    if count > current + registers.free {
        w.wants = WaitsFor::Registers {
            count,
            available: current + registers.free,
        };
        return Ok(mbarrier::block(w));
    }
    registers.free = registers.free + current - count;
    if !registers.note(warp, count) {
        let fault = FaultKind::TooMany {
            what: "requests for registers by one warp of a warpgroup ahead of another",
            most: AHEAD as u64,
        };
        return Err(UnlocatedFault::warp(fault));
    }
    cx.mbarriers.events += 1;
    cx.mbarriers.changed = true;
    Ok(Flow::Next)
}
