//! The argument structs of the kernels that normalise over channels: a mirror of
//! `kernels/elementwise/channel_args.cuh`, field by field.

use crate::kernels::args::{VECTOR_BYTES, blocks, units, whole, whole_strides};
use crate::kernels::operation::{Arguments, int};
use crate::kernels::operation::{FastDiv, Strides};
use crate::kernels::{Kernel, Layout};
use crate::problem::{Lrn, Softmax};

/// The arguments of the kernel of the local response normalisation. The comments of
/// `kernels/elementwise/channel_args.cuh` say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LrnArgs {
    pub x: u64,
    pub y: u64,
    pub x_strides: Strides,
    pub y_strides: Strides,
    pub pixels: i64,
    pub n: i32,
    pub c: i32,
    pub size: i32,
    pub before: i32,
    pub scale: f32,
    pub k: f32,
    pub beta: f32,
    /// Filled by [`LrnArgs::schedule`], like all that follows.
    pub vector: i32,
    pub segment: i32,
    pub by_image: FastDiv,
    pub by_inner: FastDiv,
    pub by_middle: FastDiv,
}

const _: () = assert!(size_of::<LrnArgs>() == 16 + 2 * 16 + 8 + 4 * 9 + 3 * 12);

/// The window that the kernel keeps in registers.
const LRN_SIZE: i32 = 5;
/// Threads that fill a large card, 132 multiprocessors of 2048.
const MANY_THREADS: u64 = 132 * 2048;
/// Channels of a segment at least, so that few are loaded twice.
const MIN_SEGMENT: u64 = 16;

impl LrnArgs {
    /// Shares the outputs out among threads, from the other fields, which must be set, and returns
    /// the number of blocks.
    pub fn schedule(&mut self, kernel: &Kernel) -> u64 {
        let vector = VECTOR_BYTES as i64 / kernel.dtype.size() as i64;
        let aligned = (self.x | self.y).is_multiple_of(VECTOR_BYTES);
        let (inner, middle) = match kernel.layout {
            Some(Layout::Nhwc) => {
                let rows = whole(&[i64::from(self.c)], vector)
                    && whole_strides(&[self.x_strides, self.y_strides], vector);
                self.vector = i32::from(aligned && rows && self.size == LRN_SIZE);
                self.segment = self.c;
                (self.c as u64, self.pixels as u64)
            }
            _ => {
                let images = [self.x_strides.image, self.y_strides.image];
                let planes = whole(&[self.pixels], vector) && whole(&images, vector);
                self.vector = i32::from(aligned && planes);
                let lanes = self.pixels as u64 / if self.vector == 1 { vector as u64 } else { 1 };
                let wanted = MANY_THREADS.div_ceil((self.n as u64 * lanes).max(1));
                let channels = self.c as u64;
                let segments = wanted.min(channels.div_ceil(MIN_SEGMENT)).max(1);
                self.segment = channels.div_ceil(segments) as i32;
                let segments = channels.div_ceil(self.segment.max(1) as u64);
                (self.pixels as u64, segments)
            }
        };
        let inner = inner / if self.vector == 1 { vector as u64 } else { 1 };
        let (units, by) = units(self.n, [1, middle, inner]);
        [self.by_image, self.by_inner, self.by_middle] = by;
        blocks(units, kernel.threads)
    }
}

impl From<&Lrn> for LrnArgs {
    fn from(problem: &Lrn) -> LrnArgs {
        let parameters = problem.parameters();
        LrnArgs {
            x_strides: problem.input().into(),
            y_strides: problem.output().into(),
            n: int(problem.input().n()),
            c: int(problem.input().c()),
            pixels: (problem.input().h() * problem.input().w()) as i64,
            size: int(parameters.size),
            before: int(parameters.size / 2),
            scale: (parameters.alpha / parameters.size as f64) as f32,
            k: parameters.k as f32,
            beta: parameters.beta as f32,
            ..LrnArgs::default()
        }
    }
}

impl Arguments for LrnArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        self.schedule(kernel)
    }
}

/// The arguments of the softmax kernel. The comments of `kernels/elementwise/channel_args.cuh` say
/// what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SoftmaxArgs {
    pub x: u64,
    pub y: u64,
    pub x_strides: Strides,
    pub y_strides: Strides,
    pub pixels: i64,
    pub n: i32,
    pub c: i32,
    /// Filled by [`SoftmaxArgs::schedule`], like all that follows.
    pub neighbours: i32,
    pub vector: i32,
    pub team: i32,
    pub by_image: FastDiv,
}

const _: () = assert!(size_of::<SoftmaxArgs>() == 16 + 2 * 16 + 8 + 4 * 5 + 12);

impl SoftmaxArgs {
    /// Shares the rows out among threads, from the other fields, which must be set, and returns the
    /// number of blocks.
    pub fn schedule(&mut self, kernel: &Kernel) -> u64 {
        let (n, pixels) = (self.n as u64, self.pixels as u64);
        let steps = [self.x_strides.channel, self.y_strides.channel];
        self.neighbours = i32::from(steps == [1, 1]);
        if self.neighbours == 0 {
            let tiles = pixels.div_ceil(32);
            self.by_image = FastDiv::new(u32::try_from(tiles).unwrap_or(u32::MAX));
            return n * tiles;
        }
        let vector = VECTOR_BYTES as i64 / kernel.dtype.size() as i64;
        let aligned = (self.x | self.y).is_multiple_of(VECTOR_BYTES);
        let images = [
            i64::from(self.c),
            self.x_strides.image,
            self.y_strides.image,
        ];
        let inside = [self.x_strides.pixel, self.y_strides.pixel].map(i64::from);
        // The distance of two pixels says nothing where there is one.
        let rows = whole(&images, vector) && (pixels == 1 || whole(&inside, vector));
        self.vector = i32::from(aligned && rows);
        // What a warp keeps in registers: four accesses a lane, or eight elements.
        let held = 32 * if self.vector == 1 { 4 * vector } else { 8 };
        self.team = if i64::from(self.c) <= held {
            32
        } else {
            kernel.threads as i32
        };
        self.by_image = FastDiv::new(u32::try_from(pixels).unwrap_or(u32::MAX));
        blocks(n * pixels, kernel.threads / self.team as u32)
    }
}

impl From<&Softmax> for SoftmaxArgs {
    fn from(problem: &Softmax) -> SoftmaxArgs {
        SoftmaxArgs {
            x_strides: problem.input().into(),
            y_strides: problem.output().into(),
            n: int(problem.input().n()),
            c: int(problem.input().c()),
            pixels: (problem.input().h() * problem.input().w()) as i64,
            ..SoftmaxArgs::default()
        }
    }
}

impl Arguments for SoftmaxArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        self.schedule(kernel)
    }
}
