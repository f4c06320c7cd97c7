//! Vector clocks: the accesses of other warps that are ordered before a warp's current access.
//!
//! A block has a clock that advances at its barriers. If only barriers of the whole block are used,
//! everything before the latest one ([`Order::floor`]) is ordered before everything after it, and
//! no more state is needed. Kernels with named barriers for some of the warps, or with mbarrier
//! objects ([`Order::precise`]), have a vector clock per warp: the time up to which each other
//! warp's accesses are ordered before it. The clock has further columns. There is one per mbarrier
//! object, with the number of its phases whose completion the warp has acquired. There is one per
//! reader of the asynchronous proxy, with the time of its latest read that has ended for the warp.
//! The columns of warps and of barriers exist twice: the second set contains the times that a proxy
//! fence covers too, see [`crate::sanitizer::fences::Fences`]. A warp acquires the clocks of
//! other warps at common barriers, and through flags between fences
//! ([`crate::sanitizer::release_acquire`]).
//!
//! The blocks of a cluster share one clock. Warps are counted over all of them, while mbarrier
//! objects and asynchronous readers are those of [`Order::block`], the block whose shared memory is
//! accessed. Two more kinds of columns are for information that a cluster barrier without memory
//! ordering still provides: the blocks that run, and the barriers that a `fence.mbarrier_init` has
//! published.

use crate::sanitizer::release_acquire::Flags;

/// The clock of a block, and the vector clocks of its warps.
pub(crate) struct Order {
    /// The current time. It continues from block to block, so that shadows need not be cleared.
    pub now: u32,
    /// The time at which the block started.
    pub start: u32,
    /// The time of the latest barrier of the whole block.
    pub floor: u32,
    /// True if there are vector clocks.
    pub precise: bool,
    /// The block of the cluster whose shared memory is accessed.
    pub block: usize,
    /// Number of blocks in the cluster.
    pub blocks: usize,
    /// True if there are columns for cluster barriers.
    cluster: bool,
    /// Number of warps in all blocks.
    warps: usize,
    /// Number of columns in each warp's clock.
    columns: usize,
    known: Vec<u32>,
    /// Clocks of fences and flags, if the kernel synchronises through them.
    pub(super) flags: Option<Box<Flags>>,
}

/// Maximum number of mbarrier objects per block.
pub(crate) const SLOTS: usize = 128;
/// Number of asynchronous readers: 8 warpgroups (matrix products) and 32 warps (bulk copies).
const READERS: usize = 40;

/// The latest time that fits the shadow's stamps. A block has at least half of the times for
/// itself.
const LAST_TIME: u32 = (1 << 26) - 4;

/// Maximum number of warps that may still arrive after the clock has reached its end.
const RESERVE: u32 = 64;

impl Order {
    /// Clocks for `blocks` blocks of `warps` warps.
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

    /// Enables ordering by fences and flags; only with vector clocks.
    pub fn watch_flags(&mut self) {
        self.flags = Some(Box::new(Flags::new(self.warps, self.columns)));
    }

    /// Enables the columns for cluster barriers; only with vector clocks.
    pub fn watch_cluster(&mut self) {
        self.cluster = true;
        self.columns += self.warps + self.blocks;
        self.known = vec![0; self.warps * self.columns];
    }

    /// Starts a block, or the blocks of a cluster. Returns whether the clock has restarted, so that
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

    /// Returns whether the block has used up its times, so that it can have no further barriers.
    #[inline]
    pub fn is_exhausted(&self) -> bool {
        self.now > LAST_TIME - RESERVE
    }

    /// Records a barrier of all warps.
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

    /// Records the arrival of a warp at a barrier of some warps; returns its time.
    pub fn arrive(&mut self) -> u32 {
        let time = self.now;
        self.now = (self.now + 1).min(LAST_TIME);
        time
    }

    /// Completes a barrier: the `waiting` warps acquire the clocks of all `arrived` ones (warp,
    /// time of arrival).
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

    /// Adds a warp's clock to the one that a barrier releases; `time` is that of its arrival.
    pub fn gather(&self, together: &mut Vec<u32>, warp: usize, time: u32) {
        together.resize(self.columns, 0);
        let row = &self.known[warp * self.columns..(warp + 1) * self.columns];
        for (all, &known) in together.iter_mut().zip(row) {
            *all = (*all).max(known);
        }
        together[warp] = together[warp].max(time);
    }

    /// Makes a warp acquire the clock that a barrier releases.
    pub fn learn(&mut self, warp: usize, together: &[u32]) {
        let row = &mut self.known[warp * self.columns..(warp + 1) * self.columns];
        for (mine, &known) in row.iter_mut().zip(together) {
            *mine = (*mine).max(known);
        }
    }

    /// Makes a warp acquire the completion of `phases` phases of an mbarrier object.
    pub fn learn_phase(&mut self, warp: usize, slot: usize, phases: u32) {
        let at = warp * self.columns + self.slot_column(slot);
        let mine = &mut self.known[at];
        *mine = (*mine).max(phases);
    }

    /// Number of phases of an mbarrier object whose completion a warp has acquired.
    #[inline]
    pub fn phases(&self, warp: usize, slot: usize) -> u32 {
        self.known[warp * self.columns + self.slot_column(slot)]
    }

    /// Makes a warp acquire the end of a reader's reads that started up to `time`.
    pub fn learn_read(&mut self, warp: usize, reader: usize, time: u32) {
        let at = warp * self.columns + self.reader_column(self.block, reader);
        let mine = &mut self.known[at];
        *mine = (*mine).max(time);
    }

    /// The time up to which a reader's reads have ended for a warp.
    #[inline]
    pub fn reads_over(&self, warp: usize, reader: usize) -> u32 {
        self.known[warp * self.columns + self.reader_column(self.block, reader)]
    }

    /// The column of an mbarrier object in the shared memory of [`Order::block`].
    pub fn slot_column(&self, slot: usize) -> usize {
        self.warps + self.block * SLOTS + slot
    }

    fn reader_column(&self, block: usize, reader: usize) -> usize {
        self.warps + self.blocks * SLOTS + block * READERS + reader
    }

    /// Adds the end of a reader's reads of a block's memory up to `time` to the clock that a
    /// barrier releases.
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

    /// Returns whether a block of the cluster certainly runs, as ordered for a warp.
    pub fn knows_running(&self, warp: u32, block: usize) -> bool {
        !self.cluster || self.known[warp as usize * self.columns + self.runs_column(block)] != 0
    }

    /// Makes a warp acquire that all blocks of the cluster run.
    pub fn learn_running(&mut self, warp: usize) {
        if self.cluster {
            let first = warp * self.columns + self.runs_column(0);
            self.known[first..first + self.blocks].fill(1);
        }
    }

    fn init_column(&self, warp: usize) -> usize {
        self.columns - self.blocks - self.warps + warp
    }

    /// Adds the initialisations of barriers by a warp up to `time` to the clock that a barrier
    /// releases.
    pub fn gather_init(&self, together: &mut Vec<u32>, warp: usize, time: u32) {
        if self.cluster {
            together.resize(self.columns, 0);
            let seen = &mut together[self.init_column(warp)];
            *seen = (*seen).max(time);
        }
    }

    /// Returns whether a fence of initialisations that `other` executed at `time` is ordered before
    /// the current access of `me`.
    pub fn sees_init(&self, me: u32, other: u32, time: u32) -> bool {
        self.cluster
            && time <= self.known[me as usize * self.columns + self.init_column(other as usize)]
    }

    /// Start of the columns of fenced accesses.
    fn fenced(&self) -> usize {
        self.warps + (SLOTS + READERS) * self.blocks
    }

    /// Vector clock of a warp, as columns of warps and of barriers, with `time` as the warp's own
    /// time.
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

    /// Marks everything that is ordered before a warp at `time` as covered by a proxy fence of its
    /// threads.
    pub fn fence_proxies(&mut self, warp: usize, time: u32) {
        let row = self.knowledge(warp, time);
        let start = warp * self.columns + self.fenced();
        for (fenced, &known) in self.known[start..].iter_mut().zip(&row) {
            *fenced = (*fenced).max(known);
        }
    }

    /// Returns whether a proxy fence lies on a path from an access of `other` at `time` to the
    /// current access of `me`.
    pub fn is_fenced(&self, me: u32, other: u32, time: u32) -> bool {
        let column = self.fenced() + other as usize;
        self.precise && time <= self.known[me as usize * self.columns + column]
    }

    /// Number of phases of an mbarrier object whose completion such a fence covers.
    pub fn phases_fenced(&self, me: u32, slot: usize) -> u32 {
        if !self.precise {
            return 0;
        }
        self.known[me as usize * self.columns + self.fenced() + self.slot_column(slot)]
    }

    /// Returns whether an access of `other` at `time` is ordered before the current access of `me`.
    #[inline]
    pub fn is_before(&self, me: u32, other: u32, time: u32) -> bool {
        time < self.floor
            || (self.precise && time <= self.known[me as usize * self.columns + other as usize])
    }

    /// The latest time of accesses of `other` that are ordered before the current access of `me`.
    #[inline]
    pub fn latest_before(&self, me: u32, other: u32) -> u32 {
        let full = self.floor.saturating_sub(1);
        if self.precise {
            full.max(self.known[me as usize * self.columns + other as usize])
        } else {
            full
        }
    }

    /// Number of warps in a block.
    pub fn block_warps(&self) -> usize {
        self.warps / self.blocks
    }

    /// The index of a warp in [`Order::block`], if it belongs to that block.
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
        // The next block restarts the clock.
        assert!(order.begin_block());
        assert!(!order.is_exhausted());
    }
}
