//! mbarrier objects in shared memory.
//!
//! Their state is stored outside of the memory; the shadow marks their bytes. A wait for an
//! incomplete phase suspends its lanes until the state of some barrier changes. If no warp of the
//! block can continue, waits return false, as their time limit permits.

mod usable;
mod wait;

use crate::exec::instructions::async_copy;
use crate::exec::instructions::cluster;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::mbarriers::Mbarrier;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{compute, space_of};
use crate::exec::memory::shared::{actor, check_bounds};
use crate::ir::{Address, CLUSTER_SHIFT, MbarrierOp, Op, SHARED_WINDOW, Space};
use crate::report::{AccessKind, AsyncFault, ClusterFault};
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::shadow::Actor;
use crate::sanitizer::vector_clock::SLOTS;
use crate::sanitizer::{Outcome, UnlocatedFault};
use usable::fault;
pub(crate) use usable::usable;
use wait::wait;
pub(crate) use wait::{block, waits_for};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    run(cx, w, m, op)
}

/// The largest counts of arrivals and of bytes.
const MOST: u32 = (1 << 20) - 1;

/// The addresses of barriers in the form of `.shared::cluster`.
fn addresses(w: &Warp, m: u32, addr: Address, space: Space) -> [u64; 32] {
    let mut address = compute(w, addr);
    if space == Space::Generic {
        for lane in lanes(m) {
            if space_of(address[lane]) == Space::Shared {
                address[lane] -= SHARED_WINDOW;
            }
        }
    }
    address
}

/// Returns whether an operation may access a barrier of another block.
fn may_be_remote(op: MbarrierOp) -> bool {
    matches!(
        op,
        MbarrierOp::Arrive { .. } | MbarrierOp::ExpectTx | MbarrierOp::CompleteTx
    )
}

/// Executes an operation on barriers.
pub(crate) fn run(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    op: &Op,
) -> Result<Flow, Box<UnlocatedFault>> {
    let Op::Mbarrier {
        op: what,
        space,
        addr,
        d,
        a,
        ..
    } = *op
    else {
        return Ok(Flow::Next);
    };
    if what == MbarrierOp::PendingCount {
        let state = *w.u64s(a);
        w.set32(m, d, &state.map(|state| state as u32 & MOST));
        return Ok(Flow::Next);
    }
    if cx.order.is_exhausted() {
        return Err(UnlocatedFault::warp(
            crate::report::FaultKind::TooManyBarriers,
        ));
    }
    let mut address = addresses(w, m, addr, space);
    let mut remote = 0u32;
    for lane in lanes(m) {
        if address[lane] >> CLUSTER_SHIFT == 0 {
            continue;
        }
        let touched = touch(AccessKind::Atomic, Space::Cluster, address[lane], 8);
        let (rank, offset) = cluster::locate(cx, lane, touched)?;
        if rank != cx.cluster.rank {
            if space != Space::Cluster || !may_be_remote(what) {
                let block = cx.cluster.blocks[rank as usize];
                let kind = ClusterFault::OtherBlocksBarrier { block };
                return Err(UnlocatedFault::lane(lane, kind.into()));
            }
            remote |= 1 << lane;
        } else {
            address[lane] = offset;
        }
    }
    let own = m & !remote;
    if own != 0 {
        check_bounds(cx, own, AccessKind::Atomic, &address, 8)?;
    }
    if let MbarrierOp::Wait { parity } = what {
        return wait(cx, w, m, &address, parity, op);
    }
    let mut states = [0u64; 32];
    if own != 0 {
        each(cx, w, own, &address, op, &mut states)?;
    }
    if remote != 0 {
        let access = (AccessKind::Atomic, 8, false);
        cluster::each_block(cx, w, remote, access, &address, |cx, w, m, address| {
            check_bounds(cx, m, AccessKind::Atomic, address, 8)?;
            each(cx, w, m, address, op, &mut states)
        })?;
    }
    if !d.is_none() {
        w.set64(m, d, &states);
    }
    Ok(Flow::Next)
}

/// Executes operations other than waits, lane by lane, on barriers of the block whose part is in
/// the context.
fn each(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    address: &[u64; 32],
    op: &Op,
    states: &mut [u64; 32],
) -> Outcome {
    let Op::Mbarrier {
        op: what,
        relaxed,
        a,
        ..
    } = *op
    else {
        return Ok(());
    };
    let time = cx.order.arrive();
    for lane in lanes(m) {
        let actor = actor(w, lane, false);
        let value = if a.is_none() { 1 } else { w.u32s(a)[lane] };
        if what == MbarrierOp::Init {
            init(cx, &actor, address[lane], value, time)?;
            continue;
        }
        let slot = usable(cx, &actor, address[lane], false)?;
        states[lane] = cx.mbarriers.list[slot].state(slot);
        if cx.cluster.rank_of(w.index) != cx.cluster.rank {
            let phase = (slot, cx.mbarriers.list[slot].phases);
            cluster::visit(cx, w, lane, cx.cluster.rank, (Some(phase), false));
        }
        let gather = (!relaxed).then_some((w.index as usize, time));
        match what {
            MbarrierOp::Inval => invalidate(cx, slot),
            MbarrierOp::ExpectTx => expect(cx, slot, lane, i64::from(value))?,
            MbarrierOp::CompleteTx => expect(cx, slot, lane, -i64::from(value))?,
            MbarrierOp::Arrive {
                expect_tx,
                drop,
                no_complete,
            } => {
                let mut count = value;
                if expect_tx {
                    cx.mbarriers.list[slot].bytes += i64::from(value);
                    check_bytes(cx, slot, lane, i64::from(value))?;
                    count = 1;
                }
                arrive(cx, slot, lane, count, drop, gather)?;
                let completed = cx.mbarriers.list[slot].state(slot) >> 20 != states[lane] >> 20;
                if no_complete && completed {
                    let address = address[lane];
                    return Err(fault(lane, AsyncFault::MbarrierCompletes { address }));
                }
            }
            MbarrierOp::CopyArrive { noinc } => copy_arrive(cx, w, lane, slot, noinc)?,
            _ => {}
        }
    }
    Ok(())
}

fn init(cx: &mut Context, actor: &Actor, address: u64, count: u32, time: u32) -> Outcome {
    let lane = actor.lane as usize;
    if count == 0 || count > MOST {
        return Err(fault(lane, AsyncFault::MbarrierCount { address, count }));
    }
    if let Some(slot) = cx.mbarriers.find(address) {
        let line = cx.line(cx.mbarriers.list[slot].init.pc);
        return Err(fault(lane, AsyncFault::MbarrierLive { address, line }));
    }
    // The bytes change their state like those of an ordinary write.
    crate::exec::memory::shared::write_units(
        cx,
        actor,
        touch(AccessKind::Write, Space::Shared, address, 8),
        &[0; 8],
    )?;
    mark(cx, address as u32, true);
    let list = &mut cx.mbarriers.list;
    let slot = list.iter().position(|b| u64::from(b.address) == address);
    let slot = slot.unwrap_or(list.len());
    let phases = list.get(slot).map_or(0, |b| b.phases + 1);
    if slot == SLOTS {
        let most = SLOTS as u32;
        return Err(fault(lane, AsyncFault::TooManyMbarriers { most }));
    }
    let new = Mbarrier {
        address: address as u32,
        live: true,
        count,
        pending: count,
        bytes: 0,
        phases,
        first: phases,
        init: *actor,
        time,
        gathered: Vec::new(),
        released: Vec::new(),
    };
    if slot == list.len() {
        list.push(new);
    } else {
        list[slot] = new;
    }
    cx.mbarriers.events += 1;
    Ok(())
}

fn invalidate(cx: &mut Context, slot: usize) {
    cx.mbarriers.list[slot].live = false;
    cx.mbarriers.events += 1;
    mark(cx, cx.mbarriers.list[slot].address, false);
}

/// Marks the eight bytes of a barrier in the shadow, or clears the mark.
fn mark(cx: &mut Context, address: u32, there: bool) {
    let shadow = &mut cx.shared.shadow;
    shadow.divide(8);
    for unit in address >> shadow.shift..(address + 8) >> shadow.shift {
        shadow.set_barrier(unit as usize, there);
    }
}

fn check_bytes(cx: &Context, slot: usize, lane: usize, change: i64) -> Outcome {
    let barrier = &cx.mbarriers.list[slot];
    if barrier.bytes.unsigned_abs() <= u64::from(MOST) {
        return Ok(());
    }
    Err(fault(
        lane,
        AsyncFault::MbarrierBytes {
            address: barrier.address.into(),
            before: barrier.bytes - change,
            change,
        },
    ))
}

/// Changes the number of bytes that the phase waits for by `change`.
pub(crate) fn expect(cx: &mut Context, slot: usize, lane: usize, change: i64) -> Outcome {
    cx.mbarriers.list[slot].bytes += change;
    check_bytes(cx, slot, lane, change)?;
    advance(cx, slot);
    Ok(())
}

fn advance(cx: &mut Context, slot: usize) {
    cx.mbarriers.events += 1;
    if cx.mbarriers.list[slot].advance() {
        cx.mbarriers.changed = true;
        cx.counters.barriers += 1;
    }
}

/// Arrives at a barrier. `gather`: the warp whose vector clock the arrival releases, and the time.
fn arrive(
    cx: &mut Context,
    slot: usize,
    lane: usize,
    count: u32,
    drop: bool,
    gather: Option<(usize, u32)>,
) -> Outcome {
    let barrier = &mut cx.mbarriers.list[slot];
    let address = u64::from(barrier.address);
    if count == 0 || count > MOST {
        return Err(fault(lane, AsyncFault::MbarrierCount { address, count }));
    }
    if count > barrier.pending {
        let (arrivals, pending) = (count, barrier.pending);
        return Err(fault(
            lane,
            AsyncFault::MbarrierArrivals {
                address,
                arrivals,
                pending,
            },
        ));
    }
    if drop {
        barrier.count -= count.min(barrier.count);
    }
    barrier.pending -= count;
    if let Some((warp, time)) = gather {
        cx.order.gather(&mut barrier.gathered, warp, time);
    }
    advance(cx, slot);
    Ok(())
}

/// The phase that a copy started now completes.
pub(crate) fn tracked(cx: &Context, slot: usize, pc: u32, ordinary: bool) -> Tracked {
    Tracked {
        pc,
        slot,
        phase: cx.mbarriers.list[slot].phases,
        ordinary,
    }
}

fn copy_arrive(cx: &mut Context, w: &mut Warp, lane: usize, slot: usize, noinc: bool) -> Outcome {
    let copy = tracked(cx, slot, w.pc, true);
    async_copy::track(cx, w, lane, copy);
    if noinc {
        return arrive(cx, slot, lane, 1, false, None);
    }
    // One arrival is pending until the copies are complete, which they already are.
    advance(cx, slot);
    Ok(())
}
