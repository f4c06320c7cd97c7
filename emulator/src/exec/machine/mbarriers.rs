//! State of a barrier in shared memory between two operations.

use crate::exec::machine::context::Context;
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::shadow::Actor;
use crate::sanitizer::vector_clock::Order;

/// One barrier.
pub(crate) struct Mbarrier {
    pub address: u32,
    pub(crate) live: bool,
    /// Arrivals of a phase.
    pub(crate) count: u32,
    /// Those that the phase still waits for.
    pub(crate) pending: u32,
    /// Bytes that it still waits for.
    pub(crate) bytes: i64,
    /// Phases that are complete, over all barriers at this address.
    pub(crate) phases: u32,
    /// Expected count when this barrier was initialised.
    pub(crate) first: u32,
    /// Thread that initialised it, and the time.
    pub(crate) init: Actor,
    pub(crate) time: u32,
    /// Vector clocks of the arrivals in this phase, and those that a wait for the last one
    /// acquires.
    pub(crate) gathered: Vec<u32>,
    pub(crate) released: Vec<u32>,
}

impl Mbarrier {
    /// The phase now, counted from its initialisation.
    pub(crate) fn phase(&self) -> u32 {
        self.phases - self.first
    }

    /// Phases that are complete, over all barriers at this address.
    pub fn phase_number(&self) -> u32 {
        self.phases
    }

    /// Ends the phase if nothing is lacking. Whether it did.
    pub(crate) fn advance(&mut self) -> bool {
        if self.pending != 0 || self.bytes != 0 || self.count == 0 {
            return false;
        }
        self.phases += 1;
        self.pending = self.count;
        self.released
            .resize(self.gathered.len().max(self.released.len()), 0);
        for (all, &known) in self.released.iter_mut().zip(&self.gathered) {
            *all = (*all).max(known);
        }
        self.gathered.clear();
        true
    }

    /// Its state before an operation, as programs see it.
    pub(crate) fn state(&self, slot: usize) -> u64 {
        (slot as u64) << 52 | u64::from(self.phase()) << 20 | u64::from(self.pending)
    }
}

/// The barriers of a block.
#[derive(Default)]
pub(crate) struct Mbarriers {
    pub(crate) list: Vec<Mbarrier>,
    /// Changes so far.
    pub events: u64,
    /// True if somebody who waits may have a reason to look again.
    pub changed: bool,
}

impl Mbarriers {
    pub fn clear(&mut self) {
        self.list.clear();
        self.changed = false;
    }

    /// A barrier by its slot.
    pub fn get(&self, slot: usize) -> &Mbarrier {
        &self.list[slot]
    }

    /// Those who wait for the phase learn that a reader's reads of a block's memory up to `time`
    /// are over.
    pub fn gather_read(
        &mut self,
        order: &Order,
        slot: usize,
        (block, reader): (usize, usize),
        time: u32,
    ) {
        order.gather_read(&mut self.list[slot].gathered, block, reader, time);
    }

    /// Those who wait for the phase learn what a warp knew and did at `time`.
    pub fn gather(&mut self, order: &Order, slot: usize, warp: u32, time: u32) {
        order.gather(&mut self.list[slot].gathered, warp as usize, time);
    }

    pub(crate) fn find(&self, address: u64) -> Option<usize> {
        let same = |b: &Mbarrier| b.live && u64::from(b.address) == address;
        self.list.iter().position(same)
    }
}

/// The parity of a tracked copy's phase.
pub(crate) fn parity(cx: &Context, copy: Tracked) -> u32 {
    (copy.phase - cx.mbarriers.list[copy.slot].first.min(copy.phase)) & 1
}
