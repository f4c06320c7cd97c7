//! The allocations of a device, and the search for free addresses.
use super::{ALLOCATION_ALIGN, Allocation, GUARD_BYTES, Snapshot};
use crate::report::Region;
use std::collections::VecDeque;
use std::sync::Arc;

/// The allocations of a device.
#[derive(Default)]
pub struct Table {
    pub live: Snapshot,
    pub freed: VecDeque<Region>,
    /// Address at which the search for the next allocation starts.
    pub next: u64,
    /// True if the range has been used up once, so that freed addresses are reused.
    pub wrapped: bool,
    pub sequence: u64,
    pub used: u64,
    pub epoch: u16,
}

impl Table {
    /// Adds an allocation in the order of addresses.
    pub fn insert(&mut self, allocation: Allocation) {
        let live = Arc::make_mut(&mut self.live);
        let index = live.partition_point(|other| other.base < allocation.base);
        live.insert(index, Arc::new(allocation));
    }

    /// The first address from `from` on and before `end` that has room for `bytes` bytes with a
    /// guard on both sides.
    pub fn gap(&self, from: u64, end: u64, bytes: u64) -> Option<u64> {
        let mut at = from;
        let before = self.live.partition_point(|a| after(a) <= from);
        for allocation in &self.live[before..] {
            if at.checked_add(bytes)?.checked_add(GUARD_BYTES)? <= allocation.base {
                break;
            }
            at = after(allocation);
        }
        (at.checked_add(bytes)? <= end).then_some(at)
    }

    /// An address in the range `first..end`: after the last allocation or, once the range is used
    /// up, in the gaps from its start on, which were allocated the longest time ago.
    pub fn find_room(&mut self, first: u64, end: u64, bytes: u64) -> Option<u64> {
        if let Some(base) = self.gap(self.next, end, bytes) {
            return Some(base);
        }
        let base = self.gap(first, end, bytes)?;
        self.wrapped = true;
        Some(base)
    }

    /// Removes records of freed ranges near a new allocation, so that an error beside it is not
    /// reported as a use after free.
    pub fn forget_freed(&mut self, base: u64, bytes: u64) {
        if self.wrapped {
            let (low, high) = (base - GUARD_BYTES, base + bytes + GUARD_BYTES);
            self.freed
                .retain(|region| region.base >= high || region.base + region.bytes <= low);
        }
    }

    /// Returns whether a range overlaps a live allocation.
    pub fn overlaps(&self, base: u64, bytes: u64) -> bool {
        let index = self
            .live
            .partition_point(|a| a.base < base.saturating_add(bytes));
        let before = index.checked_sub(1).and_then(|index| self.live.get(index));
        before.is_some_and(|a| a.base + a.bytes > base)
    }
}

/// The first address after an allocation at which another one may start.
pub fn after(allocation: &Allocation) -> u64 {
    let end = allocation.base.saturating_add(allocation.bytes);
    end.saturating_add(GUARD_BYTES)
        .checked_next_multiple_of(2 * ALLOCATION_ALIGN)
        .unwrap_or(u64::MAX)
}
