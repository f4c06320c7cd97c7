//! Conditions that warps wait for, in reports of deadlocks.
use std::fmt;

/// Condition that a warp waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A barrier of the block.
    Barrier,
    /// A phase of an mbarrier object.
    Mbarrier {
        /// Address of the barrier.
        address: u64,
        /// The parity of the phase.
        parity: u32,
        /// Number of pending arrivals.
        arrivals: u32,
        /// Number of pending bytes.
        bytes: i64,
    },
    /// Free registers for `setmaxnreg`.
    Registers {
        /// Requested number per thread.
        count: u32,
        /// Available number per thread.
        available: u32,
    },
    /// The other warps of its warpgroup.
    Warpgroup,
    /// The cluster's barrier.
    Cluster {
        /// Threads that have not arrived.
        threads: u32,
    },
}

/// A warp that cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Index of the warp.
    pub warp: u32,
    /// Its block, in a cluster of several blocks.
    pub block: Option<[u32; 3]>,
    /// The line of its instruction.
    pub line: u32,
    /// Condition that would end the wait.
    pub wants: WaitsFor,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warp {}", self.warp)?;
        if let Some([x, y, z]) = self.block {
            write!(f, " of block ({x},{y},{z})")?;
        }
        write!(f, " waits at PTX line {}", self.line)?;
        match self.wants {
            WaitsFor::Barrier => Ok(()),
            WaitsFor::Mbarrier {
                address,
                parity,
                arrivals,
                bytes,
            } => write!(
                f,
                " for the phase of parity {parity} of the mbarrier at {address:#x}, which lacks \
                {arrivals} arrivals and {bytes} bytes"
            ),
            WaitsFor::Registers { count, available } => write!(
                f,
                " for {count} registers a thread, where {available} are available"
            ),
            WaitsFor::Warpgroup => write!(f, " for the other warps of its warpgroup"),
            WaitsFor::Cluster { threads } => write!(
                f,
                " for {threads} threads of the cluster to arrive at its barrier"
            ),
        }
    }
}
