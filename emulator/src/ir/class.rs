//! Classes of instructions, by which counters are grouped.
use super::Op;

/// A class of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// `fma.f32`.
    FmaF32,
    /// Other f32 arithmetic.
    F32,
    /// f64 arithmetic.
    F64,
    /// f16 and bf16 arithmetic, scalar and packed.
    Half,
    /// `rcp`, `sqrt`, `ex2`, `sin` and their like.
    Special,
    /// Integer arithmetic, shifts and logic.
    Integer,
    /// `cvt`.
    Convert,
    /// Comparisons, selections and predicates.
    Compare,
    /// `mov`, packing, `cvta`.
    Move,
    /// Loads from global memory (generic ones included).
    LoadGlobal,
    /// Stores to global memory (generic ones included).
    StoreGlobal,
    /// Loads from shared memory (`ldmatrix` included).
    LoadShared,
    /// Stores to shared memory (`stmatrix` included).
    StoreShared,
    /// Loads from local memory.
    LoadLocal,
    /// Stores to local memory.
    StoreLocal,
    /// Loads from constant memory and of parameters.
    LoadConst,
    /// `atom` and `red`.
    Atomic,
    /// `cp.async` and its waits.
    AsyncCopy,
    /// Branches, `exit`.
    Control,
    /// Block barriers.
    Barrier,
    /// Shuffles, votes, `movmatrix` and other operations of a whole warp.
    Warp,
    /// Matrix products.
    Matrix,
    /// Fences, hints and the rest.
    Other,
}

impl Class {
    /// Every class, in the order of [`Counters::classes`](crate::counters::Counters::classes).
    pub const ALL: [Class; 23] = [
        Class::FmaF32,
        Class::F32,
        Class::F64,
        Class::Half,
        Class::Special,
        Class::Integer,
        Class::Convert,
        Class::Compare,
        Class::Move,
        Class::LoadGlobal,
        Class::StoreGlobal,
        Class::LoadShared,
        Class::StoreShared,
        Class::LoadLocal,
        Class::StoreLocal,
        Class::LoadConst,
        Class::Atomic,
        Class::AsyncCopy,
        Class::Control,
        Class::Barrier,
        Class::Warp,
        Class::Matrix,
        Class::Other,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Class::FmaF32 => "fma_f32",
            Class::F32 => "f32",
            Class::F64 => "f64",
            Class::Half => "half",
            Class::Special => "special",
            Class::Integer => "integer",
            Class::Convert => "convert",
            Class::Compare => "compare",
            Class::Move => "move",
            Class::LoadGlobal => "load_global",
            Class::StoreGlobal => "store_global",
            Class::LoadShared => "load_shared",
            Class::StoreShared => "store_shared",
            Class::LoadLocal => "load_local",
            Class::StoreLocal => "store_local",
            Class::LoadConst => "load_const",
            Class::Atomic => "atomic",
            Class::AsyncCopy => "async_copy",
            Class::Control => "control",
            Class::Barrier => "barrier",
            Class::Warp => "warp",
            Class::Matrix => "matrix",
            Class::Other => "other",
        }
    }

    /// The class of an instruction.
    pub fn of(op: &Op) -> Class {
        super::operations::class(op)
    }
}
