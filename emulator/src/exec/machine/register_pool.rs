//! Registers that `setmaxnreg` moves between warps.
use crate::ir::Kernel;
use crate::report::AsyncFault;

/// Number of registers per SM.
pub(crate) const ALL: u32 = 1 << 16;

/// The fewest registers per thread for `setmaxnreg`.
pub(crate) const LEAST: u64 = 24;

/// Maximum number of requests that a warp may be ahead of another warp of its warpgroup. PTX
/// requires them to synchronise between two requests.
pub(crate) const AHEAD: usize = 1024;

/// Register counts of warps.
#[derive(Default)]
pub(crate) struct Registers {
    /// Registers per thread at the start.
    pub first: u32,
    /// Registers per thread of each warp.
    pub current: Vec<u32>,
    /// Free registers, per thread of a warp.
    pub free: u32,
    /// Register counts that each warp has requested, in order, without those that all warps of its
    /// warpgroup requested.
    pub history: Vec<Vec<u32>>,
    /// Per warp: true after its first request.
    pub asked: Vec<bool>,
}

impl Registers {
    pub fn new(kernel: &Kernel, threads: u32) -> Registers {
        let warps = threads.div_ceil(32);
        let share = |blocks: u64| u64::from(ALL) / (u64::from(warps.max(1)) * 32 * blocks);
        // `.minnctapersm` is ignored if that many blocks do not fit on an SM.
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

    /// Records a warp's request, and drops requests that all warps of its warpgroup have made.
    /// Returns false if the warp is too far ahead.
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

    /// The first warp whose number of requests differs from another's of its warpgroup.
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
