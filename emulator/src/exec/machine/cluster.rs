//! State of the blocks of a cluster.
//!
//! The warps of all blocks of a cluster take turns in one host thread, so no lock is needed. The
//! state of a block (its shared memory, its barriers, its registers) is in the [`Context`] while
//! one of its warps runs, and in a [`Part`] otherwise.
use crate::exec::machine::cluster_barrier::ClusterBarrier;
use crate::exec::machine::context::{Context, SharedMemory};
use crate::report::FaultKind;
use crate::sanitizer::UnlocatedFault;
use std::mem::swap;

/// State of a block, while a warp of another block runs.
pub(crate) struct Part {
    pub shared: SharedMemory,
    pub barriers: crate::exec::machine::barriers::Barriers,
    pub mbarriers: crate::exec::machine::mbarriers::Mbarriers,
    pub registers: crate::exec::machine::register_pool::Registers,
    pub products_arrived: [u8; 8],
}

/// The cluster that a worker runs.
pub(crate) struct Cluster {
    /// Blocks along x, y, z.
    pub size: [u32; 3],
    /// The rank of the block whose part is in the context.
    pub rank: u32,
    /// Number of warps per block.
    pub warps: u32,
    /// Index in the grid of each block, by rank.
    pub blocks: Vec<[u32; 3]>,
    /// Parts by rank; that of the current block is a placeholder. Empty for a cluster of one block.
    pub parts: Vec<Part>,
    /// Number of warps in each block that have not ended.
    pub alive: Vec<u32>,
    /// Accesses of other blocks to each block's shared memory that may be incomplete.
    pub visits: Vec<Vec<Visit>>,
    pub barrier: ClusterBarrier,
}

/// An access of a warp to another block's shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Visit {
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
    pub time: u32,
    /// The barrier in the accessed block that completes it, and its phase.
    pub phase: Option<(usize, u32)>,
    /// True for an asynchronous copy, which only that phase completes.
    pub copy: bool,
}

impl Cluster {
    /// Number of blocks.
    pub fn count(&self) -> u32 {
        self.size.iter().product()
    }

    /// The rank of a warp's block.
    pub fn rank_of(&self, warp: u32) -> u32 {
        warp / self.warps
    }

    /// The block of a warp, if it is not the current one.
    pub fn other_block(&self, warp: u32) -> Option<[u32; 3]> {
        let rank = self.rank_of(warp);
        (rank != self.rank).then(|| self.blocks[rank as usize])
    }
}

impl Context<'_> {
    /// Exchanges the context's part with that of another block.
    #[inline]
    pub fn switch(&mut self, rank: u32) {
        if rank != self.cluster.rank {
            let (events, changed) = (self.mbarriers.events, self.mbarriers.changed);
            self.exchange(self.cluster.rank);
            self.exchange(rank);
            // One count for all blocks of the cluster.
            (self.mbarriers.events, self.mbarriers.changed) = (events, changed);
            self.cluster.rank = rank;
            self.order.block = rank as usize;
            self.block = self.cluster.blocks[rank as usize];
        }
    }

    /// The barriers in a block's shared memory.
    pub fn mbarriers_of(&self, rank: u32) -> &crate::exec::machine::mbarriers::Mbarriers {
        match self.cluster.parts.get(rank as usize) {
            Some(part) if rank != self.cluster.rank => &part.mbarriers,
            _ => &self.mbarriers,
        }
    }

    /// Exchanges the context's part and that of a rank.
    pub fn exchange(&mut self, rank: u32) {
        let part = &mut self.cluster.parts[rank as usize];
        swap(&mut self.shared, &mut part.shared);
        swap(&mut self.barriers, &mut part.barriers);
        swap(&mut self.mbarriers, &mut part.mbarriers);
        swap(&mut self.registers, &mut part.registers);
        swap(&mut self.products_arrived, &mut part.products_arrived);
    }

    /// Calls a function in another block; a fault names the block.
    pub fn at<T>(
        &mut self,
        rank: u32,
        does: impl FnOnce(&mut Self) -> Result<T, Box<UnlocatedFault>>,
    ) -> Result<T, Box<UnlocatedFault>> {
        let home = self.cluster.rank;
        if rank == home {
            return does(self);
        }
        self.switch(rank);
        let done = does(self);
        self.switch(home);
        done.map_err(|trouble| self.elsewhere(rank, *trouble))
    }

    /// A fault in the shared memory of another block.
    #[cold]
    pub fn elsewhere(&self, rank: u32, trouble: UnlocatedFault) -> Box<UnlocatedFault> {
        let UnlocatedFault { lane, kind } = trouble;
        let block = self.cluster.blocks[rank as usize];
        let fault = Box::new(kind);
        Box::new(UnlocatedFault {
            lane,
            kind: FaultKind::InCluster { block, fault },
        })
    }
}
