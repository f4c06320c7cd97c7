//! Which bytes of an allocation the launch that runs has touched, for who compares launches with each other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::allocation::Buffer;
use crate::order::{Bytes, Footprint};

/// How a kernel touches a byte: plainly, or by atomic and other strong writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read = 0,
    Write = 1,
    Atomic = 2,
}

/// How much a launch notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing: nobody compares launches.
    #[default]
    Off,
    /// Which allocations: nothing runs beside the launch.
    Coarse,
    /// Which bytes, under this number.
    Fine(u32),
}

impl Watch {
    /// The number that bytes are noted under; 0 if they are not.
    pub fn number(self) -> u32 {
        match self {
            Watch::Fine(number) => number,
            _ => 0,
        }
    }
}

/// How much the launch of a device notes that runs; launches of a device do not overlap.
#[derive(Default)]
pub(crate) struct Watching {
    is_on: AtomicU8,
    /// The number of the last launch that noted bytes.
    number: AtomicU32,
}

impl Watching {
    /// What the launch that runs notes.
    pub fn get(&self) -> Watch {
        match self.is_on.load(Ordering::Relaxed) {
            0 => Watch::Off,
            1 => Watch::Coarse,
            _ => Watch::Fine(self.number.load(Ordering::Relaxed)),
        }
    }

    /// The next launch notes which allocations it touches, and if `fine` which bytes.
    pub fn begin(&self, fine: bool) -> Watch {
        self.is_on.store(1 + u8::from(fine), Ordering::Relaxed);
        if fine && self.number.fetch_add(1, Ordering::Relaxed) == u32::MAX {
            // 0 is what nobody has touched.
            self.number.store(1, Ordering::Relaxed);
        }
        self.get()
    }

    /// Launches note nothing again.
    pub fn end(&self) {
        self.is_on.store(0, Ordering::Relaxed);
    }
}

/// Bytes of a sector, each of which has a bit in the sector's cell.
const SECTOR: u64 = 32;
/// Sectors of a page, the unit in which touched sectors are looked for.
const PAGE: u64 = 128;

/// What launches touched. A launch notes the classes of its accesses, and if it has a number also the bytes.
#[derive(Default)]
pub(crate) struct Watched {
    /// A bit for each class.
    touched: AtomicU8,
    /// Of each class: a cell for each sector, the launch's number in the high half and its bytes in the low one. Made
    /// at the first access; `None` where the host has no memory left.
    cells: [OnceLock<Option<Buffer>>; 3],
    /// Numbers of the launches that touched the pages last.
    pages: OnceLock<Option<Buffer>>,
}

impl Watched {
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
        // SAFETY: there is a cell for each sector of the allocation; cells are only used atomically.
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

    /// What the launch did to the allocation, and forgets that it did. `launch` is 0 if it noted no bytes.
    pub fn take(&self, launch: u32, bytes: u64) -> Option<Footprint> {
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
