//! One builder for the problems that are described step by step.

use std::fmt;

use super::tensor::{TensorDesc, Window};
use super::types::{DType, FilterLayout, Layout, Math, Padding};
use crate::error::Error;

/// Default of a problem's promise about its buffers' addresses, in bytes.
pub(crate) const DEFAULT_ALIGNMENT: usize = 16;

/// A problem that a [`Builder`] collects.
pub trait Built: Sized {
    /// Options of this problem alone.
    type Own: Clone + fmt::Debug + PartialEq + Eq;

    /// Checks everything and computes the output's size.
    fn build(builder: Builder<Self>) -> Result<Self, Error>;
}

/// A problem with a sliding window that can be chosen.
pub trait Windowed: Built {}

/// A problem with filters.
pub trait Filtered: Built {}

/// Collects a [`Conv2d`](super::Conv2d), [`Pool2d`](super::Pool2d),
/// [`Bottleneck2d`](super::Bottleneck2d) or [`Subsample`](super::Subsample); made by their
/// `builder`.
///
/// `input` must be given, and what has no default:
///
/// | problem | must be given | defaults |
/// |---|---|---|
/// | convolution | `kernel`, `filters` | one group, no bias, residual or ReLU |
/// | pooling | `kernel`, for the kinds that slide one | maximum without indices, rounded down |
/// | subsampling | `kernel` | sums, no activation |
/// | bottleneck | `mid_channels`, `filters` | stride 1, three biases, no residual, a ReLU |
///
/// The rest defaults to stride 1, dilation 1, no padding, f32, NCHW, KCRS, [`Math::Strict`], dense
/// tensors and buffers aligned to 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Builder<P: Built> {
    pub(super) input: [usize; 4],
    pub(super) dtype: DType,
    pub(super) layout: Layout,
    pub(super) input_slice: Option<(usize, usize)>,
    pub(super) output_slice: Option<(usize, usize)>,
    /// Of a problem that is [`Windowed`].
    pub(super) window: Window,
    /// From here on of a problem that is [`Filtered`].
    pub(super) filters: usize,
    pub(super) filter_layout: FilterLayout,
    pub(super) math: Math,
    pub(super) alignment: usize,
    pub(super) relu: bool,
    pub(super) residual_slice: Option<(usize, usize)>,
    pub(super) own: P::Own,
}

impl<P: Built> Builder<P> {
    pub(super) fn new(own: P::Own) -> Builder<P> {
        Builder {
            input: [0; 4],
            dtype: DType::F32,
            layout: Layout::Nchw,
            input_slice: None,
            output_slice: None,
            window: Window::new(0, 0),
            filters: 0,
            filter_layout: FilterLayout::Kcrs,
            math: Math::Strict,
            alignment: DEFAULT_ALIGNMENT,
            relu: false,
            residual_slice: None,
            own,
        }
    }

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

    /// Images, channels, rows and columns of the input.
    pub fn input(mut self, n: usize, c: usize, h: usize, w: usize) -> Self {
        self.input = [n, c, h, w];
        self
    }

    /// The type of all tensors' elements.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The layout of the activations.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The input is channels `offset..offset + c` of a tensor of `pitch` channels.
    pub fn input_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.input_slice = Some((pitch, offset));
        self
    }

    /// The output is a run of channels, from `offset` on, of a tensor of `pitch` channels.
    pub fn output_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.output_slice = Some((pitch, offset));
        self
    }

    /// Checks everything and computes the output's size. A batch of 0 is valid and has an empty
    /// output.
    ///
    /// # Errors
    /// For any problem:
    /// * [`Error::Zero`]: another size is 0;
    /// * [`Error::Slice`]: a slice does not lie inside its tensor;
    /// * [`Error::WindowTooLarge`]: the effective window is larger than the padded input;
    /// * [`Error::TooLarge`]: an image or the padded input reaches 2^31; of a convolution also the
    ///   filters or the number of output pixels `n * p * q`.
    ///
    /// For convolutions and bottlenecks:
    /// * [`Error::Groups`]: channels or filters do not divide into the groups;
    /// * [`Error::MathMode`]: a mode other than [`Math::Strict`] for a type other than f32;
    /// * [`Error::Alignment`]: the alignment is no power of two, less than an element or more than
    ///   256 bytes;
    /// * [`Error::BottleneckStride`]: the stride of a bottleneck is neither 1 nor 2;
    /// * [`Error::ResidualShape`]: the input is to be added, and the output has another shape.
    ///
    /// For poolings:
    /// * [`Error::IndexRange`]: indices are asked for and the window has more than 255 positions;
    /// * [`Error::ZeroDivisor`]: the divisor is overridden by 0;
    /// * [`Error::Incompatible`]: window, stride, dilation, padding or ceil mode for a kind that
    ///   slides no window;
    /// * [`Error::Shape`]: more outputs are wanted than windows fit.
    ///
    /// For subsamplings:
    /// * [`Error::Incompatible`]: dilation or padding;
    /// * [`Error::Parameter`]: a constant of the activation is not finite.
    pub fn build(self) -> Result<P, Error> {
        P::build(self)
    }
}

impl<P: Windowed> Builder<P> {
    /// Rows and columns of the window's taps.
    pub fn kernel(mut self, r: usize, s: usize) -> Self {
        self.window.kernel = [r, s];
        self
    }

    /// Rows and columns between two windows.
    pub fn stride(mut self, h: usize, w: usize) -> Self {
        self.window.stride = [h, w];
        self
    }

    /// Rows and columns between two taps; 1 is dense.
    pub fn dilation(mut self, h: usize, w: usize) -> Self {
        self.window.dilation = [h, w];
        self
    }

    /// Rows and columns around the image.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    /// Kernel, stride, dilation and padding at once.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }
}

impl<P: Filtered> Builder<P> {
    /// Filters, which are the channels of the output.
    pub fn filters(mut self, k: usize) -> Self {
        self.filters = k;
        self
    }

    /// The layout of the filters.
    pub fn filter_layout(mut self, layout: FilterLayout) -> Self {
        self.filter_layout = layout;
        self
    }

    /// The exactness of products of f32 numbers; other types have [`Math::Strict`] only.
    pub fn math(mut self, math: Math) -> Self {
        self.math = math;
        self
    }

    /// The number of bytes that the address of every buffer's first element is a multiple of: a
    /// power of two, at least an element's size and at most 256. Kernels that copy 16 bytes at
    /// a time need 16, which is the default.
    pub fn alignment(mut self, bytes: usize) -> Self {
        self.alignment = bytes;
        self
    }

    /// Applies ReLU to the result, after bias and residual.
    pub fn relu(mut self, relu: bool) -> Self {
        self.relu = relu;
        self
    }
}

/// Pitch and offset of a tensor that is a slice.
pub(super) fn slice(desc: &TensorDesc) -> Option<(usize, usize)> {
    Some((desc.channel_pitch(), desc.channel_offset())).filter(|_| !desc.is_dense())
}
