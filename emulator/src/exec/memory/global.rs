//! Loads and stores of device memory.
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::lanes::s16;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{space_of, window};
use crate::exec::memory::coalescing::count;
use crate::exec::memory::local::{get, put};
use crate::exec::memory::watch;
use crate::ir::{AccessType, Reg, Space, Width};
use crate::memory::{Allocation, find_index};
use crate::report::{AccessKind, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Pattern of the lanes' addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// All lanes are active, and their accesses are contiguous.
    Row,
    /// All addresses are the same.
    Same,
    Scattered,
}

/// The allocation that contains every lane's access, or `None` if they lie in several.
#[inline(always)]
pub(crate) fn locate<'a>(
    cx: &mut Context<'a>,
    w: &Warp,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
) -> Result<Option<&'a Allocation>, Box<UnlocatedFault>> {
    let first = address[(m.trailing_zeros() & 31) as usize];
    let (mut low, mut high, mut bits) = (first, first, first);
    for (i, &lane) in address.iter().enumerate() {
        let a = if m >> i & 1 != 0 { lane } else { first };
        low = low.min(a);
        high = high.max(a);
        bits |= a;
    }
    let site = cx.sites.at(w.pc);
    let span = (high - low).saturating_add(u64::from(bytes));
    let grid = cx.grid;
    let allocations = &grid.allocations;
    let cached = allocations.get(site.allocation as usize);
    let allocation = match cached {
        Some(a) if a.contains(low, span) => a,
        _ => match find_index(allocations, low, span) {
            Some(index) => {
                site.allocation = index as u32;
                &allocations[index]
            }
            None => return locate_each(cx, m, kind, address, bytes).map(|()| None),
        },
    };
    if bits & u64::from(bytes - 1) != 0 {
        return Err(misaligned(cx, m, kind, address, bytes));
    }
    if allocation.constant && kind != AccessKind::Read {
        let lane = m.trailing_zeros() as usize;
        let touch = touch(kind, Space::Global, address[lane], bytes);
        let region = Some(allocation.region());
        return Err(UnlocatedFault::lane(
            lane,
            FaultKind::ReadOnly { touch, region },
        ));
    }
    Ok(Some(allocation))
}

/// Checks each lane's access; the lanes lie in different allocations, or outside of all.
#[cold]
pub(crate) fn locate_each(
    cx: &Context,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
) -> Outcome {
    for lane in lanes(m) {
        let address = address[lane];
        if find_index(&cx.grid.allocations, address, u64::from(bytes)).is_some() {
            continue;
        }
        let mut touched = touch(kind, Space::Global, address, bytes);
        let kind = if let Some(region) = cx.grid.memory.freed(address, u64::from(bytes)) {
            FaultKind::UseAfterFree {
                touch: touched,
                region,
            }
        } else if space_of(address) != Space::Global {
            let actual = space_of(address);
            touched.address = address;
            debug_assert!(address >= window(actual));
            FaultKind::WrongSpace {
                touch: touched,
                actual,
            }
        } else if address < u64::from(cx.shared.bytes.max(1)) && address != 0 && cx.shared.bytes > 0
        {
            FaultKind::WrongSpace {
                touch: touched,
                actual: Space::Shared,
            }
        } else {
            FaultKind::OutOfBounds {
                touch: touched,
                nearest: cx.nearest(address),
            }
        };
        return Err(UnlocatedFault::lane(lane, kind));
    }
    Ok(())
}

#[cold]
fn misaligned(
    cx: &Context,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
) -> Box<UnlocatedFault> {
    let lane = lanes(m)
        .find(|&i| !address[i].is_multiple_of(u64::from(bytes)))
        .unwrap_or(0);
    let touch = touch(kind, Space::Global, address[lane], bytes);
    let nearest = cx.nearest(address[lane]);
    UnlocatedFault::lane(
        lane,
        FaultKind::Misaligned {
            touch,
            align: bytes,
            nearest,
        },
    )
}

#[cold]
fn uninitialised(
    lane: usize,
    address: u64,
    bytes: u32,
    allocation: &Allocation,
    first: u64,
) -> Box<UnlocatedFault> {
    let touch = touch(AccessKind::Read, Space::Global, address, bytes);
    let first = allocation.base + first;
    let nearest = Some(allocation.region());
    UnlocatedFault::lane(
        lane,
        FaultKind::Uninitialised {
            touch,
            first,
            nearest,
        },
    )
}

/// Determines the pattern of the addresses.
#[inline(always)]
fn shape(m: u32, address: &[u64; 32], bytes: u32) -> Shape {
    let first = address[0];
    if m != u32::MAX {
        return Shape::Scattered;
    }
    let (mut row, mut same) = (0u64, 0u64);
    for (i, &lane) in address.iter().enumerate() {
        row |= lane ^ first.wrapping_add(i as u64 * u64::from(bytes));
        same |= lane ^ first;
    }
    match () {
        () if row == 0 => Shape::Row,
        () if same == 0 => Shape::Same,
        () => Shape::Scattered,
    }
}

/// Records a load or store for the stream order checker.
#[inline(always)]
fn watch(
    cx: &Context,
    allocation: &Allocation,
    m: u32,
    kind: AccessKind,
    access: AccessType,
    address: &[u64; 32],
    shape: Shape,
) {
    if let Some(class) = watch::class(kind, access.strong) {
        let bytes = u32::from(access.bytes) * u32::from(access.count);
        watch::note(
            cx,
            allocation,
            m,
            class,
            address,
            bytes,
            shape == Shape::Row,
        );
    }
}

/// `ld.global` and `ld.const`.
#[inline(always)]
pub(crate) fn load(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let kind = AccessKind::Read;
    let Some(allocation) = locate(cx, w, m, kind, address, bytes)? else {
        return load_mixed(cx, w, m, access, d, address);
    };
    let shape = shape(m, address, bytes);
    if access.space != Space::Const {
        count(cx, allocation, m, kind, address, bytes, shape == Shape::Row);
    }
    watch(cx, allocation, m, kind, access, address, shape);
    let words = access.bytes == 4 && access.reg == Width::W32;
    if shape == Shape::Row && words && !access.strong {
        check_row(allocation, address[0], 32 * bytes, bytes)?;
        load_row(
            w,
            allocation.data(address[0] - allocation.base),
            usize::from(access.count),
            d,
        );
        return Ok(());
    }
    let all_init = allocation.is_all_init();
    if words {
        for lane in lanes(m) {
            let offset = address[lane] - allocation.base;
            if !all_init {
                check_lane(allocation, lane, address[lane], bytes)?;
            }
            let source = allocation.data(offset).cast::<u32>();
            for (j, &reg) in d.iter().enumerate().take(usize::from(access.count)) {
                if !reg.is_none() {
                    // SAFETY: in bounds and aligned, as checked by `locate`.
                    w.u32s_mut(reg)[lane] =
                        unsafe { AtomicU32::from_ptr(source.add(j)) }.load(Ordering::Relaxed);
                }
            }
        }
        return Ok(());
    }
    if !all_init {
        for lane in lanes(m) {
            check_lane(allocation, lane, address[lane], bytes)?;
        }
    }
    if access.bytes == 2 && access.count == 1 && access.reg != Width::W64 {
        let signed = access.signed && access.reg == Width::W32;
        let mut out = [0; 32];
        for lane in lanes(m) {
            let half = read_element(allocation, address[lane] - allocation.base, 2) as u32;
            out[lane] = if signed {
                s16(half).cast_unsigned()
            } else {
                half
            };
        }
        if !d[0].is_none() {
            w.set32(m, d[0], &out);
        }
        return Ok(());
    }
    for lane in lanes(m) {
        load_lane(w, allocation, lane, access, d, address[lane]);
    }
    Ok(())
}

/// Loads the elements of one lane.
#[inline(always)]
fn load_lane(
    w: &mut Warp,
    allocation: &Allocation,
    lane: usize,
    access: AccessType,
    d: [Reg; 4],
    address: u64,
) {
    let element = u64::from(access.bytes);
    for (j, &reg) in d.iter().enumerate().take(usize::from(access.count)) {
        let offset = address - allocation.base + j as u64 * element;
        put(
            w,
            lane,
            reg,
            access,
            read_element(allocation, offset, element as u32),
        );
    }
}

/// Reads an aligned element that lies inside the allocation.
#[inline(always)]
pub(crate) fn read_element(allocation: &Allocation, offset: u64, bytes: u32) -> u64 {
    let source = allocation.data(offset);
    // SAFETY: the caller has checked bounds and alignment. The access is atomic because other
    // blocks may write at the same time.
    unsafe {
        match bytes {
            1 => u64::from(AtomicU8::from_ptr(source).load(Ordering::Relaxed)),
            2 => u64::from(AtomicU16::from_ptr(source.cast()).load(Ordering::Relaxed)),
            4 => u64::from(AtomicU32::from_ptr(source.cast()).load(Ordering::Relaxed)),
            _ => AtomicU64::from_ptr(source.cast()).load(Ordering::Relaxed),
        }
    }
}

/// Writes an aligned element that lies inside the allocation.
#[inline(always)]
fn write_element(allocation: &Allocation, offset: u64, bytes: u32, value: u64) {
    let target = allocation.data(offset);
    // SAFETY: as in `read_element`.
    unsafe {
        match bytes {
            1 => AtomicU8::from_ptr(target).store(value as u8, Ordering::Relaxed),
            2 => AtomicU16::from_ptr(target.cast()).store(value as u16, Ordering::Relaxed),
            4 => AtomicU32::from_ptr(target.cast()).store(value as u32, Ordering::Relaxed),
            _ => AtomicU64::from_ptr(target.cast()).store(value, Ordering::Relaxed),
        }
    }
}

/// Checks that contiguous bytes, aligned to four and of a length that is a multiple of four, are
/// initialised; the error names the lane.
#[inline(always)]
fn check_row(allocation: &Allocation, address: u64, total: u32, bytes: u32) -> Outcome {
    // A word that another block writes at the same time counts as initialised or not. On a GPU,
    // too, the read may return the old or the new value.
    let offset = address - allocation.base;
    if allocation.first_uninit(offset, u64::from(total)).is_none() {
        return Ok(());
    }
    for lane in 0..32u32 {
        check_lane(
            allocation,
            lane as usize,
            address + u64::from(lane * bytes),
            bytes,
        )?;
    }
    Ok(())
}

#[inline(always)]
fn check_lane(allocation: &Allocation, lane: usize, address: u64, bytes: u32) -> Outcome {
    let offset = address - allocation.base;
    match allocation.first_uninit(offset, u64::from(bytes)) {
        None => Ok(()),
        Some(first) => Err(uninitialised(lane, address, bytes, allocation, first)),
    }
}

/// Loads 32 contiguous vectors of `count` words.
#[inline(always)]
fn load_row(w: &mut Warp, source: *const u8, count: usize, d: [Reg; 4]) {
    let source = source.cast::<u32>();
    for (j, &reg) in d.iter().enumerate().take(count) {
        if reg.is_none() {
            continue;
        }
        let row = w.u32s_mut(reg);
        for (i, word) in row.iter_mut().enumerate() {
            // SAFETY: 32 * count words from `source` on lie inside the allocation, and no Rust
            // reference to them exists. The reads are not atomic, so that they can be vectorised. A
            // data race of the emulated program is therefore one in Rust too; the module `memory`
            // documents the assumptions for that case.
            *word = unsafe { source.add(i * count + j).read() };
        }
    }
}

/// Loads lanes that lie in different allocations, one after another.
#[cold]
fn load_mixed(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    for lane in lanes(m) {
        load(cx, w, 1 << lane, access, d, address)?;
    }
    Ok(())
}

/// `st.global`.
#[inline(always)]
pub(crate) fn store(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let kind = AccessKind::Write;
    let Some(allocation) = locate(cx, w, m, kind, address, bytes)? else {
        return store_mixed(cx, w, m, access, src, address);
    };
    let shape = shape(m, address, bytes);
    count(cx, allocation, m, kind, address, bytes, shape == Shape::Row);
    watch(cx, allocation, m, kind, access, address, shape);
    let words = access.bytes == 4 && access.reg == Width::W32;
    if shape == Shape::Row && words && !access.strong {
        let offset = address[0] - allocation.base;
        store_row(w, allocation.data(offset), usize::from(access.count), src);
        if !allocation.is_all_init() {
            allocation.mark_init(offset, u64::from(bytes) * 32);
        }
        return Ok(());
    }
    let all_init = allocation.is_all_init();
    let element = u64::from(access.bytes);
    for lane in lanes(m) {
        let offset = address[lane] - allocation.base;
        for (j, &reg) in src.iter().enumerate().take(usize::from(access.count)) {
            let value = get(w, lane, reg, access.reg);
            write_element(
                allocation,
                offset + j as u64 * element,
                element as u32,
                value,
            );
        }
        if !all_init {
            allocation.mark_init(offset, u64::from(bytes));
        }
    }
    Ok(())
}

/// Stores 32 contiguous vectors of `count` words.
#[inline(always)]
fn store_row(w: &Warp, target: *mut u8, count: usize, src: [Reg; 4]) {
    let target = target.cast::<u32>();
    for (j, &reg) in src.iter().enumerate().take(count) {
        let row = w.u32s(reg);
        for (i, &word) in row.iter().enumerate() {
            // SAFETY: as in `load_row`.
            unsafe { target.add(i * count + j).write(word) };
        }
    }
}

#[cold]
fn store_mixed(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    for lane in lanes(m) {
        store(cx, w, 1 << lane, access, src, address)?;
    }
    Ok(())
}
