//! Results of an instruction and of a turn.
use crate::ir::Op;
use crate::report::FaultKind;
use crate::sanitizer::UnlocatedFault;

/// Reason why a warp stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All its lanes have exited.
    Done,
    /// The warp waits at a barrier.
    Waiting,
    /// Its turn is over, or a barrier has become complete.
    Turn,
}

/// Control flow after an instruction.
pub(crate) enum Flow {
    Next,
    /// The current split has changed: choose a split again.
    Changed,
    /// Like `Next`, but the block must check its barriers.
    Yield,
    /// Like `Changed`, but the instruction was not executed: the split waits for an event.
    Blocked,
}

/// Result of an instruction.
pub(crate) type Step = Result<Flow, Box<UnlocatedFault>>;

/// The fault of an operation in the table that its family does not execute.
#[cold]
pub(crate) fn no_execution(op: &Op) -> Step {
    let message = format!("{op:?} has no execution");
    Err(UnlocatedFault::warp(FaultKind::Internal(message)))
}
