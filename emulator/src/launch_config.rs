//! Sizes of a grid, its blocks and clusters.
use crate::ir::Kernel;

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Grid: blocks along x, y, z.
    pub grid: [u32; 3],
    /// Block: threads along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: u32,
    /// Cluster: blocks along x, y, z; `None` for the kernel's own size, which is one block by
    /// default.
    pub cluster: Option<[u32; 3]>,
}

impl LaunchConfig {
    /// A one-dimensional launch without dynamic shared memory.
    pub const fn linear(blocks: u32, threads: u32) -> LaunchConfig {
        LaunchConfig {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared_bytes: 0,
            cluster: None,
        }
    }

    /// Cluster size of a kernel: blocks along x, y, z.
    pub(crate) fn cluster_of(&self, kernel: &Kernel) -> [u32; 3] {
        self.cluster.or(kernel.required_cluster).unwrap_or([1; 3])
    }

    /// Number of clusters in the grid.
    pub(crate) fn clusters(&self, kernel: &Kernel) -> u64 {
        let blocks: u32 = self.cluster_of(kernel).iter().product();
        self.blocks() / u64::from(blocks.max(1))
    }

    /// Number of threads per block.
    pub fn threads(&self) -> u64 {
        self.block
            .iter()
            .fold(1u64, |product, &n| product.saturating_mul(u64::from(n)))
    }

    /// Number of blocks in the grid.
    pub fn blocks(&self) -> u64 {
        self.grid
            .iter()
            .fold(1u64, |product, &n| product.saturating_mul(u64::from(n)))
    }
}
