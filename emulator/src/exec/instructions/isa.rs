//! The most frequent handlers, which are compiled per instruction set of the host: their list, and
//! the interface by which families call them.
//!
//! [`crate::exec::instructions::host_simd`] implements the interface.
use crate::exec::machine::context::Context;
use crate::exec::machine::warp::Warp;
use crate::exec::machine::wgmma_state::Factors;
use crate::ir::*;
use crate::sanitizer::Outcome;

/// Shared parts of `setp` and `set`.
#[derive(Clone, Copy)]
pub(crate) struct Comparison {
    pub cmp: Cmp,
    pub ty: CmpTy,
    pub ftz: bool,
    pub combine: BoolOp,
    pub c: PredSrc,
}

/// Conversion of a `cvt`.
#[derive(Clone, Copy)]
pub(crate) struct Conversion {
    pub to: CvtTy,
    pub from: CvtTy,
    pub mode: FloatMode,
    pub reg: Width,
}

/// Shape and modifiers of `ldmatrix` and `stmatrix`.
#[derive(Clone, Copy)]
pub(crate) struct Matrices {
    pub count: u8,
    pub trans: bool,
    pub generic: bool,
}

/// Invokes the macro `$callback` with the list of handlers: signatures, and the functions of the
/// families that implement them.
macro_rules! handlers {
    ($callback:ident) => {
        $callback! {
            fn fma32(w: &mut Warp, m: u32, mode: FloatMode, d: Reg, abc: [Reg; 3])
                = float::fma32(w, m, mode, d, abc);
            fn float32(
                w: &mut Warp, m: u32, op: FloatBinary, mode: FloatMode, d: Reg, a: Reg, b: Reg,
            )
                = float::binary32(w, m, op, mode, d, a, b);
            fn float_unary32(w: &mut Warp, m: u32, op: FloatUnary, mode: FloatMode, d: Reg, a: Reg)
                = float::unary32(w, m, op, mode, d, a);
            fn half_fma(w: &mut Warp, m: u32, ty: FloatTy, mode: FloatMode, d: Reg, abc: [Reg; 3])
                = half::fma(w, m, ty, mode, d, abc);
            fn half_binary(
                w: &mut Warp, m: u32, op: FloatBinary, ty: FloatTy, mode: FloatMode, d: Reg,
                ab: [Reg; 2],
            )
                = half::binary(w, m, op, ty, mode, d, ab);
            fn convert(w: &mut Warp, m: u32, conversion: &Conversion, d: Reg, a: Reg)
                = conversion.run(w, m, d, a);
            fn int_binary(w: &mut Warp, m: u32, op: IntBinary, ty: IntTy, d: Reg, a: Reg, b: Reg)
                = integer::binary(w, m, op, ty, d, a, b);
            fn mad(w: &mut Warp, m: u32, part: MadPart, ty: IntTy, d: Reg, abc: [Reg; 3])
                = integer::mad(w, m, part, ty, d, abc);
            fn lop3(w: &mut Warp, m: u32, lut: u8, d: Reg, abc: [Reg; 3])
                = bits::lop3(w, m, lut, d, abc);
            fn shf(w: &mut Warp, m: u32, left: bool, clamp: bool, d: Reg, abc: [Reg; 3])
                = bits::shf(w, m, left, clamp, d, abc);
            fn setp(w: &mut Warp, m: u32, comparison: &Comparison, p: Pred, q: Pred, a: Reg, b: Reg)
                = comparison.setp(w, m, p, q, a, b);
            fn mov(
                w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg,
            )
                = moves::mov(w, m, width, d, a);
            fn selp(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg, b: Reg, p: PredSrc)
                = compare::selp(w, m, width, d, a, b, p);
            fn pack(w: &mut Warp, m: u32, kind: Packing, d: Reg, parts: [Reg; 4])
                = moves::pack(w, m, kind, d, parts);
            fn unpack(w: &mut Warp, m: u32, kind: Packing, parts: [Reg; 4], a: Reg)
                = moves::unpack(w, m, kind, parts, a);
            fn load(
                cx: &mut Context<'_>, w: &mut Warp, m: u32, access: AccessType, d: [Reg; 4],
                addr: Address,
            ) -> Outcome
                = memory::load(cx, w, m, access, d, addr);
            fn load_left(
                cx: &mut Context<'_>, w: &Warp, factors: &mut Factors, wgmma: Wgmma,
                from: (u64, u32),
            ) -> Outcome
                = operands::load_left(cx, w, factors, wgmma, from);
            fn load_right(
                cx: &mut Context<'_>, w: &Warp, factors: &mut Factors, wgmma: Wgmma,
                from: (u64, u32),
            ) -> Outcome
                = operands::load_right(cx, w, factors, wgmma, from);
            fn multiply(w: &mut Warp, sums: &[Reg], factors: &Factors, warp: usize, keep: bool)
                = arithmetic::multiply(w, sums, factors, warp, keep);
            fn multiply_half(w: &mut Warp, sums: &[Reg], factors: &Factors, warp: usize, keep: bool)
                = arithmetic::multiply_half(w, sums, factors, warp, keep);
            fn multiply_integers(
                w: &mut Warp, sums: &[Reg], factors: &Factors, warp: usize, how: (bool, MatrixSum),
            )
                = arithmetic::multiply_integers(w, sums, factors, warp, how);
            fn store(
                cx: &mut Context<'_>, w: &mut Warp, m: u32, access: AccessType, src: [Reg; 4],
                addr: Address,
            ) -> Outcome
                = memory::store(cx, w, m, access, src, addr);
            fn copy_async(
                cx: &mut Context<'_>, w: &mut Warp, m: u32, bytes: u8, places: [Address; 2],
                size: Reg,
            ) -> Outcome
                = async_copy::copy(cx, w, m, bytes, places, size);
            fn wait_async(cx: &mut Context<'_>, w: &mut Warp, m: u32, pending: Option<u8>)
                = async_copy::wait(cx, w, m, pending);
            fn mma(w: &mut Warp, kind: Mma, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2])
                = matrix::mma(w, kind, d, a, b);
            fn ldmatrix(
                cx: &mut Context<'_>, w: &mut Warp, m: u32, kind: Matrices, d: [Reg; 4],
                addr: Address,
            ) -> Outcome
                = kind.load(cx, w, m, d, addr);
            fn stmatrix(
                cx: &mut Context<'_>, w: &mut Warp, m: u32, kind: Matrices, src: [Reg; 4],
                addr: Address,
            ) -> Outcome
                = kind.store(cx, w, m, src, addr);
        }
    };
}

pub(crate) use handlers;

macro_rules! declare {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:expr;)*) => {
        /// The handlers of an instruction set.
        pub(crate) trait Isa {
            /// Executes consecutive plain `fma.rn.f32` instructions of all lanes from `from` on;
            /// returns the index of the first other instruction.
            fn fma_run(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize;
            $(fn $name($($arg: $ty),*) $(-> $ret)?;)*
        }
    };
}

handlers!(declare);
