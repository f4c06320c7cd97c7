//! The stream order checker: detects kernels, copies, fills and frees that do not wait for
//! conflicting work on the same bytes.
//!
//! The order defined by a program's streams, events, graphs and waits is known when work is
//! submitted ([`clock`]). So it does not depend on the order in which the emulator runs it. The
//! bytes that an operation accesses are known when it ends ([`footprint`]). Each allocation stores
//! the operations whose order with later ones is relevant ([`history`]). Of two operations without
//! an order, the one that ends second detects the conflict.

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
    /// The allocation that is accessed.
    pub region: Region,
    /// True for host memory, which all devices can access.
    pub is_host: bool,
    /// The bytes that are accessed.
    pub footprint: Footprint,
}

/// State of the stream order checker of a process.
#[derive(Default)]
pub struct Order {
    clocks: Clocks,
    /// Histories, by the allocations' first addresses.
    histories: BTreeMap<u64, History>,
    /// Number of histories after the last cleanup.
    kept: usize,
}

/// Number of histories below which cleanup does not pay off.
const FEW: usize = 64;

impl Order {
    /// Records that a task was submitted, after the given tasks.
    pub fn submitted(&mut self, task: TaskId, site: Site, after: &[TaskId]) {
        self.clocks.submit(task, site, after);
    }

    /// Records that a host function starts.
    pub fn host_function_begins(&mut self, task: TaskId) {
        self.clocks.host_function(task);
    }

    /// Records that a host thread has synchronised with tasks.
    pub fn host_knows(&mut self, done: Done) {
        self.clocks.learn(done);
    }

    /// Records the accesses of a task that has ended. Returns the first conflict with a task
    /// without order.
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

    /// Records that the host frees memory without waiting.
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
                // The address now belongs to another allocation.
                *history = History::new(sequence);
            }
            let found = history.add(&self.clocks, &operation, stamp, footprint, &region);
            first = first.or(found);
        }
        first
    }

    /// Removes histories in which everything is settled, once their number has doubled since the
    /// last cleanup.
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
