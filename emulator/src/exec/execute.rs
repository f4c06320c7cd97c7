//! Dispatch of an operation to the family that executes it, generated from the table of operations.
use crate::exec::instructions;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::Step;
use crate::exec::machine::warp::Warp;
use crate::ir::Op;
use crate::ir::table::operations;

/// Executes one operation for the lanes of `m`, which are some of the split's.
///
/// The operations of main loops are inlined here: a family executes its other operations in a
/// function of its own.
#[inline(always)]
pub(crate) fn step<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    macro_rules! dispatch {
        ($($family:ident {
            $($(#[$doc:meta])* $name:ident($($kind:tt)*) $({ $($operands:tt)* })?)*
        })*) => {
            match op {
                $($(Op::$name { .. })|* => instructions::$family::execute::<I>(cx, w, m, op),)*
            }
        };
    }
    operations!(dispatch)
}
