//! From a problem to its kernels' argument structs without pointers, and to their grids.

use super::args::{ConvArgs, FastDiv, PoolArgs, ReluArgs, Strides};
use super::simt::{has_strips, reads_planes};
use crate::kernels::{Kernel, Layout};
use crate::problem::{Conv2d, FilterLayout, Pool2d, PoolKind, Relu, TensorDesc};

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

impl From<&Relu> for ReluArgs {
    fn from(problem: &Relu) -> ReluArgs {
        elementwise(problem.input(), problem.output())
    }
}

/// Two tensors of the same extents as runs of elements.
pub(super) fn elementwise(input: &TensorDesc, output: &TensorDesc) -> ReluArgs {
    let pitch = |desc: &TensorDesc| match desc.layout() {
        Layout::Nchw => (desc.channel_pitch() * desc.h() * desc.w()) as i64,
        Layout::Nhwc => desc.channel_pitch() as i64,
    };
    let length = match output.layout() {
        Layout::Nchw => output.c() * output.h() * output.w(),
        Layout::Nhwc => output.c(),
    };
    ReluArgs {
        elements: output.elements() as i64,
        length: length as i64,
        x_pitch: pitch(input),
        y_pitch: pitch(output),
        ..ReluArgs::default()
    }
}

impl Arguments for ReluArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        self.schedule(kernel)
    }
}
