//! 8-bit floating-point numbers.
use crate::exec::machine::lanes::{map1, map2};
use crate::exec::machine::softfloat::{f16_to_f32, f32_to_f16};
use crate::exec::machine::warp::Warp;
use crate::ir::{Fp8, Reg};

/// NaN of either type (PTX ISA, "Alternate Floating-Point Data Formats").
const NAN: u32 = 0x7f;

/// The value of the low byte.
#[inline(always)]
pub(crate) fn value(ty: Fp8, byte: u32) -> f32 {
    match ty {
        // An e5m2 number is the upper byte of an f16.
        Fp8::E5m2 => f32::from_bits(f16_to_f32((byte & 0xff) << 8)),
        Fp8::E4m3 => {
            let magnitude = byte & 0x7f;
            let positive = if magnitude == NAN {
                f32::NAN
            } else if magnitude < 8 {
                magnitude as f32 / 512.0
            } else {
                // Exponents are biased by 7 rather than 127.
                f32::from_bits((magnitude << 20) + (120 << 23))
            };
            f32::from_bits(positive.to_bits() | (byte & 0x80) << 24)
        }
    }
}

/// The nearest number, ties to even; larger values give the largest finite one (`.satfinite`).
fn nearest(ty: Fp8, relu: bool, x: f32) -> u32 {
    let (fraction, least, largest) = match ty {
        Fp8::E4m3 => (3, -6, 0x7e),
        Fp8::E5m2 => (2, -14, 0x7b),
    };
    if x.is_nan() {
        return NAN;
    }
    if relu && x <= 0.0 {
        return 0;
    }
    let magnitude = f64::from(x.abs());
    let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023).max(least);
    // Scaled to units of the last place: exact, since these are powers of two. A number rounded up
    // to the next power of two gets its exponent by the carry.
    let steps = (magnitude * 2f64.powi(fraction - exponent)).round_ties_even();
    let bits = (i64::from(exponent - least) << fraction) + steps.min(1e9) as i64;
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    sign | bits.min(largest) as u32
}

/// Packs two f32, or the two halves of `a` without `b`, into a pair.
pub(crate) fn pack(w: &mut Warp, m: u32, (ty, relu): (Fp8, bool), d: Reg, a: Reg, b: Reg) {
    let one = |bits: u32| nearest(ty, relu, f32::from_bits(bits));
    if b.is_none() {
        map1(w, m, d, a, |x| {
            one(f16_to_f32(x >> 16)) << 8 | one(f16_to_f32(x & 0xffff))
        });
    } else {
        map2(w, m, d, a, b, |a, b| one(a) << 8 | one(b));
    }
}

/// Unpacks a pair into a pair of halves, which represent every number of either type.
pub(crate) fn unpack(w: &mut Warp, m: u32, (ty, relu): (Fp8, bool), d: Reg, a: Reg) {
    let one = |byte: u32| {
        let x = value(ty, byte);
        let x = if relu && x <= 0.0 { 0.0 } else { x };
        f32_to_f16(x.to_bits())
    };
    map1(w, m, d, a, |x| one(x >> 8) << 16 | one(x));
}
