//! Dispatch from a mnemonic to the code that lowers it.

use crate::ir::{IntBinary, IntUnary};
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::modifiers::Mods;
use crate::ptx::ast::Instruction;

impl<'m, 'a> Builder<'m, 'a> {
    /// Lowers one instruction.
    pub(crate) fn instruction(&mut self, i: &'m Instruction<'a>) -> Result<()> {
        let (base, mut mods) = Mods::split(i)?;
        let m = &mut mods;
        match base {
            // The most frequent instructions first.
            "fma" => self.fma(i, m),
            "ld" | "ldu" => self.load(i, m),
            "st" => self.store(i, m),
            "mov" => self.mov(i, m),
            "add" | "sub" | "mul" | "mad" | "min" | "max" | "div" | "rem" => {
                self.arithmetic(base, i, m)
            }
            "abs" | "neg" => self.sign(base, i, m),
            "and" => self.bitwise(IntBinary::And, i, m),
            "or" => self.bitwise(IntBinary::Or, i, m),
            "xor" => self.bitwise(IntBinary::Xor, i, m),
            "not" => self.bitwise_not(i, m),
            "cnot" => self.int_unary(IntUnary::Cnot, i, m),
            "brev" => self.int_unary(IntUnary::Brev, i, m),
            "shl" | "shr" => self.shift(base == "shl", i, m),
            "setp" => self.setp(i, m),
            "set" => self.set(i, m),
            "selp" => self.selp(i, m),
            "slct" => self.slct(i, m),
            "testp" => self.testp(i, m),
            "copysign" => self.copysign(i, m),
            "cvt" => self.cvt(i, m),
            "cvta" => self.cvta(i, m),
            "isspacep" => self.isspacep(i, m),
            "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => {
                self.float_function(base, i, m)
            }
            "popc" | "clz" | "bfind" => self.count_bits(base, i, m),
            "addc" | "subc" | "madc" => self.with_carry(base, i, m),
            "mul24" | "mad24" => self.mul24(base, i, m),
            "sad" | "bfe" | "lop3" | "prmt" | "shf" | "fns" => self.ternary(base, i, m),
            "bfi" => self.bfi(i, m),
            "bmsk" | "szext" => self.mask_or_extend(base, i, m),
            "dp4a" | "dp2a" => self.dot_product(base, i, m),
            "atom" | "red" => self.atomic(base == "atom", i, m),
            "cp" => self.cp_async(i, m),
            "mapa" => self.mapa(i, m),
            "getctarank" => self.get_rank(i, m),
            "mbarrier" => self.mbarrier(i, m),
            "tensormap" => self.tensor_map(i, m),
            "wgmma" => self.wgmma(i, m),
            "setmaxnreg" => self.set_max_registers(i, m),
            "membar" | "fence" => self.fence(i, m),
            "prefetch" | "prefetchu" | "discard" | "applypriority" | "nanosleep" | "pmevent"
            | "griddepcontrol" | "createpolicy" => self.hint(base, i, m),
            "bra" => self.branch(i, m),
            "brx" => self.branch_indexed(i, m),
            "call" => self.call(i, m),
            "ret" | "exit" | "trap" | "brkpt" => self.leave(base, i, m),
            "bar" | "barrier" => self.barrier(base, i, m),
            "shfl" => self.shuffle(i, m),
            "vote" => self.vote(i, m),
            "match" => self.match_lanes(i, m),
            "redux" => self.redux(i, m),
            "activemask" => self.active_mask(i, m),
            "elect" => self.elect(i, m),
            "mma" => self.mma(i, m),
            "wmma" => self.wmma(i, m),
            "ldmatrix" => self.ldmatrix(i, m),
            "stmatrix" => self.stmatrix(i, m),
            "movmatrix" => self.movmatrix(i, m),
            _ => m.error("the instruction is not supported"),
        }?;
        mods.finish()
    }
}
