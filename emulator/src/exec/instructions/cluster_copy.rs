//! Asynchronous copies to blocks of a cluster: their destinations, `cp.async.bulk` between blocks,
//! `st.async`, `red.async`.
use crate::exec::instructions::atomics::Atom;
use crate::exec::instructions::bulk_access::{bulk_size, changes, note_read, shared_part};
use crate::exec::instructions::cluster::{check_reachable, fault, locate, own_offsets};
use crate::exec::instructions::destinations::{Destinations, note_copy};
use crate::exec::instructions::isa::Isa;
use crate::exec::instructions::mbarrier;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::compute;
use crate::exec::memory::shared::{actor, byte_slice, byte_slice_mut, check_bounds, write_units};
use crate::ir::{Address, AtomOp, AtomTy, Op, Reg, SharedReduction, Space};
use crate::report::{Access, AccessKind, ClusterFault};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::BulkShared {
            reduce,
            dst,
            src,
            barrier,
            list,
        } => {
            let size = cx.grid.kernel.list(list)[0];
            between(cx, w, m, [dst, src, barrier], (size, reduce))?;
        }
        Op::StoreAsync {
            bytes,
            addr,
            barrier,
            list,
        } => {
            store(
                cx,
                w,
                m,
                [addr, barrier],
                (bytes, cx.grid.kernel.list(list)),
            )?;
        }
        Op::ReduceAsync {
            op,
            ty,
            addr,
            barrier,
            b,
        } => {
            reduce(cx, w, m, [addr, barrier], (op, ty, b))?;
        }
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// `cp.async.bulk.shared::cluster.shared::cta`, and `cp.reduce` likewise.
pub(crate) fn between(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [dst, src, barrier]: [Address; 3],
    (size, reduce): (Reg, Option<SharedReduction>),
) -> Outcome {
    let atom = reduce.map(|reduce| Atom::of(reduce.parts()));
    let (target, barrier) = (compute(w, dst), compute(w, barrier));
    let mut source = compute(w, src);
    source = own_offsets(cx, m, &source).unwrap_or(source);
    for lane in lanes(m) {
        let bytes = bulk_size(w, lane, size)?;
        let places = [target[lane], barrier[lane]];
        let kind = changes(atom.is_some());
        let mut to = Destinations::new(cx, w, lane, places, (kind, bytes, 16), None)?;
        shared_part(cx, lane, AccessKind::Read, source[lane], bytes, 16)?;
        if bytes == 0 {
            to.begin(cx, w, lane, (0, false))?;
            to.end(cx, lane, 0)?;
            continue;
        }
        let (reader, time) = note_read(cx, w, lane, source[lane], bytes)?;
        to.begin(cx, w, lane, (bytes, atom.is_some()))?;
        let at = source[lane] as usize;
        let data = byte_slice(&cx.shared.words)[at..at + bytes as usize].to_vec();
        let home = cx.cluster.rank as usize;
        let [(rank, slot)] = to.slots[..] else {
            continue;
        };
        cx.at(rank, |cx| {
            let at = to.at as usize;
            let target = &mut byte_slice_mut(&mut cx.shared.words)[at..at + data.len()];
            match atom {
                None => target.copy_from_slice(&data),
                Some(atom) => {
                    atom.combine(target, &data);
                    cx.counters.shared_atomics += u64::from(bytes / atom.bytes());
                }
            }
            // Waiting for the copy also orders the reads of its source.
            cx.mbarriers
                .gather_read(&cx.order, slot, (home, reader), time);
            Ok(())
        })?;
        to.end(cx, lane, bytes)?;
    }
    Ok(())
}

/// The block and the offsets in the addresses of a lane's asynchronous store.
fn target_of(
    cx: &Context,
    w: &Warp,
    lane: usize,
    stored: Access,
    barrier: u64,
) -> Result<(u32, u64, u64), Box<UnlocatedFault>> {
    let (rank, at) = locate(cx, lane, stored)?;
    let completes = touch(AccessKind::Atomic, Space::Cluster, barrier, 8);
    let (other, barrier) = locate(cx, lane, completes)?;
    if rank != other {
        let blocks = [rank, other].map(|rank| cx.cluster.blocks[rank as usize]);
        return Err(fault(lane, ClusterFault::BarrierElsewhere { blocks }));
    }
    if rank == cx.cluster.rank {
        return Err(fault(lane, ClusterFault::AsyncToItself));
    }
    check_reachable(cx, w, lane, rank, stored)?;
    Ok((rank, at, barrier))
}

/// `st.async`
pub(crate) fn store(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [addr, barrier]: [Address; 2],
    (element, src): (u8, &[Reg]),
) -> Outcome {
    let (target, barrier) = (compute(w, addr), compute(w, barrier));
    let element = usize::from(element);
    let bytes = (element * src.len()) as u32;
    for lane in lanes(m) {
        let stored = touch(AccessKind::Write, Space::Cluster, target[lane], bytes);
        let (rank, at, barrier) = target_of(cx, w, lane, stored, barrier[lane])?;
        let mut value = [0u8; 16];
        for (i, &reg) in src.iter().enumerate() {
            let word = match element {
                8 => w.u64s(reg)[lane],
                _ => u64::from(w.u32s(reg)[lane]),
            };
            value[i * element..][..element].copy_from_slice(&word.to_le_bytes()[..element]);
        }
        let value = &value[..bytes as usize];
        let slot = cx.at(rank, |cx| {
            check_bounds(cx, 1 << lane, AccessKind::Write, &[at; 32], bytes)?;
            check_bounds(cx, 1 << lane, AccessKind::Atomic, &[barrier; 32], 8)?;
            let actor = actor(w, lane, false);
            let slot = mbarrier::usable(cx, &actor, barrier, false)?;
            let touched = touch(AccessKind::Write, Space::Shared, at, bytes);
            write_units(cx, &actor, touched, value)?;
            let copy = mbarrier::tracked(cx, slot, w.pc, true);
            let shift = cx.shared.shadow.shift;
            for unit in at >> shift..(at + u64::from(bytes)) >> shift {
                cx.shared.shadow.track_copy(unit as usize, copy);
            }
            let at = at as usize;
            byte_slice_mut(&mut cx.shared.words)[at..at + value.len()].copy_from_slice(value);
            Ok(slot)
        })?;
        note_copy(cx, w, lane, (rank, slot), bytes);
        cx.at(rank, |cx| {
            mbarrier::expect(cx, slot, lane, -i64::from(bytes))
        })?;
    }
    Ok(())
}

/// `red.async`
pub(crate) fn reduce(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [addr, barrier]: [Address; 2],
    (op, ty, b): (AtomOp, AtomTy, Reg),
) -> Outcome {
    let (target, barrier) = (compute(w, addr), compute(w, barrier));
    let (d, c) = (Reg::NONE, Reg::NONE);
    let atom = Atom { op, ty, d, b, c };
    let bytes = atom.bytes();
    for lane in lanes(m) {
        let stored = touch(AccessKind::Atomic, Space::Cluster, target[lane], bytes);
        let (rank, at, barrier) = target_of(cx, w, lane, stored, barrier[lane])?;
        let slot = cx.at(rank, |cx| {
            check_bounds(cx, 1 << lane, AccessKind::Atomic, &[barrier; 32], 8)?;
            let slot = mbarrier::usable(cx, &actor(w, lane, false), barrier, false)?;
            atom.shared(cx, w, 1 << lane, &[at; 32])?;
            // A wait for it acquires the new value.
            let time = cx.order.arrive();
            cx.mbarriers.gather(&cx.order, slot, w.index, time);
            Ok(slot)
        })?;
        note_copy(cx, w, lane, (rank, slot), bytes);
        cx.at(rank, |cx| {
            mbarrier::expect(cx, slot, lane, -i64::from(bytes))
        })?;
    }
    Ok(())
}
