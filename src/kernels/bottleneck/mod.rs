//! Acceptance and estimate of the kernels that compute a whole bottleneck.
//!
//! The model is as coarse as the convolutions' (`tensor_cost`): a tile takes the longer of its
//! products, the halo's done again for it included, and of its way from and to the L2 cache, and
//! part of the shorter one. It ranks tiles, and says whether three launches would be faster.

use args::BottleneckArgs;
pub(crate) mod args;

use crate::error::Error;
use crate::kernels::cost::{Score, memory_us, overlapped, resident};
use crate::kernels::operation::Arguments;
use crate::kernels::tensor::alignment_of;
use crate::kernels::tensor_cost::{FINISH, L2_BYTES, START};
use crate::kernels::{Algorithm, DType, Kernel, Layout, Math};
use crate::kernels::{Capability, Limits, Operation, PeakRates, Refusal, Roofline};
use crate::problem::{Added, Bottleneck2d, TensorDesc};

impl Operation for Bottleneck2d {
    const NAME: &'static str = "a bottleneck";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm.bottleneck()
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn macs(&self) -> u64 {
        self.macs()
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes()
    }

    fn with_batch(&self, n: usize) -> Result<Self, Error> {
        self.with_batch(n)
    }

    fn peak_rates(&self) -> PeakRates {
        PeakRates::of_products(self.dtype(), self.math())
    }

    fn math(&self) -> Math {
        self.math()
    }

    fn accepts(&self, kernel: &Kernel) -> Result<(), Refusal> {
        if kernel.stride != 0 && kernel.stride as usize != self.stride() {
            return Err(Refusal::Stride {
                kernel: kernel.stride as usize,
                problem: self.stride(),
            });
        }
        let (mid_channels, most) = (self.mid_channels(), kernel.tile_k as usize);
        if mid_channels > most {
            return Err(Refusal::MidChannels { mid_channels, most });
        }
        let channels = self.c().max(self.k());
        if let Some(most) = kernel
            .max_channels()
            .filter(|&most| channels > most as usize)
        {
            let most = most as usize;
            return Err(Refusal::WideBottleneck { channels, most });
        }
        let (needs, has) = (kernel.vector as usize, x_alignment(self));
        if has < needs {
            return Err(Refusal::Alignment { needs, has });
        }
        Ok(())
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        BottleneckArgs::from(self).set_grid(kernel)
    }

    fn estimate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        if let Some(asked) = limits.split_k.filter(|&split_k| split_k != 1) {
            return Err(Refusal::SplitK { asked, most: 1 });
        }
        // Tiles are counted in 31 bits.
        let (tiles, most) = (self.blocks(kernel), i32::MAX as u64);
        if tiles > most {
            return Err(Refusal::Grid {
                blocks: tiles,
                most,
            });
        }
        Ok(self.score(kernel, device, roofline))
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        let tiles = self.blocks(kernel);
        if tiles == 0 {
            return Score::EMPTY;
        }
        let processors = u64::from(device.sm_count.max(1));
        let resident = resident(kernel, device);
        let blocks_per_sm = tiles.div_ceil(processors);
        let tile = Tile::of(self, kernel);
        let multiply = tile.products / macs_per_clock(kernel, device);
        let arrive = tile.bytes / L2_BYTES;
        // One block alone waits for what it fetches, unless some of its warps do nothing else;
        // several fill each other's gaps.
        let (longer, shorter) = (multiply.max(arrive), multiply.min(arrive));
        let waits = match kernel.algorithm {
            Algorithm::BottleneckWgmma => 0.0,
            _ => 0.5 / resident.min(blocks_per_sm) as f64,
        };
        let each = longer + shorter * (0.1 + waits);
        let once = START + FINISH + tile.weights / L2_BYTES;
        let clocks = blocks_per_sm as f64 * each + once;
        let arithmetic_us = clocks / (f64::from(device.clock_khz.max(1)) * 1e-3);
        let memory_us = memory_us(device, roofline);
        Score {
            us: overlapped(arithmetic_us, memory_us),
            blocks: tiles.min(resident * processors),
            blocks_per_sm,
            tile_efficiency: self.macs() as f64 / (tiles as f64 * tile.products),
            waves: tiles as f64 / (processors * resident) as f64,
            arithmetic_us,
            memory_us,
            ..Score::EMPTY
        }
    }
}

/// Returns whether operands reach the tensor cores as they are, which cut bits off instead of
/// rounding.
pub(super) fn cuts_operands(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::BottleneckWgmma
}

/// Alignment of every run of x that a kernel copies from, in bytes.
pub(crate) fn x_alignment(problem: &Bottleneck2d) -> usize {
    let (x, size) = (problem.input(), problem.dtype().size());
    let within = match problem.layout() {
        Layout::Nhwc => alignment_of(x.channel_pitch(), size).min(alignment_of(x.offset(), size)),
        // A channel's rows, of which a tile may begin anywhere: kernels copy whole vectors around
        // it.
        Layout::Nchw => alignment_of(x.w(), size),
    };
    problem.alignment().min(within)
}

/// Cost of a tile.
struct Tile {
    /// Multiply-adds, padding's included.
    products: f64,
    /// Bytes from and to the L2 cache.
    bytes: f64,
    /// Bytes of the weights, for a block that keeps them.
    weights: f64,
}

impl Tile {
    fn of(problem: &Bottleneck2d, kernel: &Kernel) -> Tile {
        let halo = |outputs: u32| (outputs as usize - 1) * problem.stride() + 3;
        let (p, q) = (kernel.tile_m.max(1), kernel.tile_n.max(1));
        let (inside, outside) = ((p * q) as usize, halo(p) * halo(q));
        // Instructions take 16 pixels and 8 or 16 channels at a time.
        let whole = |n: usize| n.next_multiple_of(16) as f64;
        let mid_channels = f64::from(kernel.tile_k);
        let (c, k) = (whole(problem.c()), whole(problem.k()));
        let products = whole(outside) * mid_channels * c
            + whole(inside) * mid_channels * (9.0 * mid_channels + k);
        let size = problem.dtype().size() as f64;
        let added = match problem.added() {
            Added::Nothing => 0,
            Added::Input | Added::Tensor => inside * problem.k(),
        };
        let moved = outside * problem.c() + inside * problem.k() + added;
        let filters: usize = problem
            .convolutions()
            .iter()
            .map(|conv| conv.filter().elements())
            .sum();
        let weights = filters as f64 * size;
        // They stay where they have room; else every tile fetches them.
        let again = if kernel.streams_filters() || weights > f64::from(kernel.dynamic_shared()) {
            weights
        } else {
            0.0
        };
        Tile {
            products,
            bytes: moved as f64 * size + again,
            weights,
        }
    }
}

/// Multiply-adds per clock of one SM: short products between barriers reach this share of the best
/// programs' rate.
fn macs_per_clock(kernel: &Kernel, device: &Capability) -> f64 {
    let half = device.tensor_rate(kernel.arch);
    match (kernel.algorithm, kernel.dtype) {
        (Algorithm::BottleneckSimt, _) => 0.7 * f64::from(device.fp32_lanes()),
        (_, DType::F32) => 0.6 * half / 2.0,
        _ => 0.6 * half,
    }
}

#[cfg(test)]
mod tests;
