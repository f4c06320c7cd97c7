//! The order of operations: whether every kernel, copy, fill and free waits for the work on the
//! same bytes that it must not overlap with.
//!
//! What the streams, events, graphs and waits of a program order is known when work is submitted
//! ([`clock`]), so it does not matter in which order the emulator then runs it. What bytes an
//! operation touches is known when it ends ([`footprint`]). Each allocation remembers the
//! operations on it whose order to later ones matters ([`history`]). Whichever of two operations
//! without an order ends second finds the conflict.

mod clock;
mod footprint;
mod history;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use clock::{Done, Site, TaskId};
pub use footprint::{Bytes, Footprint};
pub use report::{Conflict, Operation, Place, What};

use crate::report::Region;
use clock::{Clocks, Stamp};
use history::History;

/// Accesses of an operation to one allocation.
pub struct Access {
    /// The allocation.
    pub region: Region,
    /// True if it is memory of the host, which all devices reach.
    pub is_host: bool,
    /// Touched bytes.
    pub footprint: Footprint,
}

/// Order of operations in a process.
#[derive(Default)]
pub struct Order {
    clocks: Clocks,
    /// By the allocations' first addresses.
    histories: BTreeMap<u64, History>,
    /// Number left at the last tidying.
    kept: usize,
}

/// Fewer histories than this are not worth tidying.
const FEW: usize = 64;

impl Order {
    /// A task was submitted, behind those named.
    pub fn submitted(&mut self, task: TaskId, site: Site, after: &[TaskId]) {
        self.clocks.submit(task, site, after);
    }

    /// A host function begins.
    pub fn host_function_begins(&mut self, task: TaskId) {
        self.clocks.host_function(task);
    }

    /// A host thread has learned that tasks are done.
    pub fn host_knows(&mut self, done: Done) {
        self.clocks.learn(done);
    }

    /// A task has ended and has touched memory. Gives the first conflict with one that it is not
    /// ordered to.
    pub fn ended(
        &mut self,
        task: TaskId,
        operation: Option<Operation>,
        accesses: Vec<Access>,
    ) -> Option<Conflict> {
        let stamp = self.clocks.get(task);
        let conflict = match (stamp, operation) {
            (Some(stamp), Some(operation)) => self.note(&stamp, operation, accesses),
            _ => None,
        };
        self.clocks.end(task);
        self.tidy();
        conflict
    }

    /// The host frees memory without a wait.
    pub fn freed_by_host(&mut self, access: Access) -> Option<Conflict> {
        let operation = Operation {
            what: What::Free,
            place: Place::Host,
            stream: 0,
        };
        let stamp = self.clocks.host();
        self.note(&stamp, operation, vec![access])
    }

    fn note(
        &mut self,
        stamp: &Stamp,
        operation: Operation,
        accesses: Vec<Access>,
    ) -> Option<Conflict> {
        let operation = Arc::new(operation);
        let mut first = None;
        for access in accesses {
            if access.footprint.is_empty() {
                continue;
            }
            let Access {
                region, footprint, ..
            } = access;
            let sequence = region.sequence.unwrap_or(0);
            let history = self.histories.entry(region.base).or_default();
            if history.sequence != sequence {
                // The address belongs to another allocation now.
                *history = History::new(sequence);
            }
            let found = history.add(&self.clocks, &operation, stamp, footprint, &region);
            first = first.or(found);
        }
        first
    }

    /// Forgets allocations of which everything is settled, once there are twice as many as the last
    /// time.
    fn tidy(&mut self) {
        if self.histories.len() <= 2 * self.kept + FEW {
            return;
        }
        let clocks = &self.clocks;
        self.histories.retain(|_, history| !history.tidy(clocks));
        self.kept = self.histories.len();
    }
}

#[cfg(test)]
mod tests;
