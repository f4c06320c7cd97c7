//! Activation tensors and sliding windows: extents, strides, and the one formula of output sizes.

use super::types::{DType, Layout, Padding};
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

    /// The same tensor as channels `offset..offset + c` of a tensor of `pitch` channels.
    ///
    /// # Errors
    /// [`Error::Slice`] if they do not lie inside, [`Error::TooLarge`] if the wider tensor is too
    /// large.
    pub fn slice(&self, pitch: usize, offset: usize) -> Result<Self, Error> {
        let extents = [self.n, self.c, self.h, self.w];
        Self::named(
            "tensor",
            extents,
            self.layout,
            self.dtype,
            Some((pitch, offset)),
        )
    }

    /// The same tensor with `n` images.
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        let extents = [n, self.c, self.h, self.w];
        let slice = Some((self.channel_pitch, self.channel_offset));
        Self::named("tensor", extents, self.layout, self.dtype, slice)
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

#[cfg(test)]
mod tests;
