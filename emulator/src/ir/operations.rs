//! The operations, as generated from the [table](crate::ir::table): the enum, the visit of
//! operands, purity and counter class.

use super::table::operations;
use super::*;

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

/// Visits an operand that is read and then written: the visitor sees a copy as the source, so that
/// the operand itself is rewritten only once.
fn update<T: Operand + Copy>(operand: &mut T, visit: &mut impl FnMut(Place<'_>, Role)) {
    let mut read = *operand;
    read.visit(Role::Use, visit);
    operand.visit(Role::Def, visit);
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

macro_rules! generate {
    ($($family:ident {
        $($(#[$doc:meta])* $name:ident($purity:ident, $class:path) $({
            $(with($($with:ident: $with_ty:ty),*))?
            $(reads($($read:ident: $read_ty:ty),*))?
            $(updates($($update:ident: $update_ty:ty),*))?
            $(writes($($write:ident: $write_ty:ty),*))?
        })?)*
    })*) => {
        /// Operation of an instruction.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op {
            $($(
                $(#[$doc])*
                $name $({
                    $($($with: $with_ty,)*)?
                    $($($read: $read_ty,)*)?
                    $($($update: $update_ty,)*)?
                    $($($write: $write_ty,)*)?
                })?,
            )*)*
        }

        fn operands(op: &mut Op, visit: &mut impl FnMut(Place<'_>, Role)) {
            match op {
                $($(
                    Op::$name {
                        $($($($read,)*)? $($($update,)*)? $($($write,)*)?)?
                        ..
                    } => {
                        $(
                            $($($read.visit(Role::Use, visit);)*)?
                            $($(update($update, visit);)*)?
                            $($($write.visit(Role::Def, visit);)*)?
                        )?
                    }
                )*)*
            }
        }

        /// Returns whether the instruction may be removed if its results are unused. Loads are kept
        /// because of their checks, except loads of parameters at a constant address, which cannot
        /// fail.
        pub fn is_pure(op: &Op) -> bool {
            match op {
                $($(Op::$name { .. } => purity!($purity op),)*)*
            }
        }

        /// The counter class of an operation.
        pub fn class(op: &Op) -> Class {
            match op {
                $($(Op::$name { .. } => $class.class(op),)*)*
            }
        }
    };
}

operations!(generate);

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
