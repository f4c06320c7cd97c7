//! Acceptance and estimate of the kernels that compute several convolutions in one launch.

use crate::error::Error;
use crate::kernels::filter_rows::{WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
pub(crate) mod args;

use crate::kernels::tensor::{
    alignment_of, channels, packs, steps, tile_efficiency, tiles, whole_split_k, x_alignment,
};
use crate::kernels::tensor_cost::{Tiling, score};
use crate::kernels::{Algorithm, Kernel, Layout, Math};
use crate::kernels::{Capability, Limits, Operation, PeakRates, Refusal, Roofline, Score};
use crate::problem::{Branches, Conv2d, Product, TensorDesc};

/// Largest split-K, unless the limits name another.
const MAX_SPLIT_K: u32 = 16;

/// Divisor of the least traffic: partial tiles, written once and read once, may move at most a
/// fifth of it. So a launch stays within 1.2 times its least, and a module of two within 1.25 times
/// the least of three. Who asks for a number of blocks, or measured one to be faster, gets it.
const PARTIALS_SHARE: u64 = 5;

/// Filters by which a tile's are multiplied: two warps' sixteen. The kernel asserts it, and
/// [`ROW_BYTES`].
const FILTERS: usize = 32;

/// Bytes of a row of channels by which it is multiplied.
const ROW_BYTES: usize = 32;

/// Steps that one of a pooled product takes as long as, where each cell is loaded into shared
/// memory once: the maxima of nine are taken before the tile is multiplied. A guess.
const POOLED_STEP: u32 = 2;

/// The same if nine cells per pixel go through registers: more loads than the rest of a step, most
/// of them from the L1 cache. A guess, too.
const POOLED_SLOW_STEP: u32 = 5;

/// Bytes of a row of cells, pixels or filters in shared memory.
const CELL_BYTES: u32 = 128;

impl Operation for Branches {
    const NAME: &'static str = "several convolutions";

    fn computed_by(algorithm: Algorithm) -> bool {
        algorithm == Algorithm::MmaMultiConv
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> &TensorDesc {
        self.products()[0].merged().output()
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
        if let Some(conv) = self.convolutions().find(|conv| packs(conv, kernel)) {
            return Err(Refusal::UnpackedFilters {
                problem: conv.filter_layout(),
            });
        }
        let each = self.products().iter().map(product_alignment);
        let (needs, has) = (kernel.vector as usize, each.min().unwrap_or(0));
        if has < needs {
            return Err(Refusal::Alignment { needs, has });
        }
        Ok(())
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        self.products()
            .iter()
            .map(|product| tiles(product.merged(), kernel))
            .fold(0, u64::saturating_add)
    }

    fn estimate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        let longest = longest(self, kernel);
        let estimate_split_k =
            |split_k| estimate_split_k(self, kernel, device, roofline, limits, split_k);
        if let Some(asked) = limits.split_k {
            if whole_split_k(longest, asked) != asked {
                let most = longest;
                return Err(Refusal::SplitK { asked, most });
            }
            return estimate_split_k(asked);
        }
        let mut best = estimate_split_k(1);
        for wanted in 2..=MAX_SPLIT_K.min(longest) {
            if whole_split_k(longest, wanted) != wanted
                || partials_moved(self, kernel, wanted) > roofline.bytes / PARTIALS_SHARE
            {
                continue;
            }
            if let (Ok(fewer), Ok(more)) = (&best, estimate_split_k(wanted))
                && more.us < fewer.us
            {
                best = Ok(more);
            }
        }
        best
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        score_of(self, kernel, device, roofline, 1, 0)
    }
}

/// Steps of the product with the longest gemm_k.
fn longest(problem: &Branches, kernel: &Kernel) -> u32 {
    let each = problem.products().iter();
    each.map(|product| steps(product.merged(), kernel))
        .max()
        .unwrap_or(1)
}

/// Split-K of each product, if the one with the longest gemm_k has `split_k`.
pub(crate) fn split_k_of(
    problem: &Branches,
    kernel: &Kernel,
    split_k: u32,
) -> impl Iterator<Item = u32> + Clone {
    let each = longest(problem, kernel).div_ceil(split_k.max(1)).max(1);
    problem.products().iter().map(move |product| {
        let steps = steps(product.merged(), kernel);
        whole_split_k(steps, steps.div_ceil(each))
    })
}

/// Alignment of a product's x, in bytes.
fn product_alignment(product: &Product) -> usize {
    let conv = product.merged();
    match (product.pooling(), conv.layout()) {
        // Its neighbours begin anywhere in a row.
        (Some(_), Layout::Nchw) => conv.dtype().size(),
        (Some(_), Layout::Nhwc) => {
            let (x, size) = (conv.input(), conv.dtype().size());
            let within = alignment_of(x.channel_pitch(), size).min(alignment_of(x.offset(), size));
            conv.alignment().min(within)
        }
        (None, _) => x_alignment(conv),
    }
}

/// Layout of the workspace: counters ([`WORKSPACE_COUNTERS`] bytes), then partial tiles. Returns
/// each product's first counter and first byte of partial tiles, and the bytes in all.
pub(crate) fn partials_layout(
    problem: &Branches,
    kernel: &Kernel,
    split_k: u32,
) -> (Vec<(u64, u64)>, u64) {
    let tile = 4 * u64::from(kernel.tile_m) * u64::from(kernel.tile_n);
    let (mut counter, mut bytes) = (
        0u64,
        WORKSPACE_COUNTERS.next_multiple_of(WORKSPACE_ALIGNMENT),
    );
    let mut places = Vec::new();
    for (product, split_k) in problem
        .products()
        .iter()
        .zip(split_k_of(problem, kernel, split_k))
    {
        places.push((counter, bytes));
        if split_k > 1 {
            let tiles = tiles(product.merged(), kernel);
            counter = counter.saturating_add(tiles);
            let parts = tiles
                .saturating_mul(u64::from(split_k))
                .saturating_mul(tile);
            bytes = bytes.saturating_add(parts);
        }
    }
    let needs = if counter == 0 { 0 } else { bytes };
    (places, needs)
}

/// Bytes that partial tiles move in a launch: those of the workspace, written and read once.
fn partials_moved(problem: &Branches, kernel: &Kernel, split_k: u32) -> u64 {
    let (_, needs) = partials_layout(problem, kernel, split_k);
    let counters = WORKSPACE_COUNTERS.next_multiple_of(WORKSPACE_ALIGNMENT);
    needs.saturating_sub(counters).saturating_mul(2)
}

/// The shares of a product's tiles that are multiplied, along filters and channels: what is beyond
/// the last is left out.
fn multiplied(conv: &Conv2d, kernel: &Kernel) -> [f64; 2] {
    let share = |count: usize, by: usize, tile: u32| {
        let whole = count.next_multiple_of(tile.max(1) as usize);
        count.next_multiple_of(by.max(1)) as f64 / whole.max(1) as f64
    };
    let terms = ROW_BYTES / kernel.dtype.size();
    [
        share(conv.group_k(), FILTERS, kernel.tile_m),
        share(conv.group_c(), terms, kernel.tile_k),
    ]
}

/// Cells for which there is room in place of the stages: those of two steps beside the maxima of
/// one and the filters of two. `CELLS` of mma/pooled_tile.cuh, which asserts it.
fn pooled_cells(kernel: &Kernel) -> u32 {
    let [m, n] = [kernel.tile_m, kernel.tile_n];
    (kernel.stages * (n + m)).saturating_sub(n + 2 * m) / 2
}

/// Steps that one of a pooled product takes as long as: by the kernel's own condition (`run_pooled`
/// of mma/multi_conv.cu).
fn pooled_step(kernel: &Kernel, conv: &Conv2d) -> u32 {
    let row = kernel.tile_k as usize * kernel.dtype.size();
    let copied = kernel.layout == Some(Layout::Nhwc) && kernel.vector == 16;
    let cells = kernel.tile_n as usize + 2 * (conv.input().w() + 1);
    match copied && row == CELL_BYTES as usize && cells <= pooled_cells(kernel) as usize {
        true => POOLED_STEP,
        false => POOLED_SLOW_STEP,
    }
}

fn estimate_split_k(
    problem: &Branches,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
    limits: &Limits,
    split_k: u32,
) -> Result<Score, Refusal> {
    let (_, needs) = partials_layout(problem, kernel, split_k);
    if needs > limits.workspace {
        let most = limits.workspace;
        return Err(Refusal::Workspace { needs, most });
    }
    let counted = problem
        .products()
        .iter()
        .zip(split_k_of(problem, kernel, split_k));
    let tiles = |shared: bool| -> u64 {
        let each = counted
            .clone()
            .map(|(product, split_k)| match (shared, split_k) {
                (true, 1) => 0,
                (true, _) => tiles(product.merged(), kernel),
                (false, split_k) => {
                    tiles(product.merged(), kernel).saturating_mul(u64::from(split_k))
                }
            });
        each.fold(0, u64::saturating_add)
    };
    let most = WORKSPACE_COUNTERS / 4;
    if tiles(true) > most {
        let tiles = tiles(true);
        return Err(Refusal::SplitKTiles { tiles, most });
    }
    let blocks = tiles(false);
    let most = u64::from(device.max_grid_x).min(i32::MAX as u64);
    if blocks > most {
        return Err(Refusal::Grid { blocks, most });
    }
    Ok(score_of(problem, kernel, device, roofline, split_k, needs))
}

/// A product as if it were launched alone.
fn alone(product: &Product, kernel: &Kernel, split_k: u32, workspace: u64) -> Tiling {
    let conv = product.merged();
    let slower = match product.pooling() {
        Some(_) => pooled_step(kernel, conv),
        None => 1,
    };
    let [filters, terms] = multiplied(conv, kernel);
    Tiling {
        tiles: tiles(conv, kernel),
        split_k,
        steps: steps(conv, kernel).saturating_mul(slower),
        channels: channels(conv, kernel),
        filters,
        terms,
        tile_efficiency: 1.0,
        packed_bytes: 0,
        workspace,
    }
}

/// All products, each as [`alone`] has it, as if their sums were of equal length.
fn together(problem: &Branches, kernel: &Kernel, each: &[Tiling], workspace: u64) -> Tiling {
    let (mut blocks, mut all_steps, mut all_channels) = (0u64, 0u64, 0.0);
    let (mut filters, mut terms, mut products) = (0.0, 0.0, 0.0);
    for (product, own) in problem.products().iter().zip(each) {
        let conv = product.merged();
        let taken = own.tiles * u64::from(own.steps);
        blocks += own.tiles * u64::from(own.split_k);
        all_steps += taken;
        all_channels += own.channels * taken as f64;
        filters += own.filters * taken as f64;
        terms += own.filters * own.terms * taken as f64;
        let tile_efficiency = tile_efficiency(conv, kernel, own.tiles, steps(conv, kernel));
        products += conv.macs() as f64 * own.filters * own.terms / tile_efficiency;
    }
    Tiling {
        tiles: blocks,
        split_k: 1,
        steps: all_steps.div_ceil(blocks.max(1)) as u32,
        channels: all_channels / all_steps.max(1) as f64,
        filters: filters / all_steps.max(1) as f64,
        terms: terms / f64::max(filters, f64::MIN_POSITIVE),
        tile_efficiency: problem.macs() as f64 / products.max(1.0),
        packed_bytes: 0,
        workspace,
    }
}

/// The longer of what all blocks together take, as if their sums were of equal length, and what the
/// product with the longest ones would take alone.
fn score_of(
    problem: &Branches,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
    split_k: u32,
    workspace: u64,
) -> Score {
    // Parts of sums come on top of what has to be moved.
    let parts = partials_moved(problem, kernel, split_k);
    let roofline = &Roofline {
        bytes: roofline.bytes.saturating_add(parts),
        ..*roofline
    };
    let split_k_of = split_k_of(problem, kernel, split_k);
    let each: Vec<Tiling> = problem
        .products()
        .iter()
        .zip(split_k_of)
        .map(|(product, split_k)| alone(product, kernel, split_k, workspace))
        .collect();
    let mut longest = Score::EMPTY;
    for tiling in &each {
        let own = score(tiling, kernel, device, roofline);
        if own.us > longest.us {
            longest = own;
        }
    }
    let all = together(problem, kernel, &each, workspace);
    let together = score(&all, kernel, device, roofline);
    Score {
        us: together.us.max(longest.us),
        blocks: all.tiles,
        split_k,
        workspace,
        arithmetic_us: together.arithmetic_us.max(longest.arithmetic_us),
        ..together
    }
}

#[cfg(test)]
mod tests;
