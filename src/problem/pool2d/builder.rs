//! Collecting and checking a pooling's description.

use super::{MAX_INDEXED_WINDOW, Pool2d, PoolKind};
use crate::error::Error;
use crate::problem::Padding;
use crate::problem::tensor::{
    TensorDesc, Window, at_most, nonzero, outputs, product, tensor_setters, window_setters,
};
use crate::problem::{DType, Layout};

/// Collects a [`Pool2d`]; made by [`Pool2d::builder`]. `input` must be given, and `kernel` for the
/// kinds that slide one; the rest defaults to stride = 1, dilation 1, no padding, f32 and NCHW.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Pool2dBuilder {
    pub(super) kind: PoolKind,
    pub(super) input: [usize; 4],
    pub(super) window: Window,
    pub(super) ceil_mode: bool,
    pub(super) output_size: Option<[usize; 2]>,
    pub(super) dtype: DType,
    pub(super) layout: Layout,
    pub(super) input_slice: Option<(usize, usize)>,
    pub(super) output_slice: Option<(usize, usize)>,
}

impl Pool2dBuilder {
    tensor_setters!();
    window_setters!();

    /// Sets whether the output's size is rounded up: a last window may hang over the padding,
    /// but not start in it.
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Rows and columns of the output, where fewer are wanted than windows fit: the first ones are
    /// computed and the rest of the input is not read (benchdnn's "negative padding").
    pub fn output_size(mut self, p: usize, q: usize) -> Self {
        self.output_size = Some([p, q]);
        self
    }

    /// Computation over the window.
    pub fn kind(mut self, kind: PoolKind) -> Self {
        self.kind = kind;
        self
    }

    /// Checks everything and computes the output's size.
    ///
    /// # Errors
    /// * [`Error::Zero`]: channels, rows, columns, window, stride, dilation or an adaptive output
    ///   are 0 (a batch of 0 is valid and has an empty output);
    /// * [`Error::WindowTooLarge`]: the effective window is larger than the padded input;
    /// * [`Error::IndexRange`]: indices are asked for and the window has more than
    ///   255 positions;
    /// * [`Error::ZeroDivisor`]: the divisor is overridden by 0;
    /// * [`Error::Incompatible`]: window, stride, dilation, padding or ceil mode for a kind that
    ///   slides no window;
    /// * [`Error::Shape`]: more outputs are wanted than windows fit;
    /// * [`Error::Slice`], [`Error::TooLarge`]: as for a convolution.
    pub fn build(self) -> Result<Pool2d, Error> {
        let input = TensorDesc::named(
            "input",
            self.input,
            self.layout,
            self.dtype,
            self.input_slice,
        )?;
        let [n, c, h, w] = self.input;
        let (kernel, [p, q]) = match self.kind {
            PoolKind::Max { .. } | PoolKind::Average { .. } => {
                (self.window.kernel, self.windowed_outputs()?)
            }
            PoolKind::GlobalMax | PoolKind::GlobalAverage => {
                self.refuse_window()?;
                ([h, w], [1, 1])
            }
            PoolKind::AdaptiveAverage { p, q } => {
                self.refuse_window()?;
                nonzero("the height of the output", p)?;
                nonzero("the width of the output", q)?;
                // The largest window of each axis.
                (
                    [
                        h.div_ceil(p) + usize::from(h % p != 0),
                        w.div_ceil(q) + usize::from(w % q != 0),
                    ],
                    [p, q],
                )
            }
        };
        let output = TensorDesc::named(
            "output",
            [n, c, p, q],
            self.layout,
            self.dtype,
            self.output_slice,
        )?;
        let windowed = self.kind.is_windowed();
        Ok(Pool2d {
            kind: self.kind,
            input,
            output,
            window: Window {
                kernel,
                stride: if windowed { self.window.stride } else { [1, 1] },
                ..self.window
            },
            ceil_mode: self.ceil_mode,
        })
    }

    /// The output's size where a window slides.
    fn windowed_outputs(&self) -> Result<[usize; 2], Error> {
        let sides = ["the height of the window", "the width of the window"];
        self.window.check(sides)?;
        if let PoolKind::Average {
            divisor_override: Some(0),
            ..
        } = self.kind
        {
            return Err(Error::ZeroDivisor);
        }
        let [_, _, h, w] = self.input;
        let [rows, columns] = self.window.axes([h, w]);
        let size = outputs(rows, columns, self.ceil_mode)?;
        let size = self.wanted_outputs(size)?;
        at_most("the positions of the window", product(&self.window.kernel))?;
        if let PoolKind::Max { indices: true } = self.kind
            && product(&self.window.kernel) > MAX_INDEXED_WINDOW as u128
        {
            return Err(Error::IndexRange {
                window: self.window.kernel,
            });
        }
        Ok(size)
    }

    /// The outputs that are wanted of those that fit.
    fn wanted_outputs(&self, fit: [usize; 2]) -> Result<[usize; 2], Error> {
        let Some(wanted) = self.output_size else {
            return Ok(fit);
        };
        nonzero("the height of the output", wanted[0])?;
        nonzero("the width of the output", wanted[1])?;
        if wanted[0] > fit[0] || wanted[1] > fit[1] {
            return Err(Error::Shape {
                what: "output of a pooling, at most",
                expected: fit.to_vec(),
                got: wanted.to_vec(),
            });
        }
        Ok(wanted)
    }

    /// Fails if anything was said about a window.
    fn refuse_window(&self) -> Result<(), Error> {
        let (own, plain) = (&self.window, Window::new(0, 0));
        for (what, given) in [
            ("a window", own.kernel != plain.kernel),
            ("a stride", own.stride != plain.stride),
            ("a dilation", own.dilation != plain.dilation),
            ("padding", own.padding != plain.padding),
            ("ceil mode", self.ceil_mode),
            ("an output size", self.output_size.is_some()),
        ] {
            if given {
                return Err(Error::Incompatible {
                    what,
                    with: "a global or adaptive pooling",
                });
            }
        }
        Ok(())
    }
}
