//! Collecting and checking a convolution's description.

use super::{Conv2d, FilterLayout, Padding};
use crate::error::Error;
use crate::problem::extent::{Axis, at_most, nonzero, outputs, product};
use crate::problem::tensor::TensorDesc;
use crate::problem::{DType, Layout, Math};

/// The largest alignment that can be promised, in bytes: that of every allocation on a device.
const MAX_ALIGNMENT: usize = 256;

/// Collects a [`Conv2d`]; made by [`Conv2d::builder`]. `input`, `filters` and `kernel` must be
/// given; the rest defaults to stride 1, dilation 1, no padding, one group, no epilogue, f32, NCHW,
/// KCRS, [`Math::Strict`] and buffers aligned to 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Conv2dBuilder {
    pub(super) input: [usize; 4],
    pub(super) filters: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: Padding,
    pub(super) groups: usize,
    pub(super) bias: bool,
    pub(super) relu: bool,
    pub(super) residual: bool,
    pub(super) dtype: DType,
    pub(super) layout: Layout,
    pub(super) filter_layout: FilterLayout,
    pub(super) math: Math,
    pub(super) alignment: usize,
    pub(super) input_slice: Option<(usize, usize)>,
    pub(super) output_slice: Option<(usize, usize)>,
    pub(super) residual_slice: Option<(usize, usize)>,
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

    /// Sets whether a bias, one number per filter, is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets whether the result passes through ReLU, after bias and residual.
    pub fn relu(mut self, relu: bool) -> Self {
        self.relu = relu;
        self
    }

    /// Sets whether a tensor of the output's shape is added, before the ReLU.
    pub fn residual(mut self, residual: bool) -> Self {
        self.residual = residual;
        if !residual {
            self.residual_slice = None;
        }
        self
    }

    /// Storage type of all tensors.
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

    /// Mode of f32 multiplication; other types have [`Math::Strict`] only.
    pub fn math(mut self, math: Math) -> Self {
        self.math = math;
        self
    }

    /// Alignment of every buffer's first element, in bytes: a power of two, at least an element's
    /// size and at most 256. Kernels that copy 16 bytes at a time need 16, which is the default.
    pub fn alignment(mut self, bytes: usize) -> Self {
        self.alignment = bytes;
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

    /// A residual is added, and it is channels `offset..offset + k` of a tensor of `pitch`
    /// channels.
    pub fn residual_slice(mut self, pitch: usize, offset: usize) -> Self {
        self.residual = true;
        self.residual_slice = Some((pitch, offset));
        self
    }

    /// Checks everything and computes the output's size.
    ///
    /// # Errors
    /// * [`Error::Zero`]: channels, rows, columns, filters, kernel, stride, dilation or groups are
    ///   0 (a batch of 0 is valid and has an empty output);
    /// * [`Error::Groups`]: channels or filters do not divide into the groups;
    /// * [`Error::WindowTooLarge`]: the effective kernel is larger than the padded input;
    /// * [`Error::Slice`]: a slice does not lie inside its tensor;
    /// * [`Error::MathMode`]: a mode other than [`Math::Strict`] for a type other than f32;
    /// * [`Error::Alignment`]: the alignment is no power of two, less than an element or more than
    ///   256 bytes;
    /// * [`Error::TooLarge`]: an image, the filters, the padded input or the number of output
    ///   pixels `n * p * q` reaches 2^31.
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
        self.check_storage()?;
        let input = TensorDesc::named(
            "input",
            self.input,
            self.layout,
            self.dtype,
            self.input_slice,
        )?
        .convolvable()?;
        let [rows, columns] = self.axes();
        let [p, q] = outputs(rows, columns, false)?;
        at_most(
            "the elements of the filters",
            product(&[
                k,
                r,
                s,
                self.filter_layout.pitch(c / self.groups, self.dtype),
            ]),
        )?;
        at_most("the number of output pixels", product(&[n, p, q]))?;
        let result = [n, k, p, q];
        let output =
            TensorDesc::named("output", result, self.layout, self.dtype, self.output_slice)?
                .convolvable()?;
        let residual = match self.residual {
            true => Some(
                TensorDesc::named(
                    "residual",
                    result,
                    self.layout,
                    self.dtype,
                    self.residual_slice,
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
            r,
            s,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
            bias: self.bias,
            relu: self.relu,
            filter_layout: self.filter_layout,
            math: self.math,
            alignment: self.alignment,
        })
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

    /// The window's two axes, rows first.
    pub(super) fn axes(&self) -> [Axis; 2] {
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
