//! Shared memory between ordinary accesses and the asynchronous proxy: bulk copies and matrix
//! products of a warpgroup.
//!
//! Faults reported here, besides those that [`crate::sanitizer::shadow`] reports for any access:
//!
//! * An access to the destination of a copy, by a warp that has not synchronised with the barrier
//!   phase which completes the copy. A warp does so by waiting for the phase, or by synchronising
//!   with a warp that has.
//! * A read or write of the asynchronous proxy to bytes that a thread wrote by ordinary stores (or
//!   `cp.async`), without a `fence.proxy.async` in between. The fence may be the writer's (with a
//!   barrier after it), the reader's (with a barrier before it), or that of a third thread between
//!   two barriers.
//!
//! Which threads may fence: the PTX ISA says of `fence.proxy.async` and its like (9.4,
//! "membar / fence"): "Bi-directional proxy fences do not directly synchronize with other fences in
//! the sense that fences with .release or .acquire semantics do. Instead, bi-directional proxy
//! fences take effect within a single thread and therefore do not have a .scope qualifier. Their
//! cross-proxy synchronizing effect composes with other forms of synchronization according to the
//! rules of the Memory Consistency Model." The rule for the only kind that these rules name is
//! (section "Causality Order"): "X precedes Y in base causality order, and: [...] X and Y are
//! aliases and there is an alias proxy fence along the base causality path from X to Y." So the
//! fence must lie on the path from the write to the asynchronous access, in any of the path's
//! threads. One such path is a store, a barrier and then a fence of the thread that starts the copy
//! (the order of Triton's code). Another is a store, a fence of its thread and a barrier
//! (CUTLASS's).
//!
//! * A write to bytes that the asynchronous proxy reads, by a warp that has not synchronised with
//!   the end of the read.
//! * An ordinary access to a barrier.
use crate::sanitizer::shadow::{Actor, BARRIER, Conflict, Shadow, TRACKED, Writer};
use crate::sanitizer::vector_clock::Order;

/// A copy that a barrier's phase completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// Program counter of the copy.
    pub pc: u32,
    /// Slot of the barrier.
    pub slot: usize,
    /// Phase of the barrier, counted from the start of the block.
    pub phase: u32,
    /// True if the copy is an ordinary access: `cp.async`.
    pub ordinary: bool,
}

impl Tracked {
    fn writer(self) -> Writer {
        let slot = (self.slot as u32) << 24;
        let ordinary = u32::from(self.ordinary) << 31;
        Writer {
            pc: self.pc & 0xff_ffff | slot | ordinary,
            info: self.phase,
        }
    }

    pub(super) fn of(writer: Writer) -> Tracked {
        Tracked {
            pc: writer.pc & 0xff_ffff,
            slot: (writer.pc >> 24 & 0x7f) as usize,
            phase: writer.info,
            ordinary: writer.pc >> 31 != 0,
        }
    }

    /// Returns whether a warp has synchronised with its completion.
    pub fn is_known(self, order: &Order, warp: u32) -> bool {
        order.phases(warp as usize, self.slot) > self.phase
    }
}

/// The proxy fences that the lanes of each warp have executed, in order.
///
/// A fence of all remaining lanes of a warp covers everything ordered before the warp. Other warps
/// that synchronise with it acquire that coverage ([`Order::fence_proxies`]). A fence of some lanes
/// covers the same for these lanes only.
#[derive(Default)]
pub(crate) struct Fences {
    list: Vec<Vec<Fence>>,
    /// Per warp, the latest fence of each set of lanes that is not the whole warp.
    partial: Vec<Vec<Partial>>,
}

/// A fence of some lanes of a warp.
struct Partial {
    lanes: u32,
    /// The warp's count of synchronisations at the fence.
    sync: u32,
    /// Vector clock of the warp, by [`Order::knowledge`].
    known: Vec<u32>,
}

/// An ordinary write that a fence must cover.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    pub warp: u32,
    pub lane: u32,
    pub time: u32,
    /// The warp's count of synchronisations at the write.
    pub sync: u32,
    /// True for a barrier's initialisation.
    pub init: bool,
}

/// Maximum number of stored fences per warp: 12 MiB.
pub(crate) const MOST_FENCES: usize = 1 << 20;
/// Maximum number of lane sets per warp, other than all lanes, whose fences are stored: about 4
/// MiB.
const MOST_SETS: usize = 4096;

/// A stored fence.
#[derive(Clone, Copy)]
struct Fence {
    time: u32,
    lanes: u32,
    /// True if it orders only the initialisation of barriers.
    only_init: bool,
}

impl Fences {
    pub fn new(warps: usize) -> Fences {
        Fences {
            list: vec![Vec::new(); warps],
            partial: (0..warps).map(|_| Vec::new()).collect(),
        }
    }

    pub fn clear(&mut self) {
        self.list.iter_mut().for_each(Vec::clear);
        self.partial.iter_mut().for_each(Vec::clear);
    }

    /// Records a fence of some lanes of a warp. `whole`: they are all remaining lanes of the warp;
    /// `sync`: its count of synchronisations. Returns whether there was room.
    pub fn add(
        &mut self,
        order: &mut Order,
        warp: usize,
        (lanes, whole): (u32, bool),
        sync: u32,
        only_init: bool,
    ) -> bool {
        let time = order.arrive();
        if self.list[warp].len() == MOST_FENCES || self.partial[warp].len() == MOST_SETS {
            return false;
        }
        if !only_init && whole {
            order.fence_proxies(warp, time);
        } else if !only_init {
            let known = order.knowledge(warp, time);
            let list = &mut self.partial[warp];
            list.retain(|fence| fence.lanes != lanes);
            // Truncated to the bits of a writer's count.
            let sync = sync & (u32::MAX >> 6);
            list.push(Partial { lanes, sync, known });
        }
        self.list[warp].push(Fence {
            time,
            lanes,
            only_init,
        });
        true
    }

    /// Returns whether a fence lies on a path from a write to the current access of a lane of the
    /// warp `me`; without a lane, to that of all its lanes.
    pub fn covers(&self, order: &Order, me: u32, my_lane: Option<u32>, write: Write) -> bool {
        let Write {
            warp,
            lane,
            time,
            sync,
            init,
        } = write;
        // Usually a whole warp has executed the fence, which needs no search.
        if order.is_fenced(me, warp, time) {
            return true;
        }
        let sync = sync & (u32::MAX >> 6);
        let list = &self.list[warp as usize];
        let first = list.partition_point(|fence| fence.time < time);
        let own = list[first..]
            .iter()
            .find(|fence| fence.lanes >> lane & 1 != 0 && (init || !fence.only_init));
        let seen =
            |time| order.is_before(me, warp, time) || init && order.sees_init(me, warp, time);
        own.is_some_and(|fence| me == warp || seen(fence.time))
            || self.mine(me, my_lane).any(|fence| {
                // Between lanes of a warp, the write precedes the fence if the lanes have
                // synchronised.
                let met = me != warp || my_lane == Some(lane) || sync != fence.sync;
                met && fence.known.get(warp as usize).is_some_and(|&t| time <= t)
            })
    }

    /// Returns whether a fence lies between the completion of a copy by a barrier's phase and the
    /// current access of a lane.
    pub fn covers_copy(&self, order: &Order, me: u32, my_lane: Option<u32>, copy: Tracked) -> bool {
        let column = order.slot_column(copy.slot);
        order.phases_fenced(me, copy.slot) > copy.phase
            || self
                .mine(me, my_lane)
                .any(|fence| fence.known.get(column).is_some_and(|&n| n > copy.phase))
    }

    /// The fences that a lane executed with only some lanes of its warp.
    fn mine(&self, me: u32, my_lane: Option<u32>) -> impl Iterator<Item = &Partial> {
        let list = self.partial.get(me as usize).map_or(&[][..], Vec::as_slice);
        list.iter()
            .filter(move |fence| my_lane.is_some_and(|lane| fence.lanes >> lane & 1 != 0))
    }

    /// The time of a warp's latest fence that any of the lanes executed.
    pub fn latest(&self, warp: usize, lanes: u32) -> Option<u32> {
        let fence = self.list[warp].iter().rfind(|f| f.lanes & lanes != 0);
        fence.map(|fence| fence.time)
    }
}

/// The latest reads of the asynchronous proxy, per 16 bytes.
#[derive(Default)]
pub(crate) struct Reads {
    /// By matrix products of each warpgroup: the start time.
    products: Vec<u32>,
    warpgroups: usize,
    /// By bulk copies: the start time and the reader.
    copies: Vec<(u32, u8)>,
}

/// Index of the first reader that is a warp's bulk copies; those before are warpgroups.
pub(crate) const COPY_READERS: usize = 8;

impl Reads {
    pub fn clear(&mut self) {
        self.products.fill(0);
        self.copies.fill((0, 0));
    }
}

/// A read by the asynchronous proxy, for its checks.
pub(crate) struct AsyncReader<'a> {
    /// The warps that read: one, or four.
    pub warps: std::ops::Range<u32>,
    /// The fences so far.
    pub fences: &'a Fences,
    /// The lane that started the read, or any lane.
    pub actor: Actor,
    /// True if all lanes started it together.
    pub together: bool,
    /// Stamp and writer of the last unit that passed the checks. Adjacent units with the same ones
    /// need no second check.
    pub good: (u32, u32, u32),
}

impl<'a> AsyncReader<'a> {
    pub fn new(warps: std::ops::Range<u32>, fences: &'a Fences, actor: Actor) -> AsyncReader<'a> {
        AsyncReader {
            together: warps.len() > 1,
            warps,
            fences,
            actor,
            good: (0, 0, 0),
        }
    }
}

impl Shadow {
    /// Allocates the state for reads of `warpgroups` warpgroups.
    pub fn watch_reads(&mut self, bytes: usize, warpgroups: usize) {
        self.asynchronous = Reads {
            products: vec![0; (bytes / 16 + 1) * warpgroups],
            warpgroups,
            copies: vec![(0, 0); bytes / 16 + 1],
        };
    }

    /// Checks an access to a unit that a tracked copy wrote or that is part of a barrier.
    #[cold]
    pub(super) fn check_special(
        &self,
        unit: usize,
        order: &Order,
        actor: &Actor,
    ) -> Result<(), Conflict> {
        if self.stamps[unit] == BARRIER {
            return Err(Conflict::Barrier);
        }
        let copy = Tracked::of(self.writers[unit]);
        if copy.is_known(order, actor.warp) {
            return Ok(());
        }
        Err(Conflict::Tracked(copy))
    }

    /// Checks a write of this warp against the reads of the asynchronous proxy.
    #[inline]
    pub(super) fn check_asynchronous_readers(
        &self,
        unit: usize,
        order: &Order,
        warp: u32,
    ) -> Result<(), Conflict> {
        let reads = &self.asynchronous;
        if reads.copies.is_empty() {
            return Ok(());
        }
        let place = unit >> (4 - self.shift);
        let count = reads.warpgroups;
        for (reader, &time) in reads.products[place * count..(place + 1) * count]
            .iter()
            .enumerate()
        {
            if time >= order.start && order.reads_over(warp as usize, reader) < time {
                return Err(Conflict::AsyncRead { reader });
            }
        }
        let (time, reader) = reads.copies[place];
        let reader = usize::from(reader);
        if time >= order.start && order.reads_over(warp as usize, reader) < time {
            return Err(Conflict::AsyncRead { reader });
        }
        Ok(())
    }

    /// Returns whether writes of this warp to the units certainly conflict with no read of the
    /// asynchronous proxy.
    fn all_asynchronous_reads_over(
        &self,
        units: std::ops::Range<usize>,
        order: &Order,
        warp: u32,
    ) -> bool {
        let reads = &self.asynchronous;
        if reads.copies.is_empty() || units.is_empty() {
            return true;
        }
        let over = |reader| order.reads_over(warp as usize, reader).max(order.start - 1);
        let places = units.start >> (4 - self.shift)..((units.end - 1) >> (4 - self.shift)) + 1;
        let mut limits = [0u32; COPY_READERS];
        for (reader, limit) in limits.iter_mut().enumerate().take(reads.warpgroups) {
            *limit = over(reader);
        }
        let limits = &limits[..reads.warpgroups];
        let (first, last) = (places.start * limits.len(), places.end * limits.len());
        let mut late = reads.products[first..last]
            .chunks_exact(limits.len())
            .any(|times| times.iter().zip(limits).any(|(time, limit)| time > limit));
        late |= reads.copies[places]
            .iter()
            .any(|&(time, reader)| time >= order.start && time > over(usize::from(reader)));
        !late
    }

    /// Records that a reader reads 16 bytes of shared memory from `time` on.
    #[inline]
    pub fn note_async_read(&mut self, place: usize, reader: usize, time: u32) {
        let reads = &mut self.asynchronous;
        if reader < COPY_READERS {
            reads.products[place * reads.warpgroups + reader] = time;
        } else {
            reads.copies[place] = (time, reader as u8);
        }
    }

    /// Checks a read of a unit by the asynchronous proxy.
    #[inline]
    pub fn read_async(
        &self,
        unit: usize,
        order: &Order,
        reader: &mut AsyncReader<'_>,
    ) -> Result<(), Conflict> {
        let (stamp, writer) = (self.stamps[unit], self.writers[unit]);
        if (stamp, writer.pc, writer.info) == reader.good {
            return Ok(());
        }
        for warp in reader.warps.clone() {
            let actor = Actor {
                warp,
                ..reader.actor
            };
            self.check_written(unit, order, &actor, true)?;
            let lane = (!reader.together).then_some(actor.lane);
            self.check_fence(unit, order, reader.fences, warp, lane)?;
        }
        reader.good = (stamp, writer.pc, writer.info);
        Ok(())
    }

    /// Checks that a proxy fence covers a unit's ordinary write.
    pub(super) fn check_fence(
        &self,
        unit: usize,
        order: &Order,
        fences: &Fences,
        me: u32,
        my_lane: Option<u32>,
    ) -> Result<(), Conflict> {
        let (stamp, writer) = (self.stamps[unit], self.writers[unit]);
        if stamp == TRACKED {
            let copy = Tracked::of(writer);
            // Writes by copies of the asynchronous proxy need no fence.
            return if copy.ordinary && !fences.covers_copy(order, me, my_lane, copy) {
                Err(Conflict::Tracked(copy))
            } else {
                Ok(())
            };
        }
        let (time, warp, lane) = (stamp >> 5, writer.warp(stamp), writer.info & 31);
        let write = Write {
            warp,
            lane,
            time,
            sync: writer.info >> 6,
            init: false,
        };
        if time < order.start || fences.covers(order, me, my_lane, write) {
            return Ok(());
        }
        let pc = writer.instruction();
        Err(Conflict::Unfenced { warp, lane, pc })
    }

    /// Starts writes of units by a copy of the asynchronous proxy. Returns the faulty unit, if
    /// there is one.
    pub fn begin_tracked(
        &mut self,
        units: std::ops::Range<usize>,
        order: &Order,
        actor: &Actor,
        fences: &Fences,
        copy: Tracked,
    ) -> Result<(), (usize, Conflict)> {
        // Adjacent units with the same stamp and writer need no second check.
        let mut good = (0, 0, 0);
        let unread = self.all_unread(units.clone(), order)
            && self.all_asynchronous_reads_over(units.clone(), order, actor.warp);
        for unit in units.clone() {
            let (stamp, writer) = (self.stamps[unit], self.writers[unit]);
            let conflict = |conflict| (unit, conflict);
            if (stamp, writer.pc, writer.info) != good {
                self.check_written(unit, order, actor, false)
                    .map_err(conflict)?;
                if stamp < BARRIER {
                    self.check_fence(unit, order, fences, actor.warp, Some(actor.lane))
                        .map_err(conflict)?;
                }
                good = (stamp, writer.pc, writer.info);
            }
            if unread {
                continue;
            }
            self.check_readers(unit, order, actor, false)
                .map_err(conflict)?;
            self.check_readers(unit, order, actor, true)
                .map_err(conflict)?;
            self.check_asynchronous_readers(unit, order, actor.warp)
                .map_err(conflict)?;
        }
        self.track(units, copy);
        Ok(())
    }

    /// Marks the units as written by a copy that a phase completes.
    pub(super) fn track(&mut self, units: std::ops::Range<usize>, copy: Tracked) {
        self.stamps[units.clone()].fill(TRACKED);
        self.writers[units].fill(copy.writer());
    }

    /// Makes a barrier's phase complete the writes of a `cp.async`.
    pub fn track_copy(&mut self, unit: usize, copy: Tracked) {
        self.stamps[unit] = TRACKED;
        self.writers[unit] = copy.writer();
    }

    /// Clears all writes.
    pub fn forget_writes(&mut self) {
        self.stamps.fill(0);
    }

    /// Marks the unit as part of a barrier, or clears the mark.
    pub fn set_barrier(&mut self, unit: usize, there: bool) {
        self.stamps[unit] = if there { BARRIER } else { 0 };
        self.writers[unit] = Writer::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_copies_fit_a_writer() {
        for ordinary in [false, true] {
            let copy = Tracked {
                pc: 0x12_3456,
                slot: crate::sanitizer::vector_clock::SLOTS - 1,
                phase: u32::MAX - 1,
                ordinary,
            };
            assert_eq!(Tracked::of(copy.writer()), copy);
        }
    }
}
