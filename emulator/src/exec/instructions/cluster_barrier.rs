//! `barrier.cluster`: every thread of the cluster that has not exited arrives, then waits.
use crate::exec::instructions::isa::Isa;
use crate::exec::instructions::mbarrier;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::warp::Warp;
use crate::ir::Op;
use crate::report::{ClusterFault, FaultKind, WaitsFor};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::ClusterArrive { relaxed, aligned } => arrive(cx, w, m, (relaxed, aligned)),
        Op::ClusterWait { aligned } => wait(cx, w, m, aligned),
        _ => no_execution(op),
    }
}

fn fault(lanes: u32, fault: ClusterFault) -> Box<UnlocatedFault> {
    UnlocatedFault::lane(lanes.trailing_zeros() as usize, fault.into())
}

/// Checks that all lanes of the warp execute an aligned instruction.
fn check_aligned(w: &Warp, m: u32, aligned: bool) -> Outcome {
    if aligned && m != w.alive {
        let (arrived, alive) = (m, w.alive);
        return Err(fault(m, ClusterFault::Divergent { arrived, alive }));
    }
    Ok(())
}

/// `barrier.cluster.arrive`
pub(crate) fn arrive(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    (relaxed, aligned): (bool, bool),
) -> Result<Flow, Box<UnlocatedFault>> {
    check_aligned(w, m, aligned)?;
    if cx.order.is_exhausted() {
        return Err(UnlocatedFault::warp(FaultKind::TooManyBarriers));
    }
    let warp = w.index as usize;
    let barrier = &cx.cluster.barrier;
    let twice = m & (barrier.arrived[warp] | barrier.passed[warp]);
    if twice != 0 {
        return Err(fault(twice, ClusterFault::ArrivedTwice));
    }
    let time = cx.order.arrive();
    let barrier = &mut cx.cluster.barrier;
    barrier.arrived[warp] |= m;
    barrier.times[0][warp] = time;
    if relaxed {
        cx.order.gather_fenced(&mut barrier.gathered, w.index);
        if let Some(time) = cx.fences.latest(warp, m) {
            cx.order.gather_init(&mut barrier.gathered, warp, time);
        }
    } else {
        cx.order.gather(&mut barrier.gathered, warp, time);
        cx.order.gather_init(&mut barrier.gathered, warp, time);
    }
    // The phase may be complete; the block checks that after the turn.
    Ok(Flow::Yield)
}

/// `barrier.cluster.wait`
pub(crate) fn wait(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    aligned: bool,
) -> Result<Flow, Box<UnlocatedFault>> {
    check_aligned(w, m, aligned)?;
    let warp = w.index as usize;
    let barrier = &mut cx.cluster.barrier;
    let strangers = m & !(barrier.arrived[warp] | barrier.passed[warp]);
    if strangers != 0 {
        return Err(fault(strangers, ClusterFault::WaitWithoutArrive));
    }
    w.split().expired = false;
    if m & !barrier.passed[warp] != 0 {
        w.wants = WaitsFor::Cluster { threads: 0 };
        return Ok(mbarrier::block(w));
    }
    barrier.passed[warp] &= !m;
    cx.order.learn(warp, &barrier.released);
    cx.order.learn_running(warp);
    let rank = cx.cluster.rank as usize;
    let arrived = &barrier.times[1];
    cx.cluster.visits[rank].retain(|visit| visit.copy || visit.time > arrived[visit.warp as usize]);
    w.sync_count += 1;
    Ok(Flow::Next)
}

/// Completes the phase if every thread of the cluster that has not exited has arrived. Returns
/// whether it did.
pub(crate) fn settle(cx: &mut Context, warps: &[Warp]) -> bool {
    let barrier = &mut cx.cluster.barrier;
    if barrier.lacks(warps) != 0 {
        return false;
    }
    for (passed, arrived) in barrier.passed.iter_mut().zip(&mut barrier.arrived) {
        *passed |= std::mem::take(arrived);
    }
    let [now, last] = &mut barrier.times;
    last.copy_from_slice(now);
    barrier.released = std::mem::take(&mut barrier.gathered);
    cx.counters.barriers += 1;
    cx.mbarriers.events += 1;
    cx.mbarriers.changed = true;
    true
}
