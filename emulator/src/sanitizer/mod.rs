//! Checks that always run with a kernel.
//!
//! * [`vector_clock`]: synchronisation between the warps of a block.
//! * [`shadow`]: writers and readers of each unit of shared memory, which detects races and reads
//!   of uninitialised bytes.
//! * [`async_proxy`]: shared memory between ordinary accesses and the asynchronous proxy.
//! * [`fences`]: proxy fences between the two.
//! * [`fast_path`] and [`clock_path`]: the same checks for many units at a time, without and with
//!   vector clocks, of accesses that pass.
//! * [`reduction`]: reductions of shared memory by the asynchronous proxy.
//! * The shadow of global memory is in [`crate::memory`]; `exec::memory::global` checks it.
pub(crate) mod async_proxy;
mod clock_path;
mod fast_path;
pub(crate) mod fences;
mod reduction;
mod release_acquire;
pub(crate) mod shadow;
pub(crate) mod vector_clock;

use crate::report::FaultKind;

/// A fault, before the interpreter adds kernel, line, block and thread.
#[derive(Debug)]
pub(crate) struct UnlocatedFault {
    /// The faulting lane; `None` for the warp or the block.
    pub lane: Option<u32>,
    /// Kind of the fault.
    pub kind: FaultKind,
}

impl UnlocatedFault {
    /// A fault of one lane.
    #[cold]
    pub fn lane(lane: usize, kind: FaultKind) -> Box<UnlocatedFault> {
        Box::new(UnlocatedFault {
            lane: Some(lane as u32),
            kind,
        })
    }

    /// A fault of the warp.
    #[cold]
    pub fn warp(kind: FaultKind) -> Box<UnlocatedFault> {
        Box::new(UnlocatedFault { lane: None, kind })
    }
}

/// The result of an instruction.
pub(crate) type Outcome = Result<(), Box<UnlocatedFault>>;
