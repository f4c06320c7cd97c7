//! Report about a fault of a kernel.
//!
//! A [`Fault`] is typed, and its `Display` is stable text of a few lines:
//!
//! ```text
//! out of bounds: global read of 4 bytes at 0x7f0000001000
//!   kernel saxpy, PTX line 31, block (0,0,0), thread (5,0,0)
//!   nearest allocation: #2 "x" of 4096 bytes at 0x7f0000000000; the access begins ...
//! ```
mod asynchronous;
mod cluster;
mod text;
mod waiting;

pub use asynchronous::{AsyncFault, AsyncReader};
pub use cluster::ClusterFault;
pub use waiting::{Waiting, WaitsFor};

use crate::ir::Space;
use std::fmt;

/// A fault of a kernel, which ended the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel's name.
    pub kernel: String,
    /// Line of the instruction in the PTX text, counted from 1; 0 if there is no such instruction.
    pub line: u32,
    /// Index of the block.
    pub block: [u32; 3],
    /// Index of the thread in its block: the lowest faulting lane. `None` if the fault concerns a
    /// whole block.
    pub thread: Option<[u32; 3]>,
    /// Kind of the fault, with its data. Boxed to keep results small.
    pub kind: Box<FaultKind>,
}

impl std::error::Error for Fault {}

/// Kind of an access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A load, or the source of an asynchronous copy.
    Read,
    /// A store, or the destination of an asynchronous copy.
    Write,
    /// `atom` or `red`.
    Atomic,
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessKind::Read => "read",
            AccessKind::Write => "write",
            AccessKind::Atomic => "atomic",
        })
    }
}

/// One access of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Read, write or atomic.
    pub kind: AccessKind,
    /// The space of the instruction or, for a generic one, of the address.
    pub space: Space,
    /// The address that the program computed, in its space.
    pub address: u64,
    /// Bytes of the lane's access, all vector elements included.
    pub bytes: u32,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes;
        let plural = if bytes == 1 { "" } else { "s" };
        write!(
            f,
            "{} {} of {bytes} byte{plural} at {:#x}",
            space_name(self.space),
            self.kind,
            self.address
        )
    }
}

/// The name of a state space.
pub fn space_name(space: Space) -> &'static str {
    match space {
        Space::Generic => "generic",
        Space::Global => "global",
        Space::Shared => "shared",
        Space::Cluster => "shared::cluster",
        Space::Local => "local",
        Space::Const => "const",
        Space::Param => "param",
    }
}

/// An allocation of device memory, or a variable in shared memory, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Sequence number of the allocation; `None` for shared, local and parameter memory.
    pub sequence: Option<u64>,
    /// Its label, or the variable's name.
    pub label: Option<String>,
    /// First address of the region.
    pub base: u64,
    /// Size in bytes.
    pub bytes: u64,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sequence) = self.sequence {
            write!(f, "#{sequence} ")?;
        }
        if let Some(label) = &self.label {
            write!(f, "\"{label}\" ")?;
        }
        write!(f, "of {} bytes at {:#x}", self.bytes, self.base)
    }
}

/// The other access of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConflictingAccess {
    /// Kind of the access.
    pub kind: AccessKind,
    /// Its thread's index in the block, if known; otherwise only its warp is known.
    pub thread: Option<[u32; 3]>,
    /// Its warp; `None` if several warps read.
    pub warp: Option<u32>,
    /// Line of its instruction; 0 if unknown.
    pub line: u32,
    /// Its block, if that is not the block whose shared memory is accessed.
    pub block: Option<[u32; 3]>,
}

impl fmt::Display for ConflictingAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by ", self.kind)?;
        match (self.thread, self.warp) {
            (Some([x, y, z]), _) => write!(f, "thread ({x},{y},{z})")?,
            (None, Some(warp)) => write!(f, "warp {warp}")?,
            (None, None) => write!(f, "several warps")?,
        }
        if let Some([x, y, z]) = self.block {
            write!(f, " of block ({x},{y},{z})")?;
        }
        if self.line != 0 {
            write!(f, " at PTX line {}", self.line)?;
        }
        Ok(())
    }
}

/// Kind of a fault, with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The access is outside of every allocation, or outside of the block's shared, local or
    /// parameter memory.
    OutOfBounds {
        /// The access.
        touch: Access,
        /// The nearest allocation or memory.
        nearest: Option<Region>,
    },
    /// The address is in an allocation that has been freed.
    UseAfterFree {
        /// The access.
        touch: Access,
        /// The freed allocation.
        region: Region,
    },
    /// The address is not a multiple of the access's size.
    Misaligned {
        /// The access.
        touch: Access,
        /// The required alignment.
        align: u32,
        /// The allocation that contains it.
        nearest: Option<Region>,
    },
    /// A byte was read that was never written.
    Uninitialised {
        /// The access.
        touch: Access,
        /// The first byte that was never written.
        first: u64,
        /// The allocation or variable that contains it.
        nearest: Option<Region>,
    },
    /// A write to constant memory or to parameters.
    ReadOnly {
        /// The access.
        touch: Access,
        /// The constant variable or parameter memory.
        region: Option<Region>,
    },
    /// The address belongs to another state space than the instruction's.
    WrongSpace {
        /// The access.
        touch: Access,
        /// The space that contains the address.
        actual: Space,
    },
    /// Two threads accessed the same shared bytes without order, and at least one wrote.
    SharedRace {
        /// The later access.
        touch: Access,
        /// The first conflicting byte.
        at: u64,
        /// The variable that contains it.
        nearest: Option<Region>,
        /// The earlier access.
        rival: ConflictingAccess,
    },
    /// The bytes are the destination of a `cp.async` that has not been waited for.
    AsyncCopyPending {
        /// The access.
        touch: Access,
        /// The thread that started the copy.
        owner: [u32; 3],
    },
    /// Only some of the warp's threads arrived at a barrier that requires all of them.
    DivergentBarrier {
        /// Barrier number.
        id: u32,
        /// Lanes that arrived.
        arrived: u32,
        /// Lanes of the warp that have not exited.
        alive: u32,
    },
    /// Threads for which a barrier waits have exited.
    ExitedAtBarrier {
        /// Barrier number.
        id: u32,
        /// Threads that have exited.
        exited: u32,
        /// Threads that arrived.
        arrived: u32,
        /// Threads for which the barrier waits.
        expected: u32,
    },
    /// Barrier number or thread count out of range.
    BadBarrier {
        /// Barrier number.
        id: u32,
        /// Thread count of the instruction.
        count: u32,
    },
    /// Lanes of a warp that arrive at a barrier together have different barrier numbers or thread
    /// counts.
    BarrierOperand {
        /// Value of the lowest lane.
        first: u32,
        /// Value of the differing lane.
        other: u32,
    },
    /// The block used more barriers than the race checker has times for.
    TooManyBarriers,
    /// Every thread of the block waits and no barrier can complete.
    Deadlock {
        /// The warps that wait.
        waiting: Vec<Waiting>,
    },
    /// The mask of a warp-level operation contains lanes that do not execute it.
    DivergentWarp {
        /// Lanes in the mask.
        named: u32,
        /// Lanes that execute it.
        active: u32,
    },
    /// A lane executes a warp-level operation whose mask does not contain it, or the masks differ
    /// between lanes.
    BadWarpMask {
        /// Mask of the instruction.
        named: u32,
        /// Lanes that execute it.
        active: u32,
    },
    /// An instruction that all 32 lanes of a warp must execute (`.aligned`) is executed by some of
    /// them.
    MissingLanes {
        /// Lanes that execute it.
        active: u32,
    },
    /// A computed branch past the end of its table.
    BranchIndex {
        /// Index of the branch.
        index: u32,
        /// Number of entries in the table.
        len: u32,
    },
    /// `trap`.
    Trap,
    /// A device-side `assert` failed.
    Assert {
        /// Text of the failed expression.
        message: String,
        /// Name of the source file.
        file: String,
        /// Line in the source file.
        line: u32,
        /// Name of the function.
        function: String,
    },
    /// A warp executed more instructions than the limit allows: a loop that does not end.
    InstructionLimit {
        /// The limit, in instructions of one warp.
        limit: u64,
    },
    /// A fault of an mbarrier object, a bulk copy or a matrix product of a warpgroup.
    Asynchronous(AsyncFault),
    /// The launch exceeded its time limit.
    TimeLimit {
        /// The limit in milliseconds.
        milliseconds: u64,
    },
    /// The kernel has more items of a kind than the emulator can record.
    TooMany {
        /// Kind of the items, in the plural.
        what: &'static str,
        /// The maximum number.
        most: u64,
    },
    /// The emulator itself failed; the text describes the location.
    Internal(String),
    /// A fault between the blocks of a cluster.
    Cluster(ClusterFault),
    /// The fault is in the shared memory of another block of the cluster.
    InCluster {
        /// Index of that block in the grid.
        block: [u32; 3],
        /// Description of the fault; addresses are offsets in that block's shared memory.
        fault: Box<FaultKind>,
    },
    /// The parameters of the launch are invalid; nothing ran.
    InvalidLaunch(String),
}

impl From<AsyncFault> for FaultKind {
    fn from(fault: AsyncFault) -> FaultKind {
        FaultKind::Asynchronous(fault)
    }
}

impl From<ClusterFault> for FaultKind {
    fn from(fault: ClusterFault) -> FaultKind {
        FaultKind::Cluster(fault)
    }
}
