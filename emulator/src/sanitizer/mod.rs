//! Checks that always run with a kernel.
//!
//! * [`vector_clock`]: which warps of a block have synchronised with which.
//! * [`shadow`]: who wrote and read each unit of shared memory, hence races and reads of what
//!   nobody wrote.
//! * [`async_proxy`]: shared memory between ordinary accesses and the asynchronous proxy.
//! * [`reduction`]: reductions of shared memory by the asynchronous proxy.
//! * Global memory has its shadow in [`crate::memory`]; `exec::memory::global` consults it.
pub(crate) mod async_proxy;
mod fast_path;
mod reduction;
mod release_acquire;
pub(crate) mod shadow;
pub(crate) mod vector_clock;

use crate::report::FaultKind;

/// A fault, before the interpreter adds kernel, line, block and thread.
#[derive(Debug)]
pub(crate) struct UnlocatedFault {
    /// The lane at fault; `None` for the warp or the block.
    pub lane: Option<u32>,
    /// Event.
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
