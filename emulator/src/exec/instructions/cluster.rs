//! Clusters: access to shared memory of other blocks.
//!
//! The warps of all blocks of a cluster take turns in one host thread, so no lock is needed. The
//! state of a block (its shared memory, its barriers, its registers) is in the [`Context`] while
//! one of its warps runs, and in a [`Part`] otherwise. An access to another block's shared memory
//! exchanges that block's part with the context, performs the access as to own memory, and
//! exchanges them back.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::cluster::Visit;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{space_of, window};
use crate::ir::{CLUSTER_SHIFT, Op, Reg, Space};
use crate::report::{Access, AccessKind, ClusterFault, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::MapBlock {
            generic,
            wide,
            d,
            a,
            b,
        } => mapa(w, m, [d, a, b], (generic, wide))?,
        Op::RankOf {
            generic,
            wide,
            d,
            a,
        } => rank(cx, w, m, [d, a], (generic, wide))?,
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// The largest tag in the high bits of an address.
const LAST_TAG: u32 = 255;

pub(crate) fn fault(lane: usize, fault: ClusterFault) -> Box<UnlocatedFault> {
    UnlocatedFault::lane(lane, fault.into())
}

/// The rank in an address of `.shared::cluster`, and the offset in that block's shared memory.
pub(crate) fn locate(
    cx: &Context,
    lane: usize,
    touch: Access,
) -> Result<(u32, u64), Box<UnlocatedFault>> {
    let address = touch.address;
    if address >> 32 != 0 {
        let actual = space_of(address);
        return Err(UnlocatedFault::lane(
            lane,
            FaultKind::WrongSpace { touch, actual },
        ));
    }
    let offset = address & ((1 << CLUSTER_SHIFT) - 1);
    let blocks = cx.cluster.count();
    match (address >> CLUSTER_SHIFT) as u32 {
        0 => Ok((cx.cluster.rank, offset)),
        tag if tag <= blocks => Ok((tag - 1, offset)),
        tag => {
            let rank = tag - 1;
            Err(fault(
                lane,
                ClusterFault::NoBlock {
                    touch,
                    rank,
                    blocks,
                },
            ))
        }
    }
}

/// Checks that a warp may access the shared memory of a block.
pub(crate) fn check_reachable(
    cx: &Context,
    w: &Warp,
    lane: usize,
    rank: u32,
    touch: Access,
) -> Outcome {
    let block = cx.cluster.blocks[rank as usize];
    if cx.cluster.alive[rank as usize] == 0 {
        return Err(fault(lane, ClusterFault::Exited { touch, block }));
    }
    if !cx.order.knows_running(w.index, rank as usize) {
        return Err(fault(lane, ClusterFault::NotStarted { touch, block }));
    }
    Ok(())
}

/// Records an access to another block's shared memory, which must be complete before that block
/// ends.
pub(crate) fn visit(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    rank: u32,
    (phase, copy): (Option<(usize, u32)>, bool),
) {
    let visit = Visit {
        warp: w.index,
        lane: lane as u32,
        pc: w.pc,
        time: cx.order.now,
        phase,
        copy,
    };
    let list = &mut cx.cluster.visits[rank as usize];
    let of = |v: &Visit| (v.warp, v.phase.map(|phase| phase.0), v.copy);
    match list.iter_mut().find(|v| of(v) == of(&visit)) {
        Some(old) => *old = visit,
        None => list.push(visit),
    }
}

/// Performs an access of the lanes of `m`, block by block. `data`: false for operations on
/// barriers, which are counted differently.
pub(crate) fn each_block(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    (kind, bytes, data): (AccessKind, u32, bool),
    address: &[u64; 32],
    mut does: impl FnMut(&mut Context, &mut Warp, u32, &[u64; 32]) -> Outcome,
) -> Outcome {
    let mut offset = [0; 32];
    let mut ranks = [0; 32];
    for lane in lanes(m) {
        let touch = touch(kind, Space::Cluster, address[lane], bytes);
        (ranks[lane], offset[lane]) = locate(cx, lane, touch)?;
    }
    let mut left = m;
    while left != 0 {
        let first = left.trailing_zeros() as usize;
        let rank = ranks[first];
        let same = lanes(left)
            .filter(|&lane| ranks[lane] == rank)
            .fold(0, |mask, lane| mask | 1u32 << lane);
        left &= !same;
        if rank == cx.cluster.rank {
            does(cx, w, same, &offset)?;
            continue;
        }
        let touch = touch(kind, Space::Cluster, address[first], bytes);
        check_reachable(cx, w, first, rank, touch)?;
        if data {
            cx.counters.distributed.requests += 1;
            cx.counters.distributed.bytes += u64::from(same.count_ones() * bytes);
            visit(cx, w, first, rank, (None, false));
        }
        cx.at(rank, |cx| does(cx, w, same, &offset))?;
    }
    Ok(())
}

/// Converts addresses of `.shared::cta` to offsets if they contain the block's own rank, as `mapa`
/// returns for the block itself. `None` if none do, or if one contains another rank.
#[cold]
#[inline(never)]
pub(crate) fn own_offsets(cx: &Context, m: u32, address: &[u64; 32]) -> Option<[u64; 32]> {
    let own = u64::from(cx.cluster.rank + 1);
    let mut offset = *address;
    let mut any = false;
    for lane in lanes(m) {
        let tag = address[lane] >> CLUSTER_SHIFT;
        if tag != 0 && tag != own {
            return None;
        }
        any |= tag == own;
        offset[lane] &= (1 << CLUSTER_SHIFT) - 1;
    }
    any.then_some(offset)
}

/// `mapa`
pub(crate) fn mapa(
    w: &mut Warp,
    m: u32,
    [d, a, b]: [Reg; 3],
    (generic, wide): (bool, bool),
) -> Outcome {
    let rank = *w.u32s(b);
    let from = operand(w, a, wide);
    let base = if generic { window(Space::Shared) } else { 0 };
    let mut to = [0; 32];
    for lane in lanes(m) {
        if generic && space_of(from[lane]) != Space::Shared {
            let address = from[lane];
            return Err(fault(lane, ClusterFault::NotShared { address }));
        }
        // An invalid rank gives an address that faults on every access.
        let tag = u64::from(rank[lane].min(LAST_TAG - 1) + 1);
        let offset = (from[lane] - base) & ((1 << CLUSTER_SHIFT) - 1);
        to[lane] = base + (tag << CLUSTER_SHIFT) + offset;
    }
    if wide {
        w.set64(m, d, &to);
    } else {
        w.set32(m, d, &to.map(|address| address as u32));
    }
    Ok(())
}

fn operand(w: &Warp, a: Reg, wide: bool) -> [u64; 32] {
    if wide {
        *w.u64s(a)
    } else {
        w.u32s(a).map(u64::from)
    }
}

/// `getctarank`
pub(crate) fn rank(
    cx: &Context,
    w: &mut Warp,
    m: u32,
    [d, a]: [Reg; 2],
    (generic, wide): (bool, bool),
) -> Outcome {
    let from = operand(w, a, wide);
    let mut ranks = [0; 32];
    for lane in lanes(m) {
        let mut address = from[lane];
        if generic {
            if space_of(address) != Space::Shared {
                return Err(fault(lane, ClusterFault::NotShared { address }));
            }
            address -= window(Space::Shared);
        }
        let touch = touch(AccessKind::Read, Space::Cluster, address, 1);
        ranks[lane] = locate(cx, lane, touch)?.0;
    }
    w.set32(m, d, &ranks);
    Ok(())
}

/// Checks that all accesses of other blocks to a block's shared memory are complete when its last
/// warp has ended.
pub(crate) fn check_exit(cx: &mut Context, rank: u32) -> Result<(), Box<UnlocatedFault>> {
    let visits = std::mem::take(&mut cx.cluster.visits[rank as usize]);
    let warps = rank * cx.cluster.warps..(rank + 1) * cx.cluster.warps;
    for visit in visits {
        let over = |warp: u32| {
            !visit.copy && cx.order.is_before(warp, visit.warp, visit.time)
                || visit
                    .phase
                    .is_some_and(|(slot, phase)| cx.order.phases(warp as usize, slot) > phase)
        };
        if !warps.clone().any(over) {
            let kind = ClusterFault::ExitedEarly {
                by: cx.thread(visit.warp, visit.lane),
                block: cx.cluster.blocks[cx.cluster.rank_of(visit.warp) as usize],
                line: cx.line(visit.pc),
            };
            return Err(UnlocatedFault::warp(kind.into()));
        }
    }
    Ok(())
}
