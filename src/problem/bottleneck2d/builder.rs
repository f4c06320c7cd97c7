//! Collecting and checking a bottleneck's description.

use super::{Added, Bottleneck2d};
use crate::error::Error;
use crate::problem::rebuild::slice;
use crate::problem::tensor::{Builder, Built, Filtered};
use crate::problem::{Conv2d, Padding};

/// Options of a bottleneck alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BottleneckOptions {
    mid_channels: usize,
    stride: usize,
    bias: [bool; 3],
    added: Added,
}

impl Built for Bottleneck2d {
    type Own = BottleneckOptions;

    fn build(builder: Builder<Bottleneck2d>) -> Result<Bottleneck2d, Error> {
        if !matches!(builder.own.stride, 1 | 2) {
            return Err(Error::BottleneckStride {
                stride: builder.own.stride,
            });
        }
        let [n, c, h, w] = builder.input;
        let mut reduce = builder
            .conv(c, builder.own.mid_channels, 1, 0)
            .input(n, c, h, w)
            .relu(true);
        if let Some((pitch, offset)) = builder.input_slice {
            reduce = reduce.input_slice(pitch, offset);
        }
        let reduce = reduce.build()?;
        let middle = builder
            .conv(builder.own.mid_channels, builder.own.mid_channels, 3, 1)
            .input(n, builder.own.mid_channels, h, w)
            .stride(builder.own.stride, builder.own.stride)
            .relu(true)
            .build()?;
        let (p, q) = (middle.p(), middle.q());
        if builder.own.added == Added::Input && [c, h, w] != [builder.filters, p, q] {
            return Err(Error::ResidualShape {
                input: [c, h, w],
                output: [builder.filters, p, q],
            });
        }
        let mut expand = builder
            .conv(builder.own.mid_channels, builder.filters, 1, 2)
            .input(n, builder.own.mid_channels, p, q)
            .relu(builder.relu)
            .residual(builder.own.added != Added::Nothing);
        if let Some((pitch, offset)) = builder.output_slice {
            expand = expand.output_slice(pitch, offset);
        }
        let residual_slice = match builder.own.added {
            Added::Input => builder.input_slice,
            Added::Nothing | Added::Tensor => builder.residual_slice,
        };
        if let Some((pitch, offset)) = residual_slice {
            expand = expand.residual_slice(pitch, offset);
        }
        let expand = expand.build()?;
        Ok(Bottleneck2d {
            convolutions: Box::new([reduce, middle, expand]),
            added: builder.own.added,
        })
    }
}

impl Filtered for Bottleneck2d {}

impl Builder<Bottleneck2d> {
    pub(super) fn bottleneck() -> Builder<Bottleneck2d> {
        let own = BottleneckOptions {
            mid_channels: 0,
            stride: 1,
            bias: [true; 3],
            added: Added::Nothing,
        };
        Builder {
            relu: true,
            ..Builder::new(own)
        }
    }

    /// The description that builds `problem` again.
    pub(super) fn of(problem: &Bottleneck2d) -> Builder<Bottleneck2d> {
        let own = BottleneckOptions {
            mid_channels: problem.mid_channels(),
            stride: problem.stride(),
            bias: problem.bias(),
            added: problem.added(),
        };
        Builder {
            filters: problem.k(),
            filter_layout: problem.filter_layout(),
            math: problem.math(),
            alignment: problem.alignment(),
            relu: problem.relu(),
            residual_slice: match problem.added() {
                Added::Tensor => problem.residual().and_then(slice),
                Added::Nothing | Added::Input => None,
            },
            ..Builder::between(problem.input(), problem.output(), own)
        }
    }

    /// Channels of both intermediates.
    pub fn mid_channels(mut self, mid_channels: usize) -> Self {
        self.own.mid_channels = mid_channels;
        self
    }

    /// Rows and columns between two windows of the 3x3: 1 or 2.
    pub fn stride(mut self, stride: usize) -> Self {
        self.own.stride = stride;
        self
    }

    /// Sets which of the three convolutions have a bias.
    pub fn bias(mut self, bias: [bool; 3]) -> Self {
        self.own.bias = bias;
        self
    }

    /// Tensor added before the last ReLU.
    pub fn added(mut self, added: Added) -> Self {
        self.own.added = added;
        if added != Added::Tensor {
            self.residual_slice = None;
        }
        self
    }

    /// A tensor is added, and it is channels `offset..offset + k` of a tensor of `pitch` channels.
    pub fn residual_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.own.added = Added::Tensor;
        self.residual_slice = Some((pitch, offset));
        self
    }

    /// One of the three, of `size` x `size` taps.
    fn conv(&self, c: usize, k: usize, size: usize, index: usize) -> Builder<Conv2d> {
        Conv2d::builder()
            .input(self.input[0], c, 0, 0)
            .filters(k)
            .kernel(size, size)
            .padding(Padding::same(size / 2))
            .bias(self.own.bias[index])
            .dtype(self.dtype)
            .layout(self.layout)
            .filter_layout(self.filter_layout)
            .math(self.math)
            .alignment(self.alignment)
    }
}
