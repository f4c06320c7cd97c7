//! Convolutions on CUDA cores: acceptance, estimate, arguments and grid. The arguments mirror
//! `kernels/common/conv_args.cuh`, field by field; those of tensor cores begin with them.

use super::args::{self, whole_strides};
use super::cost::{Product, streaming};
use super::operation::{
    Arguments, ConvArguments, ConvFamily, FastDiv, Strides, int, whole_outputs,
};
use super::tensor::TensorTraits;
use super::{
    Algorithm, Capability, FEW_CHANNELS_MAX_GEMM_K, Kernel, Layout, Limits, Refusal, Roofline,
    Score, estimate_simt,
};
use crate::problem::{Conv2d, FilterLayout};

/// Family of the convolution kernels on CUDA cores.
pub(crate) struct Simt;

impl ConvFamily for Simt {
    fn accepts(&self, problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
        let one_group = || match problem.groups() {
            1 => Ok(()),
            groups => Err(Refusal::OneGroupOnly { groups }),
        };
        match kernel.algorithm {
            Algorithm::Direct => one_group(),
            Algorithm::DirectFewChannels => {
                one_group()?;
                at_most(problem.gemm_k(), FEW_CHANNELS_MAX_GEMM_K as usize)
            }
            Algorithm::Pointwise => {
                one_group()?;
                pointwise(problem)
            }
            Algorithm::Grouped | Algorithm::SmallGroups if problem.groups() == 1 => {
                Err(Refusal::SeveralGroupsOnly)
            }
            Algorithm::Depthwise if problem.group_c() != 1 => Err(Refusal::OneChannelAGroupOnly {
                group_c: problem.group_c(),
            }),
            // One weight per tap, which makes the other two layouts the same.
            Algorithm::Depthwise if problem.filter_layout() == FilterLayout::Packed => {
                Err(Refusal::FilterLayout {
                    problem: FilterLayout::Packed,
                })
            }
            Algorithm::Depthwise => fixed_filter(problem, kernel.tile_k as usize),
            _ => Ok(()),
        }
    }

    fn estimate(
        &self,
        problem: &Conv2d,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        estimate_simt(problem, kernel, device, roofline, limits)
    }

    fn arguments(&self, problem: &Conv2d, _: &Kernel, _: u32) -> ConvArguments {
        ConvArguments::Simt(ConvArgs::from(problem))
    }

    fn tensor_traits(&self, _: &Kernel) -> TensorTraits {
        TensorTraits::default()
    }
}

/// Blocks of a launch.
pub(super) fn blocks(problem: &Conv2d, kernel: &Kernel) -> u64 {
    ConvArgs::from(problem).set_grid(kernel)
}

/// Instructions that load one element into shared memory. A multiply-add of the tile needs
/// `1/tile_m + 1/tile_n` elements; from there a thread that keeps `outputs` sums, a square of them,
/// fetches 2 / sqrt(outputs) values for each.
pub(super) fn fill_instructions(kernel: &Kernel) -> f64 {
    match kernel.algorithm {
        // No bounds in the image, no taps.
        Algorithm::Pointwise => 2.0,
        // An entry of a table for each term.
        Algorithm::DirectFewChannels => 5.0,
        _ => 4.0,
    }
}

/// Returns whether a kernel reads pixels as they follow each other in a plane.
pub(super) fn reads_planes(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::Pointwise
}

/// Returns whether a kernel's blocks are strips of output rows, not tiles of a matrix product.
pub(super) fn has_strips(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::Depthwise
}

/// The estimate of a kernel's time.
pub(super) fn score(
    problem: &Conv2d,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
) -> Score {
    let tile_k = u64::from(kernel.tile_k.max(1));
    let taps = (problem.r() * problem.s()) as u64;
    let channels = problem.group_c() as u64;
    let product = |padded_k| Product {
        groups: problem.groups() as u64,
        gemm_m: problem.group_k() as u64,
        gemm_n: problem.gemm_n() as u64,
        gemm_k: taps * channels,
        padded_k,
    };
    match kernel.algorithm {
        Algorithm::DirectFewChannels => {
            product((taps * channels).next_multiple_of(tile_k)).score(kernel, device, roofline)
        }
        Algorithm::SmallGroups => {
            // Filters beyond the group's last are computed too. Two instructions for a
            // multiply-add: x comes straight from memory, for the filters of one tile.
            let filters = (problem.group_k() as u64).next_multiple_of(u64::from(kernel.tile_m));
            let work = (problem.macs() / problem.group_k() as u64).saturating_mul(filters);
            // With one channel per group finding the few terms outweighs them: the emulator
            // counted 248 instructions for a multiplication, where the depthwise kernels take
            // 10.
            let cost = if problem.group_c() == 1 { 31.0 } else { 2.0 };
            streaming(
                kernel,
                device,
                roofline,
                blocks(problem, kernel),
                work,
                cost,
            )
        }
        Algorithm::Depthwise => {
            // No tile is shared: a multiply-add costs loads of its own, about three
            // instructions in all; two where the kernel keeps a known filter in registers and
            // reuses each input row.
            let cost = if kernel.tile_k > 1 { 2.0 } else { 3.0 };
            streaming(
                kernel,
                device,
                roofline,
                blocks(problem, kernel),
                problem.macs(),
                cost,
            )
        }
        _ => product(taps * channels.next_multiple_of(tile_k)).score(kernel, device, roofline),
    }
}

fn at_most(terms: usize, most: usize) -> Result<(), Refusal> {
    if terms > most {
        Err(Refusal::SumTooLong { terms, most })
    } else {
        Ok(())
    }
}

/// The depthwise modules that are made for `size` x `size` filters; 1 stands for any.
fn fixed_filter(problem: &Conv2d, size: usize) -> Result<(), Refusal> {
    let (stride, dilation) = (problem.stride()[0], problem.dilation()[0]);
    let fits = (problem.r(), problem.s()) == (size, size) && stride <= 2 && dilation == 1;
    if size <= 1 || fits {
        return Ok(());
    }
    Err(Refusal::FixedFilter {
        size,
        r: problem.r(),
        s: problem.s(),
        stride,
        dilation,
    })
}

fn pointwise(problem: &Conv2d) -> Result<(), Refusal> {
    if (problem.r(), problem.s()) != (1, 1) {
        return Err(Refusal::PointwiseOnly {
            r: problem.r(),
            s: problem.s(),
        });
    }
    let sides = problem.padding();
    let padding = sides.top.max(sides.bottom).max(sides.left).max(sides.right);
    if padding > 0 {
        Err(Refusal::Padded { padding })
    } else {
        Ok(())
    }
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
        let pixels = self.p as u32 * self.q as u32;
        let y = (self.y, self.y_strides);
        let residual = (self.residual, self.residual_strides);
        whole_outputs(kernel, y, residual, &[self.group_k], pixels)
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
    /// divisors then mean what the header of `kernels/simt/depthwise.cu` states.
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
            return args::blocks(
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
        args::blocks(images * u64::from(pixel_units), pixels_a_block) * u64::from(self.tiles_m)
    }
}

#[cfg(test)]
mod tests;
