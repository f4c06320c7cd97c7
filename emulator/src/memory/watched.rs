//! Bytes of an allocation that a launch has accessed, for the stream order checker.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use super::allocation::Buffer;
use crate::order::{Bytes, Footprint};

/// Class of a kernel's access to a byte: plain read, plain write, or atomic and other strong
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read = 0,
    Write = 1,
    Atomic = 2,
}

/// Maximum number of concurrent launches per device that record accesses: each has a slot, and each
/// allocation has marks per slot.
pub(crate) const SLOTS: usize = 4;

/// Detail of a launch's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watch {
    /// No records: launches are not compared.
    #[default]
    Off,
    /// Allocations, in this slot.
    Coarse(u8),
    /// Bytes, in this slot and under this launch number.
    Fine(u8, u32),
}

impl Watch {
    /// The number under which bytes are recorded; 0 if they are not.
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

/// The running launches of a device, and their slots.
#[derive(Default)]
pub(crate) struct Watching {
    state: Mutex<Slots>,
    /// Signalled when a slot becomes free.
    free: Condvar,
}

#[derive(Default)]
struct Slots {
    /// Mask of the slots in use.
    taken: u8,
    /// The number of the last launch that recorded bytes.
    number: u32,
}

/// A slot, freed when it is dropped.
pub(crate) struct Slot<'a> {
    watching: &'a Watching,
    /// Records of the launch.
    pub watch: Watch,
}

impl Watching {
    /// Allocates a slot for a launch that records the allocations that it accesses and, if `fine`,
    /// the bytes. Waits until a slot is free.
    pub fn begin(&self, fine: bool) -> Slot<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |state: &mut Slots| state.taken.trailing_ones() as usize >= SLOTS;
        let mut state =
            (self.free.wait_while(state, is_full)).unwrap_or_else(PoisonError::into_inner);
        let slot = state.taken.trailing_ones() as u8;
        state.taken |= 1 << slot;
        let watch = if fine {
            // 0 marks bytes without an access.
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

/// Bytes per sector; each has one bit in the sector's cell.
const SECTOR: u64 = 32;
/// Sectors per page, the unit of the search for accessed sectors.
const PAGE: u64 = 128;

/// Accesses of launches, by slot.
#[derive(Default)]
pub(crate) struct Watched([Marks; SLOTS]);

impl Watched {
    /// The marks of a slot.
    #[inline(always)]
    pub fn slot(&self, slot: u8) -> &Marks {
        &self.0[usize::from(slot) % SLOTS]
    }

    /// Returns and clears the accesses of a launch to the allocation of `bytes` bytes.
    pub fn take(&self, watch: Watch, bytes: u64) -> Option<Footprint> {
        self.slot(watch.slot()).take(watch.number(), bytes)
    }
}

/// Accesses of the launches in one slot. A launch records the classes of its accesses and, if it
/// has a number, the bytes.
#[derive(Default)]
pub(crate) struct Marks {
    /// Mask of classes.
    touched: AtomicU8,
    /// Per class: one cell per sector, with the launch's number in the high half and its bytes in
    /// the low half. Allocated at the first access; `None` if the host is out of memory.
    cells: [OnceLock<Option<Buffer>>; 3],
    /// Numbers of the last launches that accessed each page.
    pages: OnceLock<Option<Buffer>>,
}

impl Marks {
    /// Records that the launch accessed a byte of the allocation.
    #[inline(always)]
    pub fn note(&self, class: Class) {
        let bit = 1 << class as u8;
        if self.touched.load(Ordering::Relaxed) & bit == 0 {
            self.touched.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Records that the launch accessed bytes of one sector of an allocation of `bytes` bytes.
    #[inline]
    pub fn note_sector(&self, class: Class, launch: u32, bytes: u64, sector: u64, mask: u32) {
        debug_assert!(sector * SECTOR < bytes);
        let cells =
            self.cells[class as usize].get_or_init(|| Buffer::zeroed(bytes.div_ceil(SECTOR) * 8));
        let Some(cells) = cells else {
            return;
        };
        let cell = cells.pointer().cast::<u64>().wrapping_add(sector as usize);
        // SAFETY: there is one cell per sector of the allocation; cells are only accessed
        // atomically.
        let cell = unsafe { AtomicU64::from_ptr(cell) };
        let mut old = cell.load(Ordering::Relaxed);
        let all = u64::from(launch) << 32 | u64::from(u32::MAX);
        if old == all {
            return;
        }
        if mask == u32::MAX {
            // A concurrent record of another thread is not lost.
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
        // SAFETY: there is one number per page of the allocation; they are only accessed
        // atomically.
        Some(unsafe { AtomicU32::from_ptr(cell.wrapping_add(page as usize)) })
    }

    /// Returns and clears the accesses of the launch to the allocation. `launch` is 0 if it
    /// recorded no bytes.
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

    /// The recorded bytes of a class.
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
        // The next launch in a slot finds no record of the previous one.
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
