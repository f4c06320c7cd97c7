//! Bulk copies between device memory and shared memory, and the bulk groups of those that read
//! shared memory.
//!
//! The bytes are copied at once. For a copy to shared memory the shadow stores the phase that
//! completes it. For a copy from shared memory it marks the bytes as being read until a wait.
use crate::exec::instructions::bulk_access::{
    begin_store, bulk_size, misaligned, put_global, read_global, shared_part,
};
use crate::exec::instructions::cluster::own_offsets;
use crate::exec::instructions::destinations::Destinations;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::copies::OPEN;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::compute;
use crate::exec::memory::shared::{byte_slice, byte_slice_mut};
use crate::ir::{Address, AtomOp, AtomTy, Op, Reg, Space};
use crate::report::AccessKind;
use crate::sanitizer::Outcome;
use crate::sanitizer::async_proxy::COPY_READERS;

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::BulkLoad {
            dst,
            src,
            barrier,
            list,
        } => {
            load(cx, w, m, [dst, src, barrier], cx.grid.kernel.list(list))?;
        }
        Op::BulkStore {
            dst,
            src,
            size,
            reduce,
        } => {
            store(cx, w, m, [dst, src], (size, reduce))?;
        }
        Op::BulkCommit => commit(w, m),
        Op::BulkWait { pending } => wait(cx, w, m, pending.into()),
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// `cp.async.bulk` to shared memory.
pub(crate) fn load(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [dst, src, barrier]: [Address; 3],
    list: &[Reg],
) -> Outcome {
    let target = compute(w, dst);
    let source = compute(w, src);
    let barrier = compute(w, barrier);
    let (size, mask) = (list[0], list.get(1).copied());
    for lane in lanes(m) {
        let bytes = bulk_size(w, lane, size)?;
        let places = [target[lane], barrier[lane]];
        let mut to = Destinations::new(cx, w, lane, places, (AccessKind::Write, bytes, 16), mask)?;
        if !source[lane].is_multiple_of(16) {
            let touch = touch(AccessKind::Read, Space::Global, source[lane], bytes);
            return Err(misaligned(cx, lane, touch, 16));
        }
        to.begin(cx, w, lane, (bytes, false))?;
        if bytes == 0 {
            to.end(cx, lane, 0)?;
            continue;
        }
        let mut data = vec![0; bytes as usize];
        read_global(cx, w, lane, source[lane], &mut data)?;
        let at = to.at as usize;
        to.each(cx, |cx| {
            byte_slice_mut(&mut cx.shared.words)[at..at + data.len()].copy_from_slice(&data);
            Ok(())
        })?;
        cx.counters.global_loads.requests += 1;
        to.end(cx, lane, bytes)?;
    }
    Ok(())
}

/// `cp.async.bulk` from shared memory.
pub(crate) fn store(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [dst, src]: [Address; 2],
    (size, reduce): (Reg, Option<(AtomOp, AtomTy)>),
) -> Outcome {
    let target = compute(w, dst);
    let source = compute(w, src);
    let source = own_offsets(cx, m, &source).unwrap_or(source);
    for lane in lanes(m) {
        let bytes = bulk_size(w, lane, size)?;
        shared_part(cx, lane, AccessKind::Read, source[lane], bytes, 16)?;
        if !target[lane].is_multiple_of(16) {
            let touch = touch(AccessKind::Write, Space::Global, target[lane], bytes);
            return Err(misaligned(cx, lane, touch, 16));
        }
        if bytes == 0 {
            continue;
        }
        begin_store(cx, w, lane, source[lane], bytes)?;
        let at = source[lane] as usize;
        let data = byte_slice(&cx.shared.words)[at..at + bytes as usize].to_vec();
        put_global(cx, w, lane, (target[lane], &data), reduce)?;
        cx.counters.global_stores.requests += 1;
    }
    Ok(())
}

/// `cp.async.bulk.commit_group`
pub(crate) fn commit(w: &mut Warp, m: u32) {
    let stores = &mut w.stores;
    for store in stores.list.iter_mut() {
        if store.group == OPEN && m >> store.lane & 1 != 0 {
            store.group = stores.committed[store.lane as usize];
        }
    }
    for lane in lanes(m) {
        stores.committed[lane] = stores.committed[lane].saturating_add(1).min(OPEN - 1);
        stores.join_oldest(lane as u32);
    }
}

/// `cp.async.bulk.wait_group`, with and without `.read`: the difference has no effect here.
pub(crate) fn wait(cx: &mut Context, w: &mut Warp, m: u32, pending: u32) {
    let stores = &mut w.stores;
    let committed = stores.committed;
    stores.list.retain(|store| {
        m >> store.lane & 1 == 0
            || store.group == OPEN
            || store.group.saturating_add(pending) >= committed[store.lane as usize]
    });
    if stores.latest == 0 {
        // The warp has started no copy: a kernel without such copies does not record readers.
        return;
    }
    // The warp can regard copies as complete before the first one that may be incomplete.
    let first = stores.list.iter().map(|store| store.time).min();
    let over = first.map_or(stores.latest, |time| time.saturating_sub(1));
    cx.order
        .learn_read(w.index as usize, COPY_READERS + w.own as usize, over);
}
