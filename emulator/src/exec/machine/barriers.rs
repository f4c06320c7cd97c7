//! The barriers of a block.
use crate::ir::{BarrierKind, Pred, Reg};

/// Barriers of a block.
pub(crate) const BARRIERS: usize = 16;

/// A split that waits, and where its result goes.
pub(crate) struct Waiting {
    pub warp: usize,
    pub split: usize,
    pub lanes: u32,
    pub kind: BarrierKind,
    pub d: Reg,
    pub p: Pred,
}

/// One barrier.
#[derive(Default)]
pub(crate) struct Barrier {
    /// Threads it waits for; 0 while nobody has come.
    pub expected: u32,
    /// Threads that have come.
    pub arrived: u32,
    /// Threads that came with a true predicate.
    pub yes: u32,
    /// Threads that came with a predicate.
    pub asked: u32,
    /// Warps that came, with the time.
    pub times: Vec<(usize, u32)>,
    /// Warps of which only some lanes have come so far, with those lanes.
    pub parts: Vec<(usize, u32)>,
    pub only_sync: bool,
    pub waiting: Vec<Waiting>,
}

/// The barriers of a block.
pub(crate) struct Barriers {
    pub list: [Barrier; BARRIERS],
    /// Threads of the block, whole warps.
    pub threads: u32,
    /// Numbers of those that are complete and whose warps must be let go.
    pub complete: Vec<usize>,
}

impl Barriers {
    pub fn new(threads: u32) -> Barriers {
        Barriers {
            list: Default::default(),
            threads,
            complete: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.complete.clear();
        for barrier in &mut self.list {
            *barrier = Barrier::default();
        }
    }

    /// Returns whether one is complete.
    pub fn is_any_complete(&self) -> bool {
        !self.complete.is_empty()
    }

    /// The barriers that somebody waits at: number, threads that have come, threads it waits for.
    pub fn unfinished(&self) -> Option<(u32, u32, u32)> {
        let index = self.list.iter().position(|b| !b.waiting.is_empty())?;
        let barrier = &self.list[index];
        Some((index as u32, barrier.arrived, barrier.expected))
    }
}

impl Barrier {
    /// Counts lanes that come. Places of a warp that have no thread come with the last of its
    /// threads.
    pub fn count(&mut self, warp: usize, m: u32, alive: u32) {
        self.arrived += m.count_ones();
        let before = self.parts.iter().position(|&(w, _)| w == warp);
        let all = m | before.map_or(0, |i| self.parts[i].1);
        match before {
            _ if all == alive => {
                self.arrived += 32 - all.count_ones();
                self.parts.retain(|&(w, _)| w != warp);
            }
            Some(i) => self.parts[i].1 = all,
            None => self.parts.push((warp, all)),
        }
    }
}
