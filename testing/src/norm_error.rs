//! Bound of the error in the outputs of a whole network.

use std::fmt;

use warpconv::kernels::DType;

/// Bound of the distance of a network's outputs from those of f64 arithmetic: the norm of the
/// difference, as a share of theirs. f32: what the stored networks of full size state; the others:
/// what the small stored networks (AlexNet, NiN and LeNet-5 at an eighth) allow.
pub const fn network_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 0.006,
        DType::Bf16 => 0.055,
    }
}

/// Distance of the outputs of a network from those of the same one in other launches.
#[derive(Clone, Copy, Debug)]
pub struct NormError {
    /// The norm of the difference, as a share of the others'; not a number where that is of
    /// nothing.
    pub norm: f64,
    /// Twice [`network_tolerance`]: both may be off by that.
    pub allowed: f64,
}

impl NormError {
    /// Compares outputs with others; more or fewer of them are infinitely far.
    pub fn of(got: &[f64], want: &[f64], dtype: DType) -> NormError {
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let off = norm(&mut got.iter().zip(want).map(|(got, want)| got - want));
        let norm = match got.len() == want.len() {
            true => off / norm(&mut want.iter().copied()),
            false => f64::INFINITY,
        };
        NormError {
            norm,
            allowed: 2.0 * network_tolerance(dtype),
        }
    }

    /// Returns whether it is within what is allowed; not if it is NaN.
    pub fn is_near(&self) -> bool {
        self.norm <= self.allowed
    }
}

impl fmt::Display for NormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e} (allowed {:.1e})", self.norm, self.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    /// The norm of (3, 4) is 5, so that a step of 0.05 is a hundredth of it.
    #[test]
    fn only_what_is_near_passes() {
        let of = |got: &[f64], dtype| NormError::of(got, &[3.0, 4.0], dtype);
        let off = of(&[3.05, 4.0], DType::F16);
        assert_abs_diff_eq!(off.norm, 0.01, epsilon = 1e-12);
        assert!(off.is_near() && !of(&[3.05, 4.0], DType::F32).is_near());
        assert!(!of(&[3.07, 4.0], DType::F16).is_near());
        assert!(of(&[3.5, 4.0], DType::Bf16).is_near());
        assert!(!of(&[f64::NAN, 4.0], DType::Bf16).is_near());
        assert!(!of(&[3.0], DType::Bf16).is_near());
        assert!(!NormError::of(&[0.0], &[0.0], DType::Bf16).is_near());
    }
}
