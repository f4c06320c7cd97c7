//! A kernel between its instructions and the passes: code over virtual registers.

use crate::ir::{ConstantValue, Inst, Pc, Special, Width};

/// Origin of a virtual register's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Written by instructions.
    Variable,
    /// A row that is filled before the kernel starts.
    Constant(ConstantValue),
    /// A row with a special register, filled before the kernel starts.
    Special(Special),
    /// The address of dynamic shared memory, known after the layout of the static variables, plus
    /// an addend.
    DynamicShared(i64),
}

/// A virtual register.
#[derive(Clone, Copy, Debug)]
pub struct Virtual {
    /// Width of the register.
    pub width: Width,
    /// Source of its value.
    pub kind: Kind,
}

/// A kernel during lowering: code over virtual registers, branches to labels.
#[derive(Default)]
pub struct Draft {
    /// The instructions. Targets of branches are labels.
    pub code: Vec<Inst>,
    /// The PTX line of each instruction.
    pub lines: Vec<u32>,
    /// The program counter of each label.
    pub labels: Vec<Pc>,
    /// The virtual registers.
    pub regs: Vec<Virtual>,
    /// Number of virtual predicates, [`Pred::TRUE`](crate::ir::Pred::TRUE) included.
    pub preds: u32,
    /// Targets of `brx.idx`, as labels.
    pub tables: Vec<Vec<Pc>>,
    /// Number of register lists.
    pub lists: u16,
}
