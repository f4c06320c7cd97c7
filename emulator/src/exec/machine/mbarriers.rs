//! State of the mbarrier objects of a block.

use crate::exec::machine::context::Context;
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::shadow::Actor;
use crate::sanitizer::vector_clock::Order;

/// State of one mbarrier object.
pub(crate) struct Mbarrier {
    pub address: u32,
    pub(crate) live: bool,
    /// Expected arrivals of a phase.
    pub(crate) count: u32,
    /// Pending arrivals of the phase.
    pub(crate) pending: u32,
    /// Pending bytes of the phase.
    pub(crate) bytes: i64,
    /// Number of complete phases, over all barriers at this address.
    pub(crate) phases: u32,
    /// Number of complete phases when this barrier was initialised.
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
    /// The current phase, counted from its initialisation.
    pub(crate) fn phase(&self) -> u32 {
        self.phases - self.first
    }

    /// Number of complete phases, over all barriers at this address.
    pub fn phase_number(&self) -> u32 {
        self.phases
    }

    /// Completes the phase if nothing is pending. Returns whether it did.
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

    /// The opaque state before an operation, as the program receives it.
    pub(crate) fn state(&self, slot: usize) -> u64 {
        (slot as u64) << 52 | u64::from(self.phase()) << 20 | u64::from(self.pending)
    }
}

/// The barriers of a block.
#[derive(Default)]
pub(crate) struct Mbarriers {
    pub(crate) list: Vec<Mbarrier>,
    /// Number of changes so far.
    pub events: u64,
    /// True if a waiting lane may have a reason to test its barrier again.
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

    /// Adds reads of a block's memory by a reader up to `time` to the clock that waits for the
    /// phase acquire.
    pub fn gather_read(
        &mut self,
        order: &Order,
        slot: usize,
        (block, reader): (usize, usize),
        time: u32,
    ) {
        order.gather_read(&mut self.list[slot].gathered, block, reader, time);
    }

    /// Adds a warp's vector clock at `time` to the clock that waits for the phase acquire.
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
