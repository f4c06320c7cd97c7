//! Two-dimensional convolution: what is computed, checked on construction.

use crate::catalog::{DType, Layout};
use crate::error::Error;
use crate::problem::extent::{Axis, at_most, nonzero, outputs, product};
use crate::problem::tensor::TensorDesc;

/// The order of a filter's dimensions in memory, slowest first: k filters of c / groups channels and r x s taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterLayout {
    /// Filter, channel, row, column (PyTorch's and ONNX's OIHW).
    Kcrs,
    /// Filter, row, column, channel (OHWI).
    Krsc,
}

impl FilterLayout {
    /// Both layouts.
    pub const ALL: [FilterLayout; 2] = [FilterLayout::Kcrs, FilterLayout::Krsc];

    /// `kcrs` or `krsc`.
    pub const fn name(self) -> &'static str {
        match self {
            FilterLayout::Kcrs => "kcrs",
            FilterLayout::Krsc => "krsc",
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

/// A two-dimensional convolution (cross-correlation, as PyTorch and ONNX have it) with its fused epilogue:
///
/// ```text
/// y[n][k][p][q] = act(sum over c, r, s of x[n][c][p * stride - top + r * dilation][q * stride - left + s * dilation]
/// * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
/// ```
///
/// with `act` the ReLU (NaN kept) or nothing, and the channels of a group only. Padding takes part as zeros: an
/// infinite or NaN weight over padding gives NaN, because `0 * w` does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    input: TensorDesc,
    output: TensorDesc,
    residual: Option<TensorDesc>,
    r: usize,
    s: usize,
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    groups: usize,
    bias: bool,
    relu: bool,
    filter_layout: FilterLayout,
}

/// Collects a [`Conv2d`]; made by [`Conv2d::builder`]. `input`, `filters` and `kernel` must be given; the rest
/// defaults to stride 1, dilation 1, no padding, one group, no epilogue, f32, NCHW and KCRS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Conv2dBuilder {
    input: [usize; 4],
    filters: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    groups: usize,
    bias: bool,
    relu: bool,
    residual: bool,
    dtype: DType,
    layout: Layout,
    filter_layout: FilterLayout,
    input_slice: Option<(usize, usize)>,
    output_slice: Option<(usize, usize)>,
    residual_slice: Option<(usize, usize)>,
}

impl Conv2dBuilder {
    /// Images, channels, rows and columns of the input.
    pub fn input(mut self, n: usize, c: usize, h: usize, w: usize) -> Self {
        self.input = [n, c, h, w];
        self
    }

    /// Filters, which are the channels of the output.
    pub fn filters(mut self, k: usize) -> Self {
        self.filters = k;
        self
    }

    /// Rows and columns of a filter.
    pub fn kernel(mut self, r: usize, s: usize) -> Self {
        self.kernel = [r, s];
        self
    }

    /// Rows and columns between two windows.
    pub fn stride(mut self, h: usize, w: usize) -> Self {
        self.stride = [h, w];
        self
    }

    /// Rows and columns between two taps; 1 is dense.
    pub fn dilation(mut self, h: usize, w: usize) -> Self {
        self.dilation = [h, w];
        self
    }

    /// Zeros around the image.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Groups that channels and filters divide into.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Whether a bias, one number a filter, is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Whether the result passes through ReLU, after bias and residual.
    pub fn relu(mut self, relu: bool) -> Self {
        self.relu = relu;
        self
    }

    /// Whether a tensor of the output's shape is added, before the ReLU.
    pub fn residual(mut self, residual: bool) -> Self {
        self.residual = residual;
        if !residual {
            self.residual_slice = None;
        }
        self
    }

    /// How all tensors are stored.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The layout of input, output and residual.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The layout of the filters.
    pub fn filter_layout(mut self, layout: FilterLayout) -> Self {
        self.filter_layout = layout;
        self
    }

    /// The input is channels `offset..offset + c` of a tensor of `pitch` channels.
    pub fn input_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.input_slice = Some((pitch, offset));
        self
    }

    /// The output is channels `offset..offset + k` of a tensor of `pitch` channels.
    pub fn output_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.output_slice = Some((pitch, offset));
        self
    }

    /// A residual is added, and it is channels `offset..offset + k` of a tensor of `pitch` channels.
    pub fn residual_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.residual = true;
        self.residual_slice = Some((pitch, offset));
        self
    }

    /// Checks everything and computes the output's size.
    ///
    /// # Errors
    /// * [`Error::Zero`]: channels, rows, columns, filters, kernel, stride, dilation or groups are 0 (a batch of 0 is
    ///   valid and has an empty output);
    /// * [`Error::Groups`]: channels or filters do not divide into the groups;
    /// * [`Error::WindowTooLarge`]: the effective kernel is larger than the padded input;
    /// * [`Error::Slice`]: a slice does not lie inside its tensor;
    /// * [`Error::TooLarge`]: an image, the filters, the padded input or the number of output pixels `n * p * q`
    ///   reaches 2^31.
    pub fn build(self) -> Result<Conv2d, Error> {
        let [n, c, h, w] = self.input;
        let ([r, s], k) = (self.kernel, self.filters);
        for (what, extent) in [
            ("the number of channels", c),
            ("the number of filters", k),
            ("the number of groups", self.groups),
            ("the height of the kernel", r),
            ("the width of the kernel", s),
            ("the vertical stride", self.stride[0]),
            ("the horizontal stride", self.stride[1]),
            ("the vertical dilation", self.dilation[0]),
            ("the horizontal dilation", self.dilation[1]),
        ] {
            nonzero(what, extent)?;
        }
        for (what, count) in [("channels", c), ("filters", k)] {
            if count % self.groups != 0 {
                return Err(Error::Groups {
                    what,
                    count,
                    groups: self.groups,
                });
            }
        }
        let input = TensorDesc::named(
            "input",
            self.input,
            self.layout,
            self.dtype,
            self.input_slice,
        )?;
        let [rows, columns] = self.axes();
        let [p, q] = outputs(rows, columns, false)?;
        at_most(
            "the elements of the filters",
            product(&[k, c / self.groups, r, s]),
        )?;
        at_most("the number of output pixels", product(&[n, p, q]))?;
        let result = [n, k, p, q];
        let output =
            TensorDesc::named("output", result, self.layout, self.dtype, self.output_slice)?;
        let residual = match self.residual {
            true => Some(TensorDesc::named(
                "residual",
                result,
                self.layout,
                self.dtype,
                self.residual_slice,
            )?),
            false => None,
        };
        debug_assert!(h > 0 && w > 0);
        Ok(Conv2d {
            input,
            output,
            residual,
            r,
            s,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
            bias: self.bias,
            relu: self.relu,
            filter_layout: self.filter_layout,
        })
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
            window: self.kernel[i],
            stride: self.stride[i],
            dilation: self.dilation[i],
            before: sides[i].0,
            after: sides[i].1,
        })
    }
}

impl Conv2d {
    /// Starts a description; see [`Conv2dBuilder`].
    ///
    /// ```
    /// use warpconv::problem::{Conv2d, Padding};
    /// let conv = Conv2d::builder().input(128, 252, 56, 56).filters(63).kernel(3, 3).padding(Padding::same(1)).build()?;
    /// assert_eq!((conv.p(), conv.q()), (56, 56));
    /// # Ok::<(), warpconv::Error>(())
    /// ```
    pub fn builder() -> Conv2dBuilder {
        Conv2dBuilder {
            input: [0; 4],
            filters: 0,
            kernel: [0; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::NONE,
            groups: 1,
            bias: false,
            relu: false,
            residual: false,
            dtype: DType::F32,
            layout: Layout::Nchw,
            filter_layout: FilterLayout::Kcrs,
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
            kernel: [self.r, self.s],
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
            bias: self.bias,
            relu: self.relu,
            residual: self.residual.is_some(),
            dtype: self.dtype(),
            layout: self.layout(),
            filter_layout: self.filter_layout,
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
        self.r
    }

    /// Columns of a filter.
    pub fn s(&self) -> usize {
        self.s
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

    /// Rows and columns between two windows.
    pub fn stride(&self) -> [usize; 2] {
        self.stride
    }

    /// Rows and columns between two taps; 1 is dense.
    pub fn dilation(&self) -> [usize; 2] {
        self.dilation
    }

    /// Zeros around the image.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// How all tensors are stored.
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

    /// Whether a bias is added.
    pub fn bias(&self) -> bool {
        self.bias
    }

    /// Whether the result passes through ReLU.
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

    /// Elements of the filters: `k * group_c * r * s`.
    pub fn filter_len(&self) -> usize {
        self.k() * self.gemm_k()
    }

    /// The filter element that holds (k, c, r, s), `c` counted within the group.
    pub fn filter_index(&self, k: usize, c: usize, r: usize, s: usize) -> usize {
        match self.filter_layout {
            FilterLayout::Kcrs => ((k * self.group_c() + c) * self.r + r) * self.s + s,
            FilterLayout::Krsc => ((k * self.r + r) * self.s + s) * self.group_c() + c,
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

    /// Length of the matrix product's sums: `group_c * r * s`.
    pub fn gemm_k(&self) -> usize {
        self.group_c() * self.r * self.s
    }

    /// Multiplications, those with padding included: `n * p * q * k * group_c * r * s`.
    pub fn macs(&self) -> u64 {
        self.gemm_n() as u64 * self.filter_len() as u64
    }

    /// Bytes that device memory must move at least: input, filters, bias and residual read once, output written once;
    /// saturated.
    pub fn min_bytes(&self) -> u64 {
        let bias = if self.bias { self.k() } else { 0 };
        let residual = self.residual.as_ref().map_or(0, TensorDesc::elements);
        let elements =
            self.input.elements() + self.filter_len() + bias + residual + self.output.elements();
        (elements as u64).saturating_mul(self.dtype().size() as u64)
    }
}
