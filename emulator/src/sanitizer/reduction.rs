//! Reductions of the asynchronous proxy in shared memory: `cp.reduce.async.bulk` of several threads
//! and blocks to the same bytes.
//!
//! Each is atomic by element, so that the result does not depend on the order of two, and the
//! second one may begin while the first is under way. In all else a reduction is checked as a copy
//! that reads what it writes. Of several that are under way the shadow keeps the latest: where they
//! are completed by different barriers, a wait for that one's is enough.
//!
//! What the shadow cannot see: a reduction that begins while another is under way is not held
//! against the writes before that one, since their stamps are gone.
use crate::sanitizer::async_proxy::{Fences, Tracked};
use crate::sanitizer::shadow::{Actor, Conflict, Shadow, TRACKED};
use crate::sanitizer::vector_clock::Order;
use std::ops::Range;

impl Shadow {
    /// A reduction of the asynchronous proxy changes units. `reduces`: whether the instruction at a
    /// place is one. The unit at fault, if there is one.
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
                // What it reads has to be behind a fence, also where a `cp.async` wrote it.
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
