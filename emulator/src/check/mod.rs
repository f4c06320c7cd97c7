//! What is always checked while a kernel runs.
//!
//! * [`order`]: which warps of a block have synchronised with which.
//! * [`shadow`]: who wrote and read each unit of shared memory, hence races and reads of what
//!   nobody wrote.
//! * [`proxy`]: shared memory between ordinary accesses and the asynchronous proxy.
//! * [`reduction`]: reductions of shared memory by the asynchronous proxy.
//! * Global memory has its shadow in [`crate::memory`]; `exec::global` consults it.
mod fast;
mod flags;
pub(crate) mod order;
pub(crate) mod proxy;
mod reduction;
pub(crate) mod shadow;

use crate::report::FaultKind;

/// A fault, before the interpreter adds kernel, line, block and thread.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// The lane at fault; `None` for the warp or the block.
    pub lane: Option<u32>,
    /// What happened.
    pub kind: FaultKind,
}

impl Trouble {
    /// A fault of one lane.
    #[cold]
    pub fn lane(lane: usize, kind: FaultKind) -> Box<Trouble> {
        Box::new(Trouble {
            lane: Some(lane as u32),
            kind,
        })
    }

    /// A fault of the warp.
    #[cold]
    pub fn warp(kind: FaultKind) -> Box<Trouble> {
        Box::new(Trouble { lane: None, kind })
    }
}

/// The result of an instruction.
pub(crate) type Outcome = Result<(), Box<Trouble>>;
