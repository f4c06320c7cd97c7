//! Registers that `setmaxnreg` moves between warps.
use crate::ir::Kernel;
use crate::report::AsyncFault;

/// Registers of a multiprocessor.
pub(crate) const ALL: u32 = 1 << 16;

/// The fewest registers that `setmaxnreg` gives a thread.
pub(crate) const LEAST: u64 = 24;

/// Requests that a warp may be ahead of another of its warpgroup. The language wants them to meet
/// between two.
pub(crate) const AHEAD: usize = 1024;

/// Register counts of warps.
#[derive(Default)]
pub(crate) struct Registers {
    /// Registers a thread at the start.
    pub first: u32,
    /// Registers a thread of each warp.
    pub current: Vec<u32>,
    /// Registers of a warp's thread that nobody has.
    pub free: u32,
    /// Register counts that each warp has requested, in order, without those that all warps of its
    /// warpgroup requested.
    pub history: Vec<Vec<u32>>,
    /// True if each warp has asked for any.
    pub asked: Vec<bool>,
}

impl Registers {
    pub fn new(kernel: &Kernel, threads: u32) -> Registers {
        let warps = threads.div_ceil(32);
        let share = |blocks: u64| u64::from(ALL) / (u64::from(warps.max(1)) * 32 * blocks);
        // The language ignores `.minnctapersm` where so many blocks do not fit a multiprocessor.
        let blocks = u64::from(kernel.min_blocks.unwrap_or(1).max(1));
        let share = match share(blocks) {
            few if few < LEAST => share(1),
            enough => enough,
        };
        let first = kernel
            .max_registers
            .map_or(share / 8 * 8, u64::from)
            .min(255) as u32;
        Registers {
            first,
            current: vec![first; warps as usize],
            free: 0,
            history: vec![Vec::new(); warps as usize],
            asked: vec![false; warps as usize],
        }
    }

    pub fn clear(&mut self) {
        self.current.fill(self.first);
        self.free = 0;
        self.history.iter_mut().for_each(Vec::clear);
        self.asked.fill(false);
    }

    /// Notes what a warp was given, and forgets what all of its warpgroup have. Whether it is not
    /// too far ahead.
    pub fn note(&mut self, warp: usize, count: u32) -> bool {
        self.current[warp] = count;
        self.asked[warp] = true;
        self.history[warp].push(count);
        if self.history[warp].len() <= AHEAD {
            return true;
        }
        let first = warp / 4 * 4;
        let last = (first + 4).min(self.history.len());
        let group = &mut self.history[first..last];
        let common = group.iter().map(Vec::len).min().unwrap_or(0);
        for history in group {
            history.drain(..common);
        }
        common > 0
    }

    /// The first warp whose requests differ in number from another's of its warpgroup.
    pub fn incomplete(&self) -> Option<(usize, AsyncFault)> {
        let ask = |warp: usize, n: usize| self.history[warp].get(n).copied();
        for warp in 0..self.history.len() {
            let first = warp / 4 * 4;
            let (mine, theirs) = (self.history[warp].len(), self.history[first].len());
            if mine != theirs {
                let n = mine.min(theirs);
                let (count, other) = (ask(warp, n), ask(first, n));
                return Some((warp, AsyncFault::RegistersDiffer { count, other }));
            }
        }
        None
    }
}
