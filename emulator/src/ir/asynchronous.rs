//! Barriers in shared memory.

/// What an operation on an `mbarrier` does. Its operand `a` is what is said; `d` is the barrier's state before, if
/// anybody wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MbarrierOp {
    /// `a`: the arrivals of a phase.
    Init,
    /// The barrier ends.
    Inval,
    /// `a`: how many arrivals, one if `NONE`; the bytes to expect if `expect_tx`.
    Arrive {
        /// `.arrive_drop`: later phases want fewer, too.
        drop: bool,
        /// `.noComplete`: the phase must not complete.
        no_complete: bool,
        /// `.expect_tx`: expects bytes, then arrives once.
        expect_tx: bool,
    },
    /// `a`: bytes.
    ExpectTx,
    /// `a`: bytes.
    CompleteTx,
    /// Whether a phase is complete, in `p`. `a`: its parity, or a state (64 bits).
    Wait {
        /// `a` is a parity.
        parity: bool,
    },
    /// `d`: the pending arrivals in the state `a`.
    PendingCount,
    /// `cp.async.mbarrier.arrive`: the barrier gets an arrival once the thread's copies so far have arrived.
    CopyArrive {
        /// `.noinc`: it is one of those that the phase waits for already.
        noinc: bool,
    },
}
