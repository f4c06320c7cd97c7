//! Activation and filter tensors (extents, strides, bounds), and the one builder for the problems
//! that are described step by step.

use std::fmt;

use super::conv2d::Window;
use super::types::{DType, FilterLayout, Layout, Math, Padding};
use crate::error::Error;

/// The largest number that the kernels' `int` arithmetic holds: every extent stays at or below it,
/// and of a convolution every span within one image and the number of output pixels. Poolings and
/// what keeps the extents count elements in 64 bits.
pub(crate) const MAX_INDEX: u64 = i32::MAX as u64;

/// Refusal of an image that is too large for a convolution.
const CONVOLVED_IMAGE: &str = "the elements of one image of a convolution (compute bands of rows \
    one by one, with the \
    rows that their windows share)";

/// Four-dimensional activations, possibly a slice of the channels of a wider tensor.
///
/// The wider tensor has [`channel_pitch`](Self::channel_pitch) channels, of which this one takes
/// `channel_offset..channel_offset + c`. A plain tensor has pitch = c and offset 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorDesc {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    layout: Layout,
    dtype: DType,
    channel_pitch: usize,
    channel_offset: usize,
}

/// Offset of element (n, c, h, w) from a tensor's element (0, 0, 0, 0): `n * image + c * channel +
/// (h * width + w) * pixel`, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TensorStrides {
    /// Elements from one image to the next.
    pub image: i64,
    /// Elements from one channel to the next.
    pub channel: i64,
    /// Elements from one pixel to the next.
    pub pixel: i64,
}

impl TensorDesc {
    /// A dense tensor of these images, channels, rows and columns.
    ///
    /// # Errors
    /// [`Error::Zero`] if `c`, `h` or `w` is 0 (`n` may be); [`Error::TooLarge`] if an extent is
    /// 2^31 or more, or the whole tensor does not fit the address space. An image may have more
    /// elements; a convolution's may not.
    pub fn new(extents: [usize; 4], layout: Layout, dtype: DType) -> Result<Self, Error> {
        Self::named("tensor", extents, layout, dtype, None)
    }

    /// Builds and checks; `what` names the tensor in errors.
    pub(crate) fn named(
        what: &'static str,
        [n, c, h, w]: [usize; 4],
        layout: Layout,
        dtype: DType,
        slice: Option<(usize, usize)>,
    ) -> Result<Self, Error> {
        for (name, extent) in [
            ("the number of channels", c),
            ("the height", h),
            ("the width", w),
        ] {
            nonzero(name, extent)?;
        }
        let (pitch, offset) = slice.unwrap_or((c, 0));
        if offset.checked_add(c).is_none_or(|end| end > pitch) {
            return Err(Error::Slice {
                what,
                channels: c,
                pitch,
                offset,
            });
        }
        for (name, extent) in [
            ("the batch", n),
            ("the number of channels", pitch),
            ("the height", h),
            ("the width", w),
        ] {
            at_most(name, extent as u128)?;
        }
        let bytes = product(&[n, pitch, h, w, dtype.size()]);
        if bytes > isize::MAX as u128 {
            return Err(Error::TooLarge {
                what: "a tensor's bytes",
                value: bytes,
                limit: isize::MAX as u64,
            });
        }
        Ok(Self {
            n,
            c,
            h,
            w,
            layout,
            dtype,
            channel_pitch: pitch,
            channel_offset: offset,
        })
    }

    /// Fails if an image has more elements than the kernels of a convolution address.
    pub(crate) fn convolvable(self) -> Result<Self, Error> {
        at_most(
            CONVOLVED_IMAGE,
            product(&[self.channel_pitch, self.h, self.w]),
        )?;
        Ok(self)
    }

    /// Images.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Channels of this tensor (of the slice, if it is one).
    pub fn c(&self) -> usize {
        self.c
    }

    /// Rows.
    pub fn h(&self) -> usize {
        self.h
    }

    /// Columns.
    pub fn w(&self) -> usize {
        self.w
    }

    /// The order of dimensions in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Storage type of an element.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Channels of the wider tensor that this one is a slice of; `c` if it is none.
    pub fn channel_pitch(&self) -> usize {
        self.channel_pitch
    }

    /// The first channel in the wider tensor; 0 if there is none.
    pub fn channel_offset(&self) -> usize {
        self.channel_offset
    }

    /// Returns whether the tensor is all of its buffer: no wider tensor around it.
    pub fn is_dense(&self) -> bool {
        self.channel_pitch == self.c
    }

    /// Elements that its buffer holds: those of the whole wider tensor,
    /// `n * channel_pitch * h * w`.
    pub fn len(&self) -> usize {
        self.n * self.channel_pitch * self.h * self.w
    }

    /// Returns whether the batch is 0.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Elements of the tensor itself, `n * c * h * w`, gaps of a wider tensor left out.
    pub fn elements(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// The strides, in elements.
    pub(crate) fn strides(&self) -> TensorStrides {
        let plane = (self.h * self.w) as i64;
        let pitch = self.channel_pitch as i64;
        match self.layout {
            Layout::Nchw => TensorStrides {
                image: pitch * plane,
                channel: plane,
                pixel: 1,
            },
            Layout::Nhwc => TensorStrides {
                image: pitch * plane,
                channel: 1,
                pixel: pitch,
            },
        }
    }

    /// Elements of the buffer before element (0, 0, 0, 0).
    pub(crate) fn offset(&self) -> usize {
        match self.layout {
            Layout::Nchw => self.channel_offset * self.h * self.w,
            Layout::Nhwc => self.channel_offset,
        }
    }

    /// The element of the buffer that holds (n, c, h, w), the offset included.
    pub fn index(&self, n: usize, c: usize, h: usize, w: usize) -> usize {
        let image = self.channel_pitch * self.h * self.w;
        let pixel = h * self.w + w;
        let channel = self.channel_offset + c;
        n * image
            + match self.layout {
                Layout::Nchw => channel * self.h * self.w + pixel,
                Layout::Nhwc => pixel * self.channel_pitch + channel,
            }
    }
}

/// The filters of a convolution: `k` of them, each of `c` channels and `r` x `s` taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FilterDesc {
    /// Filters.
    pub k: usize,
    /// Channels of a filter: those of a group.
    pub c: usize,
    /// Rows of a filter.
    pub r: usize,
    /// Columns of a filter.
    pub s: usize,
    /// The order of dimensions in memory.
    pub layout: FilterLayout,
    /// Storage type of an element.
    pub dtype: DType,
}

impl FilterDesc {
    /// Elements that the buffer holds: the weights, and the gaps of [`FilterLayout::Packed`].
    #[expect(clippy::len_without_is_empty, reason = "there is at least one element")]
    pub fn len(&self) -> usize {
        self.k * self.r * self.s * self.pitch()
    }

    /// Weights: `k * c * r * s`.
    pub fn elements(&self) -> usize {
        self.k * self.gemm_k()
    }

    /// Depth of the matrix product: `c * r * s`, the weights of a filter.
    pub fn gemm_k(&self) -> usize {
        self.c * self.r * self.s
    }

    /// The element of the buffer that holds (k, c, r, s), `c` counted within the group.
    pub fn index(&self, k: usize, c: usize, r: usize, s: usize) -> usize {
        match self.layout {
            FilterLayout::Kcrs => ((k * self.c + c) * self.r + r) * self.s + s,
            FilterLayout::Krsc | FilterLayout::Packed => {
                ((k * self.r + r) * self.s + s) * self.pitch() + c
            }
        }
    }

    /// Elements from one tap's channels to the next one's where channels are innermost: `c`, for
    /// [`FilterLayout::Packed`] rounded up to a multiple of 16 bytes.
    pub(crate) fn pitch(&self) -> usize {
        self.layout.pitch(self.c, self.dtype)
    }
}

/// Fails unless `value` is at most [`MAX_INDEX`].
pub(crate) fn at_most(what: &'static str, value: u128) -> Result<(), Error> {
    if value > u128::from(MAX_INDEX) {
        return Err(Error::TooLarge {
            what,
            value,
            limit: MAX_INDEX,
        });
    }
    Ok(())
}

/// Fails if `value` is zero.
pub(crate) fn nonzero(what: &'static str, value: usize) -> Result<(), Error> {
    if value == 0 {
        return Err(Error::Zero { what });
    }
    Ok(())
}

/// The product of several extents, saturated.
pub(crate) fn product(factors: &[usize]) -> u128 {
    factors.iter().fold(1u128, |product, &factor| {
        product.saturating_mul(factor as u128)
    })
}

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

#[cfg(test)]
mod tests;
