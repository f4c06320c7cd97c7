//! Memory accesses, barriers and operations of a warp.

use super::{Reg, Width};

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Space {
    Generic,
    Global,
    Shared,
    /// `.shared::cluster`.
    Cluster,
    Local,
    Const,
    Param,
}

impl Space {
    /// Returns whether an address in the space may be in shared memory.
    pub const fn may_be_shared(self) -> bool {
        matches!(self, Space::Shared | Space::Cluster | Space::Generic)
    }
}

/// An address: a register, or none, plus a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Base register; [`Reg::NONE`] for zero.
    pub base: Reg,
    /// True if the base is a 64-bit register. A 32-bit one is zero-extended.
    pub wide: bool,
    /// Offset added to the base. Larger offsets are in a constant register.
    pub offset: i32,
}

/// The elements that a load or store transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessType {
    /// The state space.
    pub space: Space,
    /// Bytes of an element in memory: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Elements: 1, 2 or 4.
    pub count: u8,
    /// For loads: true if an element narrower than its register is sign-extended.
    pub signed: bool,
    /// Width of each register. Stores write its low bytes.
    pub reg: Width,
    /// True for a synchronising access: `.volatile`, `.relaxed`, `.acquire`, `.release`, `.mmio`.
    /// Races between two of them are not reported.
    pub strong: bool,
}

/// Operation of an atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// The type of an atomic. Untyped 32 and 64 bits are `U32` and `U64`, 16 bits `B16` (`cas` and
/// `exch` only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AtomTy {
    B16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

/// Operation of a block barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarrierKind {
    /// Waits for all threads.
    Sync,
    /// Arrives and continues.
    Arrive,
    /// Waits and returns the number of threads whose predicate is true.
    RedPopc,
    /// Waits and returns whether all predicates are true.
    RedAnd,
    /// Waits and returns whether any predicate is true.
    RedOr,
}

/// Shuffle modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// Vote modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    /// Writes a register instead of a predicate.
    Ballot,
}

/// `redux.sync` operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ReduxOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
}

/// Selects a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// `%clock`, `%clock_lo`: one row, instructions issued by the warp.
    Clock32,
    /// `%clock_hi`: one row.
    ClockHi,
    /// `%clock64`: two rows.
    Clock64,
    /// `%globaltimer`: two rows, nanoseconds since the launch.
    GlobalTimer,
    /// `%globaltimer_lo`: one row.
    GlobalTimerLo,
    /// `%globaltimer_hi`: one row.
    GlobalTimerHi,
}
