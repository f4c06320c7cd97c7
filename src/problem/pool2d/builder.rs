//! Collecting and checking a pooling's description.

use super::{MAX_INDEXED_WINDOW, Pool2d, PoolKind};
use crate::error::Error;
use crate::problem::conv2d::{Window, outputs};
use crate::problem::tensor::{Builder, Built, TensorDesc, Windowed, at_most, nonzero, product};

/// Options of a pooling alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    pub(super) kind: PoolKind,
    pub(super) ceil_mode: bool,
    pub(super) output_size: Option<[usize; 2]>,
}

impl Built for Pool2d {
    type Own = PoolOptions;

    fn build(builder: Builder<Pool2d>) -> Result<Pool2d, Error> {
        let input = TensorDesc::named(
            "input",
            builder.input,
            builder.layout,
            builder.dtype,
            builder.input_slice,
        )?;
        let [n, c, h, w] = builder.input;
        let (kernel, [p, q]) = match builder.own.kind {
            PoolKind::Max { .. } | PoolKind::Average { .. } => {
                (builder.window.kernel, builder.windowed_outputs()?)
            }
            PoolKind::GlobalMax | PoolKind::GlobalAverage => {
                builder.refuse_window()?;
                ([h, w], [1, 1])
            }
            PoolKind::AdaptiveAverage { p, q } => {
                builder.refuse_window()?;
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
            builder.layout,
            builder.dtype,
            builder.output_slice,
        )?;
        let windowed = builder.own.kind.is_windowed();
        Ok(Pool2d {
            kind: builder.own.kind,
            input,
            output,
            window: Window {
                kernel,
                stride: if windowed {
                    builder.window.stride
                } else {
                    [1, 1]
                },
                ..builder.window
            },
            ceil_mode: builder.own.ceil_mode,
        })
    }
}

impl Windowed for Pool2d {}

impl Builder<Pool2d> {
    /// Sets whether the output's size is rounded up: a last window may hang over the padding,
    /// but not start in it.
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.own.ceil_mode = ceil_mode;
        self
    }

    /// Rows and columns of the output, where fewer are wanted than windows fit: the first ones are
    /// computed and the rest of the input is not read (benchdnn's "negative padding").
    pub fn output_size(mut self, p: usize, q: usize) -> Self {
        self.own.output_size = Some([p, q]);
        self
    }

    /// Computation over the window.
    pub fn kind(mut self, kind: PoolKind) -> Self {
        self.own.kind = kind;
        self
    }

    /// The output's size where a window slides.
    fn windowed_outputs(&self) -> Result<[usize; 2], Error> {
        let sides = ["the height of the window", "the width of the window"];
        self.window.check(sides)?;
        if let PoolKind::Average {
            divisor_override: Some(0),
            ..
        } = self.own.kind
        {
            return Err(Error::ZeroDivisor);
        }
        let [_, _, h, w] = self.input;
        let [rows, columns] = self.window.axes([h, w]);
        let size = outputs(rows, columns, self.own.ceil_mode)?;
        let size = self.wanted_outputs(size)?;
        at_most("the positions of the window", product(&self.window.kernel))?;
        if let PoolKind::Max { indices: true } = self.own.kind
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
        let Some(wanted) = self.own.output_size else {
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
            ("ceil mode", self.own.ceil_mode),
            ("an output size", self.own.output_size.is_some()),
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
