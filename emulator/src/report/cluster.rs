//! Reports about thread-block clusters.
use super::Access;
use std::fmt;

/// Fault between the blocks of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterFault {
    /// An address of `.shared::cluster` with a rank outside of the cluster.
    NoBlock {
        /// The access.
        touch: Access,
        /// The rank in the address.
        rank: u32,
        /// Number of blocks in the cluster.
        blocks: u32,
    },
    /// `mapa` or `getctarank` of a generic address outside of shared memory.
    NotShared {
        /// The generic address.
        address: u64,
    },
    /// An access to shared memory of a block whose threads have all exited.
    Exited {
        /// The access.
        touch: Access,
        /// The block that was accessed.
        block: [u32; 3],
    },
    /// An access to shared memory of a block that may not have started.
    NotStarted {
        /// The access.
        touch: Access,
        /// The block that was accessed.
        block: [u32; 3],
    },
    /// A block exits while another block's access to its shared memory may be incomplete.
    ExitedEarly {
        /// The thread that accesses it.
        by: [u32; 3],
        /// Block of the thread.
        block: [u32; 3],
        /// The line of the access.
        line: u32,
    },
    /// Only some of the warp's threads arrived at an aligned `barrier.cluster`.
    Divergent {
        /// Lanes that arrived.
        arrived: u32,
        /// Lanes of the warp that have not exited.
        alive: u32,
    },
    /// A thread arrives at the cluster's barrier twice in a phase.
    ArrivedTwice,
    /// A thread waits at the cluster's barrier without having arrived.
    WaitWithoutArrive,
    /// An operation that is permitted only on a barrier in the block's own shared memory.
    OtherBlocksBarrier {
        /// The block that contains the barrier.
        block: [u32; 3],
    },
    /// The mask of a copy contains ranks outside of the cluster.
    MulticastMask {
        /// Mask of the instruction.
        mask: u32,
        /// Number of blocks in the cluster.
        blocks: u32,
    },
    /// The barrier that completes a copy is in another block than the copy's destination.
    BarrierElsewhere {
        /// The destination's block, and the barrier's.
        blocks: [[u32; 3]; 2],
    },
    /// `st.async` or `red.async` to the block itself.
    AsyncToItself,
}

/// A block's index.
struct Block([u32; 3]);

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.0;
        write!(f, "block ({x},{y},{z})")
    }
}

impl ClusterFault {
    /// Writes the first line of a report. Long because it is a table with one entry per fault.
    pub(super) fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ClusterFault as K;
        match self {
            K::NoBlock {
                touch,
                rank,
                blocks,
            } => write!(
                f,
                "no such block in the cluster: {touch}, in block {rank}, where the cluster has \
                {blocks}"
            ),
            K::NotShared { address } => write!(
                f,
                "generic address {address:#x} is not one of shared memory"
            ),
            K::Exited { touch, block } => {
                write!(
                    f,
                    "shared memory of {}, which has exited: {touch}",
                    Block(*block)
                )
            }
            K::NotStarted { touch, block } => write!(
                f,
                "shared memory of {}, which may not have started: {touch}",
                Block(*block)
            ),
            K::ExitedEarly { .. } => write!(
                f,
                "block exits while its shared memory may still be accessed by another block"
            ),
            K::Divergent { arrived, alive } => write!(
                f,
                "divergent cluster barrier: lanes {arrived:#010x} of the warp arrived, lanes \
                {:#010x} did not",
                alive & !arrived
            ),
            K::ArrivedTwice => write!(
                f,
                "a thread arrives at the cluster barrier again without waiting for the phase that \
                it arrived in"
            ),
            K::WaitWithoutArrive => write!(
                f,
                "a thread waits at the cluster barrier without having arrived"
            ),
            K::OtherBlocksBarrier { block } => write!(
                f,
                "mbarrier of {}: other blocks can only arrive at it, by .shared::cluster",
                Block(*block)
            ),
            K::MulticastMask { mask, blocks } => write!(
                f,
                "bad multicast mask: {mask:#06x}, where the cluster has {blocks} blocks"
            ),
            K::BarrierElsewhere { blocks: [to, at] } => write!(
                f,
                "a copy to the shared memory of {} is to be completed by an mbarrier of {}",
                Block(*to),
                Block(*at)
            ),
            K::AsyncToItself => write!(
                f,
                "st.async or red.async to the shared memory of the block itself"
            ),
        }
    }

    /// Writes the lines after the position.
    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ClusterFault as K;
        match self {
            K::ExitedEarly {
                by: [x, y, z],
                block,
                line,
            } => write!(
                f,
                "\n  accessed by thread ({x},{y},{z}) of {} at PTX line {line}",
                Block(*block)
            ),
            K::NotStarted { .. } => write!(
                f,
                "\n  a barrier.cluster before the first access tells that all blocks of the \
                cluster have started"
            ),
            _ => Ok(()),
        }
    }
}
