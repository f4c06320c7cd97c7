//! Two-dimensional convolution: its description, checked on construction, its sliding window, and
//! the one formula of output sizes.

use super::tensor::{
    Builder, Built, FilterDesc, Filtered, TensorDesc, Windowed, at_most, nonzero, product,
};
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

/// One axis of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Axis {
    /// Elements of the input.
    pub input: usize,
    /// Taps of the window.
    pub window: usize,
    /// Elements between two windows.
    pub stride: usize,
    /// Elements between two taps; 1 is dense.
    pub dilation: usize,
    /// Padding before the first element.
    pub before: usize,
    /// Padding after the last element.
    pub after: usize,
}

impl Axis {
    /// Elements that the window spans: `(window - 1) * dilation + 1`. `window` is at least 1.
    pub(crate) fn effective(&self) -> u128 {
        (self.window as u128).saturating_sub(1) * self.dilation as u128 + 1
    }

    /// Elements of the input with its padding.
    pub(crate) fn padded(&self) -> u128 {
        self.input as u128 + self.before as u128 + self.after as u128
    }

    /// The number of outputs, or `None` where the window does not fit into the padded input. Stride
    /// and window are at least 1.
    ///
    /// Without `ceil` that is `floor((padded - effective) / stride) + 1`. With it the division
    /// rounds up, and the last window is dropped if it would start at or after the end of the
    /// input, that is, in the padding after it.
    pub(crate) fn outputs(&self, ceil: bool) -> Option<u128> {
        let room = self.padded().checked_sub(self.effective())?;
        let stride = (self.stride as u128).max(1);
        let mut outputs = if ceil {
            room.div_ceil(stride)
        } else {
            room / stride
        } + 1;
        if ceil && (outputs - 1) * stride >= self.input as u128 + self.before as u128 {
            outputs -= 1;
        }
        Some(outputs).filter(|&outputs| outputs > 0)
    }
}

/// The outputs of both axes (rows, columns), with everything that can be wrong about them as an
/// error.
pub(crate) fn outputs(rows: Axis, columns: Axis, ceil: bool) -> Result<[usize; 2], Error> {
    for axis in [&rows, &columns] {
        at_most("the padded input", axis.padded())?;
        at_most("the stride", axis.stride as u128)?;
        at_most("the dilation", axis.dilation as u128)?;
    }
    let too_large = || Error::WindowTooLarge {
        padded: [rows.padded(), columns.padded()],
        effective: [rows.effective(), columns.effective()],
    };
    let p = rows.outputs(ceil).ok_or_else(too_large)?;
    let q = columns.outputs(ceil).ok_or_else(too_large)?;
    // The padded input bounds the number of outputs, so both fit.
    Ok([p as usize, q as usize])
}

/// The largest alignment that can be promised, in bytes: that of every allocation on a device.
const MAX_ALIGNMENT: usize = 256;

/// Options of a convolution alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    pub(super) groups: usize,
    pub(super) bias: bool,
    pub(super) residual: bool,
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

#[cfg(test)]
mod tests;
