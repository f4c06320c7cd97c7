//! When a result is accepted.

use super::stored::{half_of_least, round, unit_roundoff};
use crate::catalog::DType;
use crate::problem::{Pool2d, PoolKind};

/// How far a result may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance<'a> {
    /// Not at all: equal to the reference rounded once to the storage type, to nearest even.
    Exact,
    /// `|got - want| <= atol + rtol * |want|` for every element (not asked if `atol` is `None`) and
    /// `‖got - want‖₂ <= rel_l2 * ‖want‖₂` for all of them (not asked if `None`).
    Close {
        /// Absolute part of an element's bound.
        atol: Option<f64>,
        /// Relative part of an element's bound.
        rtol: f64,
        /// Bound of the Euclidean norm of the difference.
        rel_l2: Option<f64>,
    },
    /// What adding `terms` products in f32, in whatever order, and rounding once to the storage type can cost:
    /// `n v * magnitude + u * |want|`, with `n = terms + 4`, `v = 2^-24` and `u` the unit roundoff of the storage type.
    ///
    /// `n v` takes the place of the textbooks' `n v / (1 - n v)`, which means nothing from 2^24 terms on; it holds for
    /// every length (Jeannerod and Rump, Improved error bounds for inner products in floating-point arithmetic, SIAM J.
    /// Matrix Anal. Appl. 34, 2013), with fused multiplications and additions too.
    Sum {
        /// Terms of the sum; of a sum of sums, the most additions that any one term passes through.
        terms: usize,
        /// For every element the sum of its terms' magnitudes: [`crate::reference::conv2d_abs`],
        /// [`crate::reference::pool2d_abs`].
        magnitudes: &'a [f64],
    },
}

impl<'a> Tolerance<'a> {
    /// How near a pool's result must be: a maximum is exact, a mean is a sum rounded. `magnitudes` is what
    /// [`crate::reference::pool2d_abs`] gives.
    pub fn of_pool(pool: &Pool2d, magnitudes: &'a [f64]) -> Tolerance<'a> {
        let (rows, columns) = match pool.kind() {
            PoolKind::Max { .. } | PoolKind::GlobalMax => return Tolerance::Exact,
            PoolKind::Average { .. } => (pool.r(), pool.s()),
            // A window of an adaptive mean is no larger than the plane.
            PoolKind::GlobalAverage | PoolKind::AdaptiveAverage { .. } => (pool.h(), pool.w()),
        };
        Tolerance::Sum {
            terms: mean_depth(rows, columns),
            magnitudes,
        }
    }
}

/// The most additions that a term of a mean over `rows` x `columns` passes through.
///
/// `avg_pool.cu` adds rows, then their sums. `global_pool.cu` adds runs of 64, then the runs of a thread, of which at
/// least eight share a plane, then the threads' sums and vectors' parts, in less than 64 steps.
fn mean_depth(rows: usize, columns: usize) -> usize {
    let all = rows.saturating_mul(columns);
    let by_rows = rows.saturating_add(columns);
    let by_runs = 64 + all.div_ceil(8 * 64) + 64;
    all.min(by_rows.max(by_runs))
}

/// How near an accepted result is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Elements compared.
    pub elements: usize,
    /// The largest difference of an element.
    pub max_abs: f64,
    /// The largest difference, divided by the reference's largest magnitude.
    pub max_rel: f64,
    /// The Euclidean norm of the difference, divided by that of the reference.
    pub rel_l2: f64,
}

/// Why a result is not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Elements are wrong.
    #[error(
        "{count} of {of} elements are wrong, first ({}, {}, {}, {}): got {got:e}, expected {want:e}, allowed error {bound:e}",
        index[0], index[1], index[2], index[3]
    )]
    Elements {
        /// The first wrong element: image, channel, row, column.
        index: [usize; 4],
        /// What was computed.
        got: f64,
        /// What it should be.
        want: f64,
        /// How far it may be.
        bound: f64,
        /// Wrong elements.
        count: usize,
        /// All elements.
        of: usize,
    },
    /// Every element is within its bound, but all of them together are not.
    #[error("the whole differs by {rel_l2:e} of its Euclidean norm, allowed is {bound:e}")]
    Whole {
        /// The relative difference.
        rel_l2: f64,
        /// The bound.
        bound: f64,
    },
    /// There are more or fewer elements than there should be.
    #[error("{got} elements, expected {want}")]
    Elsewhere {
        /// Elements that there are.
        got: usize,
        /// Elements that there should be.
        want: usize,
    },
}

/// Compares a result (dense NCHW, of the given extents n, c, h, w) with the reference.
///
/// NaN agrees with NaN only, an infinity with the same infinity only (a reference that `dtype` cannot hold counts as
/// infinite), and zeros of either sign are equal.
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
    let mut wrong = 0;
    for (place, (&got, &exact)) in got.iter().zip(want).enumerate() {
        let stored = round(dtype, exact);
        let judged = tolerance == Tolerance::Exact || !stored.is_finite();
        let want = if judged { stored } else { exact };
        let bound = bound(tolerance, dtype, place, exact);
        if !agrees(got, want, bound) {
            wrong += 1;
            first.get_or_insert((place, got, want, bound));
        }
        sums.add(got, want);
    }
    if let Some((place, got, want, bound)) = first {
        let (index, of) = (unravel(place, extents), sums.elements);
        return Err(Mismatch::Elements {
            index,
            got,
            want,
            bound,
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

/// Compares the indices of maxima, or any other bytes, with what they should be.
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
        _ => None,
    }
}

/// How far element `place` may be from `want`.
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
            sum + unit_roundoff(dtype) * (want.abs() + sum) + half_of_least(dtype)
        }
    }
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
mod tests {
    use super::*;

    const ONE: [usize; 4] = [1, 1, 1, 1];

    fn one(got: f64, want: f64, tolerance: Tolerance<'_>) -> bool {
        compare(&[got], &[want], ONE, DType::F32, tolerance).is_ok()
    }

    #[test]
    fn nan_never_passes_for_a_number() {
        let anything = Tolerance::Close {
            atol: Some(f64::INFINITY),
            rtol: 0.0,
            rel_l2: None,
        };
        let only_whole = Tolerance::Close {
            atol: None,
            rtol: 0.0,
            rel_l2: Some(1.0),
        };
        for tolerance in [
            Tolerance::Exact,
            anything,
            only_whole,
            Tolerance::Sum {
                terms: 1,
                magnitudes: &[1e30],
            },
        ] {
            assert!(!one(f64::NAN, 1.0, tolerance));
            assert!(!one(1.0, f64::NAN, tolerance));
            assert!(!one(f64::INFINITY, 1.0, tolerance));
            assert!(!one(f64::INFINITY, f64::NEG_INFINITY, tolerance));
            assert!(!one(f32::MAX.into(), f64::INFINITY, tolerance));
            assert!(one(f64::NAN, f64::NAN, tolerance));
            assert!(one(f64::INFINITY, f64::INFINITY, tolerance));
            assert!(one(-0.0, 0.0, tolerance));
        }
    }

    #[test]
    fn exact_rounds_the_reference_once() {
        assert!(one(0.1f32.into(), 0.1, Tolerance::Exact));
        assert!(!one(0.1f32.next_up().into(), 0.1, Tolerance::Exact));
        assert!(
            compare(
                &[f64::INFINITY],
                &[65520.0],
                ONE,
                DType::F16,
                Tolerance::Exact
            )
            .is_ok()
        );
        assert!(compare(&[65504.0], &[65519.0], ONE, DType::F16, Tolerance::Exact).is_ok());
    }

    #[test]
    fn the_first_wrong_element_is_named() {
        let want = vec![1.0; 2 * 3 * 4 * 5];
        let mut got = want.clone();
        got[60 + 20 + 5 + 3] = 2.0;
        got[119] = 2.0;
        let error = compare(&got, &want, [2, 3, 4, 5], DType::F32, Tolerance::Exact).unwrap_err();
        let expected = Mismatch::Elements {
            index: [1, 1, 1, 3],
            got: 2.0,
            want: 1.0,
            bound: 0.0,
            count: 2,
            of: 120,
        };
        assert_eq!(error, expected);
    }

    #[test]
    fn sums_may_be_off_by_their_rounding() {
        let (terms, magnitude) = (1000, 500.0);
        let tolerance = Tolerance::Sum {
            terms,
            magnitudes: &[magnitude],
        };
        assert!(one(1.0 + 2e-2, 1.0, tolerance));
        assert!(!one(1.0 + 4e-2, 1.0, tolerance));
    }

    #[test]
    fn sums_of_any_length_have_a_bound() {
        let mut last = 0.0;
        for terms in [
            1,
            (1 << 24) - 5,
            1 << 24,
            (1 << 24) + 1,
            1 << 40,
            usize::MAX,
        ] {
            let tolerance = Tolerance::Sum {
                terms,
                magnitudes: &[1.0],
            };
            let bound = bound(tolerance, DType::F32, 0, 1.0);
            assert!(bound.is_finite() && bound > last, "{terms}: {bound}");
            assert!(one(1.0f32.next_up().into(), 1.0, tolerance), "{terms}");
            last = bound;
        }
    }

    #[test]
    fn the_mean_of_a_large_plane_is_still_judged() {
        let pool = Pool2d::builder()
            .kind(PoolKind::GlobalAverage)
            .input(1, 1, 4097, 4097)
            .build()
            .expect("a plane of 2^24 pixels");
        let tolerance = Tolerance::of_pool(&pool, &[1.0]);
        assert!(one(1.0 + 1e-6, 1.0, tolerance));
        assert!(!one(1.01, 1.0, tolerance));
        assert!(!one(0.0, 1.0, tolerance));
    }

    #[test]
    fn the_whole_is_judged_too() {
        let tolerance = Tolerance::Close {
            atol: Some(0.5),
            rtol: 0.0,
            rel_l2: Some(1e-3),
        };
        assert!(one(1.0005, 1.0, tolerance));
        let error = compare(&[1.4], &[1.0], ONE, DType::F32, tolerance).unwrap_err();
        assert!(matches!(error, Mismatch::Whole { bound, .. } if bound == 1e-3));
    }
}
