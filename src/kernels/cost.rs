//! A small model of how long a kernel takes: enough to choose a tile, not a prediction to quote.
//!
//! Three figures decide between tiles of the same kernel: (1) the share of padding in the last
//! tiles, (2) the balance of blocks over the SMs and (3) the multiply-adds of a thread per load
//! from shared memory.

use super::capability::Capability;
use super::roofline::{PeakRates, Roofline};
use super::simt::fill_instructions;
use crate::kernels::{Arch, Kernel};

/// The figures by which an accepted kernel was ranked; lower [`Score::us`] is better.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The model's time, in microseconds. It ranks kernels; it is not a prediction to quote.
    pub us: f64,
    /// Blocks of the launch.
    pub blocks: u64,
    /// Blocks that the busiest SM runs one after the other.
    pub blocks_per_sm: u64,
    /// Share of the tiles' work that belongs to the output, not to padding.
    pub tile_efficiency: f64,
    /// Split-K: blocks per output tile.
    pub split_k: u32,
    /// Number of waves; the fraction is the tail.
    pub waves: f64,
    /// Modelled time of the arithmetic and its overhead, in microseconds.
    pub arithmetic_us: f64,
    /// The time of the traffic with device memory, in microseconds; it runs beside the arithmetic.
    pub memory_us: f64,
    /// Time of packing filters first, in microseconds; 0 if none are packed.
    pub pack_us: f64,
    /// Bytes of workspace that the launch needs, or 0.
    pub workspace: u64,
}

impl Score {
    /// The score of a launch without blocks.
    pub(crate) const EMPTY: Score = Score {
        us: 0.0,
        blocks: 0,
        blocks_per_sm: 0,
        tile_efficiency: 1.0,
        split_k: 1,
        waves: 0.0,
        arithmetic_us: 0.0,
        memory_us: 0.0,
        pack_us: 0.0,
        workspace: 0,
    };

    /// The score of a kernel on CUDA cores.
    fn of_cores(
        blocks: u64,
        blocks_per_sm: u64,
        tile_efficiency: f64,
        waves: f64,
        times: [f64; 2],
    ) -> Score {
        let [arithmetic_us, memory_us] = times;
        Score {
            us: overlapped(arithmetic_us, memory_us),
            blocks,
            blocks_per_sm,
            tile_efficiency,
            waves,
            arithmetic_us,
            memory_us,
            ..Score::EMPTY
        }
    }
}

/// Warps that an SM needs to hide the latency of arithmetic: four schedulers with two each.
const WARPS_TO_FILL: f64 = 8.0;

/// A matrix product of `groups` products, each gemm_m x gemm_n x gemm_k.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub groups: u64,
    pub gemm_m: u64,
    pub gemm_n: u64,
    /// Terms per output as the kernel computes them, padding included.
    pub padded_k: u64,
    /// Terms per output.
    pub gemm_k: u64,
}

impl Product {
    /// The score of a tiled kernel on the device.
    pub(super) fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        let (tile_m, tile_n) = (u64::from(kernel.tile_m), u64::from(kernel.tile_n));
        let blocks = self.groups * self.gemm_m.div_ceil(tile_m) * self.gemm_n.div_ceil(tile_n);
        if blocks == 0 {
            return Score::EMPTY;
        }
        let tiled = blocks as f64 * (tile_m * tile_n) as f64 * self.padded_k as f64;
        let real = (self.groups * self.gemm_m * self.gemm_n) as f64 * self.gemm_k as f64;

        let blocks_per_sm = blocks.div_ceil(u64::from(device.sm_count.max(1)));
        // Blocks that share a multiprocessor share its lanes, so only the sum of their work counts;
        // but a few warps alone cannot keep the lanes busy.
        let resident = blocks_per_sm.min(u64::from(kernel.min_blocks.max(1)));
        let warps = resident as f64 * f64::from(kernel.threads) / 32.0;
        let filled = (warps / WARPS_TO_FILL).min(1.0);
        let outputs =
            f64::from(kernel.tile_m) * f64::from(kernel.tile_n) / f64::from(kernel.threads.max(1));
        let arch = if kernel.arch == Arch::Sm75 { 0.97 } else { 1.0 };
        let edges = 1.0 / f64::from(kernel.tile_m) + 1.0 / f64::from(kernel.tile_n);
        let share = 1.0 / (1.0 + 2.0 / outputs.sqrt() + fill_instructions(kernel) * edges);
        let rate = lane_rate(device) * filled * share * arch;
        // A block starts and ends once: its first loads and its stores, about 1.5 us each turn of
        // residents.
        let setup = 1.5 * blocks_per_sm.div_ceil(u64::from(kernel.min_blocks.max(1))) as f64;
        let arithmetic =
            blocks_per_sm as f64 * (tile_m * tile_n) as f64 * self.padded_k as f64 / rate * 1e6;
        let tile_efficiency = if tiled > 0.0 { real / tiled } else { 1.0 };
        let times = [arithmetic + setup, memory_us(device, roofline)];
        Score::of_cores(
            blocks,
            blocks_per_sm,
            tile_efficiency,
            waves(kernel, device, blocks),
            times,
        )
    }
}

/// The score of a kernel that is no matrix product: `work` multiply-adds (or comparisons) in all,
/// in `blocks` blocks.
pub(super) fn streaming(
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
    blocks: u64,
    work: u64,
    cost: f64,
) -> Score {
    if blocks == 0 {
        return Score::EMPTY;
    }
    let blocks_per_sm = blocks.div_ceil(u64::from(device.sm_count.max(1)));
    let warps = blocks_per_sm as f64 * f64::from(kernel.threads) / 32.0;
    let filled = (warps / WARPS_TO_FILL).min(1.0);
    let even = blocks as f64 / (blocks_per_sm * u64::from(device.sm_count.max(1))) as f64;
    let rate = lane_rate(device) * f64::from(device.sm_count) * filled * even;
    let arithmetic = work as f64 * cost / rate * 1e6;
    let times = [arithmetic, memory_us(device, roofline)];
    Score::of_cores(
        blocks,
        blocks_per_sm,
        1.0,
        waves(kernel, device, blocks),
        times,
    )
}

/// Times that the blocks which are meant to run at once fill the device.
fn waves(kernel: &Kernel, device: &Capability, blocks: u64) -> f64 {
    blocks as f64 / (f64::from(kernel.min_blocks.max(1)) * f64::from(device.sm_count.max(1)))
}

/// Arithmetic and memory traffic run side by side, though not perfectly: a tenth of the shorter
/// shows. So kernels that are bound by memory are still told apart.
pub(super) fn overlapped(arithmetic: f64, memory: f64) -> f64 {
    arithmetic.max(memory) + 0.1 * arithmetic.min(memory)
}

/// Occupancy: blocks that an SM holds at once, as far as shared memory and what the kernel was
/// compiled for tell.
pub(crate) fn resident(kernel: &Kernel, device: &Capability) -> u64 {
    // The driver takes 1 KiB per block for itself.
    let room = device.shared_per_sm / (kernel.dynamic_shared() + (1 << 10));
    u64::from(kernel.min_blocks.min(room).max(1))
}

/// Multiply-adds per second of one SM.
fn lane_rate(device: &Capability) -> f64 {
    f64::from(device.fp32_lanes()) * f64::from(device.clock_khz) * 1e3
}

/// Time of the memory traffic, scaled from the H200 to a device with fewer SMs.
pub(super) fn memory_us(device: &Capability, roofline: &Roofline) -> f64 {
    let bytes = PeakRates::H200_FP32.bytes * f64::from(device.sm_count.max(1)) / 132.0;
    roofline.bytes as f64 / bytes * 1e6
}

#[cfg(test)]
mod tests;
