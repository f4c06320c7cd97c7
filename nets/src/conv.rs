//! Convolution layer of a network's description.

use crate::builder::Tensor;

/// A convolution layer with a square filter; it always has a bias.
/// [`Builder::convolution`](crate::Builder::convolution) takes any other.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Conv {
    pub(super) filters: usize,
    pub(super) size: [usize; 2],
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) groups: usize,
    pub(super) relu: bool,
    pub(super) residual: Option<Tensor>,
}

impl Conv {
    /// Filters of `size` x `size`, stride 1, no padding, no ReLU.
    pub const fn new(filters: usize, size: usize) -> Conv {
        Conv {
            filters,
            size: [size, size],
            stride: 1,
            padding: 0,
            groups: 1,
            relu: false,
            residual: None,
        }
    }

    /// Stride, in pixels.
    pub const fn stride(self, stride: usize) -> Conv {
        Conv { stride, ..self }
    }

    /// Zero padding on all four sides, in pixels.
    pub const fn padding(self, padding: usize) -> Conv {
        Conv { padding, ..self }
    }

    /// Number of groups; the filters of a group read only the channels of that group.
    pub const fn groups(self, groups: usize) -> Conv {
        Conv { groups, ..self }
    }

    /// Adds a ReLU to the epilogue.
    pub const fn relu(self) -> Conv {
        Conv { relu: true, ..self }
    }

    /// Adds a residual tensor in the epilogue, before the ReLU.
    pub const fn add(self, residual: Tensor) -> Conv {
        Conv {
            residual: Some(residual),
            ..self
        }
    }
}
