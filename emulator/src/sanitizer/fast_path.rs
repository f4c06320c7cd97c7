//! Fast paths of the shadow: accesses that certainly cause no report, many units at a time. Other
//! accesses are checked unit by unit. Those with vector clocks are in
//! [`crate::sanitizer::clock_path`].
use crate::sanitizer::shadow::{Actor, PENDING, SEVERAL, Shadow, Writer};
use crate::sanitizer::vector_clock::Order;

impl Shadow {
    /// Records reads of four-byte units, `COUNT` from each of `units` on. Returns false if one of
    /// them needs the full check: then [`Shadow::read`] must be called unit by unit.
    #[inline(always)]
    pub fn read_fast<const COUNT: usize>(
        &mut self,
        units: impl Iterator<Item = usize>,
        order: &Order,
        warp: u32,
    ) -> bool {
        let start = order.start << 5;
        let safe = (order.floor << 5).wrapping_sub(start);
        let base = order.now << 6;
        let (mine, several) = (base | warp, base | SEVERAL);
        // The maximum over all units decides.
        let mut worst = [0u32; COUNT];
        for unit in units {
            let (Some(stamps), Some(readers)) = (
                self.stamps[unit..].first_chunk::<COUNT>(),
                self.readers[unit..].first_chunk_mut::<COUNT>(),
            ) else {
                return false;
            };
            for i in 0..COUNT {
                worst[i] = worst[i].max(stamps[i].wrapping_sub(start));
            }
            let old = *readers;
            for i in 0..COUNT {
                let fresh = old[i] < base || old[i] == mine;
                readers[i] = if fresh { mine } else { several };
            }
        }
        worst.iter().all(|&w| w < safe)
    }

    /// Returns whether `COUNT` four-byte units from `unit` on may be written without the full
    /// check: since the last barrier no thread wrote them, and no other warp read them.
    #[inline(always)]
    pub fn may_write_fast<const COUNT: usize>(
        &self,
        unit: usize,
        order: &Order,
        warp: u32,
    ) -> bool {
        let (floor, base) = (order.floor << 5, order.now << 6);
        let (Some(stamps), Some(readers)) = (
            self.stamps[unit..].first_chunk::<COUNT>(),
            self.readers[unit..].first_chunk::<COUNT>(),
        ) else {
            return false;
        };
        let mut good = self.last_strong < order.floor;
        for i in 0..COUNT {
            good &= (stamps[i] < floor) & ((readers[i] < base) | (readers[i] == base | warp));
        }
        good
    }

    /// Records writes that [`Shadow::may_write_fast`] has permitted.
    #[inline(always)]
    pub fn write_fast<const COUNT: usize>(&mut self, unit: usize, order: &Order, actor: &Actor) {
        let writer = Writer {
            pc: actor.pc,
            info: actor.info(),
        };
        self.stamps[unit..unit + COUNT].fill(order.now << 5 | actor.warp);
        self.writers[unit..unit + COUNT].fill(writer);
    }

    /// [`Shadow::read_fast`] of `len` units each, for units of any size and also with vector
    /// clocks, by a warp with its count of synchronisations.
    #[inline(always)]
    pub fn read_small(
        &mut self,
        units: impl Iterator<Item = usize>,
        len: usize,
        order: &Order,
        (warp, sync): (u32, u32),
    ) -> bool {
        if order.precise {
            return self.read_clocked(units, len, order, (warp, sync));
        }
        // Constant lengths compile to vector instructions.
        match len {
            1 => return self.read_fast::<1>(units, order, warp),
            2 => return self.read_fast::<2>(units, order, warp),
            4 => return self.read_fast::<4>(units, order, warp),
            8 => return self.read_fast::<8>(units, order, warp),
            _ => {}
        }
        let start = order.start << 5;
        let safe = (order.floor << 5).wrapping_sub(start);
        let base = order.now << 6;
        let (mine, several) = (base | warp, base | SEVERAL);
        let mut worst = 0;
        for unit in units {
            for &stamp in &self.stamps[unit..unit + len] {
                worst = worst.max(stamp.wrapping_sub(start));
            }
            for reader in &mut self.readers[unit..unit + len] {
                let fresh = *reader < base || *reader == mine;
                *reader = if fresh { mine } else { several };
            }
        }
        worst < safe
    }

    /// [`Shadow::may_write_fast`] and [`Shadow::write_fast`] of `len` units, for units of any size
    /// and also with vector clocks. Returns false, without any effect, if the full check is needed.
    /// `pending`: the write starts a copy.
    #[inline(always)]
    pub fn write_small(
        &mut self,
        unit: usize,
        len: usize,
        order: &Order,
        actor: &Actor,
        pending: bool,
    ) -> bool {
        if order.precise {
            return self.write_clocked(unit, len, order, actor, pending);
        }
        match len {
            1 => return self.write_units_fast::<1>(unit, order, actor, pending),
            2 => return self.write_units_fast::<2>(unit, order, actor, pending),
            4 => return self.write_units_fast::<4>(unit, order, actor, pending),
            8 => return self.write_units_fast::<8>(unit, order, actor, pending),
            _ => {}
        }
        let (floor, base) = (order.floor << 5, order.now << 6);
        let (stamps, readers) = (
            &self.stamps[unit..unit + len],
            &self.readers[unit..unit + len],
        );
        let mut good = self.last_strong < order.floor;
        for (&stamp, &reader) in stamps.iter().zip(readers) {
            good &= (stamp < floor) & ((reader < base) | (reader == base | actor.warp));
        }
        if good {
            let (stamp, info) = if pending {
                (PENDING, actor.copying())
            } else {
                (order.now << 5 | actor.warp, actor.info())
            };
            self.stamps[unit..unit + len].fill(stamp);
            self.writers[unit..unit + len].fill(Writer { pc: actor.pc, info });
        }
        good
    }

    /// [`Shadow::write_small`] of `COUNT` units.
    #[inline(always)]
    fn write_units_fast<const COUNT: usize>(
        &mut self,
        unit: usize,
        order: &Order,
        actor: &Actor,
        pending: bool,
    ) -> bool {
        if pending {
            return self.begin_copy_fast::<COUNT>(unit, order, actor);
        }
        let good = self.may_write_fast::<COUNT>(unit, order, actor.warp);
        if good {
            self.write_fast::<COUNT>(unit, order, actor);
        }
        good
    }

    /// [`Shadow::begin_copy`] of `COUNT` four-byte units. Returns false, without any effect, if the
    /// full check is needed.
    #[inline(always)]
    pub fn begin_copy_fast<const COUNT: usize>(
        &mut self,
        unit: usize,
        order: &Order,
        actor: &Actor,
    ) -> bool {
        if !self.may_write_fast::<COUNT>(unit, order, actor.warp) {
            return false;
        }
        let writer = Writer {
            pc: actor.pc,
            info: actor.copying(),
        };
        self.stamps[unit..unit + COUNT].fill(PENDING);
        self.writers[unit..unit + COUNT].fill(writer);
        true
    }
}
