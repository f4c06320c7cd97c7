//! Rounding that the host's arithmetic does not provide: modes other than nearest-even, and the
//! 16-bit formats.
//!
//! Sums and products are computed in f64 *rounded to odd*: if the exact result lies between two
//! f64, the one with the odd last bit is taken. Rounding that again to a format with at least two
//! bits less gives the same as rounding the exact result.
use crate::ir::{FloatUnary, Rounding};

/// A binary floating-point format narrower than f64.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Bits of the significand after the binary point.
    pub fraction: u32,
    /// Bits of the exponent.
    pub exponent: u32,
}

/// binary16.
pub(crate) const F16: Format = Format {
    fraction: 10,
    exponent: 5,
};
/// bfloat16.
pub(crate) const BF16: Format = Format {
    fraction: 7,
    exponent: 8,
};
/// binary32.
pub(crate) const F32: Format = Format {
    fraction: 23,
    exponent: 8,
};
/// f32 with ten bits after the point (in the upper bits of an f32 when shifted by 13).
pub(crate) const TF32: Format = Format {
    fraction: 10,
    exponent: 8,
};

/// Rounds to a format once. NaN gives the canonical NaN: all ones without the sign.
pub(crate) fn round(x: f64, format: Format, rounding: Rounding) -> u32 {
    let bits = x.to_bits();
    let negative = bits >> 63 != 0;
    let sign = u32::from(negative) << (format.fraction + format.exponent);
    let max_exponent = (1u32 << format.exponent) - 1;
    let infinity = max_exponent << format.fraction;
    if x.is_nan() {
        return infinity | ((1 << format.fraction) - 1);
    }
    if x.is_infinite() {
        return sign | infinity;
    }
    if x == 0.0 {
        return sign;
    }
    // |x| = significand * 2^(exponent - 52), normalised also for subnormal f64.
    let mut exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mut significand = bits & ((1 << 52) - 1);
    if exponent == -1023 {
        let shift = significand.leading_zeros() - 11;
        significand <<= shift;
        exponent = -1022 - shift as i32;
    } else {
        significand |= 1 << 52;
    }
    let bias = (max_exponent >> 1) as i32;
    let biased = exponent + bias;
    // Bits to drop: more for a subnormal result.
    let extra = if biased < 1 { (1 - biased) as u32 } else { 0 };
    let drop = (52 - format.fraction).saturating_add(extra).min(63);
    let kept = if drop > 53 { 0 } else { significand >> drop };
    let rest = significand & ((1u64 << drop) - 1);
    let half = 1u64 << (drop - 1);
    let up = match rounding {
        Rounding::Rz | Rounding::Rzi => false,
        Rounding::Rm | Rounding::Rmi => negative && rest != 0,
        Rounding::Rp | Rounding::Rpi => !negative && rest != 0,
        Rounding::Rna => rest >= half,
        _ => rest > half || (rest == half && kept & 1 != 0),
    };
    let base = if biased < 1 {
        0
    } else {
        ((biased - 1) as u64) << format.fraction
    };
    let magnitude = base + kept + u64::from(up);
    if magnitude >= u64::from(infinity) {
        let stays = match rounding {
            Rounding::Rz | Rounding::Rzi => true,
            Rounding::Rm | Rounding::Rmi => !negative,
            Rounding::Rp | Rounding::Rpi => negative,
            _ => false,
        };
        return sign | if stays { infinity - 1 } else { infinity };
    }
    sign | magnitude as u32
}

/// Adjusts a rounded result to odd; `error` is exact minus rounded.
fn to_odd(x: f64, error: f64) -> f64 {
    let bits = x.to_bits();
    if error == 0.0 || error.is_nan() || !x.is_finite() || bits & 1 != 0 {
        return x;
    }
    if x == 0.0 {
        return error.signum() * f64::from_bits(1);
    }
    // The result is even: the odd neighbour towards the exact result is one step away.
    if (error > 0.0) == (x > 0.0) {
        f64::from_bits(bits + 1)
    } else {
        f64::from_bits(bits - 1)
    }
}

/// Exact minus rounded result of a sum (Knuth's TwoSum).
fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let from_b = sum - a;
    let from_a = sum - from_b;
    (a - from_a) + (b - from_b)
}

/// `a + b`, rounded to odd.
pub(crate) fn add_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    to_odd(sum, sum_error(a, b, sum))
}

/// `a / b` of f32 or narrower operands, rounded to odd.
pub(crate) fn div_odd(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    // The remainder of operands of 24 bits is exact.
    let rest = (-quotient).mul_add(b, a);
    to_odd(quotient, if b > 0.0 { rest } else { -rest })
}

/// The square root of an f32 or narrower operand, rounded to odd.
pub(crate) fn sqrt_odd(a: f64) -> f64 {
    let root = a.sqrt();
    to_odd(root, (-root).mul_add(root, a))
}

/// The sign of a zero sum: -0 for a cancellation when rounding down.
pub(crate) fn signed_zero(sum: f64, a: f64, b: f64, rounding: Rounding) -> f64 {
    if sum == 0.0 && rounding == Rounding::Rm && a.is_sign_negative() != b.is_sign_negative() {
        -0.0
    } else {
        sum
    }
}

/// Next f64 in the direction of a rounding mode, given the rounded-to-nearest result and the sign
/// of its error.
pub(crate) fn direct(x: f64, error: f64, rounding: Rounding) -> f64 {
    if error == 0.0 || error.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return x;
    }
    match rounding {
        Rounding::Rz if x == 0.0 => x,
        Rounding::Rz if (error > 0.0) != (x > 0.0) => step(x, x < 0.0),
        Rounding::Rm if error < 0.0 => step(x, false),
        Rounding::Rp if error > 0.0 => step(x, true),
        _ => x,
    }
}

fn step(x: f64, up: bool) -> f64 {
    if up { x.next_up() } else { x.next_down() }
}

/// f64 addition in a rounding mode.
pub(crate) fn add64(a: f64, b: f64, rounding: Rounding) -> f64 {
    let sum = a + b;
    if sum.is_infinite() && a.is_finite() && b.is_finite() {
        return overflow(sum, rounding);
    }
    direct(
        signed_zero(sum, a, b, rounding),
        sum_error(a, b, sum),
        rounding,
    )
}

/// Result of a finite operation that overflows.
fn overflow(x: f64, rounding: Rounding) -> f64 {
    let limited = match rounding {
        Rounding::Rz => true,
        Rounding::Rm => x > 0.0,
        Rounding::Rp => x < 0.0,
        _ => false,
    };
    if limited { f64::MAX.copysign(x) } else { x }
}

/// f64 multiply-add in a rounding mode.
pub(crate) fn fma64(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    let nearest = a.mul_add(b, c);
    if matches!(rounding, Rounding::None | Rounding::Rn) {
        return nearest;
    }
    if nearest.is_infinite() && a.is_finite() && b.is_finite() && c.is_finite() {
        return overflow(nearest, rounding);
    }
    let product = a * b;
    let low = a.mul_add(b, -product);
    // Exact: product + low + c - nearest, as a sum of parts that do not overlap.
    let high = product + c;
    let high_error = sum_error(product, c, high);
    let gap = high - nearest;
    let error = gap + (high_error + low);
    direct(signed_zero(nearest, product, c, rounding), error, rounding)
}

/// f64 division in a rounding mode.
pub(crate) fn div64(a: f64, b: f64, rounding: Rounding) -> f64 {
    let quotient = a / b;
    if quotient.is_infinite() && a.is_finite() && b != 0.0 {
        return overflow(quotient, rounding);
    }
    let rest = (-quotient).mul_add(b, a);
    direct(quotient, if b > 0.0 { rest } else { -rest }, rounding)
}

/// f64 square root in a rounding mode.
pub(crate) fn sqrt64(a: f64, rounding: Rounding) -> f64 {
    let root = a.sqrt();
    direct(root, (-root).mul_add(root, a), rounding)
}

/// f32 to binary16, nearest-even; NaN gives 0x7fff. Branch-free, for vectorisation.
#[inline(always)]
pub(crate) fn f32_to_f16(bits: u32) -> u32 {
    let sign = bits & 0x8000_0000;
    let f = bits ^ sign;
    let subnormal_magic = 126 << 23;
    let subnormal = (f32::from_bits(f) + f32::from_bits(subnormal_magic))
        .to_bits()
        .wrapping_sub(subnormal_magic);
    let odd = f >> 13 & 1;
    let normal = f
        .wrapping_add((15u32.wrapping_sub(127) << 23).wrapping_add(0xfff))
        .wrapping_add(odd)
        >> 13;
    let large = if f > 0x7f80_0000 { 0x7fff } else { 0x7c00 };
    let magnitude = if f >= (143 << 23) {
        large
    } else if f < (113 << 23) {
        subnormal
    } else {
        normal
    };
    if f > 0x7f80_0000 {
        0x7fff
    } else {
        magnitude | sign >> 16
    }
}

/// binary16 to f32, exact; NaN gives 0x7fffffff.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u32) -> u32 {
    let magnitude = (h & 0x7fff) << 13;
    let exponent = magnitude & (0x7c00 << 13);
    let normal = magnitude + (112 << 23);
    let subnormal = (f32::from_bits(normal + (1 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let special = if h & 0x3ff != 0 {
        0x7fff_ffff
    } else {
        0x7f80_0000
    };
    let value = if exponent == 0x7c00 << 13 {
        special
    } else if exponent == 0 {
        subnormal
    } else {
        normal
    };
    if (h & 0x7fff) > 0x7c00 {
        value
    } else {
        value | (h & 0x8000) << 16
    }
}

/// f32 to tf32, nearest, ties away from zero; NaN gives 0x7fffffff.
#[inline(always)]
pub(crate) fn f32_to_tf32_away(bits: u32) -> u32 {
    tf32_of(bits, 0x1000)
}

/// f32 to tf32, nearest-even; NaN gives 0x7fffffff.
#[inline(always)]
pub(crate) fn f32_to_tf32_even(bits: u32) -> u32 {
    tf32_of(bits, 0xfff + (bits >> 13 & 1))
}

/// The bits plus `add`, with the low 13 cleared: a carry goes into the exponent, and beyond the
/// largest number to infinity.
#[inline(always)]
fn tf32_of(bits: u32, add: u32) -> u32 {
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff_ffff
    } else {
        bits.wrapping_add(add) & !0x1fff
    }
}

/// f32 to bfloat16, nearest-even; NaN gives 0x7fff.
#[inline(always)]
pub(crate) fn f32_to_bf16(bits: u32) -> u32 {
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff
    } else {
        rounded
    }
}

/// bfloat16 to f32, exact; NaN gives 0x7fffffff.
#[inline(always)]
pub(crate) fn bf16_to_f32(b: u32) -> u32 {
    let bits = b << 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff_ffff
    } else {
        bits
    }
}

/// Flushes a subnormal f32 to zero of the same sign.
#[inline(always)]
pub(crate) fn flush(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0 {
        bits & 0x8000_0000
    } else {
        bits
    }
}

/// The functions that hardware approximates, computed in f64.
pub(crate) fn transcendental(op: FloatUnary, x: f64) -> f64 {
    match op {
        FloatUnary::Rsqrt => 1.0 / x.sqrt(),
        FloatUnary::Ex2 => x.exp2(),
        FloatUnary::Lg2 if x < 0.0 => f64::NAN,
        FloatUnary::Lg2 => x.log2(),
        FloatUnary::Sin => x.sin(),
        FloatUnary::Cos => x.cos(),
        FloatUnary::Tanh => x.tanh(),
        FloatUnary::Rcp => 1.0 / x,
        FloatUnary::Sqrt => x.sqrt(),
        FloatUnary::Neg => -x,
        FloatUnary::Abs => x.abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit patterns with every exponent, and with significands near rounding boundaries.
    fn patterns() -> impl Iterator<Item = u32> {
        let low = [
            0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001,
        ];
        (0..512u32).flat_map(move |top| {
            let spread = (0..64u32).map(move |i| i.wrapping_mul(0x9e37_79b9) & 0x7f_ffff);
            low.into_iter()
                .chain(spread)
                .map(move |bits| top << 23 | bits)
        })
    }

    #[test]
    fn quick_conversions_round_like_the_slow_one_and_like_half() {
        for bits in patterns() {
            let x = f32::from_bits(bits);
            let f16 = round(f64::from(x), F16, Rounding::Rn);
            let bf16 = round(f64::from(x), BF16, Rounding::Rn);
            assert_eq!(f32_to_f16(bits), f16, "{bits:#x}");
            assert_eq!(f32_to_bf16(bits), bf16, "{bits:#x}");
            if !x.is_nan() {
                assert_eq!(
                    f16,
                    u32::from(half::f16::from_f32(x).to_bits()),
                    "{bits:#x}"
                );
                assert_eq!(
                    bf16,
                    u32::from(half::bf16::from_f32(x).to_bits()),
                    "{bits:#x}"
                );
                assert_eq!(round(f64::from(x), F32, Rounding::Rz), bits);
            }
        }
    }

    #[test]
    fn halves_widen_like_the_half_crate() {
        for h in 0..=0xffffu32 {
            let (f, b) = (
                half::f16::from_bits(h as u16),
                half::bf16::from_bits(h as u16),
            );
            let want = |nan: bool, x: f32| if nan { 0x7fff_ffff } else { x.to_bits() };
            assert_eq!(f16_to_f32(h), want(f.is_nan(), f.to_f32()), "{h:#x}");
            assert_eq!(bf16_to_f32(h), want(b.is_nan(), b.to_f32()), "{h:#x}");
        }
    }

    #[test]
    fn directed_modes_enclose_the_exact_value() {
        for bits in patterns().step_by(7) {
            let x = f64::from(f32::from_bits(bits)) * (1.0 + 2f64.powi(-40));
            if !x.is_finite() {
                continue;
            }
            let value = |mode| f64::from(f32::from_bits(round(x, F32, mode)));
            assert!(
                value(Rounding::Rm) <= x && x <= value(Rounding::Rp),
                "{x:e}"
            );
            assert!(value(Rounding::Rz).abs() <= x.abs(), "{x:e}");
        }
    }

    #[test]
    fn odd_rounding_keeps_what_a_second_rounding_needs() {
        // 1 + 2^-24 is a tie of f32; a little more must round up, a little less down.
        let tie = 1.0 + 2f64.powi(-24);
        assert_eq!(add_odd(tie, 2f64.powi(-80)) as f32, 1.0 + f32::EPSILON);
        assert_eq!(add_odd(tie, -(2f64.powi(-80))) as f32, 1.0);
        assert_eq!(div_odd(1.0, 3.0).to_bits() & 1, 1);
        assert_eq!(sqrt_odd(2.0).to_bits() & 1, 1);
        assert_eq!(sqrt_odd(4.0), 2.0);
    }

    #[test]
    fn directed_doubles_are_neighbours() {
        for (a, b) in [(1.0, 1e-30), (-1.0, 1e-30), (0.1, 0.2), (1e300, -1.0)] {
            let (low, high) = (add64(a, b, Rounding::Rm), add64(a, b, Rounding::Rp));
            assert_eq!(low.next_up(), high, "{a} + {b}");
        }
        assert_eq!(fma64(0.5, 2.0, 3.0, Rounding::Rm), 4.0);
        assert_eq!(
            div64(1.0, 3.0, Rounding::Rm).next_up(),
            div64(1.0, 3.0, Rounding::Rp)
        );
        assert_eq!(add64(f64::MAX, f64::MAX, Rounding::Rz), f64::MAX);
    }
}
