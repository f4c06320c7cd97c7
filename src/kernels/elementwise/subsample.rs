//! Acceptance and estimate of the subsampling kernels.

use super::activation_args::SubsampleArgs;
use crate::error::Error;
use crate::kernels::cost::streaming;
use crate::kernels::operation::Arguments;
use crate::kernels::{Algorithm, Kernel};
use crate::kernels::{Capability, Operation, Roofline, Score};
use crate::problem::{Subsample, TensorDesc};

impl Operation for Subsample {
    const NAME: &'static str = "a subsampling";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Subsample
    }

    fn describe(&self) -> String {
        let (input, [r, s]) = (self.input(), self.window().kernel);
        format!(
            "a subsampling of {}x{}x{}x{} by {r}x{s}",
            input.n(),
            input.c(),
            input.h(),
            input.w()
        )
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn macs(&self) -> u64 {
        self.input().elements() as u64
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        SubsampleArgs::from(self).set_grid(kernel)
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        let blocks = self.blocks(kernel);
        // An addition for each element read, and a tangent for each window.
        streaming(kernel, device, roofline, blocks, roofline.macs, 20.0)
    }
}
