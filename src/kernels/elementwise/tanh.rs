//! Acceptance and estimate of the tanh kernels.

use super::activation_args::TanhArgs;
use crate::error::Error;
use crate::kernels::cost::streaming;
use crate::kernels::operation::Arguments;
use crate::kernels::{Algorithm, Kernel};
use crate::kernels::{Capability, Operation, Roofline, Score};
use crate::problem::{Tanh, TensorDesc};

impl Operation for Tanh {
    const NAME: &'static str = "a tanh";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Tanh
    }

    fn describe(&self) -> String {
        let input = self.input();
        format!(
            "a tanh of {}x{}x{}x{}",
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
        self.output().elements() as u64
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        TanhArgs::from(self).set_grid(kernel)
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        let blocks = self.blocks(kernel);
        // A tangent takes a few dozen additions' time.
        streaming(kernel, device, roofline, blocks, roofline.macs, 30.0)
    }
}
