//! The argument struct of the kernels that compute a bottleneck: a mirror of
//! `kernels/bottleneck/args.cuh`, field by field.

use crate::kernels::Kernel;
use crate::kernels::operation::{Arguments, FastDiv, Strides, int, whole_outputs};
use crate::problem::{Bottleneck2d, Conv2d, FilterLayout, PACKED_BYTES};

/// The arguments of every kernel that computes a bottleneck: a mirror of
/// `kernels/bottleneck/args.cuh`, whose comments say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BottleneckArgs {
    pub x: u64,
    pub w: [u64; 3],
    pub bias: [u64; 3],
    pub residual: u64,
    pub y: u64,
    pub x_strides: Strides,
    pub residual_strides: Strides,
    pub y_strides: Strides,
    pub n: i32,
    pub c: i32,
    pub h: i32,
    pub width: i32,
    pub mid_channels: i32,
    pub k: i32,
    pub p: i32,
    pub q: i32,
    pub w1_k: i32,
    pub w1_c: i32,
    pub w2_k: i32,
    pub w2_c: i32,
    pub w2_tap: i32,
    pub w3_k: i32,
    pub w3_c: i32,
    /// Before `set_grid`, which looks at the addresses, what the filters' layout alone permits.
    pub w_vector: i32,
    pub y_vector: i32,
    pub relu: i32,
    pub tiles: u32,
    pub tiles_q: u32,
    pub by_tiles_q: FastDiv,
    pub by_tiles_image: FastDiv,
}

const _: () = assert!(size_of::<BottleneckArgs>() == 9 * 8 + 3 * 16 + 20 * 4 + 2 * 12);

impl From<&Bottleneck2d> for BottleneckArgs {
    fn from(problem: &Bottleneck2d) -> BottleneckArgs {
        let [reduce, middle, expand] = problem.convolutions();
        let [w1_k, w1_c, _] = filter_strides(reduce);
        let [w2_k, w2_c, w2_tap] = filter_strides(middle);
        let [w3_k, w3_c, _] = filter_strides(expand);
        BottleneckArgs {
            x_strides: problem.input().into(),
            residual_strides: problem.residual().map(Strides::from).unwrap_or_default(),
            y_strides: problem.output().into(),
            n: int(problem.n()),
            c: int(problem.c()),
            h: int(problem.h()),
            width: int(problem.w()),
            mid_channels: int(problem.mid_channels()),
            k: int(problem.k()),
            p: int(problem.p()),
            q: int(problem.q()),
            w1_k,
            w1_c,
            w2_k,
            w2_c,
            w2_tap,
            w3_k,
            w3_c,
            w_vector: i32::from(problem.convolutions().iter().all(whole_rows)),
            relu: i32::from(problem.relu()),
            ..BottleneckArgs::default()
        }
    }
}

/// From one filter, channel and tap to the next.
fn filter_strides(conv: &Conv2d) -> [i32; 3] {
    let taps = conv.r() * conv.s();
    match conv.filter_layout() {
        FilterLayout::Kcrs => [conv.group_c() * taps, taps, 1].map(int),
        FilterLayout::Krsc | FilterLayout::Packed => {
            let pitch = conv.filter().pitch();
            [taps * pitch, 1, pitch].map(int)
        }
    }
}

/// Returns whether the channels of a filter's tap are a run of whole 16 bytes, zeros behind the
/// last channel included.
fn whole_rows(conv: &Conv2d) -> bool {
    let one_run = conv.filter_layout() != FilterLayout::Kcrs || conv.r() * conv.s() == 1;
    one_run && (conv.filter().pitch() * conv.dtype().size()).is_multiple_of(PACKED_BYTES)
}

impl Arguments for BottleneckArgs {
    /// Returns the number of tiles; a launch may have fewer blocks.
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let tiles_p = (self.p as u32).div_ceil(kernel.tile_m.max(1));
        self.tiles_q = (self.q as u32).div_ceil(kernel.tile_n.max(1));
        let image = u64::from(tiles_p) * u64::from(self.tiles_q);
        let tiles = image * self.n as u64;
        // Of more there is no launch.
        self.tiles = u32::try_from(tiles).unwrap_or(u32::MAX);
        self.by_tiles_q = FastDiv::new(self.tiles_q);
        self.by_tiles_image = FastDiv::new(u32::try_from(image).unwrap_or(u32::MAX));
        let aligned = self.w.iter().all(|w| w.is_multiple_of(PACKED_BYTES as u64));
        self.w_vector &= i32::from(aligned);
        self.y_vector = i32::from(self.whole_outputs(kernel));
        tiles
    }
}

impl BottleneckArgs {
    /// Returns whether y and residual may be accessed four elements at a time.
    fn whole_outputs(&self, kernel: &Kernel) -> bool {
        let pixels = self.p as u32 * self.q as u32;
        let y = (self.y, self.y_strides);
        let residual = (self.residual, self.residual_strides);
        whole_outputs(kernel, y, residual, &[self.k], pixels)
    }
}
