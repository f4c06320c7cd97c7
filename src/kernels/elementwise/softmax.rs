//! Acceptance and estimate of the softmax kernels.

use super::channel_args::SoftmaxArgs;
use crate::error::Error;
use crate::kernels::cost::streaming;
use crate::kernels::operation::Arguments;
use crate::kernels::{Algorithm, Kernel};
use crate::kernels::{Capability, Operation, Roofline, Score};
use crate::problem::{Softmax, TensorDesc};

impl Operation for Softmax {
    const NAME: &'static str = "a softmax";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Softmax
    }

    fn describe(&self) -> String {
        let input = self.input();
        format!(
            "a softmax of {}x{}x{}x{}",
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
        SoftmaxArgs::from(self).set_grid(kernel)
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        let blocks = self.blocks(kernel);
        // An exponential and a division take a few dozen additions' time.
        streaming(kernel, device, roofline, blocks, roofline.macs, 40.0)
    }
}
