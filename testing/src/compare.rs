//! Comparison of a result with the reference, and its tolerances.

use super::convert::{half_of_least, round, unit_roundoff};
use warpconv::kernels::{DType, Kernel, Math};
use warpconv::problem::{Conv2d, Pool2d, PoolKind};

/// Tolerance of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance<'a> {
    /// None: equal to the reference rounded once to the storage type, to nearest even.
    Exact,
    /// `|got - want| <= atol + rtol * |want|` for every element (not checked if `atol` is `None`)
    /// and `‖got - want‖₂ <= rel_l2 * ‖want‖₂` for all of them (not checked if `None`). The numbers
    /// are those of a stored case or of [`network_tolerance`](super::network_tolerance): they are
    /// chosen, not derived.
    Close {
        /// Absolute part of an element's bound.
        atol: Option<f64>,
        /// Relative part of an element's bound.
        rtol: f64,
        /// Bound of the Euclidean norm of the difference.
        rel_l2: Option<f64>,
    },
    /// Bound for adding `terms` products in f32, in any order, and rounding once to the storage
    /// type: `n v * magnitude + u * |want|`, with `n = terms + 4`, `v = 2^-24` and `u` the unit
    /// roundoff of the storage type. Each term takes one rounding. The four others are of the bias,
    /// the residual and a mean's division, and one to spare.
    ///
    /// `n v` replaces the textbooks' `n v / (1 - n v)`, which is meaningless from 2^24 terms on. It
    /// holds for every length (Jeannerod and Rump, Improved error bounds for inner products in
    /// floating-point arithmetic, SIAM J. Matrix Anal. Appl. 34, 2013), with fused multiply-adds
    /// too.
    Sum {
        /// Terms of the sum; for nested sums, the most additions that any one term passes through.
        terms: usize,
        /// For every element the sum of its terms' magnitudes: [`crate::reference::conv2d_abs`],
        /// [`crate::reference::pool2d_abs`].
        magnitudes: &'a [f64],
    },
    /// Bound for products on tensor cores: `relative * magnitude`, and rounding once to the storage
    /// type. Made by [`Tolerance::of_conv`]: the error of operands in the kernel's math mode, and
    /// `2^-23` per addition, since tensor cores truncate.
    Products {
        /// Error of operands and sums together, relative to the magnitude.
        relative: f64,
        /// Roundings of the sum; each may also lose bits below the least number of f32.
        roundings: usize,
        /// As for [`Tolerance::Sum`].
        magnitudes: &'a [f64],
    },
    /// Tolerance for a given error of each sum before it is rounded once to the storage type. The
    /// functions that return the error derive it:
    /// [`ExpectedBottleneck`](super::ExpectedBottleneck), [`crate::reference::lrn_bound`].
    Off {
        /// Bound of the error of each element's sum.
        sums: &'a [f64],
    },
}

impl<'a> Tolerance<'a> {
    /// Tolerance of a convolution computed by `kernel` with `split_k` partial sums per output tile.
    /// It follows the kernel's arithmetic, even where the problem permits less accuracy.
    /// `magnitudes` is the result of [`crate::reference::conv2d_abs`]; [`Math`] documents the
    /// source of the figures.
    pub fn of_conv(
        conv: &Conv2d,
        kernel: &Kernel,
        split_k: u32,
        magnitudes: &'a [f64],
    ) -> Tolerance<'a> {
        Tolerance::with_operands(conv, kernel, split_k, magnitudes, operand_error(kernel))
    }

    /// [`Tolerance::of_conv`] for operands that the kernel reads exactly, such as those of
    /// [`round_to_tf32`](super::round_to_tf32): only the sum rounds.
    pub fn of_exact_products(
        conv: &Conv2d,
        kernel: &Kernel,
        split_k: u32,
        magnitudes: &'a [f64],
    ) -> Tolerance<'a> {
        Tolerance::with_operands(conv, kernel, split_k, magnitudes, 0.0)
    }

    fn with_operands(
        conv: &Conv2d,
        kernel: &Kernel,
        split_k: u32,
        magnitudes: &'a [f64],
        operands: f64,
    ) -> Tolerance<'a> {
        let terms = conv.filter().gemm_k();
        let rounding = kernel.rounding();
        if !rounding.tensor {
            return Tolerance::Sum { terms, magnitudes };
        }
        let products = match kernel.math {
            Math::Tf32x3 => 3,
            Math::Strict | Math::Tf32 => 1,
        };
        // One instruction adds at least four products to a sum; they belong to one tap unless
        // gemm_k runs through taps and channels. All of them, and the sum, are truncated to the
        // last place of the largest.
        let instructions = match rounding.all_taps {
            true => terms.div_ceil(4),
            false => conv.filter().r * conv.filter().s * conv.filter().c.div_ceil(4),
        };
        // Partial sums of split-K, bias, residual and the additions of the epilogue.
        let roundings = products * (terms + instructions) + split_k as usize + 4;
        Tolerance::Products {
            relative: operands + roundings as f64 * CUT,
            roundings,
            magnitudes,
        }
    }

    /// Tolerance of a pooling's result: a maximum is exact, a mean is a rounded sum. `magnitudes`
    /// is the result of [`crate::reference::pool2d_abs`].
    pub fn of_pool(pool: &Pool2d, magnitudes: &'a [f64]) -> Tolerance<'a> {
        let (rows, columns) = match pool.kind() {
            PoolKind::Max { .. } | PoolKind::GlobalMax => return Tolerance::Exact,
            PoolKind::Average { .. } => (pool.window().kernel[0], pool.window().kernel[1]),
            // A window of an adaptive mean is no larger than the plane.
            PoolKind::GlobalAverage | PoolKind::AdaptiveAverage { .. } => {
                (pool.input().h(), pool.input().w())
            }
        };
        Tolerance::Sum {
            terms: mean_depth(rows, columns),
            magnitudes,
        }
    }
}

/// Bound of the error of an addition that truncates, relative to its result: tensor cores truncate.
const CUT: f64 = 1.0 / (1 << 23) as f64;

/// Bound of the error of a product caused by the kernel's math mode, relative to the product: see
/// [`Math`].
fn operand_error(kernel: &Kernel) -> f64 {
    let both = |unit: f64| 2.0 * unit + unit * unit;
    let cut = kernel.rounding().cuts_operands;
    match kernel.math {
        Math::Strict => 0.0,
        // Rounded to nearest, except where x and w are copied to the tensor cores unconverted,
        // which truncates them.
        Math::Tf32 if !cut => both(1.0 / 2048.0),
        Math::Tf32 => both(1.0 / 1024.0),
        // The remainder beyond the small part, once per operand, and the product of the small
        // parts; 2^-22 each.
        Math::Tf32x3 => 3.01 / (1 << 22) as f64,
    }
}

/// The most additions that a term of a mean over `rows` x `columns` passes through.
///
/// `avg_pool.cu` adds rows, then their sums. `global_pool.cu` adds runs of 64, then the runs of a
/// thread, of which at least eight share a plane. It then adds the threads' sums and the parts of
/// vectors, in less than 64 steps.
fn mean_depth(rows: usize, columns: usize) -> usize {
    let all = rows.saturating_mul(columns);
    let by_rows = rows.saturating_add(columns);
    let by_runs = 64 + all.div_ceil(8 * 64) + 64;
    all.min(by_rows.max(by_runs))
}

/// Differences of an accepted result from the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Number of elements compared.
    pub elements: usize,
    /// The largest difference of an element.
    pub max_abs: f64,
    /// The largest difference, divided by the reference's largest magnitude.
    pub max_rel: f64,
    /// The Euclidean norm of the difference, divided by that of the reference.
    pub rel_l2: f64,
}

/// Reason why a result is not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Elements are wrong.
    #[error(
        "{count} of {of} elements are wrong, first ({}, {}, {}, {}): got {got:e}, expected \
         {want:e}, allowed error {bound:e}",
        index[0], index[1], index[2], index[3]
    )]
    Elements {
        /// The first wrong element: image, channel, row, column.
        index: [usize; 4],
        /// The same in NCHW order.
        place: usize,
        /// Computed value of that element.
        got: f64,
        /// Expected value of that element.
        want: f64,
        /// Allowed difference of that element.
        bound: f64,
        /// The largest difference of a wrong element; infinite if a NaN or an infinity is wrong.
        largest: f64,
        /// Number of wrong elements.
        count: usize,
        /// Number of all elements.
        of: usize,
    },
    /// Every element is within its bound, but the norm of the difference is not.
    #[error("the whole differs by {rel_l2:e} of its Euclidean norm, allowed is {bound:e}")]
    Whole {
        /// The relative difference.
        rel_l2: f64,
        /// The bound of the relative difference.
        bound: f64,
    },
    /// The number of elements is not the expected one.
    #[error("{got} elements, expected {want}")]
    Elsewhere {
        /// Number of elements of the result.
        got: usize,
        /// Expected number of elements.
        want: usize,
    },
}

/// Compares a result (dense NCHW, of the given extents n, c, h, w) with the reference.
///
/// NaN agrees with NaN only, an infinity with the same infinity only (a reference that `dtype`
/// cannot hold counts as infinite), and zeros of either sign are equal.
///
/// # Errors
/// [`Mismatch`] if the result is not accepted.
pub fn compare(
    got: &[f64],
    want: &[f64],
    extents: [usize; 4],
    dtype: DType,
    tolerance: Tolerance<'_>,
) -> Result<Stats, Mismatch> {
    let lengths = [
        Some(got.len()),
        Some(extents.iter().product()),
        magnitudes_len(tolerance),
    ];
    if let Some(&length) = lengths
        .iter()
        .flatten()
        .find(|&&length| length != want.len())
    {
        return Err(Mismatch::Elsewhere {
            got: length,
            want: want.len(),
        });
    }
    let mut sums = Sums::default();
    let mut first = None;
    let (mut wrong, mut largest) = (0, 0.0f64);
    for (place, (&got, &exact)) in got.iter().zip(want).enumerate() {
        let stored = round(dtype, exact);
        let judged = tolerance == Tolerance::Exact || !stored.is_finite();
        let want = if judged { stored } else { exact };
        let bound = bound(tolerance, dtype, place, exact);
        if !agrees(got, want, bound) {
            wrong += 1;
            let difference = (got - want).abs();
            let difference = if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            };
            largest = largest.max(difference);
            first.get_or_insert((place, got, want, bound));
        }
        sums.add(got, want);
    }
    if let Some((place, got, want, bound)) = first {
        let (index, of) = (unravel(place, extents), sums.elements);
        return Err(Mismatch::Elements {
            index,
            place,
            got,
            want,
            bound,
            largest,
            count: wrong,
            of,
        });
    }
    let stats = sums.stats();
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must fail")]
    match tolerance {
        // `!(a <= b)`, so that NaN fails.
        Tolerance::Close {
            rel_l2: Some(bound),
            ..
        } if !(stats.rel_l2 <= bound) => Err(Mismatch::Whole {
            rel_l2: stats.rel_l2,
            bound,
        }),
        _ => Ok(stats),
    }
}

/// Compares the indices of maxima, or any other bytes, with the expected ones.
///
/// # Errors
/// [`Mismatch`] if any differs.
pub fn compare_indices(got: &[u8], want: &[u8], extents: [usize; 4]) -> Result<Stats, Mismatch> {
    let wide = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|&byte| f64::from(byte))
            .collect::<Vec<_>>()
    };
    compare(
        &wide(got),
        &wide(want),
        extents,
        DType::F32,
        Tolerance::Exact,
    )
}

fn magnitudes_len(tolerance: Tolerance<'_>) -> Option<usize> {
    match tolerance {
        Tolerance::Sum { magnitudes, .. } => Some(magnitudes.len()),
        Tolerance::Products { magnitudes, .. } => Some(magnitudes.len()),
        Tolerance::Off { sums } => Some(sums.len()),
        _ => None,
    }
}

/// Allowed difference of element `place` from `want`.
fn bound(tolerance: Tolerance<'_>, dtype: DType, place: usize, want: f64) -> f64 {
    match tolerance {
        Tolerance::Exact => 0.0,
        Tolerance::Close {
            atol: Some(atol),
            rtol,
            ..
        } => atol + rtol * want.abs(),
        Tolerance::Close { atol: None, .. } => f64::INFINITY,
        Tolerance::Sum { terms, magnitudes } => {
            let roundings = terms as f64 + 4.0;
            let sum = roundings
                * (unit_roundoff(DType::F32) * magnitudes[place] + half_of_least(DType::F32));
            stored(dtype, want, sum)
        }
        Tolerance::Products {
            relative,
            roundings,
            magnitudes,
        } => {
            let least = 2.0 * roundings as f64 * half_of_least(DType::F32);
            stored(dtype, want, relative * magnitudes[place] + least)
        }
        Tolerance::Off { sums } => stored(dtype, want, sums[place]),
    }
}

/// Bound of the error of a sum that is off by at most `sum` and is then rounded to the storage
/// type.
fn stored(dtype: DType, want: f64, sum: f64) -> f64 {
    sum + unit_roundoff(dtype) * (want.abs() + sum) + half_of_least(dtype)
}

fn agrees(got: f64, want: f64, bound: f64) -> bool {
    if got == want || (got.is_nan() && want.is_nan()) {
        return true;
    }
    // `<=` is false for NaN.
    got.is_finite() && want.is_finite() && (got - want).abs() <= bound
}

fn unravel(place: usize, [_, c, h, w]: [usize; 4]) -> [usize; 4] {
    [
        place / (c * h * w),
        place / (h * w) % c,
        place / w % h,
        place % w,
    ]
}

#[derive(Default)]
struct Sums {
    elements: usize,
    max_abs: f64,
    scale: f64,
    difference: f64,
    norm: f64,
}

impl Sums {
    fn add(&mut self, got: f64, want: f64) {
        self.elements += 1;
        if want.is_finite() {
            let difference = (got - want).abs();
            self.max_abs = self.max_abs.max(difference);
            self.scale = self.scale.max(want.abs());
            self.difference += difference * difference;
            self.norm += want * want;
        }
    }

    fn stats(&self) -> Stats {
        let ratio = |difference: f64, of: f64| {
            if difference == 0.0 {
                0.0
            } else {
                difference / of
            }
        };
        Stats {
            elements: self.elements,
            max_abs: self.max_abs,
            max_rel: ratio(self.max_abs, self.scale),
            rel_l2: ratio(self.difference.sqrt(), self.norm.sqrt()),
        }
    }
}

#[cfg(test)]
mod tests;
