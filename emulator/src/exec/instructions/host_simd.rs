//! The most frequent handlers, compiled once for every processor and once for those with wider
//! vectors and fused multiply-add. The set of handlers is chosen when a launch begins.
//!
//! The handlers are `#[inline(always)]`, so that their loops become part of a function with the
//! right target features. `f32::mul_add` is the processor's instruction there, and a correct
//! library routine in the baseline.
use crate::exec::instructions::compare::Comparison;
use crate::exec::instructions::convert::Conversion;
use crate::exec::instructions::ldmatrix::Matrices;
use crate::exec::instructions::memory;
use crate::exec::instructions::wgmma::{arithmetic, operands};
use crate::exec::instructions::{async_copy, bits, compare, float, half, integer, matrix, moves};
use crate::exec::machine::context::Context;
use crate::exec::machine::warp::Warp;
use crate::exec::machine::wgmma_state::Factors;
use crate::ir::*;
use crate::sanitizer::Outcome;

macro_rules! handlers {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:expr;)*) => {
        /// The handlers of an instruction set.
        pub(crate) trait Isa {
            /// Executes consecutive plain `fma.rn.f32` instructions of all lanes from `from` on;
            /// returns the index of the first other instruction.
            fn fma_run(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize;
            $(fn $name($($arg: $ty),*) $(-> $ret)?;)*
        }

        /// Features of every processor of the architecture.
        pub(crate) struct Baseline;

        impl Isa for Baseline {
            #[inline(never)]
            fn fma_run(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize {
                fma_run_body(w, code, from, end)
            }
            $(#[inline(never)] fn $name($($arg: $ty),*) $(-> $ret)? { $body })*
        }

        /// AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        pub(crate) struct Avx2;

        #[cfg(target_arch = "x86_64")]
        impl Isa for Avx2 {
            #[inline(always)]
            fn fma_run(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize {
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                #[inline(never)]
                fn inner(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize {
                    fma_run_body(w, code, from, end)
                }
                // SAFETY: `Avx2` is chosen only where `Level::detect` has found all of these
                // features.
                unsafe { inner(w, code, from, end) }
            }
            $(#[inline(always)] fn $name($($arg: $ty),*) $(-> $ret)? {
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                #[inline(never)]
                fn inner($($arg: $ty),*) $(-> $ret)? { $body }
                // SAFETY: `Avx2` is chosen only where `Level::detect` has found all of these
                // features.
                unsafe { inner($($arg),*) }
            })*
        }

        /// AVX-512 too: used only for the main loop's own instruction, where another copy pays off.
        #[cfg(target_arch = "x86_64")]
        pub(crate) struct Avx512;

        #[cfg(target_arch = "x86_64")]
        impl Isa for Avx512 {
            #[inline(always)]
            fn fma_run(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize {
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                #[inline(never)]
                fn inner(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize {
                    fma_run_body(w, code, from, end)
                }
                // SAFETY: `Avx512` is chosen only where `Level::detect` has found all of these
                // features.
                unsafe { inner(w, code, from, end) }
            }
            $(#[inline(always)] fn $name($($arg: $ty),*) $(-> $ret)? { Avx2::$name($($arg),*) })*
        }
    };
}

handlers! {
    fn fma32(w: &mut Warp, m: u32, mode: FloatMode, d: Reg, abc: [Reg; 3])
        = float::fma32(w, m, mode, d, abc);
    fn float32(w: &mut Warp, m: u32, op: FloatBinary, mode: FloatMode, d: Reg, a: Reg, b: Reg)
        = float::binary32(w, m, op, mode, d, a, b);
    fn float_unary32(w: &mut Warp, m: u32, op: FloatUnary, mode: FloatMode, d: Reg, a: Reg)
        = float::unary32(w, m, op, mode, d, a);
    fn half_fma(w: &mut Warp, m: u32, ty: FloatTy, mode: FloatMode, d: Reg, abc: [Reg; 3])
        = half::fma(w, m, ty, mode, d, abc);
    fn half_binary(
        w: &mut Warp, m: u32, op: FloatBinary, ty: FloatTy, mode: FloatMode, d: Reg, ab: [Reg; 2],
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
    fn mov(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg) = moves::mov(w, m, width, d, a);
    fn selp(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg, b: Reg, p: PredSrc)
        = compare::selp(w, m, width, d, a, b, p);
    fn pack(w: &mut Warp, m: u32, kind: Packing, d: Reg, parts: [Reg; 4])
        = moves::pack(w, m, kind, d, parts);
    fn unpack(w: &mut Warp, m: u32, kind: Packing, parts: [Reg; 4], a: Reg)
        = moves::unpack(w, m, kind, parts, a);
    fn load(
        cx: &mut Context<'_>, w: &mut Warp, m: u32, access: AccessType, d: [Reg; 4], addr: Address,
    ) -> Outcome
        = memory::load(cx, w, m, access, d, addr);
    fn load_left(
        cx: &mut Context<'_>, w: &Warp, factors: &mut Factors, wgmma: Wgmma, from: (u64, u32),
    ) -> Outcome
        = operands::load_left(cx, w, factors, wgmma, from);
    fn load_right(
        cx: &mut Context<'_>, w: &Warp, factors: &mut Factors, wgmma: Wgmma, from: (u64, u32),
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
        cx: &mut Context<'_>, w: &mut Warp, m: u32, bytes: u8, places: [Address; 2], size: Reg,
    ) -> Outcome
        = async_copy::copy(cx, w, m, bytes, places, size);
    fn wait_async(cx: &mut Context<'_>, w: &mut Warp, m: u32, pending: Option<u8>)
        = async_copy::wait(cx, w, m, pending);
    fn mma(w: &mut Warp, kind: Mma, d: [Reg; 4], a: [Reg; 4], b: [Reg; 2])
        = matrix::mma(w, kind, d, a, b);
    fn ldmatrix(
        cx: &mut Context<'_>, w: &mut Warp, m: u32, kind: Matrices, d: [Reg; 4], addr: Address,
    ) -> Outcome
        = kind.load(cx, w, m, d, addr);
    fn stmatrix(
        cx: &mut Context<'_>, w: &mut Warp, m: u32, kind: Matrices, src: [Reg; 4], addr: Address,
    ) -> Outcome
        = kind.store(cx, w, m, src, addr);
}

/// Executes consecutive plain `fma.rn.f32` instructions of all lanes; returns the index of the
/// first other instruction. Main loops consist of these, so they have a loop without dispatch.
#[inline(always)]
fn fma_run_body(w: &mut Warp, code: &[Inst], from: usize, end: usize) -> usize {
    let mut at = from;
    while at < end {
        let Inst {
            op:
                Op::Fma {
                    ty: FloatTy::F32,
                    mode,
                    d,
                    a,
                    b,
                    c,
                },
            guard: PredSrc::TRUE,
        } = code[at]
        else {
            break;
        };
        if !float::is_plain(mode) {
            break;
        }
        let (a, b, c) = (w.u32s(a), w.u32s(b), w.u32s(c));
        let mut out = [0; 32];
        for i in 0..32 {
            let sum = f32::from_bits(a[i]).mul_add(f32::from_bits(b[i]), f32::from_bits(c[i]));
            out[i] = float::canonical(sum);
        }
        *w.u32s_mut(d) = out;
        at += 1;
    }
    at
}

/// The instruction sets that this processor may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Features of this processor.
    pub fn detect() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! has {
                ($($feature:tt),*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
            }
            if has!("avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt", "popcnt") {
                return if has!("avx512f", "avx512bw", "avx512dq", "avx512vl") {
                    Level::Avx512
                } else {
                    Level::Avx2
                };
            }
        }
        Level::Baseline
    }
}
