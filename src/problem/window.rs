//! The sliding window of convolutions, poolings and subsamplings.

use super::conv2d::Padding;
use super::extent::{Axis, nonzero};
use crate::error::Error;

/// A sliding window; arrays are of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of taps.
    pub kernel: [usize; 2],
    /// Rows and columns between two windows.
    pub stride: [usize; 2],
    /// Rows and columns between two taps; 1 is dense.
    pub dilation: [usize; 2],
    /// Rows and columns around the image.
    pub padding: Padding,
}

impl Window {
    /// A window of `r` rows and `s` columns of neighbours that moves by 1, without padding.
    pub const fn new(r: usize, s: usize) -> Window {
        Window {
            kernel: [r, s],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::NONE,
        }
    }

    /// The two axes over an input of these rows and columns, rows first.
    pub(crate) fn axes(&self, input: [usize; 2]) -> [Axis; 2] {
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.padding;
        let sides = [(top, bottom), (left, right)];
        std::array::from_fn(|i| Axis {
            input: input[i],
            window: self.kernel[i],
            stride: self.stride[i],
            dilation: self.dilation[i],
            before: sides[i].0,
            after: sides[i].1,
        })
    }

    /// Checks that nothing of it is 0; `sides` are the names of the kernel's height and width.
    pub(crate) fn check(&self, sides: [&'static str; 2]) -> Result<(), Error> {
        for (what, extent) in [
            (sides[0], self.kernel[0]),
            (sides[1], self.kernel[1]),
            ("the vertical stride", self.stride[0]),
            ("the horizontal stride", self.stride[1]),
            ("the vertical dilation", self.dilation[0]),
            ("the horizontal dilation", self.dilation[1]),
        ] {
            nonzero(what, extent)?;
        }
        Ok(())
    }
}
