//! ResNet's bottleneck, and the plain 3x3 that it replaces.

use crate::error::Error;
use crate::graph::{FuseOptions, FusionDecision, Graph, Node, Pattern, Step, TensorId, choose};
use crate::kernels::{DType, Layout, Math};
use crate::problem::{Added, Bottleneck2d, Builder, Conv2d, FilterLayout, Padding};

/// A convolution of `channels` to `k` channels over 3x3 pixels, in one go or by way of
/// `mid_channels` channels: 1x1, 3x3, 1x1. Every convolution has a bias and a ReLU in its epilogue.
///
/// ```
/// use warpconv::graph::FuseOptions;
/// use warpconv::ops::Bottleneck;
/// use warpconv::plan::Capability;
/// let job = Bottleneck::main_job(128, 56, 56);
/// let (graph, decision) = job.choose(&FuseOptions::new(&Capability::h200()))?;
/// println!("{decision}"); // one launch or three, and why
/// assert_eq!(graph.launches(), if decision.is_fused() { 1 } else { 3 });
/// # Ok::<(), warpconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bottleneck {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Channels of both intermediate tensors.
    pub mid_channels: usize,
    /// Channels of the output.
    pub k: usize,
    /// Rows and columns between two windows of the 3x3: 1 or 2.
    pub stride: usize,
    /// True if the input is added before the last ReLU; it has the output's shape then.
    pub residual: bool,
    /// Storage type of all tensors.
    pub dtype: DType,
    /// The layout of activations.
    pub layout: Layout,
    /// The layout of filters.
    pub filter_layout: FilterLayout,
    /// Mode of f32 multiplication.
    pub math: Math,
}

impl Bottleneck {
    /// The main job's: 252 to 63 to 63 to 252 channels, f32, NCHW, no residual, filters as PyTorch
    /// has them.
    pub const fn main_job(n: usize, h: usize, w: usize) -> Bottleneck {
        Bottleneck {
            n,
            h,
            w,
            channels: 252,
            mid_channels: 63,
            k: 252,
            stride: 1,
            residual: false,
            dtype: DType::F32,
            layout: Layout::Nchw,
            filter_layout: FilterLayout::Kcrs,
            math: Math::Strict,
        }
    }

    /// One 3x3 convolution of all channels: one launch.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub fn naive(&self) -> Result<Graph, Error> {
        // Refuses what cannot be added.
        self.problem()?;
        let conv = self
            .conv(self.channels, self.k, 3)
            .stride(self.stride, self.stride)
            .residual(self.residual)
            .build()?;
        let node = Node::new("3x3", Step::Conv(conv), TensorId::Input, TensorId::Output);
        Graph::new(vec![self.added(node)], self.dtype)
    }

    /// 1x1, 3x3, 1x1: three launches.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub fn separate(&self) -> Result<Graph, Error> {
        let [reduce, middle, expand] = self.problems()?;
        let node = |name, conv, from, to| Node::new(name, Step::Conv(conv), from, to);
        let nodes = vec![
            node(
                "1x1 reduce",
                reduce,
                TensorId::Input,
                TensorId::Intermediate(0),
            ),
            node(
                "3x3",
                middle,
                TensorId::Intermediate(0),
                TensorId::Intermediate(1),
            ),
            self.added(node(
                "1x1 expand",
                expand,
                TensorId::Intermediate(1),
                TensorId::Output,
            )),
        ];
        Graph::new(nodes, self.dtype)
    }

    /// The three convolutions.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub(crate) fn problems(&self) -> Result<[Conv2d; 3], Error> {
        Ok(self.problem()?.convolutions().clone())
    }

    /// The whole bottleneck as one operation.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub fn problem(&self) -> Result<Bottleneck2d, Error> {
        Bottleneck2d::builder()
            .input(self.n, self.channels, self.h, self.w)
            .mid_channels(self.mid_channels)
            .filters(self.k)
            .stride(self.stride)
            .added(if self.residual {
                Added::Input
            } else {
                Added::Nothing
            })
            .dtype(self.dtype)
            .layout(self.layout)
            .filter_layout(self.filter_layout)
            .math(self.math)
            .build()
    }

    /// One launch of a kernel that does all of it. Preparing it fails where no kernel does
    /// ([`Error::NoKernel`], with each one's reason); see [`Bottleneck::choose`].
    ///
    /// # Errors
    /// As [`Bottleneck::problem`].
    pub fn fused(&self) -> Result<Graph, Error> {
        let step = Step::Bottleneck(self.problem()?);
        let node = Node::new("bottleneck", step, TensorId::Input, TensorId::Output);
        Graph::new(vec![node], self.dtype)
    }

    /// The faster of one launch and three by the model's estimate, with the decision. Both take the
    /// filters and biases of the three, in their order.
    ///
    /// # Errors
    /// As [`Bottleneck::problem`]; [`Error::NoKernel`] if neither can be planned.
    pub fn choose(&self, options: &FuseOptions<'_>) -> Result<(Graph, FusionDecision), Error> {
        let graphs = [
            ("one launch", self.fused()?),
            ("three launches", self.separate()?),
        ];
        let (graph, decision) = choose(Pattern::Bottleneck, graphs, options);
        if decision.alternative().estimate.is_err() {
            // Its error names the kernels of the first convolution that none accepts.
            options.estimate(graph.nodes())?;
        }
        Ok((graph, decision))
    }

    /// Adds the input to the last launch, if the bottleneck has a residual.
    fn added(&self, node: Node) -> Node {
        if self.residual {
            node.with_residual(TensorId::Input)
        } else {
            node
        }
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
            .filter_layout(self.filter_layout)
            .math(self.math)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PeakRates;

    #[test]
    fn the_main_job_has_its_known_numbers() {
        let job = Bottleneck::main_job(128, 56, 56);
        let pixels = 128 * 56 * 56;
        let (naive, separate) = (job.naive().unwrap(), job.separate().unwrap());
        assert_eq!((naive.launches(), separate.launches()), (1, 3));
        assert_eq!(naive.macs(), pixels * 571_536);
        assert_eq!(separate.macs(), pixels * 67_473);
        let us = |module: &Graph| module.roofline(&PeakRates::H200_FP32).floor_us.round();
        assert_eq!((us(&naive), us(&separate)), (6848.0, 808.0));
        assert_eq!(separate.intermediates(), [63 * pixels as usize; 2]);
        assert_eq!(separate.input_len(), 252 * pixels as usize);
        assert_eq!(separate.output_len(), naive.output_len());
    }

    #[test]
    fn one_launch_has_the_known_floors() {
        let us = |dtype, residual| {
            let job = Bottleneck {
                dtype,
                residual,
                ..Bottleneck::main_job(128, 56, 56)
            };
            let (naive, fused) = (job.naive().unwrap(), job.fused().unwrap());
            assert_eq!((fused.launches(), fused.weights().len()), (1, 3));
            assert_eq!(fused.input_len(), naive.input_len());
            assert!(fused.intermediates().is_empty());
            fused.roofline(&PeakRates::h200(dtype)).floor_us
        };
        // The project's table: one kernel, halo not counted twice.
        assert!((us(DType::Bf16, false) - 94.13).abs() < 0.01);
        assert!((us(DType::F32, false) - 808.48).abs() < 0.01);
        // The input is there already.
        assert_eq!(us(DType::Bf16, false), us(DType::Bf16, true));
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
