//! Activation tensors: extents, storage type, layout, and the slice of a wider tensor that they may
//! be.

use crate::error::Error;
use crate::problem::extent::{at_most, nonzero, product};
use crate::problem::{DType, Layout};

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
pub struct TensorStrides {
    /// Elements from one image to the next.
    pub image: i64,
    /// Elements from one channel to the next.
    pub channel: i64,
    /// Elements from one pixel to the next.
    pub pixel: i64,
}

impl TensorDesc {
    /// A dense tensor.
    ///
    /// # Errors
    /// [`Error::Zero`] if `c`, `h` or `w` is 0 (`n` may be); [`Error::TooLarge`] if an extent is
    /// 2^31 or more, or the whole tensor does not fit the address space. An image may have more
    /// elements; a convolution's may not.
    pub fn new(
        n: usize,
        c: usize,
        h: usize,
        w: usize,
        layout: Layout,
        dtype: DType,
    ) -> Result<Self, Error> {
        Self::named("tensor", [n, c, h, w], layout, dtype, None)
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
    pub fn strides(&self) -> TensorStrides {
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
    pub fn offset(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_offset_and_index_agree() {
        for layout in Layout::ALL {
            let desc = TensorDesc::new(2, 3, 4, 5, layout, DType::F16)
                .unwrap()
                .slice(11, 6)
                .unwrap();
            let TensorStrides {
                image,
                channel,
                pixel,
            } = desc.strides();
            assert_eq!(desc.len(), 2 * 11 * 4 * 5);
            assert_eq!(desc.elements(), 2 * 3 * 4 * 5);
            let at = desc.offset() as i64 + image + 2 * channel + (3 * 5 + 4) * pixel;
            assert_eq!(desc.index(1, 2, 3, 4) as i64, at);
        }
    }

    #[test]
    fn slices_must_lie_inside() {
        let desc = TensorDesc::new(1, 3, 2, 2, Layout::Nchw, DType::F32).unwrap();
        for (pitch, offset) in [(2, 0), (4, 2), (8, usize::MAX)] {
            let error = desc.slice(pitch, offset).unwrap_err();
            assert_eq!(
                error,
                Error::Slice {
                    what: "tensor",
                    channels: 3,
                    pitch,
                    offset
                }
            );
        }
        assert_eq!(
            desc.slice(4, 2).unwrap_err().to_string(),
            "tensor: channels 2..5 do not lie in a tensor of 4 channels"
        );
    }

    #[test]
    fn a_convolution_s_image_has_less_than_two_to_the_31_elements() {
        let build = |c, h, w| TensorDesc::new(3, c, h, w, Layout::Nhwc, DType::F16);
        let convolvable = |c, h, w| build(c, h, w).and_then(TensorDesc::convolvable);
        assert!(convolvable(1, 46340, 46341).is_ok());
        assert!(build(1, 1 << 16, 1 << 15).is_ok());
        assert!(matches!(
            convolvable(1, 1 << 16, 1 << 15),
            Err(Error::TooLarge { value, .. }) if value == 1 << 31
        ));
        assert!(matches!(build(1, 1 << 31, 1), Err(Error::TooLarge { .. })));
        assert!(matches!(
            build(usize::MAX, usize::MAX, usize::MAX),
            Err(Error::TooLarge { .. })
        ));
        // The whole tensor may be larger.
        assert!(TensorDesc::new(1 << 20, 1 << 10, 64, 64, Layout::Nchw, DType::F16).is_ok());
    }
}
