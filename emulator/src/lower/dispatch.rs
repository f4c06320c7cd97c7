//! Dispatch from a mnemonic to the family that lowers it.

use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::instructions::{
    async_copy, atomics, barrier, bits, calls, cluster, collective, compare, control, convert,
    fence, float, integer, matrix, mbarrier, memory, moves, setmaxnreg, tensor_map, wgmma, wmma,
};
use crate::lower::modifiers::Mods;
use crate::ptx::ast::Instruction;

/// Lowers an instruction if the family has its mnemonic.
type Family = for<'m, 'a> fn(
    &mut Builder<'m, 'a>,
    &str,
    &'m Instruction<'a>,
    &mut Mods<'a>,
) -> Option<Result<()>>;

/// The families, the most frequent ones first. No mnemonic belongs to two.
const FAMILIES: [Family; 21] = [
    memory::lower,
    float::lower,
    integer::lower,
    moves::lower,
    compare::lower,
    convert::lower,
    bits::lower,
    control::lower,
    matrix::lower,
    collective::lower,
    barrier::lower,
    async_copy::lower,
    wgmma::lower,
    mbarrier::lower,
    atomics::lower,
    fence::lower,
    cluster::lower,
    tensor_map::lower,
    setmaxnreg::lower,
    calls::lower,
    wmma::lower,
];

impl<'m, 'a> Builder<'m, 'a> {
    /// Lowers one instruction.
    pub(crate) fn instruction(&mut self, i: &'m Instruction<'a>) -> Result<()> {
        let (base, mut mods) = Mods::split(i)?;
        let lowered = FAMILIES
            .iter()
            .find_map(|family| family(self, base, i, &mut mods));
        match lowered {
            Some(lowered) => lowered?,
            None => return mods.error("the instruction is not supported"),
        }
        mods.finish()
    }
}
