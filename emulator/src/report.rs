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

pub use asynchronous::{AsyncFault, AsyncReader, Waiting, WaitsFor};
pub use cluster::ClusterFault;

use crate::ir::Space;
use std::fmt;

/// A kernel did something wrong; the launch ended there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel's name.
    pub kernel: String,
    /// Line of the instruction in the PTX text, counted from 1; 0 if no instruction is to blame.
    pub line: u32,
    /// Index of the block.
    pub block: [u32; 3],
    /// Index of the thread in its block; the lowest lane of those at fault. `None` if a whole block
    /// is.
    pub thread: Option<[u32; 3]>,
    /// Event. Boxed to keep results small.
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
    /// The space that the instruction names, or, for a generic one, that the address lies in.
    pub space: Space,
    /// The address as the program computed it (in its space).
    pub address: u64,
    /// Bytes of the lane's access, all vector elements together.
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

/// An allocation of device memory, or a variable in shared memory, as a report names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Sequence number of the allocation; `None` for shared, local and parameter memory.
    pub sequence: Option<u64>,
    /// Its label, or the variable's name.
    pub label: Option<String>,
    /// First address.
    pub base: u64,
    /// Bytes.
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

/// The other side of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConflictingAccess {
    /// Kind of the access.
    pub kind: AccessKind,
    /// Its thread's index in the block, where known; else only its warp is.
    pub thread: Option<[u32; 3]>,
    /// Its warp; `None` if several warps read.
    pub warp: Option<u32>,
    /// Line of its instruction, where known (0 if not).
    pub line: u32,
    /// Its block, where that is another one of the cluster than the one whose shared memory it is.
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

/// Description of the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The access is not inside any allocation, or not inside the block's shared, local or
    /// parameter memory.
    OutOfBounds {
        /// The access.
        touch: Access,
        /// The allocation or memory nearest to it.
        nearest: Option<Region>,
    },
    /// The address was that of an allocation that has been freed.
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
        /// The alignment it needs.
        align: u32,
        /// The allocation it lies in.
        nearest: Option<Region>,
    },
    /// A byte was read that nobody wrote.
    Uninitialised {
        /// The access.
        touch: Access,
        /// The first byte that nobody wrote.
        first: u64,
        /// The allocation or variable it lies in.
        nearest: Option<Region>,
    },
    /// A write to constant memory or to parameters.
    ReadOnly {
        /// The access.
        touch: Access,
        /// The variable.
        region: Option<Region>,
    },
    /// The address belongs to another state space than the instruction's.
    WrongSpace {
        /// The access.
        touch: Access,
        /// The space that the address points into.
        actual: Space,
    },
    /// Two threads touched the same shared bytes, one wrote, and nothing orders them.
    SharedRace {
        /// The later access.
        touch: Access,
        /// The first conflicting byte.
        at: u64,
        /// The variable it lies in.
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
    /// Only some of the warp's threads came to a barrier that wants all of them.
    DivergentBarrier {
        /// Barrier number.
        id: u32,
        /// Lanes that came.
        arrived: u32,
        /// Lanes of the warp that have not exited.
        alive: u32,
    },
    /// Threads exited that a barrier waits for.
    ExitedAtBarrier {
        /// Barrier number.
        id: u32,
        /// Threads that have exited.
        exited: u32,
        /// Threads that arrived.
        arrived: u32,
        /// Threads the barrier waits for.
        expected: u32,
    },
    /// Barrier number or thread count out of range.
    BadBarrier {
        /// Barrier number.
        id: u32,
        /// Thread count.
        count: u32,
    },
    /// Lanes of a warp that come to a barrier together give different numbers of it, or different
    /// thread counts.
    BarrierOperand {
        /// Value of the lowest lane.
        first: u32,
        /// Value of the faulting lane.
        other: u32,
    },
    /// A block came to more barriers than its races can be told for.
    TooManyBarriers,
    /// Every thread of the block waits and no barrier can complete.
    Deadlock {
        /// The warps that wait.
        waiting: Vec<Waiting>,
    },
    /// A warp-level operation names lanes that are not at it.
    DivergentWarp {
        /// Lanes named in the mask.
        named: u32,
        /// Lanes that execute it.
        active: u32,
    },
    /// A lane executes a warp-level operation whose mask does not name it, or the masks differ
    /// between lanes.
    BadWarpMask {
        /// The mask.
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
        /// The index.
        index: u32,
        /// Entries of the table.
        len: u32,
    },
    /// `trap`.
    Trap,
    /// A device-side `assert` failed.
    Assert {
        /// The expression.
        message: String,
        /// Source file.
        file: String,
        /// Source line.
        line: u32,
        /// Function.
        function: String,
    },
    /// A warp executed more instructions than the limit allows: a loop that does not end.
    InstructionLimit {
        /// The limit, in instructions of one warp.
        limit: u64,
    },
    /// Something about a barrier in shared memory, a bulk copy or a matrix product of a warpgroup.
    Asynchronous(AsyncFault),
    /// The launch took longer than it may.
    TimeLimit {
        /// The limit in milliseconds.
        milliseconds: u64,
    },
    /// The kernel holds more of something than the emulator keeps track of.
    TooMany {
        /// Unit, in the plural.
        what: &'static str,
        /// The most there may be.
        most: u64,
    },
    /// The emulator itself failed; the text says where.
    Internal(String),
    /// Something between the blocks of a cluster.
    Cluster(ClusterFault),
    /// The fault is in the shared memory of another block of the cluster.
    InCluster {
        /// The block.
        block: [u32; 3],
        /// Description of the fault; addresses are offsets in that block's shared memory.
        fault: Box<FaultKind>,
    },
    /// The launch's own parameters are impossible; nothing ran.
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
