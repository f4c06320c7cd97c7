//! Acceptance and estimate of the kernels of local response normalisation.

use super::channel_args::LrnArgs;
use crate::error::Error;
use crate::kernels::cost::streaming;
use crate::kernels::operation::Arguments;
use crate::kernels::{Algorithm, Kernel};
use crate::kernels::{Capability, Operation, Roofline, Score};
use crate::problem::{Lrn, TensorDesc};

impl Operation for Lrn {
    const NAME: &'static str = "a local response normalisation";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Lrn
    }

    fn describe(&self) -> String {
        format!(
            "a local response normalisation of {}x{}x{}x{} over {} channels",
            self.input().n(),
            self.input().c(),
            self.input().h(),
            self.input().w(),
            self.parameters().size
        )
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn macs(&self) -> u64 {
        let terms = self.parameters().size.min(self.input().c()) as u64;
        (self.output().elements() as u64).saturating_mul(terms)
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        LrnArgs::from(self).set_grid(kernel)
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        // The power takes the time of a few dozen additions.
        streaming(
            kernel,
            device,
            roofline,
            self.blocks(kernel),
            roofline.macs,
            5.0,
        )
    }
}
