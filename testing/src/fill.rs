//! Reproducible pseudo-random inputs.

use rand::{Rng, RngCore, SeedableRng};
use rand_xoshiro::SplitMix64;

use super::convert::round;
use warpconv::kernels::DType;

/// A generator of numbers: splitmix64, whose values no version of `rand` changes. Stored cases and
/// tests depend on them.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// A generator; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next integer of `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// The next number of [-1, 1).
    pub fn signed_unit(&mut self) -> f64 {
        2.0 * self.0.random::<f64>() - 1.0
    }
}

/// Integers of `-most..=most`: exact in every storage type up to 256, with exact sums in f32 up to
/// 2^24, so that results compare without tolerance.
pub fn integers(len: usize, most: u32, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let span = 2 * u64::from(most) + 1;
    std::iter::repeat_with(|| random.below(span) as f64 - f64::from(most))
        .take(len)
        .collect()
}

/// Numbers of [-1, 1) as `dtype` stores them, with all of its significant bits in use.
pub fn reals(len: usize, dtype: DType, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(|| round(dtype, random.signed_unit()))
        .take(len)
        .collect()
}

/// Replaces about one in `every` of `values` by NaN, an infinity or a zero of either sign.
pub fn sprinkle_special(values: &mut [f64], every: u64, seed: u64) {
    const SPECIAL: [f64; 5] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0];
    let mut random = Random::new(seed);
    for value in values {
        if random.below(every.max(1)) == 0 {
            *value = SPECIAL[random.below(SPECIAL.len() as u64) as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference implementation (Vigna) for this seed.
    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1234567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
        let (mut unit, mut bits) = (Random::new(5), Random::new(5));
        let number = (bits.bits() >> 11) as f64 * 2f64.powi(-52) - 1.0;
        assert_eq!(unit.signed_unit(), number);
    }

    #[test]
    fn fills_stay_in_range_and_repeat() {
        let values = integers(1000, 3, 1);
        assert!(values.iter().all(|v| v.abs() <= 3.0 && v.fract() == 0.0));
        assert!((-3..=3).all(|v| values.contains(&f64::from(v))));
        assert_eq!(values, integers(1000, 3, 1));
        let values = reals(1000, DType::Bf16, 2);
        assert!(
            values
                .iter()
                .all(|v| (-1.0..=1.0).contains(v) && round(DType::Bf16, *v) == *v)
        );
    }
}
