//! Collecting and checking a convolution's description.

use super::{Conv2d, FilterLayout, Padding};
use crate::error::Error;
use crate::problem::extent::{at_most, nonzero, outputs, product};
use crate::problem::setters::{filter_setters, tensor_setters, window_setters};
use crate::problem::tensor::TensorDesc;
use crate::problem::window::Window;
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
    pub(super) window: Window,
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
    tensor_setters!();
    window_setters!();
    filter_setters!();

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

    /// Sets whether a tensor of the output's shape is added, before the ReLU.
    pub fn residual(mut self, residual: bool) -> Self {
        self.residual = residual;
        if !residual {
            self.residual_slice = None;
        }
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
        let ([r, s], k) = (self.window.kernel, self.filters);
        for (what, extent) in [
            ("the number of channels", c),
            ("the number of filters", k),
            ("the number of groups", self.groups),
        ] {
            nonzero(what, extent)?;
        }
        let sides = ["the height of the kernel", "the width of the kernel"];
        self.window.check(sides)?;
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
        let [rows, columns] = self.window.axes([h, w]);
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
            window: self.window,
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
}
