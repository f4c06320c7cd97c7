//! The argument structs of ReLU, the scaled hyperbolic tangent and LeNet-5's subsampling: a mirror
//! of `kernels/elementwise/args.cuh` and `kernels/pool/args.cuh`, field by field.

use crate::kernels::args::{VECTOR_BYTES, blocks, units, whole, whole_strides};
use crate::kernels::operation::{Arguments, FastDiv, Strides, int};
use crate::kernels::{Kernel, Layout};
use crate::problem::{Activation, Relu, Subsample, Tanh, TensorDesc};

/// The arguments of the ReLU kernel: both tensors are `elements / length` runs of `length`
/// elements, a pitch apart.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReluArgs {
    pub x: u64,
    pub y: u64,
    pub elements: i64,
    pub length: i64,
    pub x_pitch: i64,
    pub y_pitch: i64,
    /// Filled by [`ReluArgs::schedule`], like what follows.
    pub vector: i32,
    pub by_length: FastDiv,
}

const _: () = assert!(size_of::<ReluArgs>() == 16 + 4 * 8 + 4 + 12);

impl ReluArgs {
    /// Chooses the accesses from the other fields, which must be set, and returns the number of
    /// blocks.
    pub fn schedule(&mut self, kernel: &Kernel) -> u64 {
        let vector = VECTOR_BYTES as i64 / kernel.dtype.size() as i64;
        if self.x_pitch == self.length && self.y_pitch == self.length {
            // No gaps: a single run.
            self.length = self.elements;
        }
        let aligned = (self.x | self.y).is_multiple_of(VECTOR_BYTES);
        let one_run = self.length == self.elements;
        self.vector = i32::from(
            aligned && (one_run || whole(&[self.length, self.x_pitch, self.y_pitch], vector)),
        );
        self.by_length = FastDiv::new(self.length.min(i64::from(u32::MAX >> 1)) as u32);
        blocks(self.elements as u64, kernel.tile_n)
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

/// The arguments of the kernel of the scaled hyperbolic tangent.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TanhArgs {
    pub run: ReluArgs,
    pub amplitude: f32,
    pub slope: f32,
}

/// The arguments of the subsampling kernels. The comments of `kernels/pool/args.cuh` say what
/// each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubsampleArgs {
    pub x: u64,
    pub coefficient: u64,
    pub bias: u64,
    pub y: u64,
    pub x_strides: Strides,
    pub y_strides: Strides,
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
    pub divisor: f32,
    pub activation: i32,
    pub amplitude: f32,
    pub slope: f32,
    /// Filled by [`SubsampleArgs::schedule`], like all that follows.
    pub vector: i32,
    pub by_image: FastDiv,
    pub by_inner: FastDiv,
    pub by_middle: FastDiv,
}

const _: () = assert!(size_of::<TanhArgs>() == size_of::<ReluArgs>() + 8);
const _: () = assert!(size_of::<SubsampleArgs>() == 32 + 2 * 16 + 4 * 15 + 3 * 12);

impl From<&Tanh> for TanhArgs {
    fn from(problem: &Tanh) -> TanhArgs {
        TanhArgs {
            run: elementwise(problem.input(), problem.output()),
            amplitude: problem.scale()[0] as f32,
            slope: problem.scale()[1] as f32,
        }
    }
}

impl Arguments for TanhArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        self.run.schedule(kernel)
    }
}

impl SubsampleArgs {
    /// Shares the outputs out among threads, from the other fields, which must be set, and returns
    /// the number of blocks.
    pub fn schedule(&mut self, kernel: &Kernel) -> u64 {
        let vector = VECTOR_BYTES as i64 / kernel.dtype.size() as i64;
        let (inner, middle, outer) = match kernel.layout {
            Some(Layout::Nhwc) => {
                let operands = self.x | self.coefficient | self.bias | self.y;
                let rows = whole(&[i64::from(self.c)], vector)
                    && whole_strides(&[self.x_strides, self.y_strides], vector);
                self.vector = i32::from(operands.is_multiple_of(VECTOR_BYTES) && rows);
                let channels = if self.vector == 1 { vector as i32 } else { 1 };
                (self.c / channels, self.q, self.p)
            }
            _ => {
                self.vector = 0;
                (self.q, self.p, self.c)
            }
        };
        let (units, by) = units(self.n, [outer, middle, inner].map(|extent| extent as u64));
        [self.by_image, self.by_inner, self.by_middle] = by;
        blocks(units, kernel.threads)
    }
}

impl From<&Subsample> for SubsampleArgs {
    fn from(problem: &Subsample) -> SubsampleArgs {
        let (input, output) = (problem.input(), problem.output());
        let (activation, amplitude, slope) = match problem.activation() {
            Activation::Identity => (0, 1.0, 1.0),
            Activation::Relu => (1, 1.0, 1.0),
            Activation::Tanh { amplitude, slope } => (2, amplitude as f32, slope as f32),
        };
        SubsampleArgs {
            x_strides: input.into(),
            y_strides: output.into(),
            n: int(input.n()),
            c: int(input.c()),
            h: int(input.h()),
            width: int(input.w()),
            p: int(problem.p()),
            q: int(problem.q()),
            r: int(problem.window().kernel[0]),
            s: int(problem.window().kernel[1]),
            stride_h: int(problem.window().stride[0]),
            stride_w: int(problem.window().stride[1]),
            divisor: problem.divisor() as f32,
            activation,
            amplitude,
            slope,
            ..SubsampleArgs::default()
        }
    }
}

impl Arguments for SubsampleArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        self.schedule(kernel)
    }
}
