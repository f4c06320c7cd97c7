//! What the ReLU kernels accept, and how well they do.

use super::cost::streaming;
use super::{Capability, Operation, Refusal, Roofline, Score};
use crate::catalog::{Algorithm, DType, Kernel, Layout};
use crate::launch::{Arguments, args::ReluArgs};
use crate::problem::Relu;

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

    fn element(&self) -> DType {
        self.dtype()
    }

    fn order(&self) -> Layout {
        self.layout()
    }

    fn is_empty(&self) -> bool {
        self.output().is_empty()
    }

    fn work(&self) -> (u64, u64) {
        (self.output().elements() as u64, self.min_bytes())
    }

    fn suits(&self, _kernel: &Kernel) -> Result<(), Refusal> {
        Ok(())
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        ReluArgs::from(self).share_out(kernel)
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
