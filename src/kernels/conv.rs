//! Convolutions: the families that compute them.

use super::families::{CONV_FAMILIES, conv_family};
use super::{
    Algorithm, Capability, Kernel, Limits, Operation, PeakRates, Refusal, Roofline, Score, simt,
};
use crate::error::Error;
use crate::problem::{Conv2d, TensorDesc};

impl Operation for Conv2d {
    const NAME: &'static str = "a convolution";

    fn computed_by(algorithm: Algorithm) -> bool {
        let mut families = CONV_FAMILIES.into_iter();
        families.any(|family| family.algorithms().contains(&algorithm))
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn macs(&self) -> u64 {
        self.macs()
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn peak_rates(&self) -> PeakRates {
        PeakRates::of_products(self.dtype(), self.math())
    }

    fn accepts(&self, kernel: &Kernel) -> Result<(), Refusal> {
        if !self.math().allows(kernel.math) {
            return Err(Refusal::Math {
                kernel: kernel.math,
                problem: self.math(),
            });
        }
        match conv_family(kernel.algorithm) {
            Some(family) => family.accepts(self, kernel),
            None => Err(not_a_convolution(kernel)),
        }
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        simt::blocks(self, kernel)
    }

    fn estimate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        match conv_family(kernel.algorithm) {
            Some(family) => family.estimate(self, kernel, device, roofline, limits),
            None => Err(not_a_convolution(kernel)),
        }
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        simt::score(self, kernel, device, roofline)
    }
}

/// The refusal of a kernel that computes something else.
fn not_a_convolution(kernel: &Kernel) -> Refusal {
    Refusal::Operation {
        kernel: kernel.algorithm.name(),
        problem: Conv2d::NAME,
    }
}
