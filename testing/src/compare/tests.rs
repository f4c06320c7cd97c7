//! Tests that tolerances accept rounding errors and nothing else.

use super::*;
use crate::round_to_tf32;
use approx::assert_abs_diff_eq;
use warpconv::kernels::Algorithm;
use warpconv::kernels::kernels;

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
    got[119] = 4.0;
    let error = compare(&got, &want, [2, 3, 4, 5], DType::F32, Tolerance::Exact).unwrap_err();
    let expected = Mismatch::Elements {
        index: [1, 1, 1, 3],
        place: 88,
        got: 2.0,
        want: 1.0,
        bound: 0.0,
        largest: 3.0,
        count: 2,
        of: 120,
    };
    assert_eq!(error, expected);
    got[70] = f64::NAN;
    let error = compare(&got, &want, [2, 3, 4, 5], DType::F32, Tolerance::Exact).unwrap_err();
    let infinite = matches!(error, Mismatch::Elements { largest, .. } if largest.is_infinite());
    assert!(infinite, "{error}");
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

fn conv(c: usize, size: usize) -> Conv2d {
    Conv2d::builder()
        .input(1, c, 7, 7)
        .filters(8)
        .kernel(size, size)
        .build()
        .expect("a valid convolution")
}

fn kernel(algorithm: Algorithm, math: Math) -> Kernel {
    Kernel {
        algorithm,
        math,
        ..kernels()[0]
    }
}

/// The error that a result of 1 may have where the magnitudes are 1.
fn allowed(conv: &Conv2d, kernel: &Kernel, split_k: u32) -> f64 {
    let tolerance = Tolerance::of_conv(conv, kernel, split_k, &[1.0]);
    bound(tolerance, DType::F32, 0, 1.0)
}

#[test]
fn a_product_is_as_exact_as_its_kernel_s_mode() {
    let one = conv(1, 1);
    let strict = allowed(&one, &kernel(Algorithm::Direct, Math::Strict), 1);
    let half = allowed(&one, &kernel(Algorithm::Mma, Math::Strict), 1);
    let thrice = allowed(&one, &kernel(Algorithm::Mma, Math::Tf32x3), 1);
    let rounded = allowed(&one, &kernel(Algorithm::Mma, Math::Tf32), 1);
    let cut = allowed(&one, &kernel(Algorithm::Wgmma, Math::Tf32), 1);
    assert!(strict < half && half < thrice && thrice < rounded && rounded < cut);
    // The least error that distinguishes the modes: half of the last of 11 bits of one operand.
    let tf32 = 2f64.powi(-12);
    assert!(thrice < tf32 && tf32 < rounded, "{thrice} {rounded}");
    assert_abs_diff_eq!(rounded / 2f64.powi(-10), 1.0, epsilon = 0.01);
    assert_abs_diff_eq!(cut / 2f64.powi(-9), 1.0, epsilon = 0.01);
    // With exact operands only the sum rounds.
    let kernel = kernel(Algorithm::Mma, Math::Tf32);
    let exact = Tolerance::of_exact_products(&one, &kernel, 1, &[1.0]);
    assert!(bound(exact, DType::F32, 0, 1.0) < 2f64.powi(-19));
}

#[test]
fn a_lost_term_shows() {
    // 64 terms of equal size: a result short of one term is wrong in every mode.
    for (algorithm, math) in [
        (Algorithm::Direct, Math::Strict),
        (Algorithm::Mma, Math::Strict),
        (Algorithm::Mma, Math::Tf32x3),
        (Algorithm::Mma, Math::Tf32),
        (Algorithm::MmaFewChannels, Math::Tf32),
        (Algorithm::Wgmma, Math::Tf32),
    ] {
        let allowed = allowed(&conv(64, 1), &kernel(algorithm, math), 16);
        assert!(allowed < 0.5 / 64.0, "{algorithm:?} {math:?}: {allowed}");
    }
}

#[test]
fn longer_sums_and_more_splits_may_cost_more() {
    let kernel = kernel(Algorithm::Mma, Math::Strict);
    let short = allowed(&conv(16, 1), &kernel, 1);
    assert!(short < allowed(&conv(16, 1), &kernel, 3));
    assert!(short < allowed(&conv(17, 1), &kernel, 1));
    // Nine taps of one channel are nine instructions; with gemm_k over all taps they are three.
    let few_channels = Kernel {
        algorithm: Algorithm::MmaFewChannels,
        ..kernel
    };
    assert!(allowed(&conv(1, 3), &few_channels, 1) < allowed(&conv(1, 3), &kernel, 1));
}

#[test]
fn tf32_has_eleven_bits() {
    let ulp = 2f64.powi(-10);
    for (value, rounded) in [
        (1.0, 1.0),
        (1.0 + ulp, 1.0 + ulp),
        (1.0 + 0.49 * ulp, 1.0),
        // Ties go away from zero.
        (1.0 + 0.5 * ulp, 1.0 + ulp),
        (-1.0 - 0.5 * ulp, -1.0 - ulp),
        (0.0, 0.0),
        (f64::INFINITY, f64::INFINITY),
    ] {
        assert_eq!(round_to_tf32(value), rounded, "{value}");
    }
    assert!(round_to_tf32(f64::NAN).is_nan());
}
