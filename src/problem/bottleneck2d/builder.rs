//! Collecting and checking a bottleneck's description.

use super::{Added, Bottleneck2d};
use crate::error::Error;
use crate::problem::tensor::{filter_setters, tensor_setters};
use crate::problem::{Conv2d, Conv2dBuilder, DEFAULT_ALIGNMENT, FilterLayout, Padding};
use crate::problem::{DType, Layout, Math};

/// Collects a [`Bottleneck2d`]; made by [`Bottleneck2d::builder`]. `input`, `mid_channels` and
/// `filters` must be given; the rest defaults to stride 1, a bias in each of the three, no
/// residual, a ReLU at the end, f32, NCHW, KCRS, [`Math::Strict`] and buffers aligned to 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Bottleneck2dBuilder {
    input: [usize; 4],
    mid_channels: usize,
    filters: usize,
    stride: usize,
    bias: [bool; 3],
    added: Added,
    relu: bool,
    dtype: DType,
    layout: Layout,
    filter_layout: FilterLayout,
    math: Math,
    alignment: usize,
    input_slice: Option<(usize, usize)>,
    output_slice: Option<(usize, usize)>,
    residual_slice: Option<(usize, usize)>,
}

impl Bottleneck2dBuilder {
    pub(super) fn new() -> Bottleneck2dBuilder {
        Bottleneck2dBuilder {
            input: [0; 4],
            mid_channels: 0,
            filters: 0,
            stride: 1,
            bias: [true; 3],
            added: Added::Nothing,
            relu: true,
            dtype: DType::F32,
            layout: Layout::Nchw,
            filter_layout: FilterLayout::Kcrs,
            math: Math::Strict,
            alignment: DEFAULT_ALIGNMENT,
            input_slice: None,
            output_slice: None,
            residual_slice: None,
        }
    }

    /// The description that builds `problem` again.
    pub(super) fn of(problem: &Bottleneck2d) -> Bottleneck2dBuilder {
        let slice = |desc: &crate::problem::TensorDesc| {
            Some((desc.channel_pitch(), desc.channel_offset())).filter(|_| !desc.is_dense())
        };
        Bottleneck2dBuilder {
            input: [problem.n(), problem.c(), problem.h(), problem.w()],
            mid_channels: problem.mid_channels(),
            filters: problem.k(),
            stride: problem.stride(),
            bias: problem.bias(),
            added: problem.added(),
            relu: problem.relu(),
            dtype: problem.dtype(),
            layout: problem.layout(),
            filter_layout: problem.filter_layout(),
            math: problem.math(),
            alignment: problem.alignment(),
            input_slice: slice(problem.input()),
            output_slice: slice(problem.output()),
            residual_slice: match problem.added() {
                Added::Tensor => problem.residual().and_then(slice),
                Added::Nothing | Added::Input => None,
            },
        }
    }

    tensor_setters!();
    filter_setters!();

    /// Channels of both intermediates.
    pub fn mid_channels(mut self, mid_channels: usize) -> Self {
        self.mid_channels = mid_channels;
        self
    }

    /// Rows and columns between two windows of the 3x3: 1 or 2.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Sets whether each of the three convolutions has a bias.
    pub fn bias(self, bias: bool) -> Self {
        self.biases([bias; 3])
    }

    /// Convolutions of the three that have a bias.
    pub fn biases(mut self, bias: [bool; 3]) -> Self {
        self.bias = bias;
        self
    }

    /// Tensor added before the last ReLU.
    pub fn added(mut self, added: Added) -> Self {
        self.added = added;
        if added != Added::Tensor {
            self.residual_slice = None;
        }
        self
    }

    /// A tensor is added, and it is channels `offset..offset + k` of a tensor of `pitch` channels.
    pub fn residual_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.added = Added::Tensor;
        self.residual_slice = Some((pitch, offset));
        self
    }

    /// Checks everything and computes the output's size.
    ///
    /// # Errors
    /// * [`Error::BottleneckStride`]: the stride is neither 1 nor 2;
    /// * [`Error::ResidualShape`]: the input is to be added, and the output has another shape;
    /// * as [`Conv2dBuilder::build`] for each of the three convolutions.
    pub fn build(self) -> Result<Bottleneck2d, Error> {
        if !matches!(self.stride, 1 | 2) {
            return Err(Error::BottleneckStride {
                stride: self.stride,
            });
        }
        let [n, c, h, w] = self.input;
        let mut reduce = self
            .conv(c, self.mid_channels, 1, 0)
            .input(n, c, h, w)
            .relu(true);
        if let Some((pitch, offset)) = self.input_slice {
            reduce = reduce.input_slice(pitch, offset);
        }
        let reduce = reduce.build()?;
        let middle = self
            .conv(self.mid_channels, self.mid_channels, 3, 1)
            .input(n, self.mid_channels, h, w)
            .stride(self.stride, self.stride)
            .relu(true)
            .build()?;
        let (p, q) = (middle.p(), middle.q());
        if self.added == Added::Input && [c, h, w] != [self.filters, p, q] {
            return Err(Error::ResidualShape {
                input: [c, h, w],
                output: [self.filters, p, q],
            });
        }
        let mut expand = self
            .conv(self.mid_channels, self.filters, 1, 2)
            .input(n, self.mid_channels, p, q)
            .relu(self.relu)
            .residual(self.added != Added::Nothing);
        if let Some((pitch, offset)) = self.output_slice {
            expand = expand.output_slice(pitch, offset);
        }
        let residual_slice = match self.added {
            Added::Input => self.input_slice,
            Added::Nothing | Added::Tensor => self.residual_slice,
        };
        if let Some((pitch, offset)) = residual_slice {
            expand = expand.residual_slice(pitch, offset);
        }
        let expand = expand.build()?;
        Ok(Bottleneck2d {
            convolutions: Box::new([reduce, middle, expand]),
            added: self.added,
        })
    }

    /// One of the three, of `size` x `size` taps.
    fn conv(&self, c: usize, k: usize, size: usize, index: usize) -> Conv2dBuilder {
        Conv2d::builder()
            .input(self.input[0], c, 0, 0)
            .filters(k)
            .kernel(size, size)
            .padding(Padding::same(size / 2))
            .bias(self.bias[index])
            .dtype(self.dtype)
            .layout(self.layout)
            .filter_layout(self.filter_layout)
            .math(self.math)
            .alignment(self.alignment)
    }
}
