//! Time of a kernel on tensor cores: enough to choose kernel, tile and split-K, not a prediction to
//! quote.
//!
//! A step of a tile takes the longest of its multiplications, its reads of shared memory, its
//! copies from the L2 cache and their instructions. A multiprocessor works on the blocks that it
//! holds side by side, one group of them after another; each group pays once for filling its
//! pipelines and for writing its tiles. Blocks that share a tile write their sums and the last one
//! adds them up.

use super::Capability;
use super::Roofline;
use super::cost::{Score, memory_us, overlapped, resident};
use super::tensor::Copies;
use crate::kernels::{Arch, DType, Kernel, Math};

/// Figures of a problem's tiles, from which the time is modelled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    pub tiles: u64,
    pub split_k: u32,
    /// Steps of a tile, all of split-K together.
    pub steps: u32,
    /// Channels per group that a step loads on average; the rest of a tile's rows is not read.
    pub channels: f64,
    /// Share of the tiles' filters that are loaded and multiplied: below 1 only for kernels that
    /// skip missing filters.
    pub filters: f64,
    /// Share of the steps' terms that are multiplied.
    pub terms: f64,
    pub tile_efficiency: f64,
    /// Bytes of the filters if they are packed first, or 0.
    pub packed_bytes: u64,
    pub workspace: u64,
}

/// Bytes per clock that an SM gets from the L2 cache: about 5.5 TB/s shared by 132 at 1.98 GHz are
/// 21, most rows of x come from neighbours' blocks shortly before and hit better.
pub(super) const L2_BYTES: f64 = 36.0;

/// The same where steps are short and every one reads what its neighbour has read, a tap further
/// on: partly from the L1 cache.
const NEAR_BYTES: f64 = 54.0;

/// Bytes per clock from shared memory.
const SHARED_BYTES: f64 = 128.0;

/// Clocks of a step's barrier.
const BARRIER: f64 = 40.0;

/// Clocks from asking device memory to having it.
const LATENCY: f64 = 800.0;

/// Clocks that a group of blocks takes to start: launch, addresses, the first stage.
pub(super) const START: f64 = 1500.0;

/// Clocks that a tile takes to end beside writing it: barriers, the epilogue's arithmetic.
pub(super) const FINISH: f64 = 600.0;

/// Clocks of a fence, an atomic and the wait for them, with split-K.
const MEETING: f64 = 2000.0;

/// Microseconds of one launch after another in a stream, as the models have it.
pub(crate) const LAUNCH_US: f64 = 2.0;

/// The score of a kernel.
pub(super) fn score(
    work: &Tiling,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
) -> Score {
    let processors = u64::from(device.sm_count.max(1));
    let items = work.tiles * u64::from(work.split_k);
    if items == 0 {
        return Score::EMPTY;
    }
    let resident = resident(kernel, device);
    // The busiest multiprocessor's share.
    let blocks_per_sm = items.div_ceil(processors);
    let step = Step::of(work, kernel, device);
    let steps = f64::from(work.steps.div_ceil(work.split_k));
    let end = finish(kernel, work.split_k);
    let group =
        |blocks: f64| steps * (blocks * step.busy).max(step.alone) + START + FINISH + blocks * end;
    let (groups, rest) = (blocks_per_sm / resident, blocks_per_sm % resident);
    let clocks = if persistent(kernel) {
        // A tile's end is hidden behind the next one's steps; the last one's shows.
        let side_by_side = blocks_per_sm.min(resident) as f64;
        let tiles = blocks_per_sm as f64;
        steps * (tiles * step.busy).max(tiles / side_by_side * step.alone) + START + FINISH + end
    } else {
        let last = if rest > 0 { group(rest as f64) } else { 0.0 };
        groups as f64 * group(resident as f64) + last
    };
    let arithmetic_us = clocks / (f64::from(device.clock_khz.max(1)) * 1e-3);
    let memory_us = memory_us(device, roofline);
    let pack_us = match work.packed_bytes {
        0 => 0.0,
        bytes => {
            let moved = Roofline {
                bytes: 2 * bytes,
                ..Roofline::default()
            };
            LAUNCH_US + super::cost::memory_us(device, &moved)
        }
    };
    let blocks = match persistent(kernel) {
        true => items.min(u64::from(kernel.min_blocks.max(1)) * processors),
        false => items,
    };
    Score {
        us: overlapped(arithmetic_us, memory_us) + pack_us,
        blocks,
        blocks_per_sm,
        tile_efficiency: work.tile_efficiency,
        split_k: work.split_k,
        waves: items as f64 / (processors * resident) as f64,
        arithmetic_us,
        memory_us,
        pack_us,
        workspace: work.workspace,
    }
}

/// Returns whether blocks take one tile after another, the epilogue of one beside the steps of the
/// next.
fn persistent(kernel: &Kernel) -> bool {
    kernel.tensor_traits().persistent
}

/// Clocks of one step of a tile.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Clocks with enough other blocks to fill the gaps.
    busy: f64,
    /// Clocks of a block that runs alone.
    alone: f64,
}

impl Step {
    fn of(work: &Tiling, kernel: &Kernel, device: &Capability) -> Step {
        let [m, n, k] = [kernel.tile_m, kernel.tile_n, kernel.tile_k].map(f64::from);
        let size = kernel.dtype.size() as f64;
        let small_groups = kernel.tensor_traits().small_groups;
        // Elements that a step brings of x, of each group its own, and of w.
        let groups = if small_groups { (m / k).max(1.0) } else { 1.0 };
        let (x, w) = (n * groups * work.channels, m * work.filters * work.channels);
        let multiplied = work.filters * work.terms;
        let warps = f64::from(kernel.threads) / 32.0;
        let multiply = m * n * k * multiplied / macs_per_clock(kernel, device);
        let x_bytes = if small_groups { NEAR_BYTES } else { L2_BYTES };
        let arrive = x * size / x_bytes + w * size / L2_BYTES;
        let (read, convert) = if persistent(kernel) {
            // The tensor cores read shared memory themselves.
            (0.0, 0.0)
        } else {
            // Each warp reads the rows and columns of its part, about a square; of groups each is
            // one warp's.
            let elements = match small_groups {
                true => n * m + m * k,
                false => warps * 2.0 * (m * n / warps).sqrt() * k,
            };
            (
                elements * multiplied * size / SHARED_BYTES,
                elements * multiplied * conversions(kernel) / 64.0,
            )
        };
        let copies = copy_clocks(kernel, x, w * size);
        let parts = [multiply, arrive, read, convert, copies];
        let longest = parts.into_iter().fold(0.0, f64::max);
        let sum: f64 = parts.iter().sum();
        // They run side by side, though not perfectly.
        // wgmma's stages are 128 bytes of channels: narrow blocks come several taps at a time.
        let together = match persistent(kernel) {
            true => (128.0 / (k * size)).max(1.0),
            false => 1.0,
        };
        let busy = longest + 0.1 * (sum - longest) + BARRIER / together;
        let ahead = together * f64::from(kernel.stages.saturating_sub(1).max(1));
        // Four warps hide little of each other's latency, eight most of it.
        let filled = (0.5 + warps / 16.0).min(1.0);
        Step {
            busy,
            alone: (busy / filled).max(LATENCY / ahead),
        }
    }
}

/// Clocks of the instructions that load a step's pixels and filters (`w` bytes) into shared memory.
fn copy_clocks(kernel: &Kernel, x: f64, w: f64) -> f64 {
    // Instructions of a warp for each copy, its address and its bounds included, over four
    // schedulers.
    let filters = w / 16.0 / 32.0 * 2.0;
    let pixels = |bytes: f64, clocks: f64| x * kernel.dtype.size() as f64 / bytes / 32.0 * clocks;
    match kernel.tensor_traits().copies {
        // One thread issues one copy per box.
        Copies::Boxes => 0.0,
        // An entry of a table for each term.
        Copies::Table => filters + pixels(kernel.dtype.size() as f64, 4.0),
        // cp.async has no 2 bytes: through registers, and put together there.
        _ if kernel.vector < 4 => filters + pixels(2.0, 5.0),
        _ => filters + pixels(f64::from(kernel.vector), 2.5),
    }
}

/// Instructions at a quarter of the full rate for each operand of an f32 product.
fn conversions(kernel: &Kernel) -> f64 {
    match kernel.math {
        Math::Strict => 0.0,
        Math::Tf32 => 1.0,
        Math::Tf32x3 => 3.0,
    }
}

/// Clocks of a tile's results: its stores, and with split-K the partial tiles' way through the L2
/// cache.
fn finish(kernel: &Kernel, split_k: u32) -> f64 {
    let sums = f64::from(kernel.tile_m) * f64::from(kernel.tile_n);
    let store = sums * kernel.dtype.size() as f64 / L2_BYTES;
    match split_k {
        0 | 1 => store,
        // Written by each, read by the last to arrive.
        split_k => store + MEETING + sums * 4.0 * (1.0 + f64::from(split_k)) / L2_BYTES,
    }
}

/// Multiply-adds per clock of one SM.
fn macs_per_clock(kernel: &Kernel, device: &Capability) -> f64 {
    let half = device.tensor_rate(kernel.arch);
    match (kernel.dtype, kernel.math) {
        (DType::F32, Math::Tf32x3) => half / 6.0,
        (DType::F32, _) => half / 2.0,
        // Its instruction is half as long, and nothing newer than it was built for that.
        _ if kernel.arch == Arch::Sm75 && device.major > 7 => half / 2.0,
        _ => half,
    }
}

#[cfg(test)]
mod tests;
