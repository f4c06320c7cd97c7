//! Which accesses of other warps a warp may rely on.
//!
//! A block has a clock that advances at its barriers. Where only barriers of the whole block are used, everything
//! before the latest one ([`Order::floor`]) is ordered before everything after it, and that is all there is to know.
//! Kernels with named barriers for some of the warps ([`Order::precise`]) keep a vector clock for each warp: the time
//! up to which it may rely on each other warp.

/// The clock of a block and what its warps know of each other.
pub(crate) struct Order {
    /// The time now. It goes on from block to block, so that shadows need not be cleared.
    pub now: u32,
    /// The time at which the block began.
    pub start: u32,
    /// The time of the latest barrier of the whole block.
    pub floor: u32,
    /// Whether vector clocks are kept.
    pub precise: bool,
    warps: usize,
    known: Vec<u32>,
}

/// Times above this would not fit the shadow's stamps. A block has at least half of them to itself.
const LAST_TIME: u32 = (1 << 26) - 4;

/// Warps of a block that may still arrive when the clock is found to be at its end.
const RESERVE: u32 = 64;

impl Order {
    pub fn new(warps: usize, precise: bool) -> Order {
        let known = if precise {
            vec![0; warps * warps]
        } else {
            Vec::new()
        };
        Order {
            now: 0,
            start: 0,
            floor: 0,
            precise,
            warps,
            known,
        }
    }

    /// Begins a block. Whether the clock has started again, so that shadows must be cleared.
    pub fn begin_block(&mut self) -> bool {
        let again = self.now > LAST_TIME / 2;
        self.now = if again { 1 } else { self.now + 1 };
        self.start = self.now;
        self.floor = self.now;
        self.known.fill(0);
        again
    }

    /// Whether the block has used up the times that there are; it can have no further barriers then.
    #[inline]
    pub fn is_exhausted(&self) -> bool {
        self.now > LAST_TIME - RESERVE
    }

    /// All warps have met.
    pub fn full_barrier(&mut self) {
        self.now = (self.now + 1).min(LAST_TIME);
        self.floor = self.now;
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
        let mut together = vec![0; self.warps];
        for &(warp, time) in arrived {
            for (other, known) in together.iter_mut().enumerate() {
                *known = (*known).max(self.known[warp * self.warps + other]);
            }
            together[warp] = together[warp].max(time);
        }
        for &warp in waiting {
            for (other, &known) in together.iter().enumerate() {
                let mine = &mut self.known[warp * self.warps + other];
                *mine = (*mine).max(known);
            }
        }
    }

    /// Whether what `other` did at `time` is ordered before what `me` does now.
    #[inline]
    pub fn is_before(&self, me: u32, other: u32, time: u32) -> bool {
        time < self.floor
            || (self.precise && time <= self.known[me as usize * self.warps + other as usize])
    }

    /// Warps of the block.
    pub fn warps(&self) -> usize {
        self.warps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_says_when_it_is_at_its_end() {
        let mut order = Order::new(2, false);
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
