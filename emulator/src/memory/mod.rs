//! Device memory: allocations, the state of their bytes, and host access to them.
//!
//! Allocations are at least [`GUARD_BYTES`] apart. A freed address is reused only when all others
//! of the device's range have been used, the oldest first. So a pointer past an allocation's end,
//! or to a freed one, is detected. Each allocation has a shadow: the bytes that have been written,
//! and the 32-byte sectors that the current launch has touched.
//!
//! Blocks run in parallel and access memory through raw pointers, as threads of a GPU do. Rust code
//! outside this crate only gets copies.
//!
//! # Assumptions for data races of the emulated program
//!
//! Marks and sectors are only accessed as atomics of one size. Atomic, volatile and scattered
//! accesses of a kernel are relaxed atomics. Rows of 32 contiguous words (`ld.global` and
//! `st.global` of a whole warp, `cp.async`) and the host's copies are plain accesses, for speed. If
//! the program has no data race by PTX's memory model, these have none by Rust's. (Accesses are
//! ordered by atomics and fences, by barriers, or by one launch ending before the next.) Otherwise,
//! or if a host thread copies memory that a launch is using, the behaviour is formally undefined in
//! Rust. The assumption is then that the compiler emits ordinary loads and stores, which give old,
//! new or torn values as on a GPU. Each such word is read once, into a register of the emulated
//! kernel. It never directly determines where the emulator reads, writes or jumps (addresses are
//! checked after they were read). No reference, length or enum of the emulator is in that memory.
mod allocation;
mod table;
mod watched;

pub(crate) use allocation::Allocation;
pub(crate) use watched::{Class, Marks, SLOTS, Watch, Watching};

use crate::report::Region;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use table::{Table, after};

/// Alignment of every allocation, in bytes.
pub const ALLOCATION_ALIGN: u64 = 256;
/// The least distance between two allocations, in bytes.
pub const GUARD_BYTES: u64 = 1 << 16;
/// Address of the first allocation of device 0; the range of each further device starts
/// [`DEVICE_STRIDE`] higher.
pub const FIRST_ADDRESS: u64 = 0x7400_0000_0000;
/// Distance between the address ranges of two devices.
pub const DEVICE_STRIDE: u64 = 1 << 40;
/// Number of devices with disjoint ranges. The next range would start at 0x7e00_0000_0000, and
/// slightly above that Linux maps the memory of a process.
pub const MAX_DEVICES: u32 = 10;
/// Number of freed ranges that are stored.
const FREED_MEMORY: usize = 1 << 16;

/// Misuse of device memory by the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Not enough memory left.
    #[error("out of device memory: {requested} bytes requested, {free} free")]
    OutOfMemory {
        /// Number of bytes requested.
        requested: u64,
        /// Number of bytes left.
        free: u64,
    },
    /// An allocation of zero bytes.
    #[error("an allocation of 0 bytes")]
    ZeroBytes,
    /// The range does not lie inside one allocation.
    #[error("{bytes} bytes at {address:#x} are not inside one allocation")]
    BadRange {
        /// First address of the range.
        address: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// The address is not the first one of an allocation.
    #[error("{address:#x} is not the address of an allocation")]
    NotAllocated {
        /// The address that was passed.
        address: u64,
    },
}

/// The live allocations at the start of a launch, ordered by address.
pub(crate) type Snapshot = Arc<Vec<Arc<Allocation>>>;

/// The memory of a device. All methods may be called from any thread.
pub struct Memory {
    table: Mutex<Table>,
    first: u64,
    capacity: u64,
    peak: AtomicU64,
    watch: Watching,
}

impl Memory {
    /// Memory of `capacity` bytes for the device with this ordinal; from [`MAX_DEVICES`] on the
    /// ranges repeat.
    pub(crate) fn new(capacity: u64, ordinal: u32) -> Memory {
        let first = FIRST_ADDRESS + u64::from(ordinal % MAX_DEVICES) * DEVICE_STRIDE;
        let table = Table {
            next: first,
            ..Table::default()
        };
        Memory {
            table: Mutex::new(table),
            first,
            capacity,
            peak: AtomicU64::new(0),
            watch: Watching::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Allocates bytes that count as not written (they read as zero, and a kernel that reads them
    /// is reported).
    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.alloc_labelled(bytes, None)
    }

    /// [`Memory::alloc`] with a name for reports.
    pub fn alloc_labelled(&self, bytes: u64, label: Option<&str>) -> Result<u64, MemoryError> {
        self.place(bytes, label, false, false)
    }

    /// Allocates zeros that count as written; `constant` memory cannot be written by kernels. The
    /// bytes are not accessed.
    pub(crate) fn place_zeroed(
        &self,
        bytes: u64,
        label: Option<&str>,
        constant: bool,
    ) -> Result<u64, MemoryError> {
        self.place(bytes, label, constant, true)
    }

    fn place(
        &self,
        bytes: u64,
        label: Option<&str>,
        constant: bool,
        written: bool,
    ) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::ZeroBytes);
        }
        let mut table = self.table();
        let free = self.capacity - table.used;
        let out_of_memory = MemoryError::OutOfMemory {
            requested: bytes,
            free,
        };
        if bytes > free {
            return Err(out_of_memory);
        }
        let end = self.first + DEVICE_STRIDE;
        let Some(base) = table.find_room(self.first, end, bytes) else {
            return Err(out_of_memory);
        };
        let sequence = table.sequence + 1;
        let label = label.map(str::to_owned);
        let allocation =
            Allocation::new(base, bytes, sequence, label, constant).ok_or(out_of_memory)?;
        if written {
            allocation.set_all_init();
        }
        table.sequence = sequence;
        table.next = after(&allocation);
        table.forget_freed(base, bytes);
        table.used += bytes;
        self.peak.fetch_max(table.used, Ordering::Relaxed);
        table.insert(allocation);
        Ok(base)
    }

    /// Maps host memory as an allocation under its own address, all its bytes marked written. It
    /// does not count as memory of the device. [`Memory::free`] unmaps it.
    ///
    /// # Safety
    /// The memory must stay valid until it is unmapped and all launches that started before have
    /// ended.
    pub unsafe fn map_host(&self, address: u64, bytes: u64) -> Result<(), MemoryError> {
        let out_of_memory = MemoryError::OutOfMemory {
            requested: bytes,
            free: 0,
        };
        let host = NonNull::new(address as *mut u8).ok_or(MemoryError::ZeroBytes)?;
        let mut table = self.table();
        if table.overlaps(address, bytes) {
            return Err(MemoryError::BadRange { address, bytes });
        }
        let sequence = table.sequence + 1;
        let shadow = Allocation::over(host, address, bytes, sequence).ok_or(out_of_memory)?;
        table.sequence = sequence;
        table.insert(shadow);
        Ok(())
    }

    /// Frees an allocation. A running launch keeps it until the launch ends.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table();
        let index = table
            .live
            .binary_search_by_key(&address, |a| a.base)
            .map_err(|_| MemoryError::NotAllocated { address })?;
        let allocation = Arc::make_mut(&mut table.live).remove(index);
        if allocation.is_host() {
            // The host may reuse the address.
            return Ok(());
        }
        table.used -= allocation.bytes;
        if table.freed.len() == FREED_MEMORY {
            table.freed.pop_front();
        }
        table.freed.push_back(allocation.region());
        Ok(())
    }

    /// Capacity of the device in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Number of bytes currently allocated.
    pub fn used(&self) -> u64 {
        self.table().used
    }

    /// The maximum number of bytes that were allocated at a time.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// The allocation that contains an address: its first address and its size in bytes.
    pub fn range_of(&self, address: u64) -> Option<(u64, u64)> {
        let snapshot = self.snapshot();
        find(&snapshot, address, 1).map(|a| (a.base, a.bytes))
    }

    /// Names the allocation that begins at `address`, for reports.
    pub fn set_label(&self, address: u64, label: &str) -> Result<(), MemoryError> {
        let mut table = self.table();
        let index = table
            .live
            .binary_search_by_key(&address, |a| a.base)
            .map_err(|_| MemoryError::NotAllocated { address })?;
        match Arc::get_mut(&mut Arc::make_mut(&mut table.live)[index]) {
            Some(allocation) => allocation.label = Some(label.to_owned()),
            // A running launch uses it: the name could change while a report is being written.
            None => return Ok(()),
        }
        Ok(())
    }

    fn range(&self, address: u64, bytes: u64) -> Result<Arc<Allocation>, MemoryError> {
        let snapshot = self.snapshot();
        find(&snapshot, address, bytes)
            .cloned()
            .ok_or(MemoryError::BadRange { address, bytes })
    }

    /// Copies host bytes to the device and marks them written.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let allocation = self.range(address, bytes.len() as u64)?;
        let offset = address - allocation.base;
        // SAFETY: `range` has checked the bounds; host bytes do not overlap device memory.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), allocation.data(offset), bytes.len())
        };
        mark_host_write(&allocation, offset, bytes.len() as u64);
        Ok(())
    }

    /// Copies device bytes to the host. Unwritten bytes read as zero.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let allocation = self.range(address, bytes.len() as u64)?;
        let source = allocation.data(address - allocation.base);
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Repeats `pattern` (1, 2 or 4 bytes for the driver's `memset`) over `count` elements.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        let bytes = count.saturating_mul(pattern.len() as u64);
        if bytes == 0 {
            return Ok(());
        }
        let allocation = self.range(address, bytes)?;
        let offset = address - allocation.base;
        let target = allocation.data(offset);
        // The filled part is copied behind itself, which doubles it each time.
        let mut done = pattern.len().min(bytes as usize);
        // SAFETY: `range` has checked the bounds, and host bytes do not overlap device memory.
        unsafe { std::ptr::copy_nonoverlapping(pattern.as_ptr(), target, done) };
        while done < bytes as usize {
            let more = done.min(bytes as usize - done).min(1 << 16);
            // SAFETY: as above; `more <= done`, so that source and target do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(target, target.add(done), more) };
            done += more;
        }
        mark_host_write(&allocation, offset, bytes);
        Ok(())
    }

    /// Copies inside the device; the ranges may overlap. Unwritten bytes of the source count as
    /// unwritten in the copy.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        copy_between(self, to, self, from, bytes)
    }

    /// Returns whether every byte of a range has been written.
    pub fn is_written(&self, address: u64, bytes: u64) -> Result<bool, MemoryError> {
        let allocation = self.range(address, bytes)?;
        let first = allocation.first_uninit(address - allocation.base, bytes);
        Ok(first.is_none())
    }

    /// The current allocations.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Arc::clone(&self.table().live)
    }

    /// The number of a new launch for [`Allocation::touch_sector`]. Of overlapping launches, one
    /// may count a sector again that another has touched in between.
    pub(crate) fn next_epoch(&self) -> u16 {
        let mut table = self.table();
        if table.epoch == u16::MAX {
            table.live.iter().for_each(|a| a.clear_sectors());
            table.epoch = 0;
        }
        table.epoch += 1;
        table.epoch
    }

    /// The running launches that record their accesses.
    pub(crate) fn watching(&self) -> &Watching {
        &self.watch
    }

    /// The allocation that contains an address, with its name for reports, and whether it is mapped
    /// host memory.
    #[cfg(unix)]
    pub(crate) fn region_at(&self, address: u64) -> Option<(Region, bool)> {
        let snapshot = self.snapshot();
        find(&snapshot, address, 1).map(|a| (a.region(), a.is_host()))
    }

    /// The freed allocation that contained an address.
    pub(crate) fn freed(&self, address: u64, bytes: u64) -> Option<Region> {
        let table = self.table();
        let inside =
            |r: &&Region| address >= r.base && address.saturating_add(bytes) <= r.base + r.bytes;
        table.freed.iter().rev().find(inside).cloned()
    }
}

/// Copies from one device's memory to another's, or within one.
pub fn copy_between(
    to_memory: &Memory,
    to: u64,
    from_memory: &Memory,
    from: u64,
    bytes: u64,
) -> Result<(), MemoryError> {
    if bytes == 0 {
        return Ok(());
    }
    let source = from_memory.range(from, bytes)?;
    let target = to_memory.range(to, bytes)?;
    let (source_offset, target_offset) = (from - source.base, to - target.base);
    // SAFETY: both ranges are checked; `copy` permits overlap.
    unsafe {
        std::ptr::copy(
            source.data(source_offset),
            target.data(target_offset),
            bytes as usize,
        );
    }
    match source.first_uninit(source_offset, bytes) {
        None => mark_host_write(&target, target_offset, bytes),
        Some(_) => target.copy_marks(target_offset, &source, source_offset, bytes),
    }
    Ok(())
}

fn mark_host_write(allocation: &Allocation, offset: u64, bytes: u64) {
    if allocation.is_all_init() {
        return;
    }
    allocation.mark_init(offset, bytes);
    if bytes == allocation.bytes {
        allocation.set_all_init();
    }
}

/// The allocation that contains the whole range.
pub(crate) fn find(
    snapshot: &[Arc<Allocation>],
    address: u64,
    bytes: u64,
) -> Option<&Arc<Allocation>> {
    let index = find_index(snapshot, address, bytes)?;
    Some(&snapshot[index])
}

/// The index of the allocation that contains the whole range.
pub(crate) fn find_index(snapshot: &[Arc<Allocation>], address: u64, bytes: u64) -> Option<usize> {
    let index = snapshot
        .partition_point(|a| a.base <= address)
        .checked_sub(1)?;
    snapshot[index].contains(address, bytes).then_some(index)
}

/// The allocation nearest to an address.
pub(crate) fn nearest(snapshot: &[Arc<Allocation>], address: u64) -> Option<Region> {
    let after = snapshot.partition_point(|a| a.base <= address);
    let before = after.checked_sub(1).map(|i| &snapshot[i]);
    let after = snapshot.get(after);
    let distance_before = before.map(|a| address.saturating_sub(a.base + a.bytes - 1));
    let distance_after = after.map(|a| a.base - address);
    let chosen = match (distance_before, distance_after) {
        (Some(b), Some(a)) if a < b => after,
        (Some(_), _) => before,
        _ => after,
    };
    chosen.map(|a| a.region())
}
