//! The table of operations: per operation its counter class, its purity and its operands.
//!
//! Visits of operands, [`is_pure`] and [`class`] are generated from it. An operation without an
//! entry does not compile.

use super::{Address, Class, FloatTy, FloatUnary, Inst, Op, Pred, PredSrc, Reg, Space};

/// Use of an operand by an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads the operand.
    Use,
    /// Writes the operand.
    Def,
    /// Reads and writes the operand, which is visited once.
    Update,
}

impl Role {
    /// Returns whether the old value is read.
    pub fn reads(self) -> bool {
        self != Role::Def
    }

    /// Returns whether a new value is written.
    pub fn writes(self) -> bool {
        self != Role::Use
    }
}

/// A register or a predicate of an instruction.
pub(crate) enum Place<'i> {
    /// A register.
    Reg(&'i mut Reg),
    /// A predicate.
    Pred(&'i mut Pred),
}

/// Calls `visit` for every register and predicate of `inst` except `NONE`, sources first.
pub fn visit(inst: &mut Inst, visit: &mut impl FnMut(Place<'_>, Role)) {
    inst.guard.visit(Role::Use, visit);
    if let Op::Extra { update, regs, .. } = &mut inst.op {
        let role = if *update { Role::Update } else { Role::Use };
        regs.visit(role, visit);
        return;
    }
    operands(&mut inst.op, visit);
}

/// An operand of an instruction.
trait Operand {
    /// Calls `visit` for its registers and predicates except `NONE`.
    fn visit(&mut self, role: Role, visit: &mut impl FnMut(Place<'_>, Role));
}

impl Operand for Reg {
    fn visit(&mut self, role: Role, visit: &mut impl FnMut(Place<'_>, Role)) {
        if !self.is_none() {
            visit(Place::Reg(self), role);
        }
    }
}

impl<const COUNT: usize> Operand for [Reg; COUNT] {
    fn visit(&mut self, role: Role, visit: &mut impl FnMut(Place<'_>, Role)) {
        for reg in self {
            reg.visit(role, visit);
        }
    }
}

impl Operand for Address {
    fn visit(&mut self, role: Role, visit: &mut impl FnMut(Place<'_>, Role)) {
        self.base.visit(role, visit);
    }
}

impl Operand for PredSrc {
    fn visit(&mut self, role: Role, visit: &mut impl FnMut(Place<'_>, Role)) {
        if self.pred != Pred::TRUE {
            visit(Place::Pred(&mut self.pred), role);
        }
    }
}

impl Operand for Pred {
    fn visit(&mut self, role: Role, visit: &mut impl FnMut(Place<'_>, Role)) {
        if !self.is_none() {
            visit(Place::Pred(self), role);
        }
    }
}

/// The class of an entry: a constant, or a function of the operation.
trait ClassOf {
    fn class(self, op: &Op) -> Class;
}

impl ClassOf for Class {
    fn class(self, _: &Op) -> Class {
        self
    }
}

impl<F: Fn(&Op) -> Class> ClassOf for F {
    fn class(self, op: &Op) -> Class {
        self(op)
    }
}

macro_rules! place {
    (reads $field:ident $visit:ident) => {
        $field.visit(Role::Use, $visit)
    };
    (writes $field:ident $visit:ident) => {
        $field.visit(Role::Def, $visit)
    };
    // An operand that is read and then written: the visitor sees a copy as the source, so that the
    // operand itself is rewritten only once.
    (updates $field:ident $visit:ident) => {{
        let mut read = *$field;
        read.visit(Role::Use, $visit);
        $field.visit(Role::Def, $visit);
    }};
}

macro_rules! purity {
    (pure $op:ident) => {
        true
    };
    (effect $op:ident) => {
        false
    };
    (depends $op:ident) => {
        has_no_effect($op)
    };
}

macro_rules! operations {
    ($($name:ident: $class:path, $purity:ident, [$($role:ident $field:ident),*];)*) => {
        fn operands(op: &mut Op, visit: &mut impl FnMut(Place<'_>, Role)) {
            match op {
                $(Op::$name { $($field,)* .. } => { $(place!($role $field visit);)* })*
            }
        }

        /// Returns whether the instruction may be removed if its results are unused. Loads are kept
        /// because of their checks, except loads of parameters at a constant address, which cannot
        /// fail.
        pub fn is_pure(op: &Op) -> bool {
            match op {
                $(Op::$name { .. } => purity!($purity op),)*
            }
        }

        /// The counter class of an operation.
        pub fn class(op: &Op) -> Class {
            match op {
                $(Op::$name { .. } => $class.class(op),)*
            }
        }
    };
}

operations! {
    // ---- moves ----
    Mov: Class::Move, pure, [reads a, writes d];
    Pack: Class::Move, pure, [reads parts, writes d];
    Unpack: Class::Move, pure, [reads a, writes parts];
    Selp: Class::Compare, pure, [reads p, reads a, reads b, writes d];
    SlctS32: Class::Compare, pure, [reads a, reads b, reads c, writes d];
    SlctF32: Class::Compare, pure, [reads a, reads b, reads c, writes d];
    Cvta: Class::Move, pure, [reads a, writes d];
    IsSpace: Class::Move, pure, [reads a, writes p];
    ReadClock: Class::Move, pure, [writes d];
    // ---- integers ----
    IntBinary: Class::Integer, pure, [reads a, reads b, writes d];
    IntUnary: Class::Integer, pure, [reads a, writes d];
    Mad: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Sad: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Carry: Class::Integer, depends, [reads a, reads b, reads c, writes d];
    Lop3: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Shf: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Prmt: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Bfe: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Bfi: Class::Integer, pure, [reads a, reads b, reads pos, reads len, writes d];
    Bmsk: Class::Integer, pure, [reads a, reads b, writes d];
    Szext: Class::Integer, pure, [reads a, reads b, writes d];
    Fns: Class::Integer, pure, [reads mask, reads base, reads offset, writes d];
    Dp4a: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    Dp2a: Class::Integer, pure, [reads a, reads b, reads c, writes d];
    // ---- floating point ----
    Fma: float_class, pure, [reads a, reads b, reads c, writes d];
    FloatBinary: float_class, pure, [reads a, reads b, writes d];
    FloatUnary: float_class, pure, [reads a, writes d];
    TestP: float_class, pure, [reads a, writes p];
    Cvt: Class::Convert, pure, [reads a, writes d];
    CvtPack: Class::Convert, pure, [reads a, reads b, writes d];
    CvtToFp8: Class::Convert, pure, [reads a, reads b, writes d];
    CvtFromFp8: Class::Convert, pure, [reads a, writes d];
    CvtPackInt: Class::Convert, pure, [reads a, reads b, reads c, writes d];
    // ---- predicates ----
    Setp: Class::Compare, pure, [reads a, reads b, reads c, writes p, writes q];
    Set: Class::Compare, pure, [reads c, reads a, reads b, writes d];
    PredLogic: Class::Compare, pure, [reads a, reads b, writes d];
    // ---- memory ----
    Ld: memory_class, depends, [reads addr, writes d];
    St: memory_class, effect, [reads addr, reads src];
    Atom: Class::Atomic, effect, [reads addr, reads b, reads c, writes d];
    CpAsync: Class::AsyncCopy, effect, [reads dst, reads src, reads src_size];
    CpAsyncCommit: Class::AsyncCopy, effect, [];
    CpAsyncWait: Class::AsyncCopy, effect, [];
    CpAsyncWaitAll: Class::AsyncCopy, effect, [];
    Fence: Class::Other, effect, [];
    Nop: Class::Other, effect, [];
    // ---- control ----
    Bra: Class::Control, effect, [];
    BrxIdx: Class::Control, effect, [reads index];
    Exit: Class::Control, effect, [];
    Trap: Class::Control, effect, [];
    AssertFail: Class::Other, effect, [reads message, reads file, reads line, reads function];
    Printf: Class::Other, effect, [reads format, reads args, writes d];
    // ---- threads of a block or warp ----
    Barrier: Class::Barrier, effect, [reads id, reads count, reads src, writes d, writes p];
    WarpSync: Class::Warp, effect, [reads mask];
    Shfl: Class::Warp, effect, [reads a, reads b, reads c, reads mask, writes d, writes p];
    Vote: Class::Warp, effect, [reads mask, reads src, writes d, writes p];
    Match: Class::Warp, effect, [reads a, reads mask, writes d, writes p];
    Redux: Class::Warp, effect, [reads a, reads mask, writes d];
    ActiveMask: Class::Warp, pure, [writes d];
    Elect: Class::Warp, effect, [reads mask, writes d, writes p];
    // ---- matrices ----
    LdMatrix: Class::LoadShared, effect, [reads addr, writes d];
    StMatrix: Class::StoreShared, effect, [reads addr, reads src];
    MovMatrix: Class::Warp, effect, [reads a, writes d];
    Mma: Class::Matrix, effect, [reads a, reads b, updates d];
    // ---- asynchronous operations ----
    Extra: Class::Integer, effect, [];
    Mbarrier: Class::Barrier, effect, [reads addr, reads a, writes d, writes p];
    BulkLoad: Class::AsyncCopy, effect, [reads dst, reads src, reads barrier];
    BulkStore: Class::AsyncCopy, effect, [reads dst, reads src, reads size];
    BulkShared: Class::AsyncCopy, effect, [reads dst, reads src, reads barrier];
    StoreAsync: Class::StoreShared, effect, [reads addr, reads barrier];
    ReduceAsync: Class::Atomic, effect, [reads addr, reads barrier, reads b];
    ClusterArrive: Class::Barrier, effect, [];
    ClusterWait: Class::Barrier, effect, [];
    MapBlock: Class::Move, effect, [reads a, reads b, writes d];
    RankOf: Class::Move, effect, [reads a, writes d];
    BulkCommit: Class::AsyncCopy, effect, [];
    BulkWait: Class::AsyncCopy, effect, [];
    TensorLoad: Class::AsyncCopy, effect, [reads dst, reads map, reads barrier];
    TensorStore: Class::AsyncCopy, effect, [reads map, reads src];
    ReplaceField: Class::AsyncCopy, effect, [reads map, reads value];
    CopyMap: Class::AsyncCopy, effect, [reads dst, reads src];
    ProxyFence: Class::Other, effect, [];
    Wgmma: Class::Matrix, effect, [reads a, reads b, reads scale];
    WgmmaFence: Class::Matrix, effect, [];
    WgmmaCommit: Class::Matrix, effect, [];
    WgmmaWait: Class::Matrix, effect, [];
    SetMaxRegisters: Class::Other, effect, [];
}

/// Returns whether an operation whose purity depends on its operands has no side effect.
fn has_no_effect(op: &Op) -> bool {
    match op {
        Op::Ld { access, addr, .. } => access.space == Space::Param && addr.base.is_none(),
        Op::Carry { carry_out, .. } => !carry_out,
        _ => false,
    }
}

/// The class of floating-point arithmetic, by type.
fn float_class(op: &Op) -> Class {
    let (ty, single) = match op {
        Op::Fma { ty, .. } => (ty, Class::FmaF32),
        Op::FloatUnary {
            op: FloatUnary::Neg | FloatUnary::Abs,
            ty,
            ..
        }
        | Op::FloatBinary { ty, .. }
        | Op::TestP { ty, .. } => (ty, Class::F32),
        _ => return Class::Special,
    };
    match ty {
        FloatTy::F32 => single,
        FloatTy::F64 => Class::F64,
        _ => Class::Half,
    }
}

/// The class of a load or store, by state space.
fn memory_class(op: &Op) -> Class {
    let is_store = matches!(op, Op::St { .. });
    let (Op::Ld { access, .. } | Op::St { access, .. }) = op else {
        return Class::Other;
    };
    match (access.space, is_store) {
        (Space::Shared | Space::Cluster, true) => Class::StoreShared,
        (Space::Local, true) => Class::StoreLocal,
        (_, true) => Class::StoreGlobal,
        (Space::Generic | Space::Global, false) => Class::LoadGlobal,
        (Space::Shared | Space::Cluster, false) => Class::LoadShared,
        (Space::Local, false) => Class::LoadLocal,
        (Space::Const | Space::Param, false) => Class::LoadConst,
    }
}
