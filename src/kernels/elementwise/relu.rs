//! Acceptance and estimate of the ReLU kernels.

use crate::error::Error;
use crate::kernels::cost::streaming;
use crate::kernels::elementwise::activation_args::ReluArgs;
use crate::kernels::operation::Arguments;
use crate::kernels::{Algorithm, Kernel};
use crate::kernels::{Capability, Operation, Roofline, Score};
use crate::problem::{Relu, TensorDesc};

impl Operation for Relu {
    const NAME: &'static str = "a ReLU";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Relu
    }

    fn describe(&self) -> String {
        format!(
            "a ReLU of {}x{}x{}x{}",
            self.input().n(),
            self.input().c(),
            self.input().h(),
            self.input().w()
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
        ReluArgs::from(self).set_grid(kernel)
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        streaming(
            kernel,
            device,
            roofline,
            self.blocks(kernel),
            roofline.macs,
            2.0,
        )
    }
}
