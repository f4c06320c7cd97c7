//! Accesses of bulk copies to shared and device memory, and their state in the shadow.
use crate::exec::instructions::atomics::Atom;
use crate::exec::instructions::mbarrier;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::warp::Warp;
use crate::exec::memory::coalescing;
use crate::exec::memory::global;
use crate::exec::memory::shared::actor;
use crate::exec::memory::watch;
use crate::ir::{AtomOp, AtomTy, Inst, Op, Reg, Space};
use crate::memory::{Allocation, Class, find_index};
use crate::report::{Access, AccessKind, AsyncFault, FaultKind};
use crate::sanitizer::async_proxy::{AsyncReader, COPY_READERS};
use crate::sanitizer::{Outcome, UnlocatedFault};

pub(crate) fn misaligned(
    cx: &Context,
    lane: usize,
    touch: Access,
    align: u32,
) -> Box<UnlocatedFault> {
    let nearest = match touch.space {
        Space::Shared => cx.shared_region(touch.address),
        _ => cx.nearest(touch.address),
    };
    let kind = FaultKind::Misaligned {
        touch,
        align,
        nearest,
    };
    UnlocatedFault::lane(lane, kind)
}

/// Checks the bounds and the alignment of a copy's part in shared memory. For zero bytes only the
/// alignment is checked.
pub(crate) fn shared_part(
    cx: &Context,
    lane: usize,
    kind: AccessKind,
    address: u64,
    bytes: u32,
    align: u32,
) -> Outcome {
    let touched = touch(kind, Space::Shared, address, bytes);
    if !address.is_multiple_of(align.into()) {
        return Err(misaligned(cx, lane, touched, align));
    }
    let limit = u64::from(cx.shared.bytes);
    if bytes == 0 || address <= limit && u64::from(bytes) <= limit - address {
        return Ok(());
    }
    let nearest = cx.shared_region(address);
    let kind = FaultKind::OutOfBounds {
        touch: touched,
        nearest,
    };
    Err(UnlocatedFault::lane(lane, kind))
}

/// The allocation that contains a range of device memory.
fn allocation<'a>(
    cx: &mut Context<'a>,
    w: &Warp,
    lane: usize,
    kind: AccessKind,
    address: u64,
    bytes: u32,
) -> Result<&'a Allocation, Box<UnlocatedFault>> {
    let grid = cx.grid;
    let site = cx.sites.at(w.pc);
    let allocations = &grid.allocations;
    let cached = allocations.get(site.allocation as usize);
    let found = match cached {
        Some(a) if a.contains(address, bytes.into()) => a,
        _ => match find_index(allocations, address, bytes.into()) {
            Some(index) => {
                site.allocation = index as u32;
                &allocations[index]
            }
            None => {
                let lanes = 1 << lane;
                global::locate_each(cx, lanes, kind, &[address; 32], bytes)?;
                // Unreachable: an address outside of all allocations is a fault.
                return Err(UnlocatedFault::lane(lane, FaultKind::Trap));
            }
        },
    };
    if found.constant && kind != AccessKind::Read {
        let touch = touch(kind, Space::Global, address, bytes);
        let region = Some(found.region());
        return Err(UnlocatedFault::lane(
            lane,
            FaultKind::ReadOnly { touch, region },
        ));
    }
    Ok(found)
}

/// Reads contiguous bytes of device memory.
pub(crate) fn read_global(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    address: u64,
    out: &mut [u8],
) -> Outcome {
    let bytes = out.len() as u32;
    let allocation = allocation(cx, w, lane, AccessKind::Read, address, bytes)?;
    let at = address - allocation.base;
    if let Some(first) = allocation.first_uninit(at, bytes.into()) {
        let kind = FaultKind::Uninitialised {
            touch: touch(AccessKind::Read, Space::Global, address, bytes),
            first: allocation.base + first,
            nearest: Some(allocation.region()),
        };
        return Err(UnlocatedFault::lane(lane, kind));
    }
    coalescing::count_run(cx, allocation, AccessKind::Read, at, bytes.into());
    watch::note_run(cx, allocation, Class::Read, address, bytes.into());
    // SAFETY: the bytes lie inside the allocation. Those that another block writes at the same time
    // are a data race of the emulated program.
    unsafe { std::ptr::copy_nonoverlapping(allocation.data(at), out.as_mut_ptr(), out.len()) };
    Ok(())
}

/// Writes contiguous bytes of device memory.
pub(crate) fn write_global(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    address: u64,
    data: &[u8],
) -> Outcome {
    let bytes = data.len() as u32;
    let allocation = allocation(cx, w, lane, AccessKind::Write, address, bytes)?;
    let at = address - allocation.base;
    coalescing::count_run(cx, allocation, AccessKind::Write, at, bytes.into());
    watch::note_run(cx, allocation, Class::Write, address, bytes.into());
    // SAFETY: as in `read_global`.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), allocation.data(at), data.len()) };
    allocation.mark_init(at, bytes.into());
    Ok(())
}

/// Writes contiguous bytes of device memory, or reduces each element into it, in order.
pub(crate) fn put_global(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    (address, data): (u64, &[u8]),
    reduce: Option<(AtomOp, AtomTy)>,
) -> Outcome {
    let Some(reduce) = reduce else {
        return write_global(cx, w, lane, address, data);
    };
    let atom = Atom::of(reduce);
    let bytes = data.len() as u32;
    let allocation = allocation(cx, w, lane, AccessKind::Atomic, address, bytes)?;
    let at = address - allocation.base;
    if let Some(first) = allocation.first_uninit(at, bytes.into()) {
        let kind = FaultKind::Uninitialised {
            touch: touch(AccessKind::Atomic, Space::Global, address, bytes),
            first: allocation.base + first,
            nearest: Some(allocation.region()),
        };
        return Err(UnlocatedFault::lane(lane, kind));
    }
    for kind in [AccessKind::Read, AccessKind::Write] {
        coalescing::count_run(cx, allocation, kind, at, bytes.into());
    }
    watch::note_run(cx, allocation, Class::Atomic, address, bytes.into());
    let size = atom.bytes() as usize;
    for (i, element) in data.chunks_exact(size).enumerate() {
        let mut value = [0; 8];
        value[..size].copy_from_slice(element);
        atom.exchange(
            allocation,
            at + (i * size) as u64,
            u64::from_le_bytes(value),
            0,
        );
    }
    cx.counters.global_atomics += (data.len() / size) as u64;
    Ok(())
}

/// The access kind of a copy to shared memory in reports.
pub(crate) fn changes(reduces: bool) -> AccessKind {
    if reduces {
        AccessKind::Atomic
    } else {
        AccessKind::Write
    }
}

/// Returns whether the instruction at a program counter is a reduction of shared memory by the
/// asynchronous proxy.
fn is_reduction(code: &[Inst], pc: u32) -> bool {
    let op = code.get(pc as usize).map(|inst| &inst.op);
    matches!(op, Some(Op::BulkShared { reduce, .. }) if reduce.is_some())
}

/// Starts a copy to `bytes` bytes of shared memory that a barrier's phase completes. Updates the
/// shadow; the caller writes the bytes. `reduces`: the copy is a reduction.
pub(crate) fn begin_load(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    (at, bytes): (u64, u32),
    barrier: u64,
    reduces: bool,
) -> Result<usize, Box<UnlocatedFault>> {
    let actor = actor(w, lane, false);
    let slot = mbarrier::usable(cx, &actor, barrier, true)?;
    if bytes == 0 {
        return Ok(slot);
    }
    let copy = mbarrier::tracked(cx, slot, w.pc, false);
    let shift = cx.shared.shadow.shift;
    let units = (at >> shift) as usize..((at + u64::from(bytes)) >> shift) as usize;
    let (shadow, order, fences) = (&mut cx.shared.shadow, &cx.order, &cx.fences);
    let begun = if reduces {
        let code = &cx.grid.kernel.code;
        let other = |pc| is_reduction(code, pc);
        shadow.begin_reduction(units, order, &actor, (fences, &other), copy)
    } else {
        shadow.begin_tracked(units, order, &actor, fences, copy)
    };
    if let Err((unit, conflict)) = begun {
        let touched = touch(changes(reduces), Space::Shared, at, bytes);
        return Err(cx.shared_trouble(conflict, touched, (unit as u64) << shift, &actor));
    }
    Ok(slot)
}

/// Starts a copy from shared memory that a bulk group completes.
pub(crate) fn begin_store(
    cx: &mut Context,
    w: &mut Warp,
    lane: usize,
    at: u64,
    bytes: u32,
) -> Outcome {
    let (_, time) = note_read(cx, w, lane, at, bytes)?;
    w.stores.begin(lane as u32, time);
    cx.check_time()
}

/// Checks and records a read of shared memory by a copy; returns its reader and time.
pub(crate) fn note_read(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    at: u64,
    bytes: u32,
) -> Result<(usize, u32), Box<UnlocatedFault>> {
    let time = cx.order.arrive();
    let actor = actor(w, lane, false);
    let reader = COPY_READERS + w.own as usize;
    let mut check = AsyncReader::new(w.index..w.index + 1, &cx.fences, actor);
    let shadow = &mut cx.shared.shadow;
    let shift = shadow.shift;
    for unit in at >> shift..(at + u64::from(bytes)) >> shift {
        if let Err(conflict) = shadow.read_async(unit as usize, &cx.order, &mut check) {
            let touched = touch(AccessKind::Read, Space::Shared, at, bytes);
            return Err(cx.shared_trouble(conflict, touched, unit << shift, &actor));
        }
    }
    for place in at / 16..(at + u64::from(bytes)) / 16 {
        shadow.note_async_read(place as usize, reader, time);
    }
    Ok((reader, time))
}

/// The size of a lane's copy. For a size of 0 it accesses no memory, and its addresses need only be
/// aligned.
pub(crate) fn bulk_size(w: &Warp, lane: usize, size: Reg) -> Result<u32, Box<UnlocatedFault>> {
    let bytes = w.u32s(size)[lane];
    if bytes.is_multiple_of(16) && bytes < 1 << 24 {
        return Ok(bytes);
    }
    Err(UnlocatedFault::lane(
        lane,
        AsyncFault::BulkSize { bytes }.into(),
    ))
}
