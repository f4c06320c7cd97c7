//! The argument struct of the kernels on tensor cores by `mma.sync`: a mirror of
//! `kernels/common/tensor_args.cuh`.

use super::operation::FastDiv;
use super::operation::{Arguments, int};
use super::simt::ConvArgs;
use super::tensor::{steps, whole_split_k};
use crate::kernels::FilterRows;
use crate::kernels::Kernel;
use crate::problem::Conv2d;

/// The arguments of every `mma.sync` kernel. The comments of `kernels/common/tensor_args.cuh` say
/// what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TensorArgs {
    pub conv: ConvArgs,
    pub partials: u64,
    pub counters: u64,
    pub split_k: i32,
    pub steps: i32,
    pub steps_per_split: i32,
    pub w_channels: i32,
    pub tiles: u32,
    pub by_split_k: FastDiv,
}

const _: () = assert!(size_of::<TensorArgs>() == size_of::<ConvArgs>() + 48);

impl TensorArgs {
    /// Everything but the pointers, and what [`Arguments::set_grid`] fills in.
    pub(crate) fn new(problem: &Conv2d, kernel: &Kernel, split_k: u32) -> TensorArgs {
        let rows = FilterRows::of(problem, kernel);
        let taps = problem.r() * problem.s();
        let mut conv = ConvArgs::from(problem);
        let [w_k, w_tap, w_c] = match kernel.tensor_traits().all_taps {
            true => [rows.pitch, problem.group_c(), 1],
            false => [taps * rows.pitch, rows.pitch, 1],
        };
        (conv.w_k, conv.w_tap, conv.w_c) = (int(w_k), int(w_tap), int(w_c));
        let steps = steps(problem, kernel);
        let split_k = whole_split_k(steps, split_k);
        TensorArgs {
            conv,
            split_k: int(split_k as usize),
            steps: int(steps as usize),
            steps_per_split: int(steps.div_ceil(split_k) as usize),
            w_channels: int(rows.pitch),
            by_split_k: FastDiv::new(split_k),
            ..TensorArgs::default()
        }
    }
}

impl Arguments for TensorArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let mut tiles = self.conv.set_grid(kernel);
        if kernel.tensor_traits().small_groups {
            // A tile has several groups, and counts as one.
            let groups = (kernel.tile_m / kernel.tile_k.max(1)).max(1);
            self.conv.tiles_m = (self.conv.groups as u32).div_ceil(groups);
            self.conv.by_tiles_m = FastDiv::new(self.conv.tiles_m);
            self.conv.by_groups = FastDiv::new(1);
            let tiles_n = self.conv.gemm_n.div_ceil(kernel.tile_n);
            tiles = u64::from(tiles_n) * u64::from(self.conv.tiles_m);
        }
        // Of more there is no launch: the blocks would be too many as well.
        self.tiles = u32::try_from(tiles).unwrap_or(u32::MAX);
        tiles * self.split_k as u64
    }
}
