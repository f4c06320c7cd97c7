//! The barriers of a block.
use crate::ir::{BarrierKind, Pred, Reg};

/// Number of barriers per block.
pub(crate) const BARRIERS: usize = 16;

/// A waiting split, and the destination of its result.
pub(crate) struct Waiting {
    pub warp: usize,
    pub split: usize,
    pub lanes: u32,
    pub kind: BarrierKind,
    pub d: Reg,
    pub p: Pred,
}

/// State of one barrier.
#[derive(Default)]
pub(crate) struct Barrier {
    /// Expected number of threads; 0 before the first arrival.
    pub expected: u32,
    /// Number of threads that have arrived.
    pub arrived: u32,
    /// Number of threads that arrived with a true predicate.
    pub yes: u32,
    /// Number of threads that arrived with a predicate.
    pub asked: u32,
    /// Warps that have arrived, with the time.
    pub times: Vec<(usize, u32)>,
    /// Warps of which only some lanes have arrived so far, with those lanes.
    pub parts: Vec<(usize, u32)>,
    pub only_sync: bool,
    pub waiting: Vec<Waiting>,
}

/// The barriers of a block.
pub(crate) struct Barriers {
    pub list: [Barrier; BARRIERS],
    /// Number of threads of the block, in whole warps.
    pub threads: u32,
    /// Numbers of the complete barriers whose warps must be released.
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

    /// Returns whether a barrier is complete.
    pub fn is_any_complete(&self) -> bool {
        !self.complete.is_empty()
    }

    /// An incomplete barrier with waiting threads: number, arrived threads, expected threads.
    pub fn unfinished(&self) -> Option<(u32, u32, u32)> {
        let index = self.list.iter().position(|b| !b.waiting.is_empty())?;
        let barrier = &self.list[index];
        Some((index as u32, barrier.arrived, barrier.expected))
    }
}

impl Barrier {
    /// Counts arriving lanes. Lanes without a thread arrive with the last of the warp's threads.
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
