//! Order: the accesses of other warps that a warp may rely on.
//!
//! A block has a clock that advances at its barriers. Where only barriers of the whole block are
//! used, everything before the latest one ([`Order::floor`]) is ordered before everything after it,
//! and that is all there is to know. Kernels with named barriers for some of the warps, or with
//! barriers in shared memory ([`Order::precise`]), keep a vector clock for each warp: the time up
//! to which it may rely on each other warp. The clock has further columns: one for each barrier in
//! shared memory (how many of its phases the warp knows to be complete) and one for each reader of
//! the asynchronous proxy (the time of its latest read that the warp knows to be over). The columns
//! of warps and of barriers are there twice: the second time they say what is behind a fence
//! between the proxies too, see [`crate::sanitizer::async_proxy::Fences`]. What one warp knows,
//! others learn at the barriers where they meet it, and from flags between fences
//! ([`crate::sanitizer::release_acquire`]).
//!
//! The blocks of a cluster share one clock. Warps are counted over all of them, while barriers in
//! shared memory and asynchronous readers are those of [`Order::block`], the block whose shared
//! memory is looked at. Two more kinds of columns are for what a cluster barrier without memory
//! ordering still tells: which blocks run, and which barriers a `fence.mbarrier_init` has
//! published.

use crate::sanitizer::release_acquire::Flags;

/// The clock of a block and what its warps know of each other.
pub(crate) struct Order {
    /// The time now. It goes on from block to block, so that shadows need not be cleared.
    pub now: u32,
    /// The time at which the block began.
    pub start: u32,
    /// The time of the latest barrier of the whole block.
    pub floor: u32,
    /// True if vector clocks are kept.
    pub precise: bool,
    /// The block of the cluster whose shared memory is looked at.
    pub block: usize,
    /// Blocks of the cluster.
    pub blocks: usize,
    /// True if there are columns for cluster barriers.
    cluster: bool,
    /// Warps of all blocks.
    warps: usize,
    /// Columns of each warp's clock.
    columns: usize,
    known: Vec<u32>,
    /// Accesses that fences have recorded, if they order anything.
    pub(super) flags: Option<Box<Flags>>,
}

/// Barriers in shared memory that a block may have.
pub(crate) const SLOTS: usize = 128;
/// Asynchronous readers: 8 warpgroups by their matrix products, 32 warps by their bulk copies.
const READERS: usize = 40;

/// Times above this would not fit the shadow's stamps. A block has at least half of them to itself.
const LAST_TIME: u32 = (1 << 26) - 4;

/// Warps of a block that may still arrive when the clock is found to be at its end.
const RESERVE: u32 = 64;

impl Order {
    /// For `blocks` blocks of `warps` warps.
    pub fn new(warps: usize, blocks: usize, precise: bool) -> Order {
        let warps = warps * blocks;
        let columns = warps + (SLOTS + READERS) * blocks + warps + SLOTS * blocks;
        let known = if precise {
            vec![0; warps * columns]
        } else {
            Vec::new()
        };
        Order {
            now: 0,
            start: 0,
            floor: 0,
            precise,
            block: 0,
            blocks,
            cluster: false,
            warps,
            columns,
            known,
            flags: None,
        }
    }

    /// Fences and flags order accesses, too; only with vector clocks.
    pub fn watch_flags(&mut self) {
        self.flags = Some(Box::new(Flags::new(self.warps, self.columns)));
    }

    /// The columns for cluster barriers are kept, too; only with vector clocks.
    pub fn watch_cluster(&mut self) {
        self.cluster = true;
        self.columns += self.warps + self.blocks;
        self.known = vec![0; self.warps * self.columns];
    }

    /// Begins a block, or the blocks of a cluster. Whether the clock has started again, so that
    /// shadows must be cleared.
    pub fn begin_block(&mut self) -> bool {
        let again = self.now > LAST_TIME / 2;
        self.now = if again { 1 } else { self.now + 1 };
        self.start = self.now;
        self.floor = self.now;
        self.known.fill(0);
        if self.cluster {
            for warp in 0..self.warps {
                let runs = self.runs_column(warp / self.block_warps());
                self.known[warp * self.columns + runs] = 1;
            }
        }
        if let Some(flags) = &mut self.flags {
            flags.clear();
        }
        again
    }

    /// Returns whether the block has used up the times that there are; it can have no further
    /// barriers then.
    #[inline]
    pub fn is_exhausted(&self) -> bool {
        self.now > LAST_TIME - RESERVE
    }

    /// All warps have met.
    pub fn full_barrier(&mut self) {
        self.now = (self.now + 1).min(LAST_TIME);
        self.floor = self.now;
        if !self.precise {
            return;
        }
        for column in self.warps..self.columns {
            let all = (0..self.warps).map(|warp| self.known[warp * self.columns + column]);
            let most = all.max().unwrap_or(0);
            for warp in 0..self.warps {
                self.known[warp * self.columns + column] = most;
            }
        }
    }

    /// A warp arrives at a barrier of some warps; gives the time of its arrival.
    pub fn arrive(&mut self) -> u32 {
        let time = self.now;
        self.now = (self.now + 1).min(LAST_TIME);
        time
    }

    /// The barrier is complete: `waiting` learn what all of `arrived` (warp, time of arrival) knew.
    pub fn join(&mut self, arrived: &[(usize, u32)], waiting: &[usize]) {
        if !self.precise {
            return;
        }
        let mut together = Vec::new();
        for &(warp, time) in arrived {
            self.gather(&mut together, warp, time);
        }
        for &warp in waiting {
            self.learn(warp, &together);
        }
    }

    /// Adds what a warp knows to what a barrier hands on; `time` is that of its arrival.
    pub fn gather(&self, together: &mut Vec<u32>, warp: usize, time: u32) {
        together.resize(self.columns, 0);
        let row = &self.known[warp * self.columns..(warp + 1) * self.columns];
        for (all, &known) in together.iter_mut().zip(row) {
            *all = (*all).max(known);
        }
        together[warp] = together[warp].max(time);
    }

    /// A warp learns what a barrier hands on.
    pub fn learn(&mut self, warp: usize, together: &[u32]) {
        let row = &mut self.known[warp * self.columns..(warp + 1) * self.columns];
        for (mine, &known) in row.iter_mut().zip(together) {
            *mine = (*mine).max(known);
        }
    }

    /// A warp learns that `phases` phases of a barrier in shared memory are complete.
    pub fn learn_phase(&mut self, warp: usize, slot: usize, phases: u32) {
        let at = warp * self.columns + self.slot_column(slot);
        let mine = &mut self.known[at];
        *mine = (*mine).max(phases);
    }

    /// Number of phases of a barrier in shared memory that are complete for a warp.
    #[inline]
    pub fn phases(&self, warp: usize, slot: usize) -> u32 {
        self.known[warp * self.columns + self.slot_column(slot)]
    }

    /// A warp learns that what a reader began up to `time` is over.
    pub fn learn_read(&mut self, warp: usize, reader: usize, time: u32) {
        let at = warp * self.columns + self.reader_column(self.block, reader);
        let mine = &mut self.known[at];
        *mine = (*mine).max(time);
    }

    /// Up to which time a warp knows a reader's reads to be over.
    #[inline]
    pub fn reads_over(&self, warp: usize, reader: usize) -> u32 {
        self.known[warp * self.columns + self.reader_column(self.block, reader)]
    }

    /// The column of a barrier in the shared memory of [`Order::block`].
    pub fn slot_column(&self, slot: usize) -> usize {
        self.warps + self.block * SLOTS + slot
    }

    fn reader_column(&self, block: usize, reader: usize) -> usize {
        self.warps + self.blocks * SLOTS + block * READERS + reader
    }

    /// Adds to what a barrier hands on that a reader's reads of a block's memory up to `time` are
    /// over.
    pub fn gather_read(&self, together: &mut Vec<u32>, block: usize, reader: usize, time: u32) {
        together.resize(self.columns, 0);
        let over = &mut together[self.reader_column(block, reader)];
        *over = (*over).max(time);
    }

    fn runs_column(&self, block: usize) -> usize {
        self.columns - self.blocks + block
    }

    /// Returns whether there is a cluster barrier, or several blocks.
    pub fn meets(&self) -> bool {
        self.cluster
    }

    /// Returns whether a warp knows that a block of the cluster runs.
    pub fn knows_running(&self, warp: u32, block: usize) -> bool {
        !self.cluster || self.known[warp as usize * self.columns + self.runs_column(block)] != 0
    }

    /// A warp learns that all blocks of the cluster run.
    pub fn learn_running(&mut self, warp: usize) {
        if self.cluster {
            let first = warp * self.columns + self.runs_column(0);
            self.known[first..first + self.blocks].fill(1);
        }
    }

    fn init_column(&self, warp: usize) -> usize {
        self.columns - self.blocks - self.warps + warp
    }

    /// Adds to what a barrier hands on that the barriers which a warp initialised up to `time` are
    /// to be seen.
    pub fn gather_init(&self, together: &mut Vec<u32>, warp: usize, time: u32) {
        if self.cluster {
            together.resize(self.columns, 0);
            let seen = &mut together[self.init_column(warp)];
            *seen = (*seen).max(time);
        }
    }

    /// Returns whether a fence for initialisations that `other` executed at `time` is ordered
    /// before what `me` does now.
    pub fn sees_init(&self, me: u32, other: u32, time: u32) -> bool {
        self.cluster
            && time <= self.known[me as usize * self.columns + self.init_column(other as usize)]
    }

    /// Start of the columns of fenced accesses.
    fn fenced(&self) -> usize {
        self.warps + (SLOTS + READERS) * self.blocks
    }

    /// Vector clock of a warp, as columns of warps and of barriers: the warps' own times up to
    /// `time`.
    pub fn knowledge(&self, warp: usize, time: u32) -> Vec<u32> {
        if !self.precise {
            return Vec::new();
        }
        let start = warp * self.columns;
        let mut row = self.known[start..start + self.warps + SLOTS * self.blocks].to_vec();
        for known in &mut row[..self.warps] {
            *known = (*known).max(self.floor.saturating_sub(1));
        }
        row[warp] = row[warp].max(time);
        row
    }

    /// All of what a warp knows at `time` is now behind a fence between the proxies that its
    /// threads have executed.
    pub fn fence_proxies(&mut self, warp: usize, time: u32) {
        let row = self.knowledge(warp, time);
        let start = warp * self.columns + self.fenced();
        for (fenced, &known) in self.known[start..].iter_mut().zip(&row) {
            *fenced = (*fenced).max(known);
        }
    }

    /// Returns whether a fence between the proxies lies on a path from what `other` did at `time`
    /// to what `me` does now.
    pub fn is_fenced(&self, me: u32, other: u32, time: u32) -> bool {
        let column = self.fenced() + other as usize;
        self.precise && time <= self.known[me as usize * self.columns + column]
    }

    /// Up to how many phases of a barrier in shared memory such a fence lies behind their
    /// completion.
    pub fn phases_fenced(&self, me: u32, slot: usize) -> u32 {
        if !self.precise {
            return 0;
        }
        self.known[me as usize * self.columns + self.fenced() + self.slot_column(slot)]
    }

    /// Returns whether what `other` did at `time` is ordered before what `me` does now.
    #[inline]
    pub fn is_before(&self, me: u32, other: u32, time: u32) -> bool {
        time < self.floor
            || (self.precise && time <= self.known[me as usize * self.columns + other as usize])
    }

    /// Warps of a block.
    pub fn block_warps(&self) -> usize {
        self.warps / self.blocks
    }

    /// The number in [`Order::block`] of a warp, if it is one of it.
    pub fn own(&self, warp: u32) -> Option<usize> {
        if self.blocks == 1 {
            return Some(warp as usize);
        }
        let first = self.block * self.block_warps();
        (warp as usize)
            .checked_sub(first)
            .filter(|&own| own < self.block_warps())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_says_when_it_is_at_its_end() {
        let mut order = Order::new(2, 1, false);
        order.now = LAST_TIME / 2;
        assert!(!order.begin_block());
        assert!(!order.is_exhausted());
        order.now = LAST_TIME - RESERVE;
        order.full_barrier();
        assert!(order.is_exhausted());
        // The next block begins anew.
        assert!(order.begin_block());
        assert!(!order.is_exhausted());
    }
}
