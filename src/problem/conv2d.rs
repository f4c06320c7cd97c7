//! Two-dimensional convolution: its description, checked on construction, and its builder.

use super::builder::{Builder, Built, Filtered, Windowed, slice};
use super::tensor::{TensorDesc, Window, at_most, nonzero, outputs, product};
use super::types::{DType, FilterLayout, Layout, Math, Padding};
use crate::error::Error;

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

impl Conv2d {
    /// Starts a description; see [`Builder`](crate::problem::Builder).
    ///
    /// ```
    /// use warpconv::problem::{Conv2d, Padding};
    /// let conv = Conv2d::builder().input(128, 252, 56, 56).filters(63).kernel(3, 3);
    /// let conv = conv.padding(Padding::same(1)).build()?;
    /// assert_eq!((conv.output().h(), conv.output().w()), (56, 56));
    /// # Ok::<(), warpconv::Error>(())
    /// ```
    pub fn builder() -> Builder<Conv2d> {
        Builder::new(ConvOptions {
            groups: 1,
            bias: false,
            residual: false,
        })
    }

    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Builder<Conv2d> {
        let own = ConvOptions {
            groups: self.groups,
            bias: self.bias,
            residual: self.residual.is_some(),
        };
        Builder {
            window: self.window,
            filters: self.k(),
            filter_layout: self.filter_layout,
            math: self.math,
            alignment: self.alignment,
            relu: self.relu,
            residual_slice: self.residual.as_ref().and_then(slice),
            ..Builder::between(&self.input, &self.output, own)
        }
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

    /// Images.
    pub(crate) fn n(&self) -> usize {
        self.input.n()
    }

    /// Channels of the input.
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

    /// Filters, the channels of the output.
    pub(crate) fn k(&self) -> usize {
        self.output.c()
    }

    /// Rows of a filter.
    pub(crate) fn r(&self) -> usize {
        self.window.kernel[0]
    }

    /// Columns of a filter.
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

    /// Groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Channels of a group.
    pub(crate) fn group_c(&self) -> usize {
        self.c() / self.groups
    }

    /// Filters of a group.
    pub(crate) fn group_k(&self) -> usize {
        self.k() / self.groups
    }

    /// Kernel, stride, dilation and padding.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Rows and columns between two windows.
    pub(crate) fn stride(&self) -> [usize; 2] {
        self.window.stride
    }

    /// Rows and columns between two taps; 1 is dense.
    pub(crate) fn dilation(&self) -> [usize; 2] {
        self.window.dilation
    }

    /// Zeros around the image.
    pub(crate) fn padding(&self) -> Padding {
        self.window.padding
    }

    /// Storage type of all tensors.
    pub(crate) fn dtype(&self) -> DType {
        self.input.dtype()
    }

    /// The layout of input, output and residual.
    pub(crate) fn layout(&self) -> Layout {
        self.input.layout()
    }

    /// The layout of the filters.
    pub(crate) fn filter_layout(&self) -> FilterLayout {
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

    /// The filters.
    pub fn filter(&self) -> FilterDesc {
        let [r, s] = self.window.kernel;
        FilterDesc {
            k: self.k(),
            c: self.group_c(),
            r,
            s,
            layout: self.filter_layout,
            dtype: self.dtype(),
        }
    }

    /// Columns of the matrix product: output pixels of the batch, `n * p * q`; under 2^31.
    pub(crate) fn gemm_n(&self) -> usize {
        self.n() * self.p() * self.q()
    }

    /// Depth of the matrix product: `group_c * r * s`.
    pub(crate) fn gemm_k(&self) -> usize {
        self.group_c() * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Multiply-adds, those with padding included: `n * p * q * k * group_c * r * s`.
    pub(crate) fn macs(&self) -> u64 {
        self.gemm_n() as u64 * self.filter().elements() as u64
    }

    /// Bytes that device memory must move at least: input, filters, bias and residual read once,
    /// output written once; saturated.
    pub(crate) fn min_bytes(&self) -> u64 {
        let bias = if self.bias { self.k() } else { 0 };
        let residual = self.residual.as_ref().map_or(0, TensorDesc::elements);
        let elements = self.input.elements()
            + self.filter().elements()
            + bias
            + residual
            + self.output.elements();
        (elements as u64).saturating_mul(self.dtype().size() as u64)
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

/// The largest alignment that can be promised, in bytes: that of every allocation on a device.
const MAX_ALIGNMENT: usize = 256;

/// Options of a convolution alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    groups: usize,
    bias: bool,
    residual: bool,
}

impl Built for Conv2d {
    type Own = ConvOptions;

    fn build(builder: Builder<Conv2d>) -> Result<Conv2d, Error> {
        let [n, c, h, w] = builder.input;
        let ([r, s], k) = (builder.window.kernel, builder.filters);
        for (what, extent) in [
            ("the number of channels", c),
            ("the number of filters", k),
            ("the number of groups", builder.own.groups),
        ] {
            nonzero(what, extent)?;
        }
        let sides = ["the height of the kernel", "the width of the kernel"];
        builder.window.check(sides)?;
        for (what, count) in [("channels", c), ("filters", k)] {
            if count % builder.own.groups != 0 {
                return Err(Error::Groups {
                    what,
                    count,
                    groups: builder.own.groups,
                });
            }
        }
        builder.check_storage()?;
        let input = TensorDesc::named(
            "input",
            builder.input,
            builder.layout,
            builder.dtype,
            builder.input_slice,
        )?
        .convolvable()?;
        let [rows, columns] = builder.window.axes([h, w]);
        let [p, q] = outputs(rows, columns, false)?;
        at_most(
            "the elements of the filters",
            product(&[
                k,
                r,
                s,
                builder
                    .filter_layout
                    .pitch(c / builder.own.groups, builder.dtype),
            ]),
        )?;
        at_most("the number of output pixels", product(&[n, p, q]))?;
        let result = [n, k, p, q];
        let output = TensorDesc::named(
            "output",
            result,
            builder.layout,
            builder.dtype,
            builder.output_slice,
        )?
        .convolvable()?;
        let residual = match builder.own.residual {
            true => Some(
                TensorDesc::named(
                    "residual",
                    result,
                    builder.layout,
                    builder.dtype,
                    builder.residual_slice,
                )?
                .convolvable()?,
            ),
            false => None,
        };
        debug_assert!(h > 0 && w > 0);
        Ok(Conv2d {
            input,
            output,
            residual,
            window: builder.window,
            groups: builder.own.groups,
            bias: builder.own.bias,
            relu: builder.relu,
            filter_layout: builder.filter_layout,
            math: builder.math,
            alignment: builder.alignment,
        })
    }
}

impl Windowed for Conv2d {}
impl Filtered for Conv2d {}

impl Builder<Conv2d> {
    /// Groups that channels and filters divide into.
    pub fn groups(mut self, groups: usize) -> Self {
        self.own.groups = groups;
        self
    }

    /// Sets whether a bias, one number per filter, is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.own.bias = bias;
        self
    }

    /// Sets whether a tensor of the output's shape is added, before the ReLU.
    pub fn residual(mut self, residual: bool) -> Self {
        self.own.residual = residual;
        if !residual {
            self.residual_slice = None;
        }
        self
    }

    /// A residual is added, and it is channels `offset..offset + k` of a tensor of `pitch`
    /// channels.
    pub fn residual_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.own.residual = true;
        self.residual_slice = Some((pitch, offset));
        self
    }

    /// Checks whether mode and alignment go with the type.
    fn check_storage(&self) -> Result<(), Error> {
        let (math, dtype, bytes) = (self.math, self.dtype, self.alignment);
        if math != Math::Strict && dtype != DType::F32 {
            return Err(Error::MathMode { math, dtype });
        }
        if !bytes.is_power_of_two() || !(dtype.size()..=MAX_ALIGNMENT).contains(&bytes) {
            return Err(Error::Alignment {
                bytes,
                element: dtype.size(),
                most: MAX_ALIGNMENT,
            });
        }
        Ok(())
    }
}
