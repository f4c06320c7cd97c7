//! `cp.async`: copies from global to shared memory whose bytes may be used only after a wait.
//!
//! The bytes are copied at once; until the wait the shadow marks them as in flight.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::copies::{Copy, OPEN};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::{lanes, where_true};
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::compute;
use crate::exec::memory::coalescing;
use crate::exec::memory::global;
use crate::exec::memory::shared::{actor, byte_slice_mut, check_bounds};
use crate::exec::memory::watch;
use crate::ir::{Address, Op, Reg, Space};
use crate::memory::Class;
use crate::report::{AccessKind, FaultKind};
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::CpAsync {
            bytes,
            dst,
            src,
            src_size,
        } => {
            I::copy_async(cx, w, m, bytes, [dst, src], src_size)?;
        }
        Op::CpAsyncCommit => commit(w, m),
        Op::CpAsyncWait { pending } => I::wait_async(cx, w, m, Some(pending)),
        Op::CpAsyncWaitAll => I::wait_async(cx, w, m, None),
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// `cp.async`.
#[inline(always)]
pub(crate) fn copy(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    bytes: u8,
    [dst, src]: [Address; 2],
    src_size: Reg,
) -> Outcome {
    let bytes = u32::from(bytes);
    let (target, source) = (compute(w, dst), compute(w, src));
    check_bounds(cx, m, AccessKind::Write, &target, bytes)?;
    let sizes = if src_size.is_none() {
        [bytes; 32]
    } else {
        w.u32s(src_size).map(|n| n.min(bytes))
    };
    // Lanes that read no bytes may have any source address.
    let reading = m & where_true(|i| sizes[i] > 0);
    crate::exec::memory::bank_conflicts::count(cx, w, m, AccessKind::Write, &target, bytes);
    cx.shared.shadow.divide(bytes);
    let mut data = [[0; 4]; 32];
    read_source(cx, w, reading, &source, (&sizes, bytes), &mut data)?;
    let mut record = Copy {
        mask: m,
        group: OPEN,
        bytes,
        target: [0; 32],
    };
    for lane in lanes(m) {
        begin(cx, w, lane, target[lane], bytes)?;
        let at = target[lane] as usize;
        put_words(&mut cx.shared.words, at / 4, &data[lane], bytes);
        record.target[lane] = at as u32;
    }
    w.copies.list.push(record);
    Ok(())
}

/// Writes 4, 8 or 16 bytes to shared memory.
#[inline(always)]
fn put_words(words: &mut [u32], first: usize, data: &[u32; 4], bytes: u32) {
    match bytes {
        16 => words[first..first + 4].copy_from_slice(data),
        8 => words[first..first + 2].copy_from_slice(&data[..2]),
        _ => words[first] = data[0],
    }
}

/// Records a lane's copy as in flight.
#[inline(always)]
fn begin(cx: &mut Context, w: &Warp, lane: usize, at: u64, bytes: u32) -> Outcome {
    let actor = actor(w, lane, false);
    let shadow = &mut cx.shared.shadow;
    let shift = shadow.shift;
    let (unit, order) = ((at >> shift) as usize, &cx.order);
    if shadow.write_small(unit, bytes as usize >> shift, order, &actor, true) {
        return Ok(());
    }
    let touched = touch(AccessKind::Write, Space::Shared, at, bytes);
    for unit in at >> shift..(at + u64::from(bytes)) >> shift {
        if let Err(conflict) = cx
            .shared
            .shadow
            .begin_copy(unit as usize, &cx.order, &actor)
        {
            return Err(cx.shared_trouble(conflict, touched, unit << shift, &actor));
        }
    }
    Ok(())
}

/// Reads the bytes of each lane's source up to its size; `data` is zero before.
fn read_source(
    cx: &mut Context,
    w: &Warp,
    m: u32,
    source: &[u64; 32],
    (sizes, bytes): (&[u32; 32], u32),
    data: &mut [[u32; 4]; 32],
) -> Outcome {
    if let Some(lane) = lanes(m).find(|&i| !source[i].is_multiple_of(u64::from(bytes))) {
        let touch = touch(AccessKind::Read, Space::Global, source[lane], bytes);
        let nearest = cx.nearest(source[lane]);
        return Err(UnlocatedFault::lane(
            lane,
            FaultKind::Misaligned {
                touch,
                align: bytes,
                nearest,
            },
        ));
    }
    // Lanes of equal size are copied together.
    let mut left = m;
    while left != 0 {
        let size = sizes[left.trailing_zeros() as usize];
        let same = left & where_true(|i| sizes[i] == size);
        left &= !same;
        if size.is_power_of_two() {
            read_part(cx, w, same, source, 0, size, data)?;
        } else {
            for offset in 0..size {
                read_part(cx, w, same, source, offset, 1, data)?;
            }
        }
    }
    Ok(())
}

/// Reads `size` bytes at an offset of each lane's source.
fn read_part(
    cx: &mut Context,
    w: &Warp,
    m: u32,
    source: &[u64; 32],
    offset: u32,
    size: u32,
    data: &mut [[u32; 4]; 32],
) -> Outcome {
    let kind = AccessKind::Read;
    let moved = source.map(|a| a.wrapping_add(u64::from(offset)));
    let Some(allocation) = global::locate(cx, w, m, kind, &moved, size)? else {
        for lane in lanes(m) {
            read_part(cx, w, 1 << lane, source, offset, size, data)?;
        }
        return Ok(());
    };
    coalescing::count(cx, allocation, m, kind, &moved, size, false);
    watch::note(cx, allocation, m, Class::Read, &moved, size, false);
    let all_init = allocation.is_all_init();
    for lane in lanes(m) {
        let at = moved[lane] - allocation.base;
        if !all_init && let Some(first) = allocation.first_uninit(at, u64::from(size)) {
            let touch = touch(kind, Space::Global, moved[lane], size);
            let nearest = Some(allocation.region());
            let first = allocation.base + first;
            return Err(UnlocatedFault::lane(
                lane,
                FaultKind::Uninitialised {
                    touch,
                    first,
                    nearest,
                },
            ));
        }
        let source = allocation.data(at);
        if size == 16 {
            // SAFETY: as below; words may have any bytes.
            data[lane] = unsafe { source.cast::<[u32; 4]>().read_unaligned() };
            continue;
        }
        let target = &mut byte_slice_mut(&mut data[lane])[offset as usize..][..size as usize];
        // SAFETY: `locate` has checked the bounds. Bytes that another block writes at the same time
        // are a data race of the emulated program.
        unsafe { std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len()) };
    }
    Ok(())
}

/// `cp.async.commit_group`.
pub(crate) fn commit(w: &mut Warp, m: u32) {
    let committed = w.copies.committed;
    let first = committed[(m.trailing_zeros() & 31) as usize];
    // Usually all lanes of the warp have committed equally often, and all lanes of a copy commit.
    let equal = lanes(m).all(|i| committed[i] == first);
    let mut made = Vec::new();
    for copy in w.copies.list.iter_mut().filter(|c| c.group == OPEN) {
        if equal && copy.mask & !m == 0 {
            copy.group = first;
            continue;
        }
        let mut left = copy.mask & m;
        copy.mask &= !m;
        while left != 0 {
            let group = committed[left.trailing_zeros() as usize];
            let same = lanes(left)
                .filter(|&i| committed[i] == group)
                .fold(0, |b, i| b | 1u32 << i);
            made.push(Copy {
                mask: same,
                group,
                ..copy.clone()
            });
            left &= !same;
        }
    }
    if !made.is_empty() {
        w.copies.list.retain(|c| c.mask != 0);
        w.copies.list.append(&mut made);
    }
    for lane in lanes(m) {
        let committed = &mut w.copies.committed[lane];
        *committed = committed.saturating_add(1).min(OPEN - 1);
    }
}

/// `cp.async.wait_group`, or with `None` `cp.async.wait_all`.
#[inline(always)]
pub(crate) fn wait(cx: &mut Context, w: &mut Warp, m: u32, pending: Option<u8>) {
    let mut list = std::mem::take(&mut w.copies.list);
    for copy in &mut list {
        let done = match pending {
            None => u32::MAX,
            Some(_) if copy.group == OPEN => 0,
            Some(n) => {
                let group = copy.group.saturating_add(u32::from(n));
                where_true(|lane| group < w.copies.committed[lane])
            }
        };
        let finished = copy.mask & m & done;
        if finished != 0 {
            finish(cx, w, copy, finished);
            copy.mask &= !finished;
        }
    }
    if list.iter().any(|c| c.mask == 0) {
        list.retain(|c| c.mask != 0);
    }
    w.copies.list = list;
}

/// Makes a barrier's phase complete the copies that a lane has started.
pub(crate) fn track(cx: &mut Context, w: &mut Warp, lane: usize, copy: Tracked) {
    let shift = cx.shared.shadow.shift;
    for begun in w.copies.list.iter_mut().filter(|c| c.mask >> lane & 1 != 0) {
        let at = begun.target[lane];
        for unit in at >> shift..(at + begun.bytes) >> shift {
            cx.shared.shadow.track_copy(unit as usize, copy);
        }
        begun.mask &= !(1 << lane);
    }
    w.copies.list.retain(|c| c.mask != 0);
}

/// Marks the bytes of some lanes as complete.
#[inline(always)]
fn finish(cx: &mut Context, w: &Warp, copy: &Copy, lanes_done: u32) {
    let shift = cx.shared.shadow.shift;
    // Constant lengths compile to vector instructions.
    match copy.bytes as usize >> shift {
        1 => finish_units::<1>(cx, w, copy, lanes_done),
        2 => finish_units::<2>(cx, w, copy, lanes_done),
        4 => finish_units::<4>(cx, w, copy, lanes_done),
        8 => finish_units::<8>(cx, w, copy, lanes_done),
        _ => finish_units::<16>(cx, w, copy, lanes_done),
    }
}

/// Marks `UNITS` units of some lanes each as complete.
#[inline(always)]
fn finish_units<const UNITS: usize>(cx: &mut Context, w: &Warp, copy: &Copy, lanes_done: u32) {
    let shift = cx.shared.shadow.shift;
    for lane in lanes(lanes_done) {
        let actor = actor(w, lane, false);
        let unit = (copy.target[lane] >> shift) as usize;
        cx.shared
            .shadow
            .end_copy(unit..unit + UNITS, &cx.order, &actor);
    }
}

/// Discards the copies of a warp that has ended: none may outlast the block.
pub(crate) fn abandon(cx: &mut Context, w: &mut Warp) {
    wait(cx, w, u32::MAX, None);
}
