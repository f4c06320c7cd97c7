//! The argument struct of the poolings: a mirror of `kernels/pool/args.cuh`, field by field; its
//! grid.

use super::takes_planes;
use crate::kernels::args::{VECTOR_BYTES, blocks, units, whole, whole_strides};
use crate::kernels::operation::{Arguments, FastDiv, Strides, int};
use crate::kernels::{Kernel, Layout};
use crate::problem::{Pool2d, PoolKind, TensorDesc};

/// The arguments of the windowed and the global pooling kernels. The comments of
/// `kernels/pool/args.cuh` say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolArgs {
    pub x: u64,
    pub y: u64,
    pub indices: u64,
    pub x_strides: Strides,
    pub y_strides: Strides,
    pub index_strides: Strides,
    pub n: i32,
    pub c: i32,
    pub h: i32,
    pub width: i32,
    pub p: i32,
    pub q: i32,
    pub r: i32,
    pub s: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_top: i32,
    pub pad_left: i32,
    pub pad_bottom: i32,
    pub pad_right: i32,
    pub dilation_h: i32,
    pub dilation_w: i32,
    pub count_include_pad: i32,
    pub divisor_override: i32,
    pub adaptive: i32,
    pub maximum: i32,
    /// Filled by [`PoolArgs::schedule`], like all that follows.
    pub vector: i32,
    pub team: i32,
    pub by_image: FastDiv,
    pub by_inner: FastDiv,
    pub by_middle: FastDiv,
}

const _: () = assert!(size_of::<PoolArgs>() == 24 + 3 * 16 + 4 * 22 + 3 * 12 + 4);

impl PoolArgs {
    /// Shares the outputs out among threads, from the other fields, which must be set, and returns
    /// the number of blocks.
    pub fn schedule(&mut self, kernel: &Kernel) -> u64 {
        let layout = kernel.layout.unwrap_or(Layout::Nchw);
        let vector = VECTOR_BYTES as i64 / kernel.dtype.size() as i64;
        // One byte an element there, read and written `vector` at a time as well.
        let aligned = (self.x | self.y).is_multiple_of(VECTOR_BYTES)
            && self.indices.is_multiple_of(vector as u64);
        if takes_planes(kernel) {
            self.schedule_global(kernel, layout, vector, aligned)
        } else {
            self.schedule_windowed(kernel, layout, vector, aligned)
        }
    }

    fn schedule_windowed(
        &mut self,
        kernel: &Kernel,
        layout: Layout,
        vector: i64,
        aligned: bool,
    ) -> u64 {
        let strips = (self.p as u32).div_ceil(kernel.tile_m.max(1));
        let (inner, middle, outer) = match layout {
            Layout::Nchw => {
                self.vector = 0;
                (self.q as u32, strips, self.c as u32)
            }
            Layout::Nhwc => {
                self.vector = i32::from(
                    aligned
                        && whole(&[i64::from(self.c)], vector)
                        && whole_strides(&[self.x_strides, self.y_strides], vector),
                );
                let lanes = if self.vector == 1 {
                    self.c / vector as i32
                } else {
                    self.c
                };
                (lanes as u32, self.q as u32, strips)
            }
        };
        let (units, by) = units(self.n, [outer, middle, inner].map(u64::from));
        [self.by_image, self.by_inner, self.by_middle] = by;
        blocks(units, kernel.threads)
    }

    fn schedule_global(
        &mut self,
        kernel: &Kernel,
        layout: Layout,
        vector: i64,
        aligned: bool,
    ) -> u64 {
        let pixels = i64::from(self.h) * i64::from(self.width);
        let channels = i64::from(self.c);
        match layout {
            Layout::Nchw => {
                let aligned = self.x.is_multiple_of(VECTOR_BYTES);
                self.vector = i32::from(aligned && whole(&[pixels, self.x_strides.image], vector));
                // A warp is enough for what a few loads a lane fetch.
                self.team = if pixels <= 32 * 64 {
                    32
                } else {
                    kernel.threads as i32
                };
                self.by_image = FastDiv::new(self.c as u32);
                blocks(
                    self.n as u64 * self.c as u64,
                    kernel.threads / self.team as u32,
                )
            }
            Layout::Nhwc => {
                self.vector = i32::from(
                    aligned
                        && whole(&[channels], vector)
                        && whole_strides(&[self.x_strides, self.y_strides], vector),
                );
                let lanes = if self.vector == 1 {
                    channels / vector
                } else {
                    channels
                } as u32;
                self.team = lanes.next_power_of_two().min(32) as i32;
                let tiles = lanes.div_ceil(self.team as u32);
                self.by_image = FastDiv::new(tiles);
                self.n as u64 * u64::from(tiles)
            }
        }
    }
}

impl From<&Pool2d> for PoolArgs {
    fn from(problem: &Pool2d) -> PoolArgs {
        let (padding, output) = (problem.padding(), problem.output());
        let mut args = PoolArgs {
            x_strides: problem.input().into(),
            y_strides: output.into(),
            index_strides: dense(output),
            n: int(problem.n()),
            c: int(problem.c()),
            h: int(problem.h()),
            width: int(problem.w()),
            p: int(problem.p()),
            q: int(problem.q()),
            r: int(problem.r()),
            s: int(problem.s()),
            stride_h: int(problem.stride()[0]),
            stride_w: int(problem.stride()[1]),
            pad_top: int(padding.top),
            pad_left: int(padding.left),
            pad_bottom: int(padding.bottom),
            pad_right: int(padding.right),
            dilation_h: int(problem.dilation()[0]),
            dilation_w: int(problem.dilation()[1]),
            ..PoolArgs::default()
        };
        match problem.kind() {
            PoolKind::Max { .. } | PoolKind::GlobalMax => args.maximum = 1,
            PoolKind::Average {
                count_include_pad,
                divisor_override,
            } => {
                args.count_include_pad = i32::from(count_include_pad);
                args.divisor_override = divisor_override.unwrap_or(0);
            }
            PoolKind::AdaptiveAverage { .. } => args.adaptive = 1,
            PoolKind::GlobalAverage => {}
        }
        args
    }
}

/// The strides of the indices: the output's order without its gaps.
fn dense(output: &TensorDesc) -> Strides {
    let (c, plane) = (output.c() as i64, (output.h() * output.w()) as i64);
    match output.layout() {
        Layout::Nchw => Strides {
            image: c * plane,
            channel: plane.min(i64::from(i32::MAX)) as i32,
            pixel: 1,
        },
        Layout::Nhwc => Strides {
            image: c * plane,
            channel: 1,
            pixel: c as i32,
        },
    }
}

impl Arguments for PoolArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        self.schedule(kernel)
    }
}
