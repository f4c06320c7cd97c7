//! GoogLeNet's Inception module, naive and with its reductions.

mod choice;
mod fused;

use crate::error::Error;
use crate::graph::{Graph, Node, Step, TensorId};
use crate::kernels::{DType, Layout, Math};
use crate::problem::{Builder, Conv2d, Padding, Pool2d, PoolKind};

/// Four branches over the same input, side by side in the channels of the output: 1x1, 3x3, 5x5,
/// 3x3 max pooling. Each branch writes its own channels, so there is no copy. Every convolution has
/// a bias and a ReLU in its epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inception {
    /// Images.
    pub n: usize,
    /// Channels of the input.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Filters of the 1x1 branch.
    pub k1: usize,
    /// Channels that the 3x3 branch is reduced to first.
    pub reduce3: usize,
    /// Filters of the 3x3 branch.
    pub k3: usize,
    /// Channels that the 5x5 branch is reduced to first.
    pub reduce5: usize,
    /// Filters of the 5x5 branch.
    pub k5: usize,
    /// Filters of the 1x1 behind the pooling.
    pub pool_projection: usize,
    /// Storage type of all tensors.
    pub dtype: DType,
    /// The layout of activations.
    pub layout: Layout,
    /// Mode of f32 multiplication.
    pub math: Math,
}

impl Inception {
    /// GoogLeNet's inception 3a: 192 channels, 64 + 128 (96) + 32 (16) + 32; 28x28 pixels in the
    /// network. f32, NCHW.
    pub const fn inception_3a(n: usize, h: usize, w: usize) -> Inception {
        Inception {
            n,
            c: 192,
            h,
            w,
            k1: 64,
            reduce3: 96,
            k3: 128,
            reduce5: 16,
            k5: 32,
            pool_projection: 32,
            dtype: DType::F32,
            layout: Layout::Nchw,
            math: Math::Strict,
        }
    }

    /// The naive module: 3x3 and 5x5 straight on the input, the pooling concatenated as it is. Four
    /// launches; `k1 + k3 + k5 + c` channels.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub fn naive(&self) -> Result<Graph, Error> {
        let pitch = sum(&[self.k1, self.k3, self.k5, self.c])?;
        let conv = |name: &'static str, k, size, offset| -> Result<Node, Error> {
            let conv = self
                .conv(self.c, k, size)
                .output_slice(pitch, offset)
                .build()?;
            Ok(Node::new(
                name,
                Step::Conv(conv),
                TensorId::Input,
                TensorId::Output,
            ))
        };
        let pool = self
            .pool()
            .output_slice(pitch, self.k1 + self.k3 + self.k5)
            .build()?;
        let nodes = vec![
            conv("1x1", self.k1, 1, 0)?,
            conv("3x3", self.k3, 3, self.k1)?,
            conv("5x5", self.k5, 5, self.k1 + self.k3)?,
            Node::new("pool", Step::Pool(pool), TensorId::Input, TensorId::Output),
        ];
        Graph::new(nodes, self.dtype)
    }

    /// The module of the paper: 1x1 reductions before 3x3 and 5x5, a 1x1 projection behind the
    /// pooling. Seven launches; `k1 + k3 + k5 + pool_projection` channels.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub fn separate(&self) -> Result<Graph, Error> {
        let pitch = sum(&[self.k1, self.k3, self.k5, self.pool_projection])?;
        let node = |name: &'static str, conv: Builder<Conv2d>, from, to| -> Result<Node, Error> {
            Ok(Node::new(name, Step::Conv(conv.build()?), from, to))
        };
        let branch = |c, k, size, offset| -> Builder<Conv2d> {
            self.conv(c, k, size).output_slice(pitch, offset)
        };
        let (at3, at5) = (self.k1, self.k1 + self.k3);
        let pool = Step::Pool(self.pool().build()?);
        let nodes = vec![
            node(
                "1x1",
                branch(self.c, self.k1, 1, 0),
                TensorId::Input,
                TensorId::Output,
            )?,
            node(
                "3x3 reduce",
                self.conv(self.c, self.reduce3, 1),
                TensorId::Input,
                TensorId::Intermediate(0),
            )?,
            node(
                "3x3",
                branch(self.reduce3, self.k3, 3, at3),
                TensorId::Intermediate(0),
                TensorId::Output,
            )?,
            node(
                "5x5 reduce",
                self.conv(self.c, self.reduce5, 1),
                TensorId::Input,
                TensorId::Intermediate(1),
            )?,
            node(
                "5x5",
                branch(self.reduce5, self.k5, 5, at5),
                TensorId::Intermediate(1),
                TensorId::Output,
            )?,
            Node::new("pool", pool, TensorId::Input, TensorId::Intermediate(2)),
            node(
                "pool projection",
                branch(self.c, self.pool_projection, 1, at5 + self.k5),
                TensorId::Intermediate(2),
                TensorId::Output,
            )?,
        ];
        Graph::new(nodes, self.dtype)
    }

    fn conv(&self, c: usize, k: usize, size: usize) -> Builder<Conv2d> {
        Conv2d::builder()
            .input(self.n, c, self.h, self.w)
            .filters(k)
            .kernel(size, size)
            .padding(Padding::same(size / 2))
            .bias(true)
            .relu(true)
            .dtype(self.dtype)
            .layout(self.layout)
            .math(self.math)
    }

    fn pool(&self) -> crate::problem::Builder<Pool2d> {
        Pool2d::builder()
            .kind(PoolKind::Max { indices: false })
            .input(self.n, self.c, self.h, self.w)
            .kernel(3, 3)
            .padding(Padding::same(1))
            .dtype(self.dtype)
            .layout(self.layout)
    }
}

/// Adds up the channels of all branches.
fn sum(channels: &[usize]) -> Result<usize, Error> {
    let total: u128 = channels.iter().map(|&c| c as u128).sum();
    let limit = i32::MAX as u64;
    match usize::try_from(total) {
        Ok(sum) if sum as u64 <= limit => Ok(sum),
        _ => Err(Error::TooLarge {
            what: "the channels of a module",
            value: total,
            limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PeakRates;

    #[test]
    fn inception_3a_has_its_known_numbers() {
        let module = Inception::inception_3a(128, 28, 28).separate().unwrap();
        assert_eq!(module.launches(), 7);
        assert_eq!(2 * module.macs(), 32_780_582_912);
        let floor = module.roofline(&PeakRates::H200_FP32).floor_us;
        assert!((floor - 537.84).abs() < 0.6, "{floor}");
        assert_eq!(module.output_len(), 128 * 256 * 28 * 28);
    }

    #[test]
    fn branches_lie_side_by_side() {
        for module in [
            Inception::inception_3a(2, 7, 7).naive().unwrap(),
            Inception::inception_3a(2, 7, 7).separate().unwrap(),
            Inception::inception_3a(2, 7, 7).fused_in_three().unwrap(),
        ] {
            let writes = module.nodes().iter().flat_map(Node::writes);
            let mut next = 0;
            for (_, desc) in writes.filter(|(place, _)| *place == TensorId::Output) {
                assert_eq!(desc.channel_offset(), next);
                assert_eq!(desc.len(), module.output_len());
                next += desc.c();
            }
            assert_eq!(next * 2 * 49, module.output_len());
        }
    }

    #[test]
    fn absurd_widths_are_errors() {
        let module = Inception {
            k1: usize::MAX,
            k3: usize::MAX,
            ..Inception::inception_3a(1, 4, 4)
        };
        assert!(module.naive().is_err());
        assert!(module.separate().is_err());
    }
}
