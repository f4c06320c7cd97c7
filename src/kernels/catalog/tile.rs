//! Tiles of matrix products, as the families' tables list them.

use super::Kernel;

/// A tile and what a kernel is compiled with for it.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    m: u32,
    n: u32,
    k: u32,
    vector: u32,
    threads: u32,
    stages: u32,
    blocks: u32,
}

/// A tile of `m` filters, `n` pixels and `k` channels per step: one block of 128 threads per SM, no
/// pipeline, x copied element by element.
pub(super) const fn tile(m: u32, n: u32, k: u32) -> Tile {
    Tile {
        m,
        n,
        k,
        vector: 0,
        threads: 128,
        stages: 1,
        blocks: 1,
    }
}

impl Tile {
    /// Sets the bytes per copy of x.
    pub(super) const fn vector(self, vector: u32) -> Tile {
        Tile { vector, ..self }
    }

    /// Sets the threads per block.
    pub(super) const fn threads(self, threads: u32) -> Tile {
        Tile { threads, ..self }
    }

    /// Sets the stages of the pipeline.
    pub(super) const fn stages(self, stages: u32) -> Tile {
        Tile { stages, ..self }
    }

    /// Sets the blocks per SM.
    pub(super) const fn blocks(self, blocks: u32) -> Tile {
        Tile { blocks, ..self }
    }

    /// The kernel with this tile.
    pub(super) fn of(self, kernel: Kernel) -> Kernel {
        Kernel {
            tile_m: self.m,
            tile_n: self.n,
            tile_k: self.k,
            vector: self.vector,
            threads: self.threads,
            stages: self.stages,
            min_blocks: self.blocks,
            ..kernel
        }
    }
}
