//! What each pooling kernel accepts, and how well it does.

use super::cost::streaming;
use super::{Capability, Operation, Refusal, Roofline, Score};
use crate::catalog::{Algorithm, DType, Kernel, Layout};
use crate::launch::{Arguments, args::PoolArgs};
use crate::problem::{Pool2d, PoolKind};

impl Operation for Pool2d {
    const NAME: &'static str = "a pooling";

    fn computed_by(algorithm: Algorithm) -> bool {
        matches!(
            algorithm,
            Algorithm::MaxPool | Algorithm::AvgPool | Algorithm::GlobalPool
        )
    }

    fn describe(&self) -> String {
        self.to_string()
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
        // Additions and comparisons share the multiply-adds' lanes.
        let window = (self.r() * self.s()) as u64;
        (self.output().elements() as u64 * window, self.min_bytes())
    }

    fn suits(&self, kernel: &Kernel) -> Result<(), Refusal> {
        let (kind, algorithm) = match self.kind() {
            PoolKind::Max { .. } => ("max pooling", Algorithm::MaxPool),
            PoolKind::Average { .. } => ("average pooling", Algorithm::AvgPool),
            PoolKind::AdaptiveAverage { .. } => ("adaptive average pooling", Algorithm::AvgPool),
            PoolKind::GlobalMax => ("global max pooling", Algorithm::GlobalPool),
            PoolKind::GlobalAverage => ("global average pooling", Algorithm::GlobalPool),
        };
        if kernel.algorithm != algorithm {
            return Err(Refusal::Operation {
                kernel: kernel.algorithm.name(),
                problem: kind,
            });
        }
        Ok(())
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        PoolArgs::from(self).share_out(kernel)
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        streaming(
            kernel,
            device,
            roofline,
            self.blocks(kernel),
            roofline.macs,
            3.0,
        )
    }
}
