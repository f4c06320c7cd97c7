//! Inputs that look random and are the same every time.

use super::convert::round;
use warpconv::kernels::DType;

/// A source of numbers: splitmix64.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer of `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of [-1, 1).
    pub fn signed_unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2f64.powi(-52) - 1.0
    }
}

/// Integers of `-most..=most`: exact in every storage type up to 256, with exact sums in f32 up to
/// 2^24, so that results compare without any tolerance.
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

/// Sprinkles NaN, both infinities and both zeros over `values`, about one in `every`.
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
