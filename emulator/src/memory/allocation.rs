//! One allocation and its shadow.

use super::ALLOCATION_ALIGN;
use crate::report::Region;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

/// Zeroed bytes outside Rust's aliasing rules.
struct Buffer {
    ptr: NonNull<u8>,
    /// Where and how they were allocated; `None` for memory of the host's own.
    owned: Option<(NonNull<u8>, Layout)>,
}

// SAFETY: the buffer is plain bytes, reached only through raw pointers and atomics.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `None` if the host has no memory left. Slack bytes follow, so that a vector access may overhang.
    fn zeroed(bytes: u64) -> Option<Buffer> {
        // Aligned by hand: of an alignment above the system's own, `alloc_zeroed` writes every byte, so that gigabytes
        // would take seconds and be resident before anybody uses them.
        let align = ALLOCATION_ALIGN as usize;
        let size = usize::try_from(bytes).ok()?.checked_add(64 + align)?;
        let layout = Layout::from_size_align(size, 16).ok()?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = start.addr().get().wrapping_neg() % align;
        Some(Buffer {
            // SAFETY: `skip` is less than `align`, by which the allocation is longer than its bytes.
            ptr: unsafe { start.add(skip) },
            owned: Some((start, layout)),
        })
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
    /// First address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// Counts allocations of the device from 1.
    pub sequence: u64,
    /// What reports call it.
    pub label: Option<String>,
    /// Whether kernels must not write it.
    pub constant: bool,
    data: Buffer,
    /// One byte for four bytes of data; its low four bits say which of them have been written.
    init: Buffer,
    /// Set once every byte is known to be written.
    all_init: AtomicBool,
    /// Per sector two u16: the last launch that read it, the last that wrote it.
    sectors: Buffer,
}

/// All four bytes of a word are written.
pub(crate) const WORD_INIT: u8 = 0xf;

impl Allocation {
    /// Zeroed memory that nobody has written. `None` if the host has no memory left.
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
        })
    }

    /// An allocation of host memory, all of it written. `None` if the host has no memory left for the shadow.
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
        })
    }

    /// Whether it is memory of the host's own.
    pub(super) fn is_host(&self) -> bool {
        self.data.owned.is_none()
    }

    /// Whether `bytes` bytes from `address` on lie inside.
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

    /// Shadow byte of the word that holds a byte.
    #[inline(always)]
    pub fn init(&self, offset: u64) -> *mut u8 {
        self.init.ptr.as_ptr().wrapping_add((offset / 4) as usize)
    }

    /// Whether all bytes are known to be written.
    #[inline(always)]
    pub fn is_all_init(&self) -> bool {
        self.all_init.load(Ordering::Relaxed)
    }

    /// Notes that every byte is written.
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

    /// Notes that the launch `epoch` touched the sector of a byte; whether it is the first time.
    #[inline(always)]
    pub fn touch_sector(&self, offset: u64, epoch: u16, write: bool) -> bool {
        let cell = self.sector(offset).wrapping_add(usize::from(write));
        // SAFETY: `offset` is inside the allocation, so the cell is inside `sectors`, and it is only used atomically.
        let cell = unsafe { AtomicU16::from_ptr(cell) };
        cell.load(Ordering::Relaxed) != epoch && cell.swap(epoch, Ordering::Relaxed) != epoch
    }

    /// Marks bytes written.
    pub fn mark_init(&self, offset: u64, bytes: u64) {
        let mut at = offset;
        let end = offset + bytes;
        while at < end {
            let word = at / 4;
            let first = at % 4;
            if first == 0 && end - at >= 4 {
                let words = (end - at) / 4;
                // SAFETY: inside the shadow because the bytes are inside the allocation.
                unsafe { std::ptr::write_bytes(self.init(at), WORD_INIT, words as usize) };
                at += words * 4;
                continue;
            }
            let last = (end - word * 4).min(4);
            let bits = (((1u32 << last) - 1) & !((1u32 << first) - 1)) as u8;
            // SAFETY: as above; neighbours may be marked by other threads at the same time, hence atomic.
            unsafe { AtomicU8::from_ptr(self.init(at)) }.fetch_or(bits, Ordering::Relaxed);
            at = word * 4 + last;
        }
    }

    /// The first byte of the range that was never written.
    pub fn first_uninit(&self, offset: u64, bytes: u64) -> Option<u64> {
        if self.is_all_init() {
            return None;
        }
        let mut at = offset;
        let end = offset + bytes;
        while at < end {
            // SAFETY: inside the shadow because the bytes are inside the allocation.
            let bits = unsafe { AtomicU8::from_ptr(self.init(at)) }.load(Ordering::Relaxed);
            if bits == WORD_INIT {
                at = (at / 4 + 1) * 4;
            } else if bits >> (at % 4) & 1 == 0 {
                return Some(at);
            } else {
                at += 1;
            }
        }
        None
    }

    /// How a report names it.
    pub fn region(&self) -> Region {
        Region {
            sequence: Some(self.sequence),
            label: self.label.clone(),
            base: self.base,
            bytes: self.bytes,
        }
    }

    /// Forgets which launches touched it. No launch may be under way.
    pub(super) fn clear_sectors(&self) {
        // SAFETY: the whole buffer, no launch runs.
        unsafe {
            std::ptr::write_bytes(
                self.sectors.ptr.as_ptr(),
                0,
                (self.bytes.div_ceil(32) * 4) as usize,
            )
        };
    }
}
