//! Workspaces of plans, and their layout.

use super::Plan;
use crate::kernels::{FilterRows, Operation, WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
#[cfg(doc)]
use crate::problem::Branches;
use crate::problem::Conv2d;

/// Layout of a plan's workspace, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkspaceParts {
    /// The packed filters, behind the counters.
    pub filter: u64,
    /// Partial tiles, behind the packed filters.
    pub partials: u64,
}

impl<P: Operation> Plan<P> {
    /// Returns whether a launch packs the filters first, by a kernel of its own. To pack once
    /// instead of every time, see [`FilterLayout::Packed`](crate::problem::FilterLayout::Packed).
    pub fn packs_filter(&self) -> bool {
        self.grid() > 0 && self.problem().packs_filter(self.kernel())
    }

    /// Split-K: blocks per output tile; 1 if each block has tiles of its own. Of [`Branches`] that
    /// of the product with the longest gemm_k. The other products take as much as keeps their
    /// partial sums no longer.
    pub fn split_k(&self) -> u32 {
        self.score().split_k
    }

    /// Kernels that a launch runs: 0 if there is nothing to compute, 2 if it packs the filters.
    pub fn launches(&self) -> u32 {
        u32::from(self.grid() > 0) + u32::from(self.packs_filter())
    }

    /// Bytes of the [`Workspace`](crate::launch::Workspace) that a launch needs; 0 if it needs
    /// none.
    pub fn workspace_bytes(&self) -> u64 {
        self.score().workspace
    }
}

impl Plan<Conv2d> {
    /// Layout of the workspace, as [`Plan::workspace_bytes`] counts it.
    pub(crate) fn workspace_parts(&self) -> WorkspaceParts {
        let packed = match self.packs_filter() {
            true => FilterRows::of(self.problem(), self.kernel()).bytes(self.problem()),
            false => 0,
        };
        WorkspaceParts {
            filter: WORKSPACE_COUNTERS,
            partials: (WORKSPACE_COUNTERS + packed).next_multiple_of(WORKSPACE_ALIGNMENT),
        }
    }
}
