//! Barriers in shared memory, and what asynchronous operations do.

use super::{AtomOp, AtomTy};

/// Operation on an `mbarrier`. Its operand `a` is what is said; `d` is the barrier's state before,
/// if anybody wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MbarrierOp {
    /// `a`: the arrivals of a phase.
    Init,
    /// The barrier ends.
    Inval,
    /// `a`: how many arrivals, one if `NONE`; the bytes to expect if `expect_tx`.
    Arrive {
        /// `.arrive_drop`: later phases want fewer, too.
        drop: bool,
        /// `.noComplete`: the phase must not complete.
        no_complete: bool,
        /// `.expect_tx`: expects bytes, then arrives once.
        expect_tx: bool,
    },
    /// `a`: bytes.
    ExpectTx,
    /// `a`: bytes.
    CompleteTx,
    /// Tests whether a phase is complete, in `p`. `a`: its parity, or a state (64 bits).
    Wait {
        /// `a` is a parity.
        parity: bool,
    },
    /// `d`: the pending arrivals in the state `a`.
    PendingCount,
    /// `cp.async.mbarrier.arrive`: the barrier gets an arrival once the thread's copies so far have
    /// arrived.
    CopyArrive {
        /// `.noinc`: it is one of those that the phase waits for already.
        noinc: bool,
    },
}

/// Walk of a `cp.async.bulk.tensor` through the tensor, and its destination.
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
    /// Returns whether it is im2col.
    pub const fn im2col(self) -> bool {
        matches!(self, LoadMode::Im2col | LoadMode::Im2colMulticast)
    }

    /// Returns whether it is to several blocks.
    pub const fn multicast(self) -> bool {
        matches!(self, LoadMode::TileMulticast | LoadMode::Im2colMulticast)
    }
}

/// Operation of `cp.reduce.async.bulk` on the elements of shared memory: an operation and its type,
/// in one byte.
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

/// A `wgmma.mma_async`: 64 rows, `columns` columns. Of the sums, register `4 * j + 2 * i + e` of
/// lane `4 * g + t` of the warpgroup's warp `w` is row `16 * w + 8 * i + g`, column
/// `8 * j + 2 * t + e`. Sums of 16 bits stand in pairs: register `2 * j + i` has what registers
/// `4 * j + 2 * i` and `4 * j + 2 * i + 1` have above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wgmma {
    /// Columns: a multiple of 8 up to 256.
    pub columns: u16,
    /// Type of the left matrix.
    pub ty: crate::ir::MatrixTy,
    /// Type of the right matrix: that of the left one, but for the signs of integers and the two
    /// types of `f8`.
    pub ty_b: crate::ir::MatrixTy,
    /// Type of the sums.
    pub sum: crate::ir::MatrixSum,
    /// The left matrix is negated.
    pub negate_a: bool,
    /// The right matrix is negated.
    pub negate_b: bool,
    /// The rows of the left matrix are neighbours in memory, not the summed dimension.
    pub transpose_a: bool,
    /// The columns of the right matrix are neighbours in memory, not the summed dimension.
    pub transpose_b: bool,
}

impl Wgmma {
    /// Elements along the summed dimension: 32 bytes.
    pub const fn depth(self) -> u32 {
        256 / self.ty.bits()
    }

    /// Registers of sums.
    pub const fn sums(self) -> usize {
        self.columns as usize
            / match self.sum {
                crate::ir::MatrixSum::F16 => 4,
                _ => 2,
            }
    }

    /// Multiply-adds of one warp's part.
    pub const fn multiply_adds(self) -> u64 {
        16 * self.columns as u64 * self.depth() as u64
    }
}

/// The registers of matrix products that an instruction other than a product reads or writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Rows that it reads.
    pub reads: Vec<crate::ir::Reg>,
    /// Rows that it writes.
    pub writes: Vec<crate::ir::Reg>,
}
