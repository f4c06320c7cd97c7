//! Reductions of the asynchronous proxy in shared memory: `cp.reduce.async.bulk` of several threads
//! and blocks to the same bytes.
//!
//! Each is atomic per element, so that the result does not depend on their order, and a reduction
//! may start while another is in flight. Otherwise a reduction is checked like a copy that reads
//! its destination. Of several reductions in flight the shadow stores the latest. If different
//! barriers complete them, a wait for the latest one's barrier is sufficient.
//!
//! A limitation of the shadow: a reduction that starts while another is in flight is not checked
//! against the writes before that one, since their stamps are overwritten.
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::fences::Fences;
use crate::sanitizer::shadow::{Actor, Conflict, Shadow, TRACKED};
use crate::sanitizer::vector_clock::Order;
use std::ops::Range;

impl Shadow {
    /// Starts a reduction of units by the asynchronous proxy. `reduces`: returns whether the
    /// instruction at a program counter is a reduction. Returns the faulty unit, if there is one.
    pub fn begin_reduction(
        &mut self,
        units: Range<usize>,
        order: &Order,
        actor: &Actor,
        (fences, reduces): (&Fences, &dyn Fn(u32) -> bool),
        copy: Tracked,
    ) -> Result<(), (usize, Conflict)> {
        for unit in units.clone() {
            let conflict = |conflict| (unit, conflict);
            let stamp = self.stamps[unit];
            let under_way = (stamp == TRACKED).then(|| Tracked::of(self.writers[unit]));
            if !under_way.is_some_and(|copy| !copy.ordinary && reduces(copy.pc)) {
                self.check_written(unit, order, actor, true)
                    .map_err(conflict)?;
                // A fence must cover its operands in shared memory, also those written by a
                // `cp.async`.
                self.check_fence(unit, order, fences, actor.warp, Some(actor.lane))
                    .map_err(conflict)?;
            }
            for strong in [false, true] {
                self.check_readers(unit, order, actor, strong)
                    .map_err(conflict)?;
            }
            self.check_asynchronous_readers(unit, order, actor.warp)
                .map_err(conflict)?;
        }
        self.track(units, copy);
        Ok(())
    }
}
