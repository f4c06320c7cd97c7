//! Matrix products of a warpgroup against plain sums in f64, over every layout of their operands.
//!
//! Most factors are small integers, so that sums are exact. The tolerance for others: an f32 sum of
//! `k` exact products, each added with one rounding, is off by at most `k * 2^-24` times the sum of
//! the products' magnitudes.

mod harness;
mod layout;

use harness::{Factor, Product, Sum, run};
use layout::{Layout, Swizzle};

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

/// Small integers that differ by row and place.
fn integers(seed: u32) -> impl Fn(usize, usize) -> f32 {
    move |row, k| {
        (((row as u32 * 31 + k as u32 * 17 + seed).wrapping_mul(2_654_435_761)) >> 27) as f32 - 15.0
    }
}

/// Runs a product and compares each sum exactly.
fn check(product: &Product, a: &dyn Fn(usize, usize) -> f32, b: &dyn Fn(usize, usize) -> f32) {
    let start = |row: usize, column: usize| (row * 3 + column) as f32;
    let got = run(product, a, b, &start).expect("runs");
    let sign = if product.negate_a == product.negate_b {
        1.0
    } else {
        -1.0
    };
    for (row, sums) in got.iter().enumerate() {
        for (column, &got) in sums.iter().enumerate() {
            let sum: f64 = (0..product.depth())
                .map(|k| f64::from(a(row, k)) * f64::from(b(column, k)))
                .sum();
            let from = if product.add {
                f64::from(start(row, column))
            } else {
                0.0
            };
            let wanted = (from + sign * sum) as f32;
            assert_eq!(got, wanted, "{product:?}, row {row}, column {column}");
        }
    }
}

#[test]
fn summed_dimension_innermost_in_every_swizzle() {
    for factor in [Factor::Bf16, Factor::F16, Factor::Tf32] {
        for swizzle in SWIZZLES {
            for columns in [8, 24, 64, 256] {
                let layout = Layout::new(swizzle, false);
                let product = Product::new(factor, columns, Some(layout), layout);
                check(&product, &integers(1), &integers(7));
            }
        }
    }
}

#[test]
fn rows_innermost_in_every_swizzle() {
    for swizzle in SWIZZLES {
        for (transpose_a, transpose_b) in [(true, false), (false, true), (true, true)] {
            for factor in [Factor::Bf16, Factor::F16] {
                let a = Layout::new(swizzle, transpose_a);
                let b = Layout::new(swizzle, transpose_b);
                // Whole spans of columns, which is what a tile has.
                check(
                    &Product::new(factor, 128, Some(a), b),
                    &integers(3),
                    &integers(5),
                );
            }
        }
    }
}

#[test]
fn left_matrix_in_registers() {
    for factor in [Factor::Bf16, Factor::F16, Factor::Tf32] {
        let product = Product::new(factor, 40, None, Layout::new(Swizzle::B128, false));
        check(&product, &integers(2), &integers(9));
    }
    let product = Product::new(Factor::Bf16, 64, None, Layout::new(Swizzle::B128, true));
    check(&product, &integers(2), &integers(9));
}

#[test]
fn sums_that_are_added_to_and_signs() {
    let layout = Layout::new(Swizzle::B128, false);
    for (add, negate_a, negate_b) in [
        (true, false, false),
        (false, true, false),
        (true, false, true),
        (true, true, true),
    ] {
        for a in [Some(layout), None] {
            let product = Product {
                add,
                negate_a,
                negate_b,
                ..Product::new(Factor::F16, 16, a, layout)
            };
            check(&product, &integers(11), &integers(4));
        }
    }
}

/// Sums of eight bits are small integers here, exact in every type.
#[test]
fn factors_of_eight_bits() {
    let small = |seed: u32, least: f32| {
        let integers = integers(seed);
        move |row: usize, k: usize| (integers(row, k) / 4.0).trunc().max(least)
    };
    for (a, b) in [
        (Factor::E4m3, Factor::E4m3),
        (Factor::E5m2, Factor::E5m2),
        (Factor::E4m3, Factor::E5m2),
        (Factor::S8, Factor::S8),
        (Factor::S8, Factor::U8),
        (Factor::U8, Factor::S8),
    ] {
        let least = |factor| if factor == Factor::U8 { 0.0 } else { -4.0 };
        for swizzle in SWIZZLES {
            for in_registers in [false, true] {
                let layout = Layout::new(swizzle, false);
                let left = (!in_registers).then_some(layout);
                for columns in [8, 24, 64, 256] {
                    let product = Product {
                        factor_b: b,
                        add: columns == 64,
                        ..Product::new(a, columns, left, layout)
                    };
                    check(&product, &small(1, least(a)), &small(7, least(b)));
                }
            }
        }
    }
    let layout = Layout::new(Swizzle::B128, false);
    let product = Product {
        negate_a: true,
        add: true,
        ..Product::new(Factor::E4m3, 16, Some(layout), layout)
    };
    check(&product, &small(3, -4.0), &small(4, -4.0));
}

/// Sums of 16 bits, exact here, in pairs.
#[test]
fn sums_of_sixteen_bits() {
    let layout = Layout::new(Swizzle::B128, false);
    let start = |row: usize, column: usize| (row + column) as f32;
    let small = |seed: u32| {
        let integers = integers(seed);
        move |row: usize, k: usize| (integers(row, k) / 6.0).trunc()
    };
    for factor in [Factor::F16, Factor::E4m3, Factor::E5m2] {
        for (add, columns, in_registers) in
            [(false, 8, false), (true, 40, true), (true, 256, false)]
        {
            let product = Product {
                sum: Sum::F16,
                add,
                ..Product::new(factor, columns, (!in_registers).then_some(layout), layout)
            };
            let (a, b) = (small(2), small(5));
            let got = run(&product, &a, &b, &start).expect("runs");
            for (row, sums) in got.iter().enumerate() {
                for (column, &got) in sums.iter().enumerate() {
                    let terms = (0..product.depth()).map(|k| a(row, k) * b(column, k));
                    let from = if add { start(row, column) } else { 0.0 };
                    let wanted = terms.fold(from, |sum, term| sum + term);
                    assert_eq!(got, wanted, "{product:?}, row {row}, column {column}");
                }
            }
        }
    }
    // Rounded once for each instruction: 2048 and four times 16 ones, of which each instruction
    // adds 16.
    let product = Product {
        sum: Sum::F16,
        add: true,
        ..Product::new(Factor::F16, 8, Some(layout), layout)
    };
    let ones = |_: usize, _: usize| 1.0;
    let half = |_: usize, k: usize| if k.is_multiple_of(16) { 1.0 } else { 0.0 };
    let got = run(&product, &ones, &ones, &|_, _| 2048.0).expect("runs");
    assert_eq!(got[3][5], 2048.0 + 64.0);
    // One at a time is a tie to even each time, and lost.
    let got = run(&product, &ones, &half, &|_, _| 2048.0).expect("runs");
    assert_eq!(got[3][5], 2048.0);
}

/// Integer sums wrap around, or stop at the end of their range.
#[test]
fn integers_wrap_or_saturate() {
    let layout = Layout::new(Swizzle::B64, false);
    // The start is exact in f32, and 128 products of 255 * 255 above it is past the range.
    let start = 2f32.powi(31) - 128.0;
    for (sum, wanted) in [
        (Sum::Saturated, i32::MAX),
        (Sum::S32, (start as i32).wrapping_add(128 * 255 * 255)),
    ] {
        let product = Product {
            sum,
            add: true,
            ..Product::new(Factor::U8, 8, Some(layout), layout)
        };
        let full = |_: usize, _: usize| 255.0;
        let got = run(&product, &full, &full, &|_, _| start).expect("runs");
        assert_eq!(got[63][7], wanted as f32, "{sum:?}");
    }
}

#[test]
fn fractions_stay_within_their_bound() {
    let layout = Layout::new(Swizzle::B128, false);
    let fraction = |seed: usize| {
        move |row: usize, k: usize| {
            let x = (row * 7919 + k * 104_729 + seed) % 65_537;
            // Seven bits of mantissa: exact in every type.
            let exponent = (x % 17) as i32 - 8;
            (1.0 + (x / 17 % 128) as f32 / 128.0)
                * 2f32.powi(exponent)
                * if x.is_multiple_of(2) { 1.0 } else { -1.0 }
        }
    };
    for factor in [Factor::Bf16, Factor::F16, Factor::Tf32] {
        let product = Product::new(factor, 64, Some(layout), layout);
        let (a, b) = (fraction(1), fraction(2));
        let got = run(&product, &a, &b, &|_, _| 0.0).expect("runs");
        for (row, sums) in got.iter().enumerate() {
            for (column, &got) in sums.iter().enumerate() {
                let terms =
                    (0..product.depth()).map(|k| f64::from(a(row, k)) * f64::from(b(column, k)));
                let (sum, size) =
                    terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                let bound = product.depth() as f64 * 2f64.powi(-24) * size;
                let error = (f64::from(got) - sum).abs();
                assert!(error <= bound, "{factor:?}: {error} is more than {bound}");
            }
        }
    }
}

#[test]
fn tf32_ignores_low_bits_and_nan_spreads() {
    let layout = Layout::new(Swizzle::B128, false);
    let product = Product::new(Factor::Tf32, 8, Some(layout), layout);
    let low = f32::from_bits(1.0f32.to_bits() | 0x1fff);
    let got = run(&product, &|_, _| low, &|_, _| 1.0, &|_, _| 0.0).expect("runs");
    assert_eq!(got[5][3], product.depth() as f32);
    let nan = |row: usize, k: usize| if (row, k) == (9, 2) { f32::NAN } else { 1.0 };
    let got = run(&product, &nan, &|_, _| 1.0, &|_, _| 0.0).expect("runs");
    for (row, sums) in got.iter().enumerate() {
        assert_eq!(sums.iter().all(|x| x.is_nan()), row == 9, "row {row}");
        assert_eq!(sums.iter().any(|x| x.is_nan()), row == 9, "row {row}");
    }
    let product = Product::new(Factor::F16, 8, Some(layout), layout);
    let infinite = |row: usize, k: usize| {
        if (row, k) == (9, 2) {
            f32::INFINITY
        } else {
            2f32.powi(-24)
        }
    };
    let got = run(&product, &infinite, &|_, _| 1.0, &|_, _| 0.0).expect("runs");
    assert_eq!(got[9], [f32::INFINITY; 8].to_vec());
    assert_eq!(
        got[10],
        [product.depth() as f32 * 2f32.powi(-24); 8].to_vec()
    );
}

#[test]
fn operands_outside_of_shared_memory_are_reported() {
    let layout = Layout::new(Swizzle::B128, false);
    let product = Product {
        shift_b: 0x8000,
        ..Product::new(Factor::Bf16, 8, Some(layout), layout)
    };
    let report = run(&product, &|_, _| 1.0, &|_, _| 1.0, &|_, _| 0.0).expect_err("out of bounds");
    assert!(
        report.starts_with("out of bounds: shared read of 16 bytes at"),
        "{report}"
    );
}
