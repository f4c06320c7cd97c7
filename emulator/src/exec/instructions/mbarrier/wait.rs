//! Waits for phases of mbarrier objects.
use crate::exec::instructions::mbarrier::usable::{fault, usable};
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::{State, Warp};
use crate::exec::memory::shared::actor;
use crate::ir::Op;
use crate::report::{AsyncFault, WaitsFor};
use crate::sanitizer::UnlocatedFault;

/// The phase that a lane waits for, if it is complete; otherwise the condition of its wait.
fn look(
    cx: &Context,
    w: &Warp,
    lane: usize,
    address: u64,
    by_parity: bool,
    op: &Op,
) -> Result<(usize, Option<WaitsFor>), Box<UnlocatedFault>> {
    let Op::Mbarrier { a, .. } = *op else {
        return Ok((0, None));
    };
    let slot = usable(cx, &actor(w, lane, false), address, false)?;
    let barrier = &cx.mbarriers.list[slot];
    let current = barrier.phase();
    let complete = if by_parity {
        let parity = w.u32s(a)[lane];
        if parity > 1 {
            return Err(fault(lane, AsyncFault::MbarrierParity { address, parity }));
        }
        current & 1 != parity
    } else {
        let state = w.u64s(a)[lane];
        let given = (state >> 20) as u32;
        if state >> 52 != slot as u64 || (given != current && given.wrapping_add(1) != current) {
            return Err(fault(
                lane,
                AsyncFault::MbarrierState {
                    address,
                    given,
                    current,
                },
            ));
        }
        given != current
    };
    let wants = WaitsFor::Mbarrier {
        address,
        parity: current & 1,
        arrivals: barrier.pending,
        bytes: barrier.bytes,
    };
    Ok((slot, (!complete).then_some(wants)))
}

/// `test_wait`, `try_wait`.
pub(super) fn wait(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    address: &[u64; 32],
    parity: bool,
    op: &Op,
) -> Step {
    let Op::Mbarrier { p, relaxed, .. } = *op else {
        return Ok(Flow::Next);
    };
    let mut complete = 0u32;
    let mut wants = None;
    let mut known = usize::MAX;
    for lane in lanes(m) {
        let (slot, lacking) = look(cx, w, lane, address[lane], parity, op)?;
        if lacking.is_some() {
            wants = lacking;
            continue;
        }
        complete |= 1 << lane;
        if slot != known && !relaxed {
            known = slot;
            let barrier = &cx.mbarriers.list[slot];
            cx.order.learn(w.index as usize, &barrier.released);
            cx.order.learn_phase(w.index as usize, slot, barrier.phases);
        }
    }
    let expired = std::mem::take(&mut w.split().expired);
    if let Some(wants) = wants
        && !expired
        && w.split().mask == m
    {
        w.wants = wants;
        return Ok(block(w));
    }
    w.sync_count = w.sync_count.wrapping_add(1);
    w.set_pred(m, p, complete);
    // In a loop of waiting and other lanes, the others continue.
    Ok(if complete == m {
        Flow::Next
    } else {
        Flow::Yield
    })
}

/// Suspends the current split; it executes its instruction again after a change.
pub(crate) fn block(w: &mut Warp) -> Flow {
    let pc = w.pc;
    let split = w.split();
    split.pc = pc;
    split.state = State::Event;
    Flow::Blocked
}

/// Condition that a blocked warp waits for.
pub(crate) fn waits_for(cx: &Context, w: &Warp) -> WaitsFor {
    let WaitsFor::Mbarrier {
        address, parity, ..
    } = w.wants
    else {
        return w.wants;
    };
    let mbarriers = cx.mbarriers_of(cx.cluster.rank_of(w.index));
    match mbarriers.find(address) {
        None => w.wants,
        Some(slot) => {
            let barrier = mbarriers.get(slot);
            WaitsFor::Mbarrier {
                address,
                parity,
                arrivals: barrier.pending,
                bytes: barrier.bytes,
            }
        }
    }
}
