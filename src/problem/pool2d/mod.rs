//! Two-dimensional pooling: what is computed, checked on construction.

mod builder;

use builder::PoolOptions;

use crate::error::Error;
use crate::problem::Padding;
use crate::problem::conv2d::{Window, outputs};
use crate::problem::tensor::{Builder, TensorDesc};
use crate::problem::{DType, Layout};

/// The most positions that a window may have for its maximum's index to be asked for: one byte, of
/// which [`NO_INDEX`] is taken.
pub(crate) const MAX_INDEXED_WINDOW: usize = 255;

/// The index of a window that lies wholly in padding: it has no maximum.
pub const NO_INDEX: u8 = 255;

/// Computation of a pooling over its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The maximum; padding counts as minus infinity, a NaN wins.
    Max {
        /// True if the position of each maximum in its window, `row * s + column`, is written too,
        /// as one byte: the first maximum in row-major order, the last NaN if there is one,
        /// [`NO_INDEX`] if the window holds no element of the image.
        indices: bool,
    },
    /// The mean. One over no element at all (a window wholly in padding that does not count) is
    /// 0 / 0, NaN.
    Average {
        /// True if the divisor counts padding (never what ceil mode adds beyond it); if not,
        /// elements of the image.
        count_include_pad: bool,
        /// Divides by this number instead.
        divisor_override: Option<i32>,
    },
    /// The maximum of each channel's plane, as [`PoolKind::Max`] without indices.
    GlobalMax,
    /// The mean of each channel's plane.
    GlobalAverage,
    /// The mean over windows placed so that the output has the given size: row `i` of the output
    /// covers input rows `floor(i * h / p)` up to, and without, `ceil((i + 1) * h / p)`; columns
    /// alike.
    AdaptiveAverage {
        /// Rows of the output.
        p: usize,
        /// Columns of the output.
        q: usize,
    },
}

impl PoolKind {
    /// Returns whether there is a window that slides: its size, stride, padding and dilation have a
    /// meaning.
    pub(crate) const fn is_windowed(self) -> bool {
        matches!(self, PoolKind::Max { .. } | PoolKind::Average { .. })
    }
}

/// A two-dimensional pooling. Padding may exceed half the window, as ONNX and oneDNN allow and
/// PyTorch does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    kind: PoolKind,
    input: TensorDesc,
    output: TensorDesc,
    window: Window,
    ceil_mode: bool,
}

impl Pool2d {
    /// Starts a description; see [`Builder`](crate::problem::Builder).
    ///
    /// ```
    /// use warpconv::problem::{Padding, Pool2d, PoolKind};
    /// let pool = Pool2d::builder()
    ///     .kind(PoolKind::Max { indices: true })
    ///     .input(128, 64, 112, 112)
    ///     .kernel(3, 3)
    ///     .stride(2, 2)
    ///     .ceil_mode(true)
    ///     .build()?;
    /// assert_eq!((pool.output().h(), pool.output().w()), (56, 56));
    /// # Ok::<(), warpconv::Error>(())
    /// ```
    pub fn builder() -> Builder<Pool2d> {
        Builder::new(PoolOptions {
            kind: PoolKind::Max { indices: false },
            ceil_mode: false,
            output_size: None,
        })
    }

    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Builder<Pool2d> {
        let own = PoolOptions {
            kind: self.kind,
            ceil_mode: self.ceil_mode,
            output_size: None,
        };
        let builder = Builder {
            window: match self.kind.is_windowed() {
                true => self.window,
                false => Window {
                    kernel: [0; 2],
                    ..self.window
                },
            },
            ..Builder::between(&self.input, &self.output, own)
        };
        let [rows, columns] = builder.window.axes([self.h(), self.w()]);
        let fit = outputs(rows, columns, self.ceil_mode);
        if self.kind.is_windowed() && fit != Ok([self.p(), self.q()]) {
            return builder.output_size(self.p(), self.q());
        }
        builder
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

    /// Computation over the window.
    pub fn kind(&self) -> PoolKind {
        self.kind
    }

    /// Images.
    pub(crate) fn n(&self) -> usize {
        self.input.n()
    }

    /// Channels.
    pub(crate) fn c(&self) -> usize {
        self.input.c()
    }

    /// Rows of the input.
    pub(crate) fn h(&self) -> usize {
        self.input.h()
    }

    /// Columns of the input.
    pub(crate) fn w(&self) -> usize {
        self.input.w()
    }

    /// Rows of the window; of a global pooling those of the input, of an adaptive one an upper
    /// bound.
    pub(crate) fn r(&self) -> usize {
        self.window.kernel[0]
    }

    /// Columns of the window; of a global pooling those of the input, of an adaptive one an upper
    /// bound.
    pub(crate) fn s(&self) -> usize {
        self.window.kernel[1]
    }

    /// Rows of the output.
    pub(crate) fn p(&self) -> usize {
        self.output.h()
    }

    /// Columns of the output.
    pub(crate) fn q(&self) -> usize {
        self.output.w()
    }

    /// Kernel, stride, dilation and padding.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Rows and columns between two windows; 1 where none slides.
    pub(crate) fn stride(&self) -> [usize; 2] {
        self.window.stride
    }

    /// Rows and columns between two positions of the window; 1 is dense.
    pub(crate) fn dilation(&self) -> [usize; 2] {
        self.window.dilation
    }

    /// Padding around the image.
    pub(crate) fn padding(&self) -> Padding {
        self.window.padding
    }

    /// Returns whether the output's size was rounded up.
    pub fn ceil_mode(&self) -> bool {
        self.ceil_mode
    }

    /// Storage type of both tensors.
    pub(crate) fn dtype(&self) -> DType {
        self.input.dtype()
    }

    /// The layout of input and output.
    pub(crate) fn layout(&self) -> Layout {
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

    /// Returns whether the index of each maximum is written.
    pub fn indices(&self) -> bool {
        self.kind == PoolKind::Max { indices: true }
    }

    /// Bytes of the index buffer, one an output; 0 if no indices are written. Indices are dense, in
    /// the order of the output's layout, whatever slice the output is.
    pub(crate) fn index_len(&self) -> usize {
        if self.indices() {
            self.output.elements()
        } else {
            0
        }
    }

    /// Bytes that device memory must move at least: the input read once, output and indices written
    /// once; saturated.
    pub(crate) fn min_bytes(&self) -> u64 {
        let elements = self.input.elements() + self.output.elements();
        (elements as u64)
            .saturating_mul(self.dtype().size() as u64)
            .saturating_add(self.index_len() as u64)
    }
}
