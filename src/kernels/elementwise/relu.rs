//! Acceptance and estimate of the ReLU kernels.

use crate::kernels::args::ReluArgs;
use crate::kernels::cost::streaming;
use crate::kernels::fill::Arguments;
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
            self.n(),
            self.c(),
            self.h(),
            self.w()
        )
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn work(&self) -> (u64, u64) {
        (self.output().elements() as u64, self.min_bytes())
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
