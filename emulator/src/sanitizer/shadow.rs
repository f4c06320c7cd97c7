//! The shadow of shared memory.
//!
//! Shared memory is divided into *units* as large as the kernel's smallest access (four bytes in
//! most kernels). A kernel with copies or loads of 16 bytes starts each block with units of 16
//! bytes; the first smaller access divides all of them. The shadow stores the last writer of each
//! unit and the readers since. Reported are:
//!
//! * A read of a unit that no thread of the block has written.
//! * Two accesses of different warps, at least one a write, that no barrier orders. Two atomic or
//!   `volatile` accesses are no race, nor are two writes of the same value.
//! * Within a warp: a read of a value that another lane wrote, or a second write of another value
//!   by another lane, with neither a warp-level synchronisation (`bar.warp.sync`) nor a barrier in
//!   between. A write after another lane's read is not reported: an instruction's reads end before
//!   the warp's next instruction starts.
//! * Any access to bytes that a `cp.async` will write and that its thread has not waited for.
//! * Faults of mbarrier objects and the asynchronous proxy: see [`crate::sanitizer::async_proxy`].
use crate::sanitizer::vector_clock::Order;
use std::collections::HashMap;
use std::ops::Range;

/// A stamp of a write consists of time and warp. This one is above every time: a copy is in flight.
pub(super) const PENDING: u32 = u32::MAX;
/// Stamp of a write by a copy that a phase of an mbarrier object completes.
pub(super) const TRACKED: u32 = u32::MAX - 1;
/// Stamp of a unit that is part of a barrier.
pub(super) const BARRIER: u32 = u32::MAX - 2;
/// Set in a reader stamp if several warps read.
pub(super) const SEVERAL: u32 = 32;

/// Instruction and thread of a unit's last write.
#[derive(Clone, Copy, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Writer {
    /// The instruction, with the high bits of the warp's number (see [`Actor::place`]). For a
    /// tracked copy also its barrier, see [`crate::sanitizer::async_proxy::Tracked`].
    pub pc: u32,
    /// Lane, whether strong or atomic, and the warp's count of synchronisations. For a tracked copy
    /// the phase.
    pub info: u32,
}

const STRONG: u32 = 32;

/// Number of bits of a warp's number in a stamp.
const WARP_BITS: u32 = 5;
/// Number of bits of a writer's instruction; the others extend the warp's number, since a cluster
/// has up to 512 warps.
pub(super) const PC_BITS: u32 = 28;

impl Writer {
    /// Program counter of the instruction.
    pub fn instruction(self) -> u32 {
        self.pc & ((1 << PC_BITS) - 1)
    }

    /// The warp's number; its low bits are in the stamp.
    pub fn warp(self, stamp: u32) -> u32 {
        stamp & 31 | self.pc >> PC_BITS << WARP_BITS
    }
}

/// Thread and instruction of an access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    /// The warp's number, counted over all blocks of a cluster.
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
    /// The warp's count of synchronisations.
    pub sync: u32,
    /// True for an atomic, volatile or otherwise synchronising access.
    pub strong: bool,
}

impl Actor {
    pub(super) fn info(&self) -> u32 {
        self.lane | if self.strong { STRONG } else { 0 } | self.sync << 6
    }

    /// The thread that starts a copy, in place of `info`: the unit has no stamp with the warp's low
    /// bits while the copy is in flight.
    pub(super) fn copying(&self) -> u32 {
        self.lane | self.warp << 6
    }

    /// The stamp of an access at a time.
    pub(super) fn stamp(&self, time: u32) -> u32 {
        time << 5 | self.warp & 31
    }

    /// The instruction, and the bits of the warp's number that do not fit into the stamp.
    pub(super) fn place(&self) -> u32 {
        self.pc | self.warp >> WARP_BITS << PC_BITS
    }
}

/// The access or state with which an access to a unit conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    Uninitialised,
    /// A write by a lane of a warp, at a program counter.
    Written {
        warp: u32,
        lane: u32,
        pc: u32,
    },
    /// Reads by a warp, or several.
    ReadBy {
        warp: Option<u32>,
    },
    /// A copy in flight that a lane of a warp started.
    Pending {
        warp: u32,
        lane: u32,
    },
    /// A copy that a phase completes for which the warp has not waited.
    Tracked(crate::sanitizer::async_proxy::Tracked),
    /// A barrier.
    Barrier,
    /// An asynchronous read that may be in flight.
    AsyncRead {
        reader: usize,
    },
    /// A write of a lane without a later proxy fence, before an access of the asynchronous proxy.
    Unfenced {
        warp: u32,
        lane: u32,
        pc: u32,
    },
}

/// The shadow of a block's shared memory.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Shadow {
    /// Current size of a unit: `1 << shift` bytes.
    pub shift: u32,
    /// Shift of the smallest units: those of the kernel's smallest access.
    fine: u32,
    /// Shift of the units at the start of a block.
    coarse: u32,
    /// Size of shared memory in bytes.
    bytes: usize,
    /// Last write: `time << 5 | warp`.
    pub(super) stamps: Vec<u32>,
    pub(super) writers: Vec<Writer>,
    /// Plain reads since the last write: `time << 6 | SEVERAL | warp`.
    pub(super) readers: Vec<u32>,
    /// Strong reads since the last write, in the same format: no race with a strong write.
    pub(super) strong_readers: Vec<u32>,
    /// The time of the last strong read of any unit.
    pub(super) last_strong: u32,
    /// With vector clocks: per warp the times of its last plain reads of each unit, then, also per
    /// warp, those of the last strong ones.
    pub(super) read_times: Vec<u32>,
    /// The same for warps of other blocks of the cluster, by unit: warp, whether strong, time.
    pub(super) remote_reads: HashMap<usize, Vec<(u32, bool, u32)>>,
    /// False until a block starts whose writes the next one has to forget.
    pub(super) written: bool,
    /// Reads of the asynchronous proxy.
    pub(super) asynchronous: crate::sanitizer::async_proxy::Reads,
}

impl Shadow {
    /// A shadow of `bytes` bytes in units of `1 << shift`.
    #[cfg(test)]
    pub fn new(bytes: usize, shift: u32, order: &Order) -> Shadow {
        Shadow::with_units(bytes, shift, shift, order)
    }

    /// A shadow of `bytes` bytes in units of `1 << coarse`, which the first smaller access divides,
    /// down to `1 << fine`. With vector clocks, units have one size.
    pub fn with_units(bytes: usize, fine: u32, coarse: u32, order: &Order) -> Shadow {
        let shift = if order.precise { fine } else { coarse };
        let units = unit_count(bytes, shift);
        let times = if order.precise {
            2 * units * order.block_warps()
        } else {
            0
        };
        Shadow {
            shift,
            fine,
            coarse: shift,
            bytes,
            stamps: vec![0; units],
            writers: vec![Writer::default(); units],
            readers: vec![0; units],
            strong_readers: vec![0; units],
            last_strong: 0,
            read_times: vec![0; times],
            remote_reads: HashMap::new(),
            written: false,
            asynchronous: crate::sanitizer::async_proxy::Reads::default(),
        }
    }

    pub fn clear(&mut self) {
        self.stamps.fill(0);
        self.readers.fill(0);
        self.strong_readers.fill(0);
        self.last_strong = 0;
        self.read_times.fill(0);
        self.asynchronous.clear();
        self.remote_reads.clear();
    }

    /// Starts a block: accesses of the previous block are irrelevant.
    pub fn begin_block(&mut self) {
        // All stamps are older than the block, so their warps do not matter.
        self.shift = self.coarse;
        self.remote_reads.clear();
    }

    /// Divides the units if they are larger than an access of `bytes` bytes.
    #[inline(always)]
    pub fn divide(&mut self, bytes: u32) {
        if bytes >> self.shift == 0 {
            self.divide_to(bytes.trailing_zeros().max(self.fine));
        }
    }

    /// Divides the units into those of `1 << shift` bytes. Every access so far was to whole units,
    /// so each part of a unit gets its history.
    #[cold]
    #[inline(never)]
    fn divide_to(&mut self, shift: u32) {
        if shift >= self.shift {
            return;
        }
        let by = self.shift - shift;
        let units = unit_count(self.bytes, shift);
        divide_each(&mut self.stamps, units, by);
        divide_each(&mut self.writers, units, by);
        divide_each(&mut self.readers, units, by);
        divide_each(&mut self.strong_readers, units, by);
        self.shift = shift;
    }

    /// Divides the units as far as possible, so that a report contains the first faulty byte.
    /// Returns false if they already have that size.
    pub fn divide_all(&mut self) -> bool {
        let divided = self.shift > self.fine;
        self.divide_to(self.fine);
        divided
    }

    /// Checks and records a read of a unit.
    pub fn read(&mut self, unit: usize, order: &Order, actor: &Actor) -> Result<(), Conflict> {
        self.check_written(unit, order, actor, true)?;
        if order.precise {
            match order.own(actor.warp) {
                Some(own) => {
                    let place = self.time_of(unit, own, actor.strong, order);
                    self.read_times[place] = order.now;
                }
                None => self.note_remote_read(unit, order, actor),
            }
        }
        let base = order.now << 6;
        let mine = base | actor.warp & 31;
        let readers = if actor.strong {
            self.last_strong = order.now;
            &mut self.strong_readers
        } else {
            &mut self.readers
        };
        let old = readers[unit];
        readers[unit] = match old {
            _ if old < base => mine,
            _ if old == mine => mine,
            _ => base | SEVERAL,
        };
        Ok(())
    }

    fn note_remote_read(&mut self, unit: usize, order: &Order, actor: &Actor) {
        let reads = self.remote_reads.entry(unit).or_default();
        let who = (actor.warp, actor.strong);
        match reads.iter_mut().find(|read| (read.0, read.1) == who) {
            Some(read) => read.2 = order.now,
            None => reads.push((actor.warp, actor.strong, order.now)),
        }
    }

    /// Index of the time of a warp's last read of a unit.
    #[inline(always)]
    pub(super) fn time_of(&self, unit: usize, own: usize, strong: bool, order: &Order) -> usize {
        let row = usize::from(strong) * order.block_warps() + own;
        row * self.stamps.len() + unit
    }

    /// Checks an access against the last write.
    pub(super) fn check_written(
        &self,
        unit: usize,
        order: &Order,
        actor: &Actor,
        must_be_written: bool,
    ) -> Result<(), Conflict> {
        let stamp = self.stamps[unit];
        let writer = self.writers[unit];
        let lane = writer.info & 31;
        if stamp == PENDING {
            return Err(Conflict::Pending {
                warp: writer.info >> 6,
                lane,
            });
        }
        if stamp >= BARRIER {
            return self.check_special(unit, order, actor);
        }
        let (time, warp) = (stamp >> 5, writer.warp(stamp));
        if time < order.start {
            return if must_be_written {
                Err(Conflict::Uninitialised)
            } else {
                Ok(())
            };
        }
        if time < order.floor || (actor.strong && writer.info & STRONG != 0) {
            return Ok(());
        }
        let ordered = if warp == actor.warp {
            lane == actor.lane || writer.info >> 6 != actor.sync & 0x3ff_ffff
        } else {
            order.is_before(actor.warp, warp, time)
        };
        if ordered {
            Ok(())
        } else {
            Err(Conflict::Written {
                warp,
                lane,
                pc: writer.instruction(),
            })
        }
    }

    /// Checks and records a write of a unit. `same_value`: the write does not change the bytes.
    pub fn write(
        &mut self,
        unit: usize,
        order: &Order,
        actor: &Actor,
        same_value: bool,
    ) -> Result<(), Conflict> {
        match self.check_written(unit, order, actor, false) {
            Err(Conflict::Written { .. }) if same_value => {}
            other => other?,
        }
        self.check_readers(unit, order, actor, false)?;
        if !actor.strong {
            self.check_readers(unit, order, actor, true)?;
        }
        self.check_asynchronous_readers(unit, order, actor.warp)?;
        self.stamps[unit] = actor.stamp(order.now);
        self.writers[unit] = Writer {
            pc: actor.place(),
            info: actor.info(),
        };
        Ok(())
    }

    /// Records the write of an atomic that has just read the unit.
    pub fn write_atomic(
        &mut self,
        unit: usize,
        order: &Order,
        actor: &Actor,
    ) -> Result<(), Conflict> {
        self.write(unit, order, actor, true)
    }

    /// Returns whether no thread has read any of the units since the latest barrier of the whole
    /// block.
    pub(super) fn all_unread(&self, units: Range<usize>, order: &Order) -> bool {
        let latest = |readers: &[u32]| readers.iter().fold(0, |latest, &time| latest.max(time));
        let readers = latest(&self.readers[units.clone()]);
        let strong = latest(&self.strong_readers[units]);
        readers.max(strong) >> 6 < order.floor
    }

    /// Checks a write against other warps' plain or strong reads.
    pub(super) fn check_readers(
        &self,
        unit: usize,
        order: &Order,
        actor: &Actor,
        strong: bool,
    ) -> Result<(), Conflict> {
        let reader = if strong {
            self.strong_readers[unit]
        } else {
            self.readers[unit]
        };
        if reader >> 6 < order.floor {
            return Ok(());
        }
        if !order.precise {
            if reader & 0x3f == actor.warp {
                return Ok(());
            }
            let warp = (reader & SEVERAL == 0).then_some(reader & 31);
            return Err(Conflict::ReadBy { warp });
        }
        let open = |warp: u32, time: u32| {
            warp != actor.warp && time >= order.floor && !order.is_before(actor.warp, warp, time)
        };
        let first = order.block * order.block_warps();
        for own in 0..order.block_warps() {
            let warp = (first + own) as u32;
            let time = self.read_times[self.time_of(unit, own, strong, order)];
            if open(warp, time) {
                return Err(Conflict::ReadBy { warp: Some(warp) });
            }
        }
        if self.remote_reads.is_empty() {
            return Ok(());
        }
        let remote = self.remote_reads.get(&unit).map_or(&[][..], Vec::as_slice);
        match remote.iter().find(|r| r.1 == strong && open(r.0, r.2)) {
            Some(&(warp, ..)) => Err(Conflict::ReadBy { warp: Some(warp) }),
            None => Ok(()),
        }
    }

    /// Returns whether another shadow of the same kernel has the same accesses.
    #[cfg(test)]
    pub(super) fn has_same_state(&self, other: &Shadow) -> bool {
        self.stamps == other.stamps
            && self.writers == other.writers
            && self.readers == other.readers
            && self.strong_readers == other.strong_readers
            && self.last_strong == other.last_strong
            && self.read_times == other.read_times
            && self.remote_reads == other.remote_reads
    }

    /// Starts an asynchronous copy to the unit.
    pub fn begin_copy(
        &mut self,
        unit: usize,
        order: &Order,
        actor: &Actor,
    ) -> Result<(), Conflict> {
        self.write(unit, order, actor, false)?;
        self.stamps[unit] = PENDING;
        self.writers[unit] = Writer {
            pc: actor.place(),
            info: actor.copying(),
        };
        Ok(())
    }

    /// Records that the thread of the copy to these units has waited for it.
    #[inline(always)]
    pub fn end_copy(&mut self, units: Range<usize>, order: &Order, actor: &Actor) {
        let (stamp, info) = (actor.stamp(order.now), actor.info());
        let stamps = &mut self.stamps[units.clone()];
        let writers = &mut self.writers[units];
        for (old, writer) in stamps.iter_mut().zip(writers) {
            if *old == PENDING {
                *old = stamp;
                writer.info = info;
            }
        }
    }
}

/// Number of units of `1 << shift` bytes, with some more at the end for accesses of several units.
fn unit_count(bytes: usize, shift: u32) -> usize {
    (bytes >> shift) + 16
}

/// Replaces each element by `1 << by` copies, at least `count` in all.
fn divide_each<T: Copy + Default>(elements: &mut Vec<T>, count: usize, by: u32) {
    let count = count.next_multiple_of(16);
    if elements.len() < count {
        elements.resize(count, T::default());
    }
    // Constant lengths compile to vector instructions.
    match by {
        1 => divide_in::<T, 2>(&mut elements[..count]),
        2 => divide_in::<T, 4>(&mut elements[..count]),
        3 => divide_in::<T, 8>(&mut elements[..count]),
        _ => divide_in::<T, 16>(&mut elements[..count]),
    }
}

/// Replaces each of the first elements by `PARTS` copies.
fn divide_in<T: Copy, const PARTS: usize>(elements: &mut [T]) {
    // In descending order, so that none is overwritten before its use.
    for i in (0..elements.len() / PARTS).rev() {
        let element = elements[i];
        elements[i * PARTS..][..PARTS].fill(element);
    }
}

#[cfg(test)]
mod tests;
