//! Results of an instruction and of a turn.

/// Reason why a warp stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All its lanes have exited.
    Done,
    /// It waits at a barrier.
    Waiting,
    /// Its turn is over, or a barrier has become complete.
    Turn,
}

/// Successor of an instruction.
pub(crate) enum Flow {
    Next,
    /// The current split was changed: choose again.
    Changed,
    /// Like `Next`, but the block must look at its barriers.
    Yield,
    /// Like `Changed`, and the instruction has not been executed: the split waits for an event.
    Blocked,
}
