//! Lowering from the syntax tree to the program, once, when a module is loaded.
//!
//! Each kernel goes through these steps:
//!
//! 1. `statements`, `dispatch` and the files named after families of instructions check every
//!    operand and modifier. They emit [`ir`](crate::ir) instructions over *virtual* registers, and
//!    inline device functions.
//! 2. `copy_propagation` removes copies and unused results.
//! 3. `flow_graph` finds the basic blocks and drops unreachable ones; `reconvergence` finds the
//!    point of reconvergence of each branch.
//! 4. `liveness` finds the live ranges of virtual registers; `allocate` coalesces copies where
//!    possible and assigns rows to every virtual register.
//!
//! Liveness is that of a single thread. It is valid for the whole warp, because an instruction
//! writes only the lanes that execute it: two registers may share a row if no *lane* needs both. A
//! guarded instruction may leave its destination unchanged, so it does not end the live range of
//! the old value.
//!
//! Functions that no kernel calls are not lowered.

pub(crate) mod builder;
pub(crate) mod dispatch;
pub(crate) mod draft;
pub(crate) mod instructions;
pub(crate) mod layout;
pub(crate) mod modifiers;
pub(crate) mod names;
pub(crate) mod operand_sources;
pub(crate) mod passes;
pub(crate) mod special;
pub(crate) mod statements;
#[cfg(test)]
mod tests;
pub(crate) mod tier;

use crate::ir::Program;
use crate::load_error::LoadError;
use crate::ptx::parse::parse;

type Result<T> = std::result::Result<T, LoadError>;

/// Compiles PTX text to a program.
///
/// # Errors
/// The first construct that is not PTX, or that the emulator does not support, with its line.
pub fn compile(text: &str) -> Result<Program> {
    let ast = parse(text)?;
    let target = target_number(ast.target)?;
    let (module, globals) = layout::Module::new(&ast, target)?;
    let mut kernels = Vec::new();
    for function in ast.functions.iter().filter(|function| function.entry) {
        if let Some(body) = &function.body {
            kernels.push(builder::lower_kernel(&module, function, body)?);
        }
    }
    Ok(Program {
        kernels,
        globals,
        target,
        version: ast.version,
    })
}

/// Parses a target: `sm_90a` is 90.
fn target_number(target: &str) -> Result<u32> {
    let digits = target
        .trim_start_matches("sm_")
        .trim_end_matches(['a', 'f']);
    digits
        .parse()
        .map_err(|_| LoadError::new(0, format!("`{target}` is not an architecture")))
}
