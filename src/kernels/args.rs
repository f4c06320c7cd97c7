//! The parts that argument structs share, and the arguments of convolutions: a mirror of
//! `kernels/common/conv_args.cuh`, field by field; their grid.
//!
//! Pointers are device addresses that already include the channel offset of a slice. Strides are in
//! elements.

use super::simt::{has_strips, reads_planes};
use crate::kernels::{Kernel, Layout};
use crate::problem::{Conv2d, FilterLayout, TensorDesc};

/// Division of a 31-bit number by a constant, as a multiplication and a shift.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastDiv {
    mul: u32,
    shift: u32,
    divisor: u32,
}

impl FastDiv {
    /// For division by `divisor`, from 1 to 2^31 - 1. Zero is taken as one: it is the length of
    /// something empty, and nothing is launched for that.
    pub fn new(divisor: u32) -> FastDiv {
        let divisor = divisor.clamp(1, (1 << 31) - 1);
        let shift = divisor.next_power_of_two().trailing_zeros();
        let mul = (1u64 << (31 + shift)).div_ceil(u64::from(divisor));
        FastDiv {
            mul: mul as u32,
            shift,
            divisor,
        }
    }

    /// No division but an extent in 64 bits, as `kernels/common/wide_units.cuh` reads it where
    /// there are 2^31 units or more.
    pub(crate) fn wide(extent: u64) -> FastDiv {
        FastDiv {
            mul: (extent >> 32) as u32,
            shift: u32::MAX,
            divisor: extent as u32,
        }
    }

    /// Divides as the kernel does: `n / divisor` for `n` below 2^31.
    pub fn divide(self, n: u32) -> u32 {
        ((u64::from(n << 1) * u64::from(self.mul)) >> 32) as u32 >> self.shift
    }

    /// Divisor.
    pub fn divisor(self) -> u32 {
        self.divisor
    }
}

/// Strides, by which element (n, c, h, w) of an activation lies: `n * image + c * channel + (h *
/// width + w) * pixel`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strides {
    /// Elements from one image to the next.
    pub image: i64,
    /// Elements from one channel to the next.
    pub channel: i32,
    /// Elements from one pixel to the next.
    pub pixel: i32,
}

/// The arguments of every convolution kernel. The comments of `kernels/common/conv_args.cuh` say
/// what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvArgs {
    pub x: u64,
    pub w: u64,
    pub bias: u64,
    pub residual: u64,
    pub y: u64,
    pub x_strides: Strides,
    pub y_strides: Strides,
    pub residual_strides: Strides,
    pub n: i32,
    pub c: i32,
    pub h: i32,
    pub width: i32,
    pub k: i32,
    pub r: i32,
    pub s: i32,
    pub p: i32,
    pub q: i32,
    pub groups: i32,
    pub group_c: i32,
    pub group_k: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_top: i32,
    pub pad_left: i32,
    pub dilation_h: i32,
    pub dilation_w: i32,
    pub w_k: i32,
    pub w_c: i32,
    pub w_tap: i32,
    pub relu: i32,
    pub y_vector: i32,
    pub x_vector: i32,
    pub gemm_n: u32,
    pub tiles_m: u32,
    pub by_pq: FastDiv,
    pub by_q: FastDiv,
    pub by_tiles_m: FastDiv,
    pub by_groups: FastDiv,
}

const _: () = assert!(size_of::<ConvArgs>() == 40 + 3 * 16 + 4 * 26 + 4 * 12);

/// Bytes of the widest access.
pub(super) const VECTOR_BYTES: u64 = 16;

pub(super) fn whole(numbers: &[i64], of: i64) -> bool {
    numbers.iter().all(|number| number % of == 0)
}

/// Returns whether every pixel of NHWC tensors begins on a multiple of `of` elements.
pub(super) fn whole_strides(strides: &[Strides], of: i64) -> bool {
    strides
        .iter()
        .all(|s| whole(&[s.image, i64::from(s.pixel)], of))
}

/// Number of blocks of `threads` for `units`; grids have one dimension of less than 2^31 blocks.
pub(super) fn blocks(units: u64, threads: u32) -> u64 {
    units.div_ceil(u64::from(threads))
}

/// Numbering of `images` images of `outer * middle * inner` units: the number of units, and the
/// divisors by an image's units, by the inner and by the middle extent, as `find_wide_unit` in
/// `kernels/common/wide_units.cuh` takes them.
pub(super) fn units(images: i32, [outer, middle, inner]: [u64; 3]) -> (u64, [FastDiv; 3]) {
    let image = outer.saturating_mul(middle).saturating_mul(inner);
    let total = image.saturating_mul(images as u64);
    let by = match u32::try_from(image) {
        Ok(image) if total < 1 << 31 => [image, inner as u32, middle as u32].map(FastDiv::new),
        _ => [outer, inner, middle].map(FastDiv::wide),
    };
    (total, by)
}

/// An argument struct that shares a problem out among blocks.
pub trait Arguments: Copy {
    /// Fills in what depends on the kernel and on the pointers' alignment, and returns the number
    /// of blocks.
    fn set_grid(&mut self, kernel: &Kernel) -> u64;
}

/// Converts an extent or a stride within an image, which the problem types keep below 2^31.
pub(crate) fn int(value: usize) -> i32 {
    debug_assert!(i32::try_from(value).is_ok());
    value as i32
}

impl From<&TensorDesc> for Strides {
    fn from(desc: &TensorDesc) -> Strides {
        let strides = desc.strides();
        Strides {
            image: strides.image,
            // A plane may have more pixels than that: poolings and what keeps the extents take the
            // step from rows and columns.
            channel: strides.channel.min(i64::from(i32::MAX)) as i32,
            // No more than the channels, which have 31 bits.
            pixel: strides.pixel as i32,
        }
    }
}

/// Bytes of the buffer before the tensor's first element.
pub(crate) fn offset_bytes(desc: &TensorDesc) -> u64 {
    desc.offset() as u64 * desc.dtype().size() as u64
}

impl From<&Conv2d> for ConvArgs {
    fn from(problem: &Conv2d) -> ConvArgs {
        let taps = problem.r() * problem.s();
        let group_c = problem.group_c();
        let [w_k, w_c, w_tap] = match problem.filter_layout() {
            FilterLayout::Kcrs => [group_c * taps, taps, 1],
            FilterLayout::Krsc | FilterLayout::Packed => {
                let pitch = problem.filter().pitch();
                [taps * pitch, 1, pitch]
            }
        };
        ConvArgs {
            x_strides: problem.input().into(),
            y_strides: problem.output().into(),
            residual_strides: problem.residual().map(Strides::from).unwrap_or_default(),
            n: int(problem.n()),
            c: int(problem.c()),
            h: int(problem.h()),
            width: int(problem.w()),
            k: int(problem.k()),
            r: int(problem.r()),
            s: int(problem.s()),
            p: int(problem.p()),
            q: int(problem.q()),
            groups: int(problem.groups()),
            group_c: int(group_c),
            group_k: int(problem.group_k()),
            stride_h: int(problem.stride()[0]),
            stride_w: int(problem.stride()[1]),
            pad_top: int(problem.padding().top),
            pad_left: int(problem.padding().left),
            dilation_h: int(problem.dilation()[0]),
            dilation_w: int(problem.dilation()[1]),
            w_k: int(w_k),
            w_c: int(w_c),
            w_tap: int(w_tap),
            relu: i32::from(problem.relu()),
            gemm_n: problem.gemm_n() as u32,
            ..ConvArgs::default()
        }
    }
}

impl Arguments for ConvArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        match has_strips(kernel) {
            true => self.schedule_depthwise(kernel),
            false => self.schedule_product(kernel),
        }
    }
}

impl ConvArgs {
    /// Shares the tiles of the matrix-product kernels out among blocks; see `gemm_n` and what
    /// follows in `kernels/common/conv_args.cuh`.
    fn schedule_product(&mut self, kernel: &Kernel) -> u64 {
        self.tiles_m = (self.group_k as u32).div_ceil(kernel.tile_m);
        self.by_pq = FastDiv::new(self.p as u32 * self.q as u32);
        self.by_q = FastDiv::new(self.q as u32);
        self.by_tiles_m = FastDiv::new(self.tiles_m);
        self.by_groups = FastDiv::new(self.groups as u32);
        self.y_vector = i32::from(self.whole_outputs(kernel));
        self.x_vector = i32::from(self.whole_inputs(kernel));
        let tiles_n = u64::from(self.gemm_n.div_ceil(kernel.tile_n));
        tiles_n * self.groups as u64 * u64::from(self.tiles_m)
    }

    /// Returns whether y and residual may be accessed four elements at a time.
    fn whole_outputs(&self, kernel: &Kernel) -> bool {
        let strides = match self.residual {
            0 => self.y_strides,
            _ => self.residual_strides,
        };
        let whole = match kernel.layout {
            Some(Layout::Nhwc) => {
                self.group_k % 4 == 0 && self.y_strides.pixel % 4 == 0 && strides.pixel % 4 == 0
            }
            _ => (self.p as u32 * self.q as u32).is_multiple_of(4),
        };
        let bytes = 4 * kernel.dtype.size() as u64;
        whole
            && self.y_strides.image % 4 == 0
            && strides.image % 4 == 0
            && (self.y | self.residual).is_multiple_of(bytes)
    }

    /// Returns whether x may be read four pixels at a time.
    fn whole_inputs(&self, kernel: &Kernel) -> bool {
        reads_planes(kernel)
            && kernel.layout == Some(Layout::Nchw)
            && (self.stride_h, self.stride_w) == (1, 1)
            && (self.h as u32 * self.width as u32).is_multiple_of(4)
            && self.x_strides.image % 4 == 0
            && self.x.is_multiple_of(4 * kernel.dtype.size() as u64)
    }

    /// Shares the outputs of a depthwise convolution out among threads, from the other fields
    /// (pointers and strides included), which must be set, and returns the number of blocks. The
    /// divisors then mean what the header of `kernels/simt/depthwise.cu` says.
    pub fn schedule_depthwise(&mut self, kernel: &Kernel) -> u64 {
        let strips = (self.p as u32).div_ceil(kernel.tile_m);
        let pixel_units = strips * self.q as u32;
        let images = self.n as u64;
        self.by_q = FastDiv::new(self.q as u32);
        self.by_groups = FastDiv::new(self.group_k as u32);
        if kernel.layout != Some(Layout::Nhwc) {
            (self.x_vector, self.y_vector) = (0, 0);
            self.tiles_m = strips;
            self.by_tiles_m = FastDiv::new(strips);
            self.by_pq = FastDiv::new(self.k as u32 * pixel_units);
            return blocks(
                images * u64::from(self.k as u32 * pixel_units),
                kernel.threads,
            );
        }
        let bytes = 4 * kernel.dtype.size() as u64;
        let residual = if self.residual == 0 {
            self.y_strides
        } else {
            self.residual_strides
        };
        let four = self.group_k == 1
            && self.k % 4 == 0
            && (self.x | self.y | self.residual).is_multiple_of(bytes)
            && whole_strides(&[self.x_strides, self.y_strides, residual], 4);
        (self.x_vector, self.y_vector) = (i32::from(four), i32::from(four));
        let lanes = if four { self.k / 4 } else { self.k } as u32;
        self.tiles_m = lanes.div_ceil(32);
        self.by_tiles_m = FastDiv::new(self.tiles_m);
        self.by_pq = FastDiv::new(pixel_units);
        let pixels_a_block = kernel.threads / lanes.div_ceil(self.tiles_m.max(1)).max(1);
        blocks(images * u64::from(pixel_units), pixels_a_block) * u64::from(self.tiles_m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_is_exact_up_to_the_last_number() {
        let last = (1u32 << 31) - 1;
        let mut divisors: Vec<u32> = (1..600)
            .chain([last, last - 1, 1 << 30, (1 << 30) + 1])
            .collect();
        divisors.extend(
            (0..31).flat_map(|bit| [1u32 << bit, (1u32 << bit) + 1, (1u32 << bit).max(2) - 1]),
        );
        for divisor in divisors {
            let by = FastDiv::new(divisor);
            let multiples =
                [1u32, 2, 3, last / divisor].map(|times| times.saturating_mul(divisor).min(last));
            for n in (0..200)
                .chain(multiples.iter().flat_map(|n| [n.saturating_sub(1), *n]))
                .chain([last - 1, last])
            {
                assert_eq!(by.divide(n), n / divisor, "{n} / {divisor}");
            }
        }
    }

    /// The number of units and the divisors, as the kernel takes a unit apart with them.
    #[test]
    fn units_are_numbered_beyond_31_bits() {
        let apart = |index: u64, [by_image, by_inner, by_middle]: [FastDiv; 3]| {
            let extent = |by: FastDiv| u64::from(by.mul) << 32 | u64::from(by.divisor);
            if by_image.shift == u32::MAX {
                let (rest, inner) = (index / extent(by_inner), index % extent(by_inner));
                let (rest, middle) = (rest / extent(by_middle), rest % extent(by_middle));
                return [
                    rest / extent(by_image),
                    rest % extent(by_image),
                    middle,
                    inner,
                ];
            }
            let index = index as u32;
            let image = by_image.divide(index);
            let rest = index - image * by_image.divisor;
            let outside = by_inner.divide(rest);
            let outer = by_middle.divide(outside);
            let middle = outside - outer * by_middle.divisor;
            let inner = rest - outside * by_inner.divisor;
            [image, outer, middle, inner].map(u64::from)
        };
        for (images, extents) in [
            (1, [3, 5, 7]),
            (1, [1, 1, (1 << 31) - 1]),
            (1, [1, 1, 1 << 31]),
            (2, [1, 1, 1 << 30]),
            (1, [1, 70_000, 70_000]),
            (3, [5, 1, 70_000 * 70_000]),
            (i32::MAX, [1, 1, 1]),
            (i32::MAX, [2, 1, 1]),
        ] {
            let (total, by) = units(images, extents);
            let [outer, middle, inner] = extents;
            assert_eq!(total, images as u64 * outer * middle * inner);
            // Divisions by constants are quicker, and hold below 2^31.
            let wide = by[0].shift == u32::MAX;
            assert_eq!(wide, total >= 1 << 31, "{images} {extents:?}");
            for index in [0, 1, total / 3, total / 2, total - 1] {
                let [image, o, m, i] = apart(index, by);
                assert_eq!(((image * outer + o) * middle + m) * inner + i, index);
                assert!(
                    o < outer && m < middle && i < inner,
                    "{images} of {extents:?}"
                );
            }
        }
    }

    #[test]
    fn division_by_the_length_of_nothing_does_not_fail() {
        assert_eq!(FastDiv::new(0).divisor(), 1);
        assert_eq!(FastDiv::new(u32::MAX).divisor(), (1 << 31) - 1);
    }
}
