//! Last operations on an allocation.

use std::sync::Arc;

use super::clock::{Clocks, Stamp};
use super::footprint::Footprint;
use super::report::{Conflict, Operation, Place, What};
use crate::report::Region;

/// Operations that are remembered of an allocation. With more that differ in their bytes and that
/// nothing orders for good, the oldest are forgotten.
const REMEMBERED: usize = 1024;

/// Accesses of an operation to an allocation.
struct Record {
    operation: Arc<Operation>,
    stamp: Stamp,
    footprint: Footprint,
}

/// The operations on an allocation whose order to later ones matters.
#[derive(Default)]
pub(super) struct History {
    records: Vec<Record>,
    /// Tells allocations apart that have had the same address.
    pub sequence: u64,
}

impl History {
    pub fn new(sequence: u64) -> History {
        History {
            records: Vec::new(),
            sequence,
        }
    }

    /// Notes an operation; the first earlier one that it conflicts with, if nothing orders them.
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
                // invoking cuMemFree": an allocation is none.
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

    /// Returns whether there is nothing left to know; forgets what no longer matters.
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
