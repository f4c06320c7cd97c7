//! Two-dimensional pooling: what is computed, checked on construction.

use crate::catalog::{DType, Layout};
use crate::error::Error;
use crate::problem::conv2d::Padding;
use crate::problem::extent::{Axis, at_most, nonzero, outputs, product};
use crate::problem::tensor::TensorDesc;

/// The most positions that a window may have for its maximum's index to be asked for: one byte, of which
/// [`NO_INDEX`] is taken.
pub const MAX_INDEXED_WINDOW: usize = 255;

/// The index of a window that lies wholly in padding: it has no maximum.
pub const NO_INDEX: u8 = 255;

/// What a pooling makes of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The maximum; padding counts as minus infinity, a NaN wins.
    Max {
        /// Whether the position of each maximum in its window, `row * s + column`, is written too, as one byte: the
        /// first maximum in row-major order, the last NaN if there is one, [`NO_INDEX`] if the window holds no
        /// element of the image.
        indices: bool,
    },
    /// The mean. One over no element at all (a window wholly in padding that does not count) is 0 / 0, NaN.
    Average {
        /// Whether the divisor counts padding (never what ceil mode adds beyond it); if not, elements of the image.
        count_include_pad: bool,
        /// Divides by this number instead.
        divisor_override: Option<i32>,
    },
    /// The maximum of each channel's plane, as [`PoolKind::Max`] without indices.
    GlobalMax,
    /// The mean of each channel's plane.
    GlobalAverage,
    /// The mean over windows placed so that the output has the given size: row `i` of the output covers input rows
    /// `floor(i * h / p)` up to, and without, `ceil((i + 1) * h / p)`; columns alike.
    AdaptiveAverage {
        /// Rows of the output.
        p: usize,
        /// Columns of the output.
        q: usize,
    },
}

impl PoolKind {
    /// Whether there is a window that slides: its size, stride, padding and dilation have a meaning.
    pub const fn is_windowed(self) -> bool {
        matches!(self, PoolKind::Max { .. } | PoolKind::Average { .. })
    }
}

/// A two-dimensional pooling. Padding may exceed half the window, as ONNX and oneDNN allow and PyTorch does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    kind: PoolKind,
    input: TensorDesc,
    output: TensorDesc,
    window: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    ceil_mode: bool,
}

/// Collects a [`Pool2d`]; made by [`Pool2d::builder`]. `input` must be given, and `window` for the kinds that slide
/// one; the rest defaults to stride = 1, dilation 1, no padding, f32 and NCHW.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Pool2dBuilder {
    kind: PoolKind,
    input: [usize; 4],
    window: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    ceil_mode: bool,
    output_size: Option<[usize; 2]>,
    dtype: DType,
    layout: Layout,
    input_slice: Option<(usize, usize)>,
    output_slice: Option<(usize, usize)>,
}

impl Pool2dBuilder {
    /// Images, channels, rows and columns of the input.
    pub fn input(mut self, n: usize, c: usize, h: usize, w: usize) -> Self {
        self.input = [n, c, h, w];
        self
    }

    /// Rows and columns of the window.
    pub fn window(mut self, r: usize, s: usize) -> Self {
        self.window = [r, s];
        self
    }

    /// Rows and columns between two windows.
    pub fn stride(mut self, h: usize, w: usize) -> Self {
        self.stride = [h, w];
        self
    }

    /// Rows and columns between two positions of the window; 1 is dense.
    pub fn dilation(mut self, h: usize, w: usize) -> Self {
        self.dilation = [h, w];
        self
    }

    /// Padding around the image.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Whether the output's size is rounded up: a last window may hang over the padding, but not start in it.
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Rows and columns of the output, where fewer are wanted than windows fit: the first ones are computed and the
    /// rest of the input is not read (benchdnn's "negative padding").
    pub fn output_size(mut self, p: usize, q: usize) -> Self {
        self.output_size = Some([p, q]);
        self
    }

    /// What is made of the window.
    pub fn kind(mut self, kind: PoolKind) -> Self {
        self.kind = kind;
        self
    }

    /// How both tensors are stored.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The layout of input and output.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The input is channels `offset..offset + c` of a tensor of `pitch` channels.
    pub fn input_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.input_slice = Some((pitch, offset));
        self
    }

    /// The output is channels `offset..offset + c` of a tensor of `pitch` channels.
    pub fn output_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.output_slice = Some((pitch, offset));
        self
    }

    /// Checks everything and computes the output's size.
    ///
    /// # Errors
    /// * [`Error::Zero`]: channels, rows, columns, window, stride, dilation or an adaptive output are 0 (a batch of 0
    ///   is valid and has an empty output);
    /// * [`Error::WindowTooLarge`]: the effective window is larger than the padded input;
    /// * [`Error::IndexRange`]: indices are asked for and the window has more than [`MAX_INDEXED_WINDOW`] positions;
    /// * [`Error::ZeroDivisor`]: the divisor is overridden by 0;
    /// * [`Error::Incompatible`]: window, stride, dilation, padding or ceil mode for a kind that slides no window;
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
        let (window, [p, q]) = match self.kind {
            PoolKind::Max { .. } | PoolKind::Average { .. } => {
                (self.window, self.windowed_outputs()?)
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
        at_most("the number of output pixels", product(&[n, p, q]))?;
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
            window,
            stride: if windowed { self.stride } else { [1, 1] },
            dilation: self.dilation,
            padding: self.padding,
            ceil_mode: self.ceil_mode,
        })
    }

    /// The output's size where a window slides.
    fn windowed_outputs(&self) -> Result<[usize; 2], Error> {
        for (what, extent) in [
            ("the height of the window", self.window[0]),
            ("the width of the window", self.window[1]),
            ("the vertical stride", self.stride[0]),
            ("the horizontal stride", self.stride[1]),
            ("the vertical dilation", self.dilation[0]),
            ("the horizontal dilation", self.dilation[1]),
        ] {
            nonzero(what, extent)?;
        }
        if let PoolKind::Average {
            divisor_override: Some(0),
            ..
        } = self.kind
        {
            return Err(Error::ZeroDivisor);
        }
        let [rows, columns] = self.axes();
        let size = outputs(rows, columns, self.ceil_mode)?;
        let size = self.wanted_outputs(size)?;
        at_most("the positions of the window", product(&self.window))?;
        if let PoolKind::Max { indices: true } = self.kind
            && product(&self.window) > MAX_INDEXED_WINDOW as u128
        {
            return Err(Error::IndexRange {
                window: self.window,
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
        let plain = Pool2d::builder();
        for (what, given) in [
            ("a window", self.window != plain.window),
            ("a stride", self.stride != plain.stride),
            ("a dilation", self.dilation != plain.dilation),
            ("padding", self.padding != plain.padding),
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

    /// The window's two axes, rows first.
    fn axes(&self) -> [Axis; 2] {
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.padding;
        let sides = [(top, bottom), (left, right)];
        std::array::from_fn(|i| Axis {
            input: self.input[2 + i],
            window: self.window[i],
            stride: self.stride[i],
            dilation: self.dilation[i],
            before: sides[i].0,
            after: sides[i].1,
        })
    }
}

impl Pool2d {
    /// Starts a description; see [`Pool2dBuilder`].
    ///
    /// ```
    /// use warpconv::problem::{Padding, Pool2d, PoolKind};
    /// let pool = Pool2d::builder()
    ///     .kind(PoolKind::Max { indices: true })
    ///     .input(128, 64, 112, 112)
    ///     .window(3, 3)
    ///     .stride(2, 2)
    ///     .ceil_mode(true)
    ///     .build()?;
    /// assert_eq!((pool.p(), pool.q()), (56, 56));
    /// # Ok::<(), warpconv::Error>(())
    /// ```
    pub fn builder() -> Pool2dBuilder {
        Pool2dBuilder {
            kind: PoolKind::Max { indices: false },
            input: [0; 4],
            window: [0; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::NONE,
            ceil_mode: false,
            output_size: None,
            dtype: DType::F32,
            layout: Layout::Nchw,
            input_slice: None,
            output_slice: None,
        }
    }

    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Pool2dBuilder {
        let slice = |desc: &TensorDesc| {
            Some((desc.channel_pitch(), desc.channel_offset())).filter(|_| !desc.is_dense())
        };
        let builder = Pool2dBuilder {
            kind: self.kind,
            input: [self.n(), self.c(), self.h(), self.w()],
            window: if self.kind.is_windowed() {
                self.window
            } else {
                [0; 2]
            },
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            ceil_mode: self.ceil_mode,
            output_size: None,
            dtype: self.dtype(),
            layout: self.layout(),
            input_slice: slice(&self.input),
            output_slice: slice(&self.output),
        };
        let [rows, columns] = builder.axes();
        let fit = outputs(rows, columns, self.ceil_mode);
        if self.kind.is_windowed() && fit != Ok([self.p(), self.q()]) {
            return builder.output_size(self.p(), self.q());
        }
        builder
    }

    /// The same problem stored as `dtype`.
    ///
    /// # Errors
    /// As [`Pool2dBuilder::build`].
    pub fn with_dtype(&self, dtype: DType) -> Result<Self, Error> {
        self.to_builder().dtype(dtype).build()
    }

    /// The same problem in `layout`; slices keep their channels.
    ///
    /// # Errors
    /// As [`Pool2dBuilder::build`].
    pub fn with_layout(&self, layout: Layout) -> Result<Self, Error> {
        self.to_builder().layout(layout).build()
    }

    /// The same problem over `n` images.
    ///
    /// # Errors
    /// As [`Pool2dBuilder::build`].
    pub fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.to_builder()
            .input(n, self.c(), self.h(), self.w())
            .build()
    }

    /// The same problem of another kind, window or no window.
    ///
    /// # Errors
    /// As [`Pool2dBuilder::build`].
    pub fn with_kind(&self, kind: PoolKind) -> Result<Self, Error> {
        self.to_builder().kind(kind).build()
    }

    /// What is made of the window.
    pub fn kind(&self) -> PoolKind {
        self.kind
    }

    /// Images.
    pub fn n(&self) -> usize {
        self.input.n()
    }

    /// Channels.
    pub fn c(&self) -> usize {
        self.input.c()
    }

    /// Rows of the input.
    pub fn h(&self) -> usize {
        self.input.h()
    }

    /// Columns of the input.
    pub fn w(&self) -> usize {
        self.input.w()
    }

    /// Rows of the window; of a global pooling those of the input, of an adaptive one an upper bound.
    pub fn r(&self) -> usize {
        self.window[0]
    }

    /// Columns of the window; of a global pooling those of the input, of an adaptive one an upper bound.
    pub fn s(&self) -> usize {
        self.window[1]
    }

    /// Rows of the output.
    pub fn p(&self) -> usize {
        self.output.h()
    }

    /// Columns of the output.
    pub fn q(&self) -> usize {
        self.output.w()
    }

    /// Rows and columns between two windows; 1 where none slides.
    pub fn stride(&self) -> [usize; 2] {
        self.stride
    }

    /// Rows and columns between two positions of the window; 1 is dense.
    pub fn dilation(&self) -> [usize; 2] {
        self.dilation
    }

    /// Padding around the image.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Whether the output's size was rounded up.
    pub fn ceil_mode(&self) -> bool {
        self.ceil_mode
    }

    /// How both tensors are stored.
    pub fn dtype(&self) -> DType {
        self.input.dtype()
    }

    /// The layout of input and output.
    pub fn layout(&self) -> Layout {
        self.input.layout()
    }

    /// The input.
    pub fn input(&self) -> &TensorDesc {
        &self.input
    }

    /// The output.
    pub fn output(&self) -> &TensorDesc {
        &self.output
    }

    /// Whether the index of each maximum is written.
    pub fn indices(&self) -> bool {
        self.kind == PoolKind::Max { indices: true }
    }

    /// Bytes of the index buffer, one an output; 0 if no indices are written. Indices are dense, in the order of the
    /// output's layout, whatever slice the output is.
    pub fn index_len(&self) -> usize {
        if self.indices() {
            self.output.elements()
        } else {
            0
        }
    }

    /// Bytes that device memory must move at least: the input read once, output and indices written once; saturated.
    pub fn min_bytes(&self) -> u64 {
        let elements = self.input.elements() + self.output.elements();
        (elements as u64)
            .saturating_mul(self.dtype().size() as u64)
            .saturating_add(self.index_len() as u64)
    }
}
