//! Two-dimensional convolution: what is computed, checked on construction.

mod builder;

pub use builder::Conv2dBuilder;

use crate::error::Error;
use crate::problem::tensor::TensorDesc;
use crate::problem::window::Window;
use crate::problem::{DType, Layout, Math};

/// The order of a filter's dimensions in memory, slowest first: k filters of c / groups channels
/// and r x s taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterLayout {
    /// Filter, channel, row, column (PyTorch's and ONNX's OIHW).
    Kcrs,
    /// Filter, row, column, channel (OHWI).
    Krsc,
    /// As [`FilterLayout::Krsc`], with the channels of a tap rounded up to a multiple of 16 bytes
    /// and the rest zero: [`Conv2d::filter_pitch`]. The layout that kernels on tensor cores read;
    /// their launches pack any other one first, every time.
    Packed,
}

/// Bytes that a run of channels of [`FilterLayout::Packed`] is a multiple of.
pub const PACKED_BYTES: usize = 16;

impl FilterLayout {
    /// Every layout.
    pub const ALL: [FilterLayout; 3] =
        [FilterLayout::Kcrs, FilterLayout::Krsc, FilterLayout::Packed];

    /// `kcrs`, `krsc` or `packed`.
    pub const fn name(self) -> &'static str {
        match self {
            FilterLayout::Kcrs => "kcrs",
            FilterLayout::Krsc => "krsc",
            FilterLayout::Packed => "packed",
        }
    }

    /// Elements from one tap's channels to the next where channels are innermost, for `channels` of
    /// them stored as `dtype`; `channels` itself where they are not.
    pub(crate) fn pitch(self, channels: usize, dtype: DType) -> usize {
        match self {
            FilterLayout::Kcrs | FilterLayout::Krsc => channels,
            FilterLayout::Packed => channels.next_multiple_of(PACKED_BYTES / dtype.size()),
        }
    }
}

/// Rows and columns added around an image: zeros to a convolution, minus infinity to a maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub const NONE: Padding = Padding::same(0);

    /// The same on all four sides.
    pub const fn same(size: usize) -> Self {
        Padding {
            top: size,
            bottom: size,
            left: size,
            right: size,
        }
    }

    /// `rows` above and below, `columns` to the left and to the right.
    pub const fn symmetric(rows: usize, columns: usize) -> Self {
        Padding {
            top: rows,
            bottom: rows,
            left: columns,
            right: columns,
        }
    }
}

/// A two-dimensional convolution (cross-correlation, as PyTorch and ONNX have it) with its fused
/// epilogue:
///
/// ```text
/// y[n][k][p][q] = act(sum over c, r, s of x[n][c][h][w] * w[k][c][r][s] + bias[k]
///                     + residual[n][k][p][q])
/// h = p * stride - top + r * dilation, w = q * stride - left + s * dilation
/// ```
///
/// with `act` the ReLU (NaN kept) or nothing, and the channels of a group only. Padding takes part
/// as zeros: an infinite or NaN weight over padding gives NaN, because `0 * w` does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    input: TensorDesc,
    output: TensorDesc,
    residual: Option<TensorDesc>,
    window: Window,
    groups: usize,
    bias: bool,
    relu: bool,
    filter_layout: FilterLayout,
    math: Math,
    alignment: usize,
}

/// Default of a problem's promise about its buffers' addresses, in bytes.
pub const DEFAULT_ALIGNMENT: usize = 16;

impl Conv2d {
    /// Starts a description; see [`Conv2dBuilder`].
    ///
    /// ```
    /// use warpconv::problem::{Conv2d, Padding};
    /// let conv = Conv2d::builder().input(128, 252, 56, 56).filters(63).kernel(3, 3);
    /// let conv = conv.padding(Padding::same(1)).build()?;
    /// assert_eq!((conv.p(), conv.q()), (56, 56));
    /// # Ok::<(), warpconv::Error>(())
    /// ```
    pub fn builder() -> Conv2dBuilder {
        Conv2dBuilder {
            input: [0; 4],
            filters: 0,
            window: Window::new(0, 0),
            groups: 1,
            bias: false,
            relu: false,
            residual: false,
            dtype: DType::F32,
            layout: Layout::Nchw,
            filter_layout: FilterLayout::Kcrs,
            math: Math::Strict,
            alignment: DEFAULT_ALIGNMENT,
            input_slice: None,
            output_slice: None,
            residual_slice: None,
        }
    }

    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Conv2dBuilder {
        let slice = |desc: &TensorDesc| {
            Some((desc.channel_pitch(), desc.channel_offset())).filter(|_| !desc.is_dense())
        };
        Conv2dBuilder {
            input: [self.n(), self.c(), self.h(), self.w()],
            filters: self.k(),
            window: self.window,
            groups: self.groups,
            bias: self.bias,
            relu: self.relu,
            residual: self.residual.is_some(),
            dtype: self.dtype(),
            layout: self.layout(),
            filter_layout: self.filter_layout,
            math: self.math,
            alignment: self.alignment,
            input_slice: slice(&self.input),
            output_slice: slice(&self.output),
            residual_slice: self.residual.as_ref().and_then(slice),
        }
    }

    /// The same problem stored as `dtype`.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_dtype(&self, dtype: DType) -> Result<Self, Error> {
        self.to_builder().dtype(dtype).build()
    }

    /// The same problem with activations in `layout`; slices keep their channels.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_layout(&self, layout: Layout) -> Result<Self, Error> {
        self.to_builder().layout(layout).build()
    }

    /// The same problem with filters in `layout`.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_filter_layout(&self, layout: FilterLayout) -> Result<Self, Error> {
        self.to_builder().filter_layout(layout).build()
    }

    /// The same problem with products made in the given mode.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_math(&self, math: Math) -> Result<Self, Error> {
        self.to_builder().math(math).build()
    }

    /// The same problem with buffers aligned to `bytes`.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_alignment(&self, bytes: usize) -> Result<Self, Error> {
        self.to_builder().alignment(bytes).build()
    }

    /// The same problem over `n` images.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.to_builder()
            .input(n, self.c(), self.h(), self.w())
            .build()
    }

    /// The same problem with the given epilogue.
    ///
    /// # Errors
    /// As [`Conv2dBuilder::build`].
    pub fn with_epilogue(&self, bias: bool, residual: bool, relu: bool) -> Result<Self, Error> {
        self.to_builder()
            .bias(bias)
            .residual(residual)
            .relu(relu)
            .build()
    }

    /// Images.
    pub fn n(&self) -> usize {
        self.input.n()
    }

    /// Channels of the input.
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

    /// Filters, the channels of the output.
    pub fn k(&self) -> usize {
        self.output.c()
    }

    /// Rows of a filter.
    pub fn r(&self) -> usize {
        self.window.kernel[0]
    }

    /// Columns of a filter.
    pub fn s(&self) -> usize {
        self.window.kernel[1]
    }

    /// Rows of the output.
    pub fn p(&self) -> usize {
        self.output.h()
    }

    /// Columns of the output.
    pub fn q(&self) -> usize {
        self.output.w()
    }

    /// Groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Channels of a group.
    pub fn group_c(&self) -> usize {
        self.c() / self.groups
    }

    /// Filters of a group.
    pub fn group_k(&self) -> usize {
        self.k() / self.groups
    }

    /// Kernel, stride, dilation and padding.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Rows and columns between two windows.
    pub fn stride(&self) -> [usize; 2] {
        self.window.stride
    }

    /// Rows and columns between two taps; 1 is dense.
    pub fn dilation(&self) -> [usize; 2] {
        self.window.dilation
    }

    /// Zeros around the image.
    pub fn padding(&self) -> Padding {
        self.window.padding
    }

    /// Storage type of all tensors.
    pub fn dtype(&self) -> DType {
        self.input.dtype()
    }

    /// The layout of input, output and residual.
    pub fn layout(&self) -> Layout {
        self.input.layout()
    }

    /// The layout of the filters.
    pub fn filter_layout(&self) -> FilterLayout {
        self.filter_layout
    }

    /// Least precise mode of multiplication; [`Math`] has each mode's error bound.
    pub fn math(&self) -> Math {
        self.math
    }

    /// Promised alignment of every buffer's first element, in bytes. A kernel whose accesses need
    /// more is not planned.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Returns whether a bias is added.
    pub fn bias(&self) -> bool {
        self.bias
    }

    /// Returns whether the result passes through ReLU.
    pub fn relu(&self) -> bool {
        self.relu
    }

    /// The input.
    pub fn input(&self) -> &TensorDesc {
        &self.input
    }

    /// The output.
    pub fn output(&self) -> &TensorDesc {
        &self.output
    }

    /// The tensor added before the ReLU, if any.
    pub fn residual(&self) -> Option<&TensorDesc> {
        self.residual.as_ref()
    }

    /// Weights: `k * group_c * r * s`.
    pub fn filter_elements(&self) -> usize {
        self.k() * self.gemm_k()
    }

    /// Elements that the buffer of the filters holds: the weights, and the gaps of
    /// [`FilterLayout::Packed`].
    pub fn filter_len(&self) -> usize {
        self.k() * self.window.kernel[0] * self.window.kernel[1] * self.filter_pitch()
    }

    /// Elements from one tap's channels to the next one's where channels are innermost: the
    /// channels of a group, for [`FilterLayout::Packed`] rounded up to a multiple of
    /// [`PACKED_BYTES`].
    pub fn filter_pitch(&self) -> usize {
        self.filter_layout.pitch(self.group_c(), self.dtype())
    }

    /// The filter element that holds (k, c, r, s), `c` counted within the group.
    pub fn filter_index(&self, k: usize, c: usize, r: usize, s: usize) -> usize {
        match self.filter_layout {
            FilterLayout::Kcrs => {
                ((k * self.group_c() + c) * self.window.kernel[0] + r) * self.window.kernel[1] + s
            }
            FilterLayout::Krsc | FilterLayout::Packed => {
                ((k * self.window.kernel[0] + r) * self.window.kernel[1] + s) * self.filter_pitch()
                    + c
            }
        }
    }

    /// Rows of the matrix product: filters of a group.
    pub fn gemm_m(&self) -> usize {
        self.group_k()
    }

    /// Columns of the matrix product: output pixels of the batch, `n * p * q`; under 2^31.
    pub fn gemm_n(&self) -> usize {
        self.n() * self.p() * self.q()
    }

    /// Depth of the matrix product: `group_c * r * s`.
    pub fn gemm_k(&self) -> usize {
        self.group_c() * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Multiply-adds, those with padding included: `n * p * q * k * group_c * r * s`.
    pub fn macs(&self) -> u64 {
        self.gemm_n() as u64 * self.filter_elements() as u64
    }

    /// Bytes that device memory must move at least: input, filters, bias and residual read once,
    /// output written once; saturated.
    pub fn min_bytes(&self) -> u64 {
        let bias = if self.bias { self.k() } else { 0 };
        let residual = self.residual.as_ref().map_or(0, TensorDesc::elements);
        let elements = self.input.elements()
            + self.filter_elements()
            + bias
            + residual
            + self.output.elements();
        (elements as u64).saturating_mul(self.dtype().size() as u64)
    }
}
