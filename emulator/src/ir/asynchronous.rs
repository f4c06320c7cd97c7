//! mbarrier objects in shared memory, and operands of asynchronous operations.

use super::{AtomOp, AtomTy};

/// Operation on an mbarrier object. The variants document operand `a`; `d` receives the previous
/// state, if it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MbarrierOp {
    /// `a`: the expected arrivals per phase.
    Init,
    /// Invalidates the barrier.
    Inval,
    /// `a`: the number of arrivals, one if `NONE`; with `expect_tx` the number of expected bytes.
    Arrive {
        /// `.arrive_drop`: also reduces the expected arrivals of later phases.
        drop: bool,
        /// `.noComplete`: the phase must not complete.
        no_complete: bool,
        /// `.expect_tx`: expects bytes, then arrives once.
        expect_tx: bool,
    },
    /// `a`: number of bytes.
    ExpectTx,
    /// `a`: number of bytes.
    CompleteTx,
    /// Tests whether a phase is complete, in `p`. `a`: its parity, or a state (64 bits).
    Wait {
        /// True if `a` is a parity.
        parity: bool,
    },
    /// `d`: the pending arrivals in the state `a`.
    PendingCount,
    /// `cp.async.mbarrier.arrive`: the barrier gets an arrival once the thread's earlier copies are
    /// complete.
    CopyArrive {
        /// `.noinc`: the arrival is one of those that the phase already expects.
        noinc: bool,
    },
}

/// Mode of a `cp.async.bulk.tensor`: traversal of the tensor, and single or multicast destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadMode {
    /// `.tile`.
    Tile,
    /// `.im2col`.
    Im2col,
    /// `.tile` with `.multicast::cluster`.
    TileMulticast,
    /// `.im2col` with `.multicast::cluster`.
    Im2colMulticast,
}

impl LoadMode {
    /// Returns whether the mode is im2col.
    pub const fn im2col(self) -> bool {
        matches!(self, LoadMode::Im2col | LoadMode::Im2colMulticast)
    }

    /// Returns whether the copy has several destination blocks.
    pub const fn multicast(self) -> bool {
        matches!(self, LoadMode::TileMulticast | LoadMode::Im2colMulticast)
    }
}

/// Operation of `cp.reduce.async.bulk` in shared memory: the operation and the element type, in one
/// byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SharedReduction {
    Add32,
    Add64,
    MinU32,
    MinS32,
    MaxU32,
    MaxS32,
    Inc,
    Dec,
    And,
    Or,
    Xor,
}

impl SharedReduction {
    /// The operation and its type.
    pub const fn parts(self) -> (AtomOp, AtomTy) {
        match self {
            SharedReduction::Add32 => (AtomOp::Add, AtomTy::U32),
            SharedReduction::Add64 => (AtomOp::Add, AtomTy::U64),
            SharedReduction::MinU32 => (AtomOp::Min, AtomTy::U32),
            SharedReduction::MinS32 => (AtomOp::Min, AtomTy::S32),
            SharedReduction::MaxU32 => (AtomOp::Max, AtomTy::U32),
            SharedReduction::MaxS32 => (AtomOp::Max, AtomTy::S32),
            SharedReduction::Inc => (AtomOp::Inc, AtomTy::U32),
            SharedReduction::Dec => (AtomOp::Dec, AtomTy::U32),
            SharedReduction::And => (AtomOp::And, AtomTy::U32),
            SharedReduction::Or => (AtomOp::Or, AtomTy::U32),
            SharedReduction::Xor => (AtomOp::Xor, AtomTy::U32),
        }
    }
}

/// A `wgmma.mma_async`: 64 rows, `columns` columns. Accumulator register `4 * j + 2 * i + e` of
/// lane `4 * g + t` of the warpgroup's warp `w` is row `16 * w + 8 * i + g`, column
/// `8 * j + 2 * t + e`. Accumulators of 16 bits are in pairs: register `2 * j + i` has the contents
/// of registers `4 * j + 2 * i` and `4 * j + 2 * i + 1` above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wgmma {
    /// Columns: a multiple of 8 up to 256.
    pub columns: u16,
    /// Type of the left matrix.
    pub ty: crate::ir::MatrixTy,
    /// Type of the right matrix: that of the left one, except for the signedness of integers and
    /// the two types of `f8`.
    pub ty_b: crate::ir::MatrixTy,
    /// Type of the accumulators.
    pub sum: crate::ir::MatrixSum,
    /// True if the left matrix is negated.
    pub negate_a: bool,
    /// True if the right matrix is negated.
    pub negate_b: bool,
    /// True if rows of the left matrix, rather than the summed dimension, are contiguous in memory.
    pub transpose_a: bool,
    /// True if columns of the right matrix, rather than the summed dimension, are contiguous in
    /// memory.
    pub transpose_b: bool,
}

impl Wgmma {
    /// Number of elements along the summed dimension: 32 bytes.
    pub const fn depth(self) -> u32 {
        256 / self.ty.bits()
    }

    /// Number of accumulator registers.
    pub const fn sums(self) -> usize {
        self.columns as usize
            / match self.sum {
                crate::ir::MatrixSum::F16 => 4,
                _ => 2,
            }
    }

    /// Number of multiply-adds in one warp's part.
    pub const fn multiply_adds(self) -> u64 {
        16 * self.columns as u64 * self.depth() as u64
    }
}

/// Registers of matrix products that another instruction reads or writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Rows that it reads.
    pub reads: Vec<crate::ir::Reg>,
    /// Rows that it writes.
    pub writes: Vec<crate::ir::Reg>,
}
