//! Last operations on an allocation.

use std::sync::Arc;

use super::clock::{Clocks, Stamp};
use super::footprint::Footprint;
use super::report::{Conflict, Operation, Place, What};
use crate::report::Region;

/// Maximum number of stored operations per allocation. Of more operations on different bytes
/// without a final order, the oldest are dropped.
const REMEMBERED: usize = 1024;

/// Accesses of an operation to an allocation.
struct Record {
    operation: Arc<Operation>,
    stamp: Stamp,
    footprint: Footprint,
}

/// The operations on an allocation whose order with later ones is relevant.
#[derive(Default)]
pub(super) struct History {
    records: Vec<Record>,
    /// Sequence number, which distinguishes allocations at the same address.
    pub sequence: u64,
}

impl History {
    pub fn new(sequence: u64) -> History {
        History {
            records: Vec::new(),
            sequence,
        }
    }

    /// Adds an operation; returns the first earlier one with which it conflicts without order.
    pub fn add(
        &mut self,
        clocks: &Clocks,
        operation: &Arc<Operation>,
        stamp: &Stamp,
        footprint: Footprint,
        region: &Region,
    ) -> Option<Conflict> {
        let bytes = region.bytes;
        let mut conflict = None;
        self.records.retain(|record| {
            if record.stamp.task == stamp.task || clocks.are_ordered(&record.stamp, stamp) {
                let replaced = record.stamp.task <= stamp.task
                    && footprint.stands_for(&record.footprint, bytes);
                return !replaced && !clocks.is_settled(&record.stamp);
            }
            if operation.place == Place::Host && record.operation.what == What::Allocation {
                // "Callers must ensure that all accesses to these pointer have completed before
                // invoking cuMemFree": an allocation is not such an access.
                return true;
            }
            let found = footprint.conflict(&record.footprint, bytes);
            if conflict.is_none()
                && let Some((common, mine, theirs)) = found
            {
                let me = (stamp.task, operation, mine);
                let other = (record.stamp.task, &record.operation, theirs);
                conflict = Some(Conflict::new(me, other, region.clone(), common));
            }
            true
        });
        if self.records.len() >= REMEMBERED {
            self.records.remove(0);
        }
        self.records.push(Record {
            operation: operation.clone(),
            stamp: stamp.clone(),
            footprint,
        });
        conflict
    }

    /// Drops operations that are no longer relevant; returns whether none is left.
    pub fn tidy(&mut self, clocks: &Clocks) -> bool {
        self.records
            .retain(|record| !clocks.is_settled(&record.stamp));
        self.records.is_empty()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.records.len()
    }
}
