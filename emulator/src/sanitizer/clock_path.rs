//! Fast paths of the shadow with vector clocks: accesses that certainly cause no report, several
//! units at a time. Other accesses are checked unit by unit.
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::shadow::{
    Actor, BARRIER, PC_BITS, PENDING, SEVERAL, Shadow, TRACKED, Writer,
};
use crate::sanitizer::vector_clock::Order;
use std::ops::Range;

/// The last write of a unit that passed a check, with masks of the writer's bits that the check
/// depends on. Units with the same ones pass it too, for the same access and at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    stamp: u32,
    writer: Writer,
    pc_mask: u32,
    info_mask: u32,
}

impl Passed {
    /// Matches no unit: no stamp has this value.
    pub const NONE: Passed = Passed {
        stamp: 1 << 31,
        writer: Writer { pc: 0, info: 0 },
        pc_mask: 0,
        info_mask: 0,
    };

    /// Matches units with the same stamp and writer.
    pub fn exactly(stamp: u32, writer: Writer) -> Passed {
        Passed {
            stamp,
            writer,
            pc_mask: u32::MAX,
            info_mask: u32::MAX,
        }
    }

    /// Matches units with this last write by any lane and instruction: the same warp, time and
    /// count of synchronisations or, for a tracked copy, the same phase of the same barrier.
    fn by_any_lane(stamp: u32, writer: Writer) -> Passed {
        let (pc_mask, info_mask) = if stamp == TRACKED {
            (u32::MAX << 24, u32::MAX)
        } else {
            (u32::MAX << PC_BITS, u32::MAX << 6)
        };
        Passed {
            stamp,
            writer,
            pc_mask,
            info_mask,
        }
    }

    /// The bits in which a unit's last write differs.
    #[inline(always)]
    fn differs(&self, stamp: u32, writer: Writer) -> u32 {
        (stamp ^ self.stamp)
            | (writer.pc ^ self.writer.pc) & self.pc_mask
            | (writer.info ^ self.writer.info) & self.info_mask
    }

    #[inline(always)]
    pub fn matches(&self, stamp: u32, writer: Writer) -> bool {
        self.differs(stamp, writer) == 0
    }

    #[inline(always)]
    fn matches_all<const COUNT: usize>(
        &self,
        stamps: &[u32; COUNT],
        writers: &[Writer; COUNT],
    ) -> bool {
        let mut differs = 0;
        for i in 0..COUNT {
            differs |= self.differs(stamps[i], writers[i]);
        }
        differs == 0
    }
}

/// An access, for checks that do not depend on its lane.
#[derive(Clone, Copy)]
pub(crate) struct WarpAccess {
    pub warp: u32,
    /// The warp's count of synchronisations.
    pub sync: u32,
    /// True for a read, which needs a write before it.
    pub read: bool,
}

/// Returns what passes the check against the last write, if this write passes for every lane.
#[inline]
pub(super) fn passes(
    (stamp, writer): (u32, Writer),
    order: &Order,
    access: WarpAccess,
) -> Option<Passed> {
    let WarpAccess { warp, sync, read } = access;
    if stamp == TRACKED {
        let known = Tracked::of(writer).is_known(order, warp);
        return known.then(|| Passed::by_any_lane(stamp, writer));
    }
    let (time, other) = (stamp >> 5, writer.warp(stamp));
    let passes = if stamp >= BARRIER {
        false
    } else if time < order.start {
        !read
    } else if other == warp {
        time < order.floor || writer.info >> 6 != sync & (u32::MAX >> 6)
    } else {
        order.is_before(warp, other, time)
    };
    passes.then(|| Passed::by_any_lane(stamp, writer))
}

/// The same for an access of the asynchronous proxy, which needs a proxy fence after the write.
#[inline]
pub(super) fn passes_fenced(
    last: (u32, Writer),
    order: &Order,
    access: WarpAccess,
) -> Option<Passed> {
    let passed = passes(last, order, access)?;
    let (stamp, writer) = last;
    let fenced = if stamp == TRACKED {
        let copy = Tracked::of(writer);
        !copy.ordinary || order.phases_fenced(access.warp, copy.slot) > copy.phase
    } else {
        let (time, other) = (stamp >> 5, writer.warp(stamp));
        time < order.start || order.is_fenced(access.warp, other, time)
    };
    fenced.then_some(passed)
}

impl Shadow {
    /// Returns whether `len` units from `unit` on have a last write that has passed.
    #[inline(always)]
    pub(super) fn all_match(&self, unit: usize, len: usize, passed: &Passed) -> bool {
        let (stamps, writers) = (&self.stamps[unit..][..len], &self.writers[unit..][..len]);
        // Constant lengths compile to vector instructions.
        macro_rules! of {
            ($count:literal) => {
                match (stamps.first_chunk::<$count>(), writers.first_chunk()) {
                    (Some(stamps), Some(writers)) => passed.matches_all(stamps, writers),
                    _ => false,
                }
            };
        }
        match len {
            1 => of!(1),
            2 => of!(2),
            4 => of!(4),
            8 => of!(8),
            _ => {
                (stamps.iter().zip(writers)).all(|(&stamp, &writer)| passed.matches(stamp, writer))
            }
        }
    }

    /// Records plain reads of `len` units from each of `units` on. Returns false if one of them
    /// needs the full check: then [`Shadow::read`] must be called unit by unit.
    #[inline(always)]
    pub(super) fn read_clocked(
        &mut self,
        units: impl Iterator<Item = usize>,
        len: usize,
        order: &Order,
        (warp, sync): (u32, u32),
    ) -> bool {
        let Some(own) = order.own(warp) else {
            return false;
        };
        let access = WarpAccess {
            warp,
            sync,
            read: true,
        };
        let base = order.now << 6;
        let (mine, several) = (base | warp & 31, base | SEVERAL);
        let mut passed = Passed::NONE;
        let times = self.time_of(0, own, false, order);
        for first in units {
            if !self.all_match(first, len, &passed) {
                for unit in first..first + len {
                    let (stamp, writer) = (self.stamps[unit], self.writers[unit]);
                    if passed.matches(stamp, writer) {
                        continue;
                    }
                    match passes((stamp, writer), order, access) {
                        Some(next) => passed = next,
                        None => return false,
                    }
                }
            }
            for time in &mut self.read_times[times + first..][..len] {
                *time = order.now;
            }
            for reader in &mut self.readers[first..first + len] {
                let fresh = *reader < base || *reader == mine;
                *reader = if fresh { mine } else { several };
            }
        }
        true
    }

    /// Checks and records a plain write of `len` units from `unit` on. Returns false, without any
    /// effect, if the full check is needed. `pending`: the write starts a copy.
    #[inline(always)]
    pub(super) fn write_clocked(
        &mut self,
        unit: usize,
        len: usize,
        order: &Order,
        actor: &Actor,
        pending: bool,
    ) -> bool {
        let units = unit..unit + len;
        let good = order.flags.is_none() && self.may_write_clocked(units.clone(), order, actor);
        if good {
            let (stamp, info) = if pending {
                (PENDING, actor.copying())
            } else {
                (actor.stamp(order.now), actor.info())
            };
            let pc = actor.place();
            for unit in units {
                self.stamps[unit] = stamp;
                self.writers[unit] = Writer { pc, info };
            }
        }
        good
    }

    /// Returns whether a plain write of the units certainly passes all checks.
    fn may_write_clocked(&self, units: Range<usize>, order: &Order, actor: &Actor) -> bool {
        let access = WarpAccess {
            warp: actor.warp,
            sync: actor.sync,
            read: false,
        };
        let mut passed = Passed::NONE;
        for unit in units.clone() {
            let (stamp, writer) = (self.stamps[unit], self.writers[unit]);
            if passed.matches(stamp, writer) {
                continue;
            }
            match passes((stamp, writer), order, access) {
                Some(next) => passed = next,
                None if self.check_written(unit, order, actor, false).is_ok() => {}
                None => return false,
            }
        }
        self.reads_before(units.clone(), order, actor.warp)
            && self.all_asynchronous_reads_over(units, order, actor.warp)
    }

    /// Returns whether all reads of the units, plain or strong, by other warps are certainly
    /// ordered before a warp's current access.
    pub(super) fn reads_before(&self, units: Range<usize>, order: &Order, warp: u32) -> bool {
        if self.all_unread(units.clone(), order) {
            return true;
        }
        if !order.precise || !self.remote_reads.is_empty() {
            return false;
        }
        let first = order.block * order.block_warps();
        (0..order.block_warps()).all(|own| {
            let other = (first + own) as u32;
            if other == warp {
                return true;
            }
            let limit = order.latest_before(warp, other);
            [false, true].into_iter().all(|strong| {
                let start = self.time_of(units.start, own, strong, order);
                let times = &self.read_times[start..][..units.len()];
                times.iter().fold(0, |latest, &time| latest.max(time)) <= limit
            })
        })
    }
}

#[cfg(test)]
mod tests;
