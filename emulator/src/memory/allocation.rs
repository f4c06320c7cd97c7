//! One allocation and its shadow.

use super::ALLOCATION_ALIGN;
use super::watched::Watched;
use crate::report::Region;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

/// Zeroed bytes that are not subject to Rust's aliasing rules.
pub(super) struct Buffer {
    ptr: NonNull<u8>,
    /// Start and layout of the host allocation; `None` for mapped host memory.
    owned: Option<(NonNull<u8>, Layout)>,
}

// SAFETY: the buffer is plain bytes, accessed only through raw pointers and atomics.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates zeroed bytes; `None` if the host is out of memory. Slack bytes follow, so that a
    /// vector access may extend beyond the end.
    pub(super) fn zeroed(bytes: u64) -> Option<Buffer> {
        // Aligned manually: for an alignment above the system's own, `alloc_zeroed` writes every
        // byte. Gigabytes would take seconds, and be resident before their first use.
        let align = ALLOCATION_ALIGN as usize;
        let size = usize::try_from(bytes).ok()?.checked_add(64 + align)?;
        let layout = Layout::from_size_align(size, 16).ok()?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = start.addr().get().wrapping_neg() % align;
        Some(Buffer {
            // SAFETY: `skip` is less than `align`, by which the allocation is longer than its
            // bytes.
            ptr: unsafe { start.add(skip) },
            owned: Some((start, layout)),
        })
    }

    /// The first byte.
    pub(super) fn pointer(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((start, layout)) = self.owned {
            // SAFETY: allocated in `zeroed` with this layout.
            unsafe { dealloc(start.as_ptr(), layout) }
        }
    }
}

/// One allocation of device memory.
pub(crate) struct Allocation {
    /// First address of the allocation.
    pub base: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of the allocation on its device, from 1.
    pub sequence: u64,
    /// Name in reports.
    pub label: Option<String>,
    /// True if kernels must not write it.
    pub constant: bool,
    data: Buffer,
    /// Shadow: one byte per four bytes of data; its low four bits are set for the bytes that have
    /// been written.
    init: Buffer,
    /// True once every byte is known to be written.
    all_init: AtomicBool,
    /// Per sector two u16: the last launch that read it, the last that wrote it.
    sectors: Buffer,
    /// Accesses of launches, for the stream order checker.
    pub watched: Watched,
}

/// Mark of a word whose four bytes are written.
const WORD_INIT: u8 = 0xf;

/// Bytes of data whose shadow is accessed at once, as one u64.
const GROUP: u64 = 32;
/// Marks of a group whose bytes are all written.
const GROUP_INIT: u64 = u64::from_ne_bytes([WORD_INIT; 8]);

/// The marks of the bytes `first..end` of a group.
#[inline(always)]
fn group_mask(first: u64, end: u64) -> u64 {
    // Each byte has four marks: a mark's position is the number of its data byte plus four per
    // preceding word.
    let below = |n: u64| match n {
        GROUP => u64::MAX,
        n => (1u64 << (n / 4 * 8 + n % 4)) - 1,
    };
    below(end) & !below(first) & GROUP_INIT
}

/// Spreads one bit per data byte to the layout of a group: four bits in the low half of each byte.
fn spread(bits: u32) -> u64 {
    let x = u64::from(bits);
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    let x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    (x | x << 4) & GROUP_INIT
}

/// The reverse of [`spread`].
fn gather(marks: u64) -> u32 {
    let x = marks & GROUP_INIT;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

impl Allocation {
    /// Allocates zeroed memory that counts as not written. `None` if the host is out of memory.
    pub(super) fn new(
        base: u64,
        bytes: u64,
        sequence: u64,
        label: Option<String>,
        constant: bool,
    ) -> Option<Self> {
        Some(Allocation {
            base,
            bytes,
            sequence,
            label,
            constant,
            data: Buffer::zeroed(bytes)?,
            init: Buffer::zeroed(bytes.div_ceil(4))?,
            all_init: AtomicBool::new(false),
            sectors: Buffer::zeroed(bytes.div_ceil(32) * 4)?,
            watched: Watched::default(),
        })
    }

    /// An allocation of mapped host memory, all of it marked written. `None` if the host is out of
    /// memory for the shadow.
    pub(super) fn over(host: NonNull<u8>, base: u64, bytes: u64, sequence: u64) -> Option<Self> {
        Some(Allocation {
            base,
            bytes,
            sequence,
            label: Some("host memory".to_owned()),
            constant: false,
            data: Buffer {
                ptr: host,
                owned: None,
            },
            init: Buffer::zeroed(bytes.div_ceil(4))?,
            all_init: AtomicBool::new(true),
            sectors: Buffer::zeroed(bytes.div_ceil(32) * 4)?,
            watched: Watched::default(),
        })
    }

    /// Returns whether it is mapped host memory.
    pub(crate) fn is_host(&self) -> bool {
        self.data.owned.is_none()
    }

    /// Returns whether `bytes` bytes from `address` on lie inside.
    #[inline(always)]
    pub fn contains(&self, address: u64, bytes: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset < self.bytes && bytes <= self.bytes - offset
    }

    /// Host pointer to a byte.
    #[inline(always)]
    pub fn data(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset <= self.bytes);
        self.data.ptr.as_ptr().wrapping_add(offset as usize)
    }

    /// Returns whether all bytes are known to be written.
    #[inline(always)]
    pub fn is_all_init(&self) -> bool {
        self.all_init.load(Ordering::Relaxed)
    }

    /// Records that every byte is written.
    pub(super) fn set_all_init(&self) {
        self.all_init.store(true, Ordering::Relaxed);
    }

    /// Pointer to the sector's two launch numbers (read, written).
    #[inline(always)]
    pub fn sector(&self, offset: u64) -> *mut u16 {
        self.sectors
            .ptr
            .as_ptr()
            .cast::<u16>()
            .wrapping_add((offset / 32 * 2) as usize)
    }

    /// Records that the launch `epoch` touched the sector of a byte; returns whether it is the
    /// first time.
    #[inline(always)]
    pub fn touch_sector(&self, offset: u64, epoch: u16, write: bool) -> bool {
        let cell = self.sector(offset).wrapping_add(usize::from(write));
        // SAFETY: `offset` is inside the allocation, so the cell is inside `sectors`, and it is
        // only accessed atomically.
        let cell = unsafe { AtomicU16::from_ptr(cell) };
        cell.load(Ordering::Relaxed) != epoch && cell.swap(epoch, Ordering::Relaxed) != epoch
    }

    /// The shadow of the eight words that contain `offset`.
    #[inline(always)]
    fn marks(&self, offset: u64) -> &AtomicU64 {
        debug_assert!(offset < self.bytes);
        let start = self.init.ptr.as_ptr().cast::<u64>();
        let cell = start.wrapping_add((offset / GROUP) as usize);
        // SAFETY: the shadow of a byte inside the allocation lies in the buffer, which is aligned
        // to more than a u64 and has slack at its end. It is only accessed through this function,
        // so every access to it is atomic and of eight bytes.
        unsafe { AtomicU64::from_ptr(cell) }
    }

    /// Marks bytes written.
    #[inline(always)]
    pub fn mark_init(&self, offset: u64, bytes: u64) {
        let mut at = offset;
        let end = offset + bytes;
        while at < end {
            let group = at - at % GROUP;
            let next = (group + GROUP).min(end);
            let cell = self.marks(at);
            if next - at == GROUP {
                cell.store(GROUP_INIT, Ordering::Relaxed);
            } else {
                let wanted = group_mask(at - group, next - group);
                // Most stores touch bytes that are already marked, and a load is much cheaper than
                // a read-modify-write.
                if cell.load(Ordering::Relaxed) & wanted != wanted {
                    cell.fetch_or(wanted, Ordering::Relaxed);
                }
            }
            at = next;
        }
    }

    /// Offset of the first byte in the range that was never written.
    pub fn first_uninit(&self, offset: u64, bytes: u64) -> Option<u64> {
        if self.is_all_init() {
            return None;
        }
        let mut at = offset;
        let end = offset + bytes;
        while at < end {
            let group = at - at % GROUP;
            let next = (group + GROUP).min(end);
            let missing =
                !self.marks(at).load(Ordering::Relaxed) & group_mask(at - group, next - group);
            if missing != 0 {
                let bit = u64::from(missing.trailing_zeros());
                return Some(group + bit / 8 * 4 + bit % 8);
            }
            at = next;
        }
        None
    }

    /// Copies the marks of `bytes` bytes from `source`; both ranges are inside, and may overlap if
    /// the allocation is the same.
    pub(super) fn copy_marks(&self, to: u64, source: &Allocation, from: u64, bytes: u64) {
        if self.is_host() {
            // Host memory counts as written, since host writes are not observed.
            return;
        }
        if self.is_all_init() {
            // A module's variable has no marks before its first unwritten byte.
            self.mark_init(0, self.bytes);
            self.all_init.store(false, Ordering::Relaxed);
        }
        let first = to / GROUP;
        let last = (to + bytes - 1) / GROUP;
        let copy = |group: u64| {
            let begin = (group * GROUP).max(to);
            let end = ((group + 1) * GROUP).min(to + bytes);
            let low = begin - group * GROUP;
            let mask = group_mask(low, end - group * GROUP);
            let marks = spread(source.marks_of(from + (begin - to), end - begin) << low);
            let cell = self.marks(begin);
            let update = |old| Some(old & !mask | marks & mask);
            // The closure always returns a value.
            let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        };
        // As in `memmove`: bytes are read before they are overwritten.
        if to <= from {
            (first..=last).for_each(copy);
        } else {
            (first..=last).rev().for_each(copy);
        }
    }

    /// Bit mask of the written bytes among up to 32 bytes from `offset` on, one bit each.
    fn marks_of(&self, offset: u64, bytes: u64) -> u32 {
        if self.is_all_init() {
            return u32::MAX;
        }
        let skip = offset % GROUP;
        let mut bits = u64::from(gather(self.marks(offset).load(Ordering::Relaxed)));
        if skip + bytes > GROUP {
            let next = self.marks(offset + bytes - 1).load(Ordering::Relaxed);
            bits |= u64::from(gather(next)) << GROUP;
        }
        (bits >> skip) as u32
    }

    /// Name in a report.
    pub fn region(&self) -> Region {
        Region {
            sequence: Some(self.sequence),
            label: self.label.clone(),
            base: self.base,
            bytes: self.bytes,
        }
    }

    /// Resets the launch numbers of all sectors.
    pub(super) fn clear_sectors(&self) {
        let first = self.sectors.pointer().cast::<u16>();
        for index in 0..self.bytes.div_ceil(32) as usize * 2 {
            // SAFETY: each sector has two cells in the buffer, which are only accessed atomically.
            unsafe { AtomicU16::from_ptr(first.wrapping_add(index)) }.store(0, Ordering::Relaxed);
        }
    }
}
