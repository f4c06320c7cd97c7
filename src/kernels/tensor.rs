//! The convolution kernels on tensor cores: their traits, acceptance, and split-K.

use super::filter_rows::{FilterRows, WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
use super::tensor_cost::{Tiling, score};
use super::{Capability, Limits, Refusal, Roofline, Score};
use crate::kernels::{Kernel, Layout};
use crate::problem::{Conv2d, FilterLayout, PACKED_BYTES};

/// Kind of copies by which a kernel loads the pixels of a tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Vectors of [`Kernel::vector`] bytes.
    #[default]
    Vectors,
    /// Elements, each by an entry of a table of terms.
    Table,
    /// Boxes by TMA: one thread issues one copy.
    Boxes,
}

/// The differences between kernels on tensor cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TensorTraits {
    /// gemm_k runs through taps and channels in one go, and a row of filters has all taps.
    pub all_taps: bool,
    /// Several groups share a tile, [`Kernel::tile_k`] channels and filters each.
    pub small_groups: bool,
    /// Kind of copies that load x into shared memory.
    pub copies: Copies,
    /// Blocks take one tile after another, the epilogue of one beside the steps of the next.
    pub persistent: bool,
    /// Operands reach the tensor cores as they are, which cut bits off instead of rounding.
    pub cuts_operands: bool,
}

/// The rounding of a kernel, of which a bound on its error is made.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// Products are added by instructions of the tensor cores, which cut.
    pub tensor: bool,
    /// An instruction adds products of several taps.
    pub all_taps: bool,
    /// Operands are cut to tf32, not rounded.
    pub cuts_operands: bool,
}

/// The largest split-K factor that is tried (split-K: several blocks compute one output tile),
/// unless the limits name one: each partial tile is written and read again.
const MAX_SPLIT_K: u32 = 16;

/// Checks whether x may be copied as many bytes at a time as the kernel does.
pub(super) fn aligned(problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
    let needs = kernel.x_vector();
    let has = x_alignment(problem);
    if has < needs {
        return Err(Refusal::Alignment { needs, has });
    }
    Ok(())
}

/// Alignment of every run of x that a kernel copies from, in bytes: a pixel's channels of a group
/// in NHWC. In NCHW a row of the image begins anywhere; only where filters are points do whole
/// planes count.
pub(crate) fn x_alignment(problem: &Conv2d) -> usize {
    let (x, size) = (problem.input(), problem.dtype().size());
    let of = |elements: usize| alignment_of(elements, size);
    let within = match problem.layout() {
        Layout::Nhwc => {
            let group = if problem.groups() > 1 {
                problem.group_c()
            } else {
                0
            };
            of(x.channel_pitch()).min(of(x.offset())).min(of(group))
        }
        Layout::Nchw if is_plain_pointwise(problem) => of(x.h() * x.w()),
        Layout::Nchw => size,
    };
    problem.alignment().min(within)
}

/// Alignment that a stride of so many elements leaves, in bytes; of 0 the address alone counts.
pub(super) fn alignment_of(elements: usize, size: usize) -> usize {
    match elements {
        0 => usize::MAX,
        elements => 1 << (elements * size).trailing_zeros(),
    }
}

/// Returns whether output pixels are input pixels.
fn is_plain_pointwise(problem: &Conv2d) -> bool {
    let sides = problem.padding();
    (problem.r(), problem.s()) == (1, 1)
        && problem.stride() == [1, 1]
        && [sides.top, sides.bottom, sides.left, sides.right] == [0; 4]
}

/// Returns whether a launch packs the filters first: into rows of channels, or of all taps, of
/// whole 16 bytes.
pub(crate) fn packs(problem: &Conv2d, kernel: &Kernel) -> bool {
    if !kernel.algorithm.tensor() {
        return false;
    }
    let in_place = match problem.filter_layout() {
        FilterLayout::Kcrs => {
            problem.gemm_k() == problem.group_c() && whole(problem, problem.group_c())
        }
        FilterLayout::Krsc => match kernel.tensor_traits().all_taps {
            true => whole(problem, problem.gemm_k()),
            false => whole(problem, problem.group_c()),
        },
        FilterLayout::Packed => {
            let gaps = !whole(problem, problem.group_c());
            let one_tap = problem.gemm_k() == problem.group_c();
            !kernel.tensor_traits().all_taps || one_tap || !gaps
        }
    };
    !(in_place && problem.alignment() >= PACKED_BYTES)
}

/// Returns whether `elements` are a multiple of 16 bytes.
fn whole(problem: &Conv2d, elements: usize) -> bool {
    (elements * problem.dtype().size()).is_multiple_of(PACKED_BYTES)
}

/// Steps of a tile along gemm_k, TILE_K terms each.
pub(crate) fn steps(problem: &Conv2d, kernel: &Kernel) -> u32 {
    let tile_k = kernel.tile_k.max(1) as usize;
    let steps = match kernel.tensor_traits().all_taps {
        true => problem.gemm_k().div_ceil(tile_k),
        false => problem.r() * problem.s() * problem.group_c().div_ceil(tile_k),
    };
    steps as u32
}

/// The largest split-K factor up to `wanted` of which each split has as many steps as the others,
/// the last one perhaps fewer but at least one.
pub(crate) fn whole_split_k(steps: u32, wanted: u32) -> u32 {
    let each = steps.div_ceil(wanted.max(1)).max(1);
    steps.div_ceil(each).max(1)
}

/// Number of output tiles.
pub(crate) fn tiles(problem: &Conv2d, kernel: &Kernel) -> u64 {
    let pixels = (problem.gemm_n() as u64).div_ceil(u64::from(kernel.tile_n.max(1)));
    let filters = match kernel.tensor_traits().small_groups {
        true => {
            let groups = (kernel.tile_m / kernel.tile_k.max(1)).max(1);
            (problem.groups() as u64).div_ceil(u64::from(groups))
        }
        false => {
            problem.groups() as u64
                * (problem.group_k() as u64).div_ceil(u64::from(kernel.tile_m.max(1)))
        }
    };
    pixels.saturating_mul(filters)
}

/// Bytes of workspace; 0 if none is needed.
fn workspace(problem: &Conv2d, kernel: &Kernel, tiles: u64, split_k: u32) -> u64 {
    let packed = match packs(problem, kernel) {
        true => packed_bytes(problem, kernel),
        false => 0,
    };
    if packed == 0 && split_k == 1 {
        return 0;
    }
    let partials = match split_k {
        1 => 0,
        _ => {
            let tile = 4 * u64::from(kernel.tile_m) * u64::from(kernel.tile_n);
            tiles
                .saturating_mul(u64::from(split_k))
                .saturating_mul(tile)
        }
    };
    (WORKSPACE_COUNTERS + packed)
        .next_multiple_of(WORKSPACE_ALIGNMENT)
        .saturating_add(partials)
}

/// Bytes of the filters in the kernel's order.
fn packed_bytes(problem: &Conv2d, kernel: &Kernel) -> u64 {
    FilterRows::of(problem, kernel).bytes(problem)
}

/// The score of the kernel with the best split-K factor that the limits and the device leave, or
/// why there is none.
pub(super) fn estimate(
    problem: &Conv2d,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
    limits: &Limits,
) -> Result<Score, Refusal> {
    if packs(problem, kernel) {
        // Kernels count a filter's place in 31 bits; padding a single channel to 16 bytes can take
        // that eightfold.
        let elements = packed_bytes(problem, kernel) / problem.dtype().size() as u64;
        let most = i32::MAX as u64;
        if elements > most {
            return Err(Refusal::PackedFilters { elements, most });
        }
    }
    let (tiles, steps) = (tiles(problem, kernel), steps(problem, kernel));
    let estimate_split_k = |split_k: u32| -> Result<Score, Refusal> {
        let needs = workspace(problem, kernel, tiles, split_k);
        if needs > limits.workspace {
            let most = limits.workspace;
            return Err(Refusal::Workspace { needs, most });
        }
        let most = WORKSPACE_COUNTERS / 4;
        if split_k > 1 && tiles > most {
            return Err(Refusal::SplitKTiles { tiles, most });
        }
        let items = tiles.saturating_mul(u64::from(split_k));
        let most = u64::from(device.max_grid_x).min(i32::MAX as u64);
        if items > most {
            return Err(Refusal::Grid {
                blocks: items,
                most,
            });
        }
        let tiling = Tiling {
            tiles,
            split_k,
            steps,
            channels: channels(problem, kernel),
            filters: 1.0,
            terms: 1.0,
            tile_efficiency: tile_efficiency(problem, kernel, tiles, steps),
            packed_bytes: match packs(problem, kernel) {
                true => packed_bytes(problem, kernel),
                false => 0,
            },
            workspace: needs,
        };
        Ok(score(&tiling, kernel, device, roofline))
    };
    if let Some(asked) = limits.split_k {
        let split_k = whole_split_k(steps, asked);
        if split_k != asked {
            return Err(Refusal::SplitK { asked, most: steps });
        }
        return estimate_split_k(asked);
    }
    let mut best = estimate_split_k(1);
    for wanted in 2..=MAX_SPLIT_K.min(steps) {
        if whole_split_k(steps, wanted) != wanted {
            continue;
        }
        // One block a tile may be refused for nothing that more would not be refused for too, so a
        // refusal stays.
        if let (Ok(fewer), Ok(more)) = (&best, estimate_split_k(wanted))
            && more.us < fewer.us
        {
            best = Ok(more);
        }
    }
    best
}

/// Terms that a step loads on average.
pub(super) fn channels(problem: &Conv2d, kernel: &Kernel) -> f64 {
    let terms = match kernel.tensor_traits().all_taps {
        true => problem.gemm_k(),
        false => problem.group_c(),
    };
    let steps = terms.div_ceil(kernel.tile_k.max(1) as usize).max(1);
    terms as f64 / steps as f64
}

/// The share of the tiles' products that are the problem's.
pub(super) fn tile_efficiency(problem: &Conv2d, kernel: &Kernel, tiles: u64, steps: u32) -> f64 {
    let tile = f64::from(kernel.tile_m) * f64::from(kernel.tile_n) * f64::from(kernel.tile_k);
    let tiled = tiles as f64 * f64::from(steps) * tile;
    if tiled > 0.0 {
        problem.macs() as f64 / tiled
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests;
