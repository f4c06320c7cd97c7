//! Rounding to the storage types.

use half::{bf16, f16};
use warpconv::kernels::DType;
use warpconv::launch::Element;

/// An element type for the checks: rounding, bits, and two NaNs that no kernel computes.
pub trait Stored: Element + PartialEq + std::fmt::Debug {
    /// The nearest number of the type, ties to even; out of range is infinite.
    fn nearest(value: f64) -> Self;

    /// The number, exactly.
    fn value(self) -> f64;

    /// The bits, in the low half for 16-bit types.
    fn bits(self) -> u32;

    /// Guard value around inputs: a NaN, so that any out-of-bounds read shows in the result.
    fn guard() -> Self;

    /// Initial value of outputs before the launch: a NaN of other bits, so that unwritten elements
    /// show.
    fn poison() -> Self;
}

impl Stored for f32 {
    fn nearest(value: f64) -> Self {
        value as f32
    }

    fn value(self) -> f64 {
        f64::from(self)
    }

    fn bits(self) -> u32 {
        self.to_bits()
    }

    fn guard() -> Self {
        f32::from_bits(0x7fc0_dead)
    }

    fn poison() -> Self {
        f32::from_bits(0x7fc0_beef)
    }
}

impl Stored for f16 {
    fn nearest(value: f64) -> Self {
        // `f16::from_f64` drops the low half of an f64 before it rounds, which turns a value just
        // above a tie into a tie. Rounding here first makes the conversion exact.
        f16::from_f64(round_to(value, 11, -14, 65504.0))
    }

    fn value(self) -> f64 {
        self.to_f64()
    }

    fn bits(self) -> u32 {
        self.to_bits().into()
    }

    fn guard() -> Self {
        f16::from_bits(0x7ead)
    }

    fn poison() -> Self {
        f16::from_bits(0x7eef)
    }
}

impl Stored for bf16 {
    fn nearest(value: f64) -> Self {
        bf16::from_f64(round_to(value, 8, -126, bf16::MAX.to_f64()))
    }

    fn value(self) -> f64 {
        self.to_f64()
    }

    fn bits(self) -> u32 {
        self.to_bits().into()
    }

    fn guard() -> Self {
        bf16::from_bits(0x7fda)
    }

    fn poison() -> Self {
        bf16::from_bits(0x7feb)
    }
}

/// `value` rounded to the nearest number that the type stores, ties to even; out of range is
/// infinite.
pub fn round(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f32::nearest(value).value(),
        DType::F16 => f16::nearest(value).value(),
        DType::Bf16 => bf16::nearest(value).value(),
    }
}

/// `value` rounded to tf32, which has the exponents of f32 and 11 bits: ties go away from zero, as
/// `cvt.rna` has it.
pub fn round_to_tf32(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = unit_of(value, 11, -126);
    (value / unit).round() * unit
}

/// `value` rounded to `precision` significant bits, fewer below 2^`least`, infinite beyond `most`.
fn round_to(value: f64, precision: i32, least: i32, most: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = unit_of(value, precision, least);
    let rounded = (value / unit).round_ties_even() * unit;
    if rounded.abs() > most {
        f64::INFINITY.copysign(value)
    } else {
        rounded
    }
}

/// The unit in the last place of a number of `precision` bits near `value`. It is a power of two:
/// division and multiplication by it are exact, and subnormal f64s are far below `least`.
fn unit_of(value: f64, precision: i32, least: i32) -> f64 {
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    f64::from(2).powi(exponent.max(least) + 1 - precision)
}

/// The relative distance between neighbouring numbers, halved: the largest relative error of one
/// rounding.
pub(crate) fn unit_roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2f64.powi(-24),
        DType::F16 => 2f64.powi(-11),
        DType::Bf16 => 2f64.powi(-8),
    }
}

/// Half of the smallest positive number of the type.
pub(crate) fn half_of_least(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2f64.powi(-150),
        DType::F16 => 2f64.powi(-25),
        DType::Bf16 => 2f64.powi(-134),
    }
}

/// Runs the body with the type that stores `$dtype` bound to `$T`.
macro_rules! with_stored {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            warpconv::DType::F32 => {
                type $T = f32;
                $body
            }
            warpconv::DType::F16 => {
                type $T = half::f16;
                $body
            }
            warpconv::DType::Bf16 => {
                type $T = half::bf16;
                $body
            }
        }
    };
}
pub(crate) use with_stored;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_number_is_itself() {
        for bits in 0..=u16::MAX {
            let number = f16::from_bits(bits);
            assert!(number.is_nan() || f16::nearest(number.to_f64()) == number);
            let number = bf16::from_bits(bits);
            assert!(number.is_nan() || bf16::nearest(number.to_f64()) == number);
        }
        assert!(f16::nearest(f64::NAN).is_nan() && bf16::nearest(f64::NAN).is_nan());
    }

    #[test]
    fn ties_go_to_even_and_nothing_is_rounded_twice() {
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(round(DType::F16, tie), 1.0);
        assert_eq!(
            round(DType::F16, tie + 2f64.powi(-40)),
            1.0 + 2f64.powi(-10)
        );
        assert_eq!(round(DType::F16, tie + 2f64.powi(-10)), 1.0 + 2f64.powi(-9));
        assert_eq!(
            round(DType::Bf16, 1.0 + 2f64.powi(-8) + 2f64.powi(-50)),
            1.0 + 2f64.powi(-7)
        );
        assert_eq!(round(DType::F16, 2f64.powi(-25)), 0.0);
        assert_eq!(round(DType::F16, 2f64.powi(-25) * 1.0001), 2f64.powi(-24));
        assert_eq!(round(DType::F16, 65519.0), 65504.0);
        assert_eq!(round(DType::F16, 65520.0), f64::INFINITY);
        assert_eq!(round(DType::Bf16, -3.4e38), f64::NEG_INFINITY);
    }
}
