//! The most frequent handlers, compiled once for every processor and once for those with wider
//! vectors and fused multiply-add. The set of handlers is chosen when a launch begins.
//!
//! The handlers are `#[inline(always)]`, so that their loops become part of a function with the
//! right target features. `f32::mul_add` is the processor's instruction there, and a correct
//! library routine in the baseline.
use crate::exec::instructions::isa::{Comparison, Conversion, Isa, Matrices, handlers};
use crate::exec::instructions::memory;
use crate::exec::instructions::wgmma::{arithmetic, operands};
use crate::exec::instructions::{async_copy, bits, compare, float, half, integer, matrix, moves};
use crate::exec::machine::context::Context;
use crate::exec::machine::warp::Warp;
use crate::exec::machine::wgmma_state::Factors;
use crate::ir::*;
use crate::sanitizer::Outcome;

macro_rules! define {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:expr;)*) => {
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

handlers!(define);

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
