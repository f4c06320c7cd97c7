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
use crate::sanitizer::clock_path::{Passed, WarpAccess, passes, passes_fenced};
use crate::sanitizer::fences::{Fences, Write};
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

/// The latest reads of the asynchronous proxy, per 16 bytes.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
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
    /// Returns whether no reads are recorded.
    pub fn is_off(&self) -> bool {
        self.copies.is_empty()
    }

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
    /// The last write that passed the checks. Units with the same one need no second check.
    passed: Passed,
}

impl<'a> AsyncReader<'a> {
    pub fn new(warps: std::ops::Range<u32>, fences: &'a Fences, actor: Actor) -> AsyncReader<'a> {
        AsyncReader {
            together: warps.len() > 1,
            warps,
            fences,
            actor,
            passed: Passed::NONE,
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
        if reads.is_off() {
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
    pub(super) fn all_asynchronous_reads_over(
        &self,
        units: std::ops::Range<usize>,
        order: &Order,
        warp: u32,
    ) -> bool {
        let reads = &self.asynchronous;
        if reads.is_off() || units.is_empty() {
            return true;
        }
        let places = units.start >> (4 - self.shift)..((units.end - 1) >> (4 - self.shift)) + 1;
        if places.len() == 1 {
            return self
                .check_asynchronous_readers(units.start, order, warp)
                .is_ok();
        }
        let over = |reader| order.reads_over(warp as usize, reader).max(order.start - 1);
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

    /// Returns whether `len` units from `unit` on have the last write of a unit that passed
    /// [`Shadow::read_async`].
    #[inline(always)]
    pub fn may_read_async(&self, unit: usize, len: usize, reader: &AsyncReader<'_>) -> bool {
        self.all_match(unit, len, &reader.passed)
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
        if reader.passed.matches(stamp, writer) {
            return Ok(());
        }
        let mut passed = None;
        for warp in reader.warps.clone() {
            let access = WarpAccess {
                warp,
                sync: reader.actor.sync,
                read: true,
            };
            passed = passes_fenced((stamp, writer), order, access);
            if passed.is_none() {
                break;
            }
        }
        if let Some(passed) = passed {
            reader.passed = passed;
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
        reader.passed = Passed::exactly(stamp, writer);
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
        // Units with the same last write need no second check.
        let mut passed = Passed::NONE;
        let access = WarpAccess {
            warp: actor.warp,
            sync: actor.sync,
            read: false,
        };
        let unread = self.reads_before(units.clone(), order, actor.warp)
            && self.all_asynchronous_reads_over(units.clone(), order, actor.warp);
        for unit in units.clone() {
            let (stamp, writer) = (self.stamps[unit], self.writers[unit]);
            let conflict = |conflict| (unit, conflict);
            if !passed.matches(stamp, writer) {
                let last = (stamp, writer);
                // A fence need not cover the writes of copies.
                let fast = if stamp == TRACKED {
                    passes(last, order, access)
                } else {
                    passes_fenced(last, order, access)
                };
                if fast.is_none() {
                    self.check_written(unit, order, actor, false)
                        .map_err(conflict)?;
                    if stamp < BARRIER {
                        self.check_fence(unit, order, fences, actor.warp, Some(actor.lane))
                            .map_err(conflict)?;
                    }
                }
                passed = fast.unwrap_or(Passed::exactly(stamp, writer));
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

    /// Clears all writes of earlier blocks.
    pub fn forget_writes(&mut self) {
        // A new shadow has none.
        if std::mem::replace(&mut self.written, true) {
            self.stamps.fill(0);
        }
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
