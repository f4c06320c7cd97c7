//! Problems made from others: the same tensor as a slice or with another batch, and the builder of
//! a problem that exists.

use super::conv2d::{Conv2d, ConvOptions};
use super::tensor::{Builder, Built, TensorDesc};
use crate::error::Error;

impl TensorDesc {
    /// The same tensor as channels `offset..offset + c` of a tensor of `pitch` channels.
    ///
    /// # Errors
    /// [`Error::Slice`] if they do not lie inside, [`Error::TooLarge`] if the wider tensor is too
    /// large.
    pub fn slice(&self, pitch: usize, offset: usize) -> Result<Self, Error> {
        let extents = [self.n(), self.c(), self.h(), self.w()];
        Self::named(
            "tensor",
            extents,
            self.layout(),
            self.dtype(),
            Some((pitch, offset)),
        )
    }

    /// The same tensor with `n` images.
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        let extents = [n, self.c(), self.h(), self.w()];
        let slice = Some((self.channel_pitch(), self.channel_offset()));
        Self::named("tensor", extents, self.layout(), self.dtype(), slice)
    }
}

impl<P: Built> Builder<P> {
    /// Builder with the tensors of a problem.
    pub(super) fn between(input: &TensorDesc, output: &TensorDesc, own: P::Own) -> Builder<P> {
        Builder {
            input: [input.n(), input.c(), input.h(), input.w()],
            dtype: input.dtype(),
            layout: input.layout(),
            input_slice: slice(input),
            output_slice: slice(output),
            ..Builder::new(own)
        }
    }
}

impl Conv2d {
    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Builder<Conv2d> {
        let own = ConvOptions {
            groups: self.groups(),
            bias: self.bias(),
            residual: self.residual().is_some(),
        };
        Builder {
            window: self.window(),
            filters: self.k(),
            filter_layout: self.filter_layout(),
            math: self.math(),
            alignment: self.alignment(),
            relu: self.relu(),
            residual_slice: self.residual().and_then(slice),
            ..Builder::between(self.input(), self.output(), own)
        }
    }

    /// The same problem over `n` images.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build).
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.to_builder()
            .input(n, self.c(), self.h(), self.w())
            .build()
    }
}

/// Pitch and offset of a tensor that is a slice.
pub(super) fn slice(desc: &TensorDesc) -> Option<(usize, usize)> {
    Some((desc.channel_pitch(), desc.channel_offset())).filter(|_| !desc.is_dense())
}
