//! Bound of the error in the outputs of a whole network.

use std::fmt;

use warpconv::kernels::DType;

/// Bound of the distance of a network's outputs from those of f64 arithmetic: the norm of the
/// difference, relative to that of the f64 outputs. For f32 it is the bound stored with the
/// networks of full size, for other types that of the small stored networks (AlexNet, NiN and
/// LeNet-5 at an eighth).
pub const fn network_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 0.006,
        DType::Bf16 => 0.055,
    }
}

/// Distance of the outputs of a network from those of the same network in other launches.
#[derive(Clone, Copy, Debug)]
pub struct NormError {
    /// The norm of the difference, relative to that of the other outputs; NaN or infinite where
    /// that is zero.
    pub norm: f64,
    /// Twice [`network_tolerance`]: both outputs may be off by that.
    pub allowed: f64,
}

impl NormError {
    /// Compares outputs with others; for different lengths the distance is infinite.
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

    /// Returns whether the distance is within the bound; false for NaN.
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

    /// The norm of (3, 4) is 5, so a difference of 0.05 is a hundredth of it.
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
