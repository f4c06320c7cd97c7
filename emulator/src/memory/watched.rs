//! Bytes of an allocation that a launch has touched, for the checker of the order of launches.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use super::allocation::Buffer;
use crate::order::{Bytes, Footprint};

/// Access of a kernel to a byte: plainly, or by atomic and other strong writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read = 0,
    Write = 1,
    Atomic = 2,
}

/// Launches of a device that may overlap: each has a slot, and each allocation has marks for each
/// slot.
pub(crate) const SLOTS: usize = 4;

/// Detail of a launch's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing: nobody compares launches.
    #[default]
    Off,
    /// Allocations in this slot.
    Coarse(u8),
    /// Bytes in this slot and under this number.
    Fine(u8, u32),
}

impl Watch {
    /// The number that bytes are noted under; 0 if they are not.
    fn number(self) -> u32 {
        match self {
            Watch::Fine(_, number) => number,
            _ => 0,
        }
    }

    fn slot(self) -> u8 {
        match self {
            Watch::Off => 0,
            Watch::Coarse(slot) | Watch::Fine(slot, _) => slot,
        }
    }
}

/// The launches of a device that run, and the slots that they have.
#[derive(Default)]
pub(crate) struct Watching {
    state: Mutex<Slots>,
    /// A slot was given back.
    free: Condvar,
}

#[derive(Default)]
struct Slots {
    /// A bit for each slot that a launch has.
    taken: u8,
    /// The number of the last launch that noted bytes.
    number: u32,
}

/// A slot, until it is dropped.
pub(crate) struct Slot<'a> {
    watching: &'a Watching,
    /// Records of the launch.
    pub watch: Watch,
}

impl Watching {
    /// A slot for a launch that notes which allocations it touches, and if `fine` which bytes.
    /// Waits until one is free.
    pub fn begin(&self, fine: bool) -> Slot<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |state: &mut Slots| state.taken.trailing_ones() as usize >= SLOTS;
        let mut state =
            (self.free.wait_while(state, is_full)).unwrap_or_else(PoisonError::into_inner);
        let slot = state.taken.trailing_ones() as u8;
        state.taken |= 1 << slot;
        let watch = if fine {
            // 0 is what nobody has touched.
            state.number = state.number.checked_add(1).unwrap_or(1);
            Watch::Fine(slot, state.number)
        } else {
            Watch::Coarse(slot)
        };
        Slot {
            watching: self,
            watch,
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = (self.watching.state.lock()).unwrap_or_else(PoisonError::into_inner);
        state.taken &= !(1 << self.watch.slot());
        self.watching.free.notify_one();
    }
}

/// Bytes of a sector, each of which has a bit in the sector's cell.
const SECTOR: u64 = 32;
/// Sectors of a page, the unit in which touched sectors are looked for.
const PAGE: u64 = 128;

/// Accesses of launches.
#[derive(Default)]
pub(crate) struct Watched([Marks; SLOTS]);

impl Watched {
    /// The marks of a slot.
    #[inline(always)]
    pub fn slot(&self, slot: u8) -> &Marks {
        &self.0[usize::from(slot) % SLOTS]
    }

    /// Takes the accesses of a launch to the allocation of `bytes` bytes.
    pub fn take(&self, watch: Watch, bytes: u64) -> Option<Footprint> {
        self.slot(watch.slot()).take(watch.number(), bytes)
    }
}

/// Accesses of the launches of one slot. A launch notes the classes of its accesses, and if it has
/// a number also the bytes.
#[derive(Default)]
pub(crate) struct Marks {
    /// A bit for each class.
    touched: AtomicU8,
    /// Of each class: a cell for each sector, the launch's number in the high half and its bytes in
    /// the low one. Made at the first access; `None` where the host has no memory left.
    cells: [OnceLock<Option<Buffer>>; 3],
    /// Numbers of the launches that touched the pages last.
    pages: OnceLock<Option<Buffer>>,
}

impl Marks {
    /// Notes that the launch touched some byte.
    #[inline(always)]
    pub fn note(&self, class: Class) {
        let bit = 1 << class as u8;
        if self.touched.load(Ordering::Relaxed) & bit == 0 {
            self.touched.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Notes that the launch touched bytes of one sector of an allocation of `bytes` bytes.
    #[inline]
    pub fn note_sector(&self, class: Class, launch: u32, bytes: u64, sector: u64, mask: u32) {
        debug_assert!(sector * SECTOR < bytes);
        let cells =
            self.cells[class as usize].get_or_init(|| Buffer::zeroed(bytes.div_ceil(SECTOR) * 8));
        let Some(cells) = cells else {
            return;
        };
        let cell = cells.pointer().cast::<u64>().wrapping_add(sector as usize);
        // SAFETY: there is a cell for each sector of the allocation; cells are only used
        // atomically.
        let cell = unsafe { AtomicU64::from_ptr(cell) };
        let mut old = cell.load(Ordering::Relaxed);
        let all = u64::from(launch) << 32 | u64::from(u32::MAX);
        if old == all {
            return;
        }
        if mask == u32::MAX {
            // Nothing that another thread may be noting gets lost.
            cell.store(all, Ordering::Relaxed);
            self.note_page(launch, bytes, sector);
            return;
        }
        loop {
            let own = (old >> 32) as u32 == launch;
            let before = if own { old as u32 } else { 0 };
            if own && before & mask == mask {
                return;
            }
            let new = u64::from(launch) << 32 | u64::from(before | mask);
            match cell.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if own => return,
                Ok(_) => break,
                Err(current) => old = current,
            }
        }
        self.note_page(launch, bytes, sector);
    }

    fn note_page(&self, launch: u32, bytes: u64, sector: u64) {
        if let Some(page) = self.page(bytes, sector / PAGE)
            && page.load(Ordering::Relaxed) != launch
        {
            page.store(launch, Ordering::Relaxed);
        }
    }

    fn page(&self, bytes: u64, page: u64) -> Option<&AtomicU32> {
        let pages = bytes.div_ceil(SECTOR * PAGE);
        let buffer = self.pages.get_or_init(|| Buffer::zeroed(pages * 4));
        let cell = buffer.as_ref()?.pointer().cast::<u32>();
        // SAFETY: there is a number for each page of the allocation; they are only used atomically.
        Some(unsafe { AtomicU32::from_ptr(cell.wrapping_add(page as usize)) })
    }

    /// Takes the accesses of the launch to the allocation. `launch` is 0 if it noted no bytes.
    fn take(&self, launch: u32, bytes: u64) -> Option<Footprint> {
        if self.touched.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let touched = self.touched.swap(0, Ordering::Relaxed);
        let of = |class: Class| match touched >> class as u8 & 1 {
            0 => Bytes::default(),
            _ => self.collect(class, launch, bytes),
        };
        Some(Footprint {
            read: of(Class::Read),
            write: of(Class::Write),
            atomic: of(Class::Atomic),
        })
    }

    /// The bytes of a class.
    fn collect(&self, class: Class, launch: u32, bytes: u64) -> Bytes {
        let cells = self.cells[class as usize].get();
        let Some(Some(cells)) = cells.filter(|_| launch != 0) else {
            return Bytes::Somewhere;
        };
        let mut found = Bytes::default();
        let sectors = bytes.div_ceil(SECTOR);
        for page in 0..sectors.div_ceil(PAGE) {
            let Some(number) = self.page(bytes, page) else {
                return Bytes::Somewhere;
            };
            if number.load(Ordering::Relaxed) != launch {
                continue;
            }
            for sector in page * PAGE..((page + 1) * PAGE).min(sectors) {
                let cell = cells.pointer().cast::<u64>().wrapping_add(sector as usize);
                // SAFETY: as in `note_sector`.
                let cell = unsafe { AtomicU64::from_ptr(cell) }.load(Ordering::Relaxed);
                if (cell >> 32) as u32 == launch {
                    found.push_mask(sector * SECTOR, cell as u32);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_that_overlap_have_marks_of_their_own() {
        let (watching, watched) = (Watching::default(), Watched::default());
        let (first, second) = (watching.begin(true), watching.begin(true));
        let note = |watch: Watch, class, sector| {
            let marks = watched.slot(watch.slot());
            marks.note(class);
            marks.note_sector(class, watch.number(), 64, sector, 0xf);
        };
        note(first.watch, Class::Read, 0);
        note(second.watch, Class::Write, 0);
        note(second.watch, Class::Write, 1);
        let bytes = |ranges: &[u64]| {
            let mut bytes = Bytes::default();
            ranges.iter().for_each(|&at| bytes.push_mask(at, 0xf));
            bytes
        };
        let footprint = watched.take(first.watch, 64).unwrap();
        assert_eq!(footprint.read, bytes(&[0]));
        assert_eq!(footprint.write, bytes(&[]));
        let footprint = watched.take(second.watch, 64).unwrap();
        assert_eq!(footprint.read, bytes(&[]));
        assert_eq!(footprint.write, bytes(&[0, 32]));
        // The next launch in a slot finds nothing of the last.
        drop(first);
        let third = watching.begin(true);
        assert_eq!(third.watch.slot(), 0);
        assert!(watched.take(third.watch, 64).is_none());
    }

    #[test]
    fn a_launch_waits_for_a_slot() {
        let watching = Watching::default();
        let mut taken: Vec<_> = (0..SLOTS).map(|_| watching.begin(false)).collect();
        let slots: Vec<u8> = taken.iter().map(|slot| slot.watch.slot()).collect();
        assert_eq!(slots, [0, 1, 2, 3]);
        std::thread::scope(|scope| {
            let late = scope.spawn(|| watching.begin(false).watch.slot());
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!late.is_finished());
            drop(taken.remove(2));
            assert_eq!(late.join().unwrap(), 2);
        });
    }
}
