//! Limit on the time that a block may spend waiting.
use crate::exec::machine::context::Context;

/// Number of rounds in which all waits time out before the block ends.
pub(crate) const ROUNDS: u32 = 64;

/// Nanoseconds of `%globaltimer` that a round takes. The rounds together take seconds, so a program
/// that ends its waits by that clock does so before the block ends.
pub(crate) const TIME_LIMIT: u64 = 50_000_000;

/// Ends a block whose warps only wait.
#[derive(Default)]
pub(crate) struct DeadlockTimer {
    pub rounds: u32,
    /// Number of events before the last round.
    pub events: u64,
    pub barriers: u64,
}

impl DeadlockTimer {
    /// Returns whether the block may have another round.
    pub fn lasts(&mut self, cx: &Context) -> bool {
        if (self.events, self.barriers) != (cx.mbarriers.events, cx.counters.barriers) {
            (self.events, self.barriers) = (cx.mbarriers.events, cx.counters.barriers);
            self.rounds = 0;
        }
        self.rounds += 1;
        self.rounds <= ROUNDS
    }
}
