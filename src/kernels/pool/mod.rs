//! Acceptance and estimate of each pooling kernel.

use args::PoolArgs;
pub(crate) mod args;

use crate::error::Error;
use crate::kernels::cost::streaming;
use crate::kernels::operation::Arguments;
use crate::kernels::{Algorithm, Kernel};
use crate::kernels::{Capability, Operation, Refusal, Roofline, Score};
use crate::problem::{Pool2d, PoolKind, TensorDesc};

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

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn macs(&self) -> u64 {
        // Additions and comparisons share the multiply-adds' lanes.
        let window = (self.r() * self.s()) as u64;
        (self.output().elements() as u64).saturating_mul(window)
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn accepts(&self, kernel: &Kernel) -> Result<(), Refusal> {
        let (kind, algorithm) = match self.kind() {
            PoolKind::Max { .. } => ("max pooling", Algorithm::MaxPool),
            PoolKind::Average { .. } => ("average pooling", Algorithm::AvgPool),
            PoolKind::AdaptiveAverage { .. } => ("adaptive average pooling", Algorithm::AvgPool),
            PoolKind::GlobalMax => ("global max pooling", Algorithm::GlobalPool),
            PoolKind::GlobalAverage => ("global average pooling", Algorithm::GlobalPool),
        };
        let global = kernel.algorithm == Algorithm::GlobalPool && is_global(self);
        if kernel.algorithm != algorithm && !global {
            return Err(Refusal::Operation {
                kernel: kernel.algorithm.name(),
                problem: kind,
            });
        }
        Ok(())
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        PoolArgs::from(self).set_grid(kernel)
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

/// Returns whether a kernel takes whole planes.
pub(super) fn takes_planes(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::GlobalPool
}

/// Returns whether a windowed pooling is a global one: a single window that is the plane.
fn is_global(pool: &Pool2d) -> bool {
    let plane = (pool.h(), pool.w());
    let window = (pool.r(), pool.s()) == plane && pool.dilation() == [1, 1];
    let sides = pool.padding();
    let padded = [sides.top, sides.bottom, sides.left, sides.right] != [0; 4];
    let one = (pool.p(), pool.q()) == (1, 1);
    match pool.kind() {
        PoolKind::GlobalMax | PoolKind::GlobalAverage => true,
        PoolKind::AdaptiveAverage { .. } => one,
        PoolKind::Max { indices } => one && window && !padded && !indices,
        PoolKind::Average {
            divisor_override, ..
        } => one && window && !padded && divisor_override.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn a_window_that_is_the_plane_takes_the_global_kernel() {
        let pool = |window: usize, kind| {
            let pool = Pool2d::builder().input(8, 64, 7, 7).kind(kind);
            pool.kernel(window, window)
                .build()
                .expect("a valid pooling")
        };
        let mean = PoolKind::Average {
            count_include_pad: true,
            divisor_override: None,
        };
        let chosen = |problem: &Pool2d| {
            let plan = Plan::new(problem, &Capability::h200()).expect("a plan");
            plan.kernel().algorithm
        };
        assert_eq!(chosen(&pool(7, mean)), Algorithm::GlobalPool);
        assert_eq!(chosen(&pool(5, mean)), Algorithm::AvgPool);
        let maximum = |indices| PoolKind::Max { indices };
        assert_eq!(chosen(&pool(7, maximum(false))), Algorithm::GlobalPool);
        assert_eq!(chosen(&pool(7, maximum(true))), Algorithm::MaxPool);
    }

    /// A single window over the whole plane without gaps or edges, of which nothing but the values
    /// is asked.
    #[test]
    fn a_window_is_global_if_it_is_the_plane() {
        let of = |window, padding, kind| {
            let builder = Pool2d::builder().input(2, 4, 7, 7).kind(kind);
            let builder = builder.kernel(window, window).stride(9, 9);
            let builder = builder.padding(crate::problem::Padding::same(padding));
            is_global(&builder.build().expect("a valid pooling"))
        };
        let mean = |divisor_override| PoolKind::Average {
            count_include_pad: true,
            divisor_override,
        };
        let maximum = |indices| PoolKind::Max { indices };
        for (window, padding, kind, global) in [
            (7, 0, mean(None), true),
            (7, 0, maximum(false), true),
            (6, 0, mean(None), false),
            (6, 0, maximum(false), false),
            (7, 1, mean(None), false),
            (7, 1, maximum(false), false),
            (7, 0, mean(Some(3)), false),
            (7, 0, maximum(true), false),
        ] {
            assert_eq!(
                of(window, padding, kind),
                global,
                "{window} {padding} {kind:?}"
            );
        }
        let adaptive = |p, q| {
            let builder = Pool2d::builder().input(2, 4, 7, 7);
            let problem = builder.kind(PoolKind::AdaptiveAverage { p, q }).build();
            is_global(&problem.expect("a valid pooling"))
        };
        assert!(adaptive(1, 1) && !adaptive(1, 2) && !adaptive(2, 1));
    }
}
