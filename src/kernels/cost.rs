//! Capability of a device, roofline of a problem, and a small model of how long a kernel takes:
//! enough to choose a tile, not a prediction to quote.
//!
//! Three figures decide between tiles of the same kernel: (1) the share of padding in the last
//! tiles, (2) the balance of blocks over the SMs and (3) the multiply-adds of a thread per load
//! from shared memory.

use std::fmt;
use std::ops::Add;

use super::simt::fill_instructions;
use crate::kernels::{Arch, DType, Kernel, Math};

/// Figures of a device that decide which kernels it runs, and how fast.
///
/// Pure data: [`Gpu::capability`](crate::device::Gpu::capability) fills it in from a device, and
/// the constructors here let a plan be made, printed and tested where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Capability {
    /// Compute capability, major number.
    pub major: u32,
    /// Compute capability, minor number.
    pub minor: u32,
    /// Number of SMs.
    pub sm_count: u32,
    /// Shared memory that a block may have without asking for more, in bytes.
    pub shared_per_block: u32,
    /// Shared memory that a block may have at most, in bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory per SM, in bytes.
    pub shared_per_sm: u32,
    /// 32-bit registers per SM.
    pub registers_per_sm: u32,
    /// Threads that an SM holds at most.
    pub max_threads_per_sm: u32,
    /// Threads that a block may have at most.
    pub max_threads_per_block: u32,
    /// Blocks along x that a launch may have at most.
    pub max_grid_x: u32,
    /// Highest clock of the SMs, in kHz.
    pub clock_khz: u32,
}

impl Capability {
    /// A Tesla T4: compute capability 7.5.
    pub const fn sm75() -> Capability {
        Capability {
            major: 7,
            minor: 5,
            sm_count: 40,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 64 << 10,
            shared_per_sm: 64 << 10,
            registers_per_sm: 64 << 10,
            max_threads_per_sm: 1024,
            max_threads_per_block: 1024,
            max_grid_x: i32::MAX as u32,
            clock_khz: 1_590_000,
        }
    }

    /// An A100: compute capability 8.0.
    pub const fn sm80() -> Capability {
        Capability {
            major: 8,
            minor: 0,
            sm_count: 108,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 163 << 10,
            shared_per_sm: 164 << 10,
            registers_per_sm: 64 << 10,
            max_threads_per_sm: 2048,
            max_threads_per_block: 1024,
            max_grid_x: i32::MAX as u32,
            clock_khz: 1_410_000,
        }
    }

    /// An H200: compute capability 9.0.
    pub const fn h200() -> Capability {
        Capability {
            major: 9,
            minor: 0,
            sm_count: 132,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 227 << 10,
            shared_per_sm: 228 << 10,
            registers_per_sm: 64 << 10,
            max_threads_per_sm: 2048,
            max_threads_per_block: 1024,
            max_grid_x: i32::MAX as u32,
            clock_khz: 1_980_000,
        }
    }

    /// Compute capability as (major, minor), which compares as capabilities do.
    pub const fn version(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// Returns whether the device runs modules of `arch`.
    pub fn runs(&self, arch: Arch) -> bool {
        arch.runs_on(self.version())
    }

    /// Multiply-adds of 16-bit numbers per clock that the tensor cores of one SM do for kernels of
    /// `arch`, as far as the best programs get: of an H200's 2048 1511 (790 TFLOP/s) by `wgmma` and
    /// 63% of that by `mma.sync`.
    #[doc(hidden)]
    pub fn tensor_rate(&self, arch: Arch) -> f64 {
        match (self.major, self.minor, arch) {
            (9, 0, Arch::Sm90a) => 1511.0,
            (9, _, _) | (10, _, _) => 952.0,
            (8, 0, _) => 1024.0,
            // 7.5, and the 8.x and 12.x of graphics cards.
            _ => 512.0,
        }
    }

    /// FP32 lanes per SM: fused multiply-adds per clock.
    pub(crate) const fn fp32_lanes(&self) -> u32 {
        match (self.major, self.minor) {
            (..=7, _) | (8, 0) => 64,
            _ => 128,
        }
    }

    /// Peak rate of FP32 fused multiply-adds, a multiply-add counted as two operations, in
    /// operations per second.
    #[cfg(test)]
    pub(crate) fn fp32_peak(&self) -> f64 {
        2.0 * f64::from(self.fp32_lanes())
            * f64::from(self.sm_count)
            * f64::from(self.clock_khz)
            * 1e3
    }
}

/// Peak rates of a card, as measured by the best programs for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakRates {
    /// Operations per second; a multiply-add counts as two.
    pub flops: f64,
    /// Device-memory bytes per second.
    pub bytes: f64,
}

impl PeakRates {
    /// An H200's CUDA cores in f32: 67 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_FP32: PeakRates = PeakRates {
        flops: 67e12,
        bytes: 4.3e12,
    };

    /// An H200's tensor cores in bf16 or f16: 790 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_TENSOR: PeakRates = PeakRates {
        flops: 790e12,
        bytes: 4.3e12,
    };

    /// An H200's tensor cores in tf32: 417 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_TF32: PeakRates = PeakRates {
        flops: 417e12,
        bytes: 4.3e12,
    };

    /// An H200's tensor cores with three products in tf32 for one: 139 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_TF32X3: PeakRates = PeakRates {
        flops: 139e12,
        bytes: 4.3e12,
    };

    /// Peak rates of an H200 for a convolution stored as `dtype` and multiplied in the mode `math`:
    /// the one table of them, which planner, roofline and benchmarks share. They are what the best
    /// published programs reach: 790 TFLOP/s of dense bf16, 67 TFLOP/s of f32 and 4.3 TB/s; tf32
    /// comes from its measured machine balance, 97 FLOP per byte.
    #[doc(hidden)]
    pub const fn of_products(dtype: DType, math: Math) -> PeakRates {
        match (dtype, math) {
            (DType::F32, Math::Strict) => PeakRates::H200_FP32,
            (DType::F32, Math::Tf32x3) => PeakRates::H200_TF32X3,
            (DType::F32, Math::Tf32) => PeakRates::H200_TF32,
            (DType::F16 | DType::Bf16, _) => PeakRates::H200_TENSOR,
        }
    }

    /// Peak rates of an H200 for elements stored as `dtype`: tensor cores if they take the type.
    pub const fn h200(dtype: DType) -> PeakRates {
        PeakRates::of_products(dtype, Math::Strict)
    }

    /// The bound of a launch that does `macs` multiply-adds and moves `bytes`.
    pub fn bound(&self, macs: u64, bytes: u64) -> Roofline {
        let compute_us = 2.0 * macs as f64 / self.flops * 1e6;
        let memory_us = bytes as f64 / self.bytes * 1e6;
        Roofline {
            macs,
            bytes,
            compute_us,
            memory_us,
            floor_us: compute_us.max(memory_us),
        }
    }
}

/// The longer one of the two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Arithmetic takes longer.
    Compute,
    /// Memory takes longer.
    Memory,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Compute => "arithmetic",
            Bound::Memory => "memory",
        })
    }
}

/// The least time of a launch, or of several one after the other (they add up).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Roofline {
    /// Multiply-adds.
    pub macs: u64,
    /// Bytes from and to device memory: each operand once.
    pub bytes: u64,
    /// Time of the arithmetic alone, in microseconds.
    pub compute_us: f64,
    /// Time of the memory traffic alone, in microseconds.
    pub memory_us: f64,
    /// The floor, in microseconds: for one launch the longer of the two, for several the sum of
    /// their floors.
    pub floor_us: f64,
}

impl Roofline {
    /// Bound that takes longer.
    pub fn bound(&self) -> Bound {
        if self.compute_us >= self.memory_us {
            Bound::Compute
        } else {
            Bound::Memory
        }
    }
}

impl Add for Roofline {
    type Output = Roofline;

    fn add(self, other: Roofline) -> Roofline {
        Roofline {
            macs: self.macs.saturating_add(other.macs),
            bytes: self.bytes.saturating_add(other.bytes),
            compute_us: self.compute_us + other.compute_us,
            memory_us: self.memory_us + other.memory_us,
            floor_us: self.floor_us + other.floor_us,
        }
    }
}

impl std::iter::Sum for Roofline {
    fn sum<I: Iterator<Item = Roofline>>(launches: I) -> Roofline {
        launches.fold(Roofline::default(), Add::add)
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} us, bound by {} (arithmetic {:.2} us for {} multiply-adds, memory {:.2} us for \
             {} bytes)",
            self.floor_us,
            self.bound(),
            self.compute_us,
            self.macs,
            self.memory_us,
            self.bytes
        )
    }
}

/// The figures by which an accepted kernel was ranked; lower [`Score::us`] is better.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The model's time, in microseconds, multiplied by the family's factor where the plan was made
    /// with one. It ranks kernels; it is not a prediction to quote.
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
