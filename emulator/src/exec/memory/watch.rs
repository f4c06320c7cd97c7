//! Records the bytes of device memory that a launch accesses, for the stream order checker
//! ([`crate::order`]).
use crate::exec::machine::context::Context;
use crate::exec::machine::lanes::lanes;
use crate::memory::{Allocation, Class, Marks, Watch};
use crate::report::AccessKind;

/// The class of a load, store or atomic. Strong loads have none: programs poll flags that copies
/// and other kernels set.
#[inline(always)]
pub(crate) fn class(kind: AccessKind, strong: bool) -> Option<Class> {
    match kind {
        AccessKind::Read if strong => None,
        AccessKind::Read => Some(Class::Read),
        AccessKind::Write if !strong => Some(Class::Write),
        _ => Some(Class::Atomic),
    }
}

/// Records accesses of `bytes` bytes by some lanes, all inside the allocation. `row`: the lanes'
/// accesses are contiguous.
#[inline(always)]
pub(crate) fn note(
    cx: &Context,
    allocation: &Allocation,
    m: u32,
    class: Class,
    address: &[u64; 32],
    bytes: u32,
    row: bool,
) {
    match cx.grid.watch {
        Watch::Off => {}
        Watch::Coarse(slot) => allocation.watched.slot(slot).note(class),
        Watch::Fine(slot, number) => {
            let marks = allocation.watched.slot(slot);
            if row {
                note_fine(
                    allocation,
                    marks,
                    class,
                    number,
                    address[0],
                    u64::from(bytes) * 32,
                );
            } else {
                note_lanes(allocation, marks, m, class, number, address, bytes);
            }
        }
    }
}

/// Records an access to contiguous bytes inside the allocation.
pub(crate) fn note_run(
    cx: &Context,
    allocation: &Allocation,
    class: Class,
    address: u64,
    bytes: u64,
) {
    match cx.grid.watch {
        Watch::Off => {}
        Watch::Coarse(slot) => allocation.watched.slot(slot).note(class),
        Watch::Fine(slot, number) => {
            let marks = allocation.watched.slot(slot);
            note_fine(allocation, marks, class, number, address, bytes);
        }
    }
}

#[inline(never)]
fn note_lanes(
    allocation: &Allocation,
    marks: &Marks,
    m: u32,
    class: Class,
    number: u32,
    address: &[u64; 32],
    bytes: u32,
) {
    marks.note(class);
    // Addresses usually ascend: accesses in the same sector are recorded at once.
    let (mut sector, mut mask) = (u64::MAX, 0);
    for lane in lanes(m) {
        let offset = address[lane] - allocation.base;
        let skip = offset % 32;
        if skip + u64::from(bytes) > 32 {
            note_fine(
                allocation,
                marks,
                class,
                number,
                address[lane],
                bytes.into(),
            );
            continue;
        }
        let own = (((1u64 << bytes) - 1) << skip) as u32;
        if offset / 32 == sector {
            mask |= own;
            continue;
        }
        if mask != 0 {
            marks.note_sector(class, number, allocation.bytes, sector, mask);
        }
        (sector, mask) = (offset / 32, own);
    }
    if mask != 0 {
        marks.note_sector(class, number, allocation.bytes, sector, mask);
    }
}

#[inline(never)]
fn note_fine(
    allocation: &Allocation,
    marks: &Marks,
    class: Class,
    number: u32,
    address: u64,
    bytes: u64,
) {
    marks.note(class);
    let (mut at, end) = (address - allocation.base, address - allocation.base + bytes);
    while at < end {
        let sector = at / 32;
        let next = (sector * 32 + 32).min(end);
        let count = next - at;
        let mask = (((1u64 << count) - 1) << (at % 32)) as u32;
        marks.note_sector(class, number, allocation.bytes, sector, mask);
        at = next;
    }
}
