//! ResNet's bottleneck, and the plain 3x3 that it replaces.

use super::module::{Module, Node, Place, Step};
use crate::catalog::{DType, Layout};
use crate::error::Error;
use crate::problem::{Conv2d, Conv2dBuilder, Padding};

/// A convolution of `channels` to `channels` over 3x3 pixels, in one go or by way of `narrow` channels: 1x1, 3x3, 1x1.
/// Every convolution has a bias and a ReLU in its epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bottleneck {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Channels between.
    pub narrow: usize,
    /// Whether the input is added before the last ReLU.
    pub residual: bool,
    /// How everything is stored.
    pub dtype: DType,
    /// The layout of activations.
    pub layout: Layout,
}

impl Bottleneck {
    /// The main job's: 252 to 63 to 63 to 252 channels, f32, NCHW, no residual.
    pub const fn main_job(n: usize, h: usize, w: usize) -> Bottleneck {
        Bottleneck {
            n,
            h,
            w,
            channels: 252,
            narrow: 63,
            residual: false,
            dtype: DType::F32,
            layout: Layout::Nchw,
        }
    }

    /// One 3x3 convolution of all channels: one launch.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn naive(&self) -> Result<Module, Error> {
        let conv = self
            .conv(self.channels, self.channels, 3)
            .residual(self.residual)
            .build()?;
        let node = Node::new("3x3", Step::Conv(conv), Place::Input, Place::Output);
        Module::new(vec![self.added(node)], self.dtype)
    }

    /// 1x1, 3x3, 1x1: three launches.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn separate(&self) -> Result<Module, Error> {
        let [reduce, middle, expand] = self.problems()?;
        let node = |name, conv, from, to| Node::new(name, Step::Conv(conv), from, to);
        let nodes = vec![
            node("1x1 reduce", reduce, Place::Input, Place::Hidden(0)),
            node("3x3", middle, Place::Hidden(0), Place::Hidden(1)),
            self.added(node("1x1 expand", expand, Place::Hidden(1), Place::Output)),
        ];
        Module::new(nodes, self.dtype)
    }

    /// The three convolutions.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn problems(&self) -> Result<[Conv2d; 3], Error> {
        Ok([
            self.conv(self.channels, self.narrow, 1).build()?,
            self.conv(self.narrow, self.narrow, 3).build()?,
            self.conv(self.narrow, self.channels, 1)
                .residual(self.residual)
                .build()?,
        ])
    }

    /// The last launch, with the module's input added if it has a residual.
    fn added(&self, node: Node) -> Node {
        if self.residual {
            node.with_residual(Place::Input)
        } else {
            node
        }
    }

    fn conv(&self, c: usize, k: usize, size: usize) -> Conv2dBuilder {
        Conv2d::builder()
            .input(self.n, c, self.h, self.w)
            .filters(k)
            .kernel(size, size)
            .padding(Padding::same(size / 2))
            .bias(true)
            .relu(true)
            .dtype(self.dtype)
            .layout(self.layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Ceilings;

    #[test]
    fn the_main_job_has_its_known_numbers() {
        let job = Bottleneck::main_job(128, 56, 56);
        let pixels = 128 * 56 * 56;
        let (naive, separate) = (job.naive().unwrap(), job.separate().unwrap());
        assert_eq!((naive.launches(), separate.launches()), (1, 3));
        assert_eq!(naive.macs(), pixels * 571_536);
        assert_eq!(separate.macs(), pixels * 67_473);
        let us = |module: &Module| module.roofline(&Ceilings::H200_FP32).floor_us.round();
        assert_eq!((us(&naive), us(&separate)), (6848.0, 808.0));
        assert_eq!(separate.hidden(), [63 * pixels as usize; 2]);
        assert_eq!(separate.input_len(), 252 * pixels as usize);
        assert_eq!(separate.output_len(), naive.output_len());
    }

    #[test]
    fn a_residual_belongs_to_the_last_convolution() {
        let job = Bottleneck {
            residual: true,
            ..Bottleneck::main_job(1, 8, 8)
        };
        let added: Vec<bool> = job
            .problems()
            .unwrap()
            .iter()
            .map(|conv| conv.residual().is_some())
            .collect();
        assert_eq!(added, [false, false, true]);
    }
}
