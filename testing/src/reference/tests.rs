//! Tests of the f64 reference against manual results and against properties of any convolution or
//! pooling.

use super::{conv2d, conv2d_abs, pool2d, pool2d_abs, relu};
use warpconv::problem::{Conv2d, NO_INDEX, Padding, Pool2d, PoolKind};

/// Reproducible small pseudo-random integers.
fn integers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((state >> 33) % 9) as f64 - 4.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The definition, one output at a time, padding multiplied as zeros.
fn by_definition(conv: &Conv2d, x: &[f64], w: &[f64]) -> Vec<f64> {
    let at = |n: usize, c: usize, h: i64, v: i64| {
        let inside =
            h >= 0 && v >= 0 && (h as usize) < conv.input().h() && (v as usize) < conv.input().w();
        if inside {
            x[((n * conv.input().c() + c) * conv.input().h() + h as usize) * conv.input().w()
                + v as usize]
        } else {
            0.0
        }
    };
    let mut y = Vec::new();
    let [sh, sw] = conv.window().stride;
    let [dh, dw] = conv.window().dilation;
    let pad = conv.window().padding;
    for n in 0..conv.input().n() {
        for k in 0..conv.output().c() {
            for p in 0..conv.output().h() {
                for q in 0..conv.output().w() {
                    let mut sum = 0.0;
                    for c in 0..conv.filter().c {
                        for r in 0..conv.filter().r {
                            for s in 0..conv.filter().s {
                                let h = (p * sh + r * dh) as i64 - pad.top as i64;
                                let v = (q * sw + s * dw) as i64 - pad.left as i64;
                                let channel =
                                    k / (conv.output().c() / conv.groups()) * conv.filter().c + c;
                                let weight = ((k * conv.filter().c + c) * conv.filter().r + r)
                                    * conv.filter().s
                                    + s;
                                sum += at(n, channel, h, v) * w[weight];
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

fn random_problem(seed: u64) -> Option<Conv2d> {
    let draw = integers(24, seed);
    let pick = |index: usize, from: usize, span: usize| from + (draw[index] + 4.0) as usize % span;
    let groups = pick(0, 1, 3);
    Conv2d::builder()
        .input(
            pick(1, 1, 2),
            groups * pick(2, 1, 3),
            pick(3, 1, 9),
            pick(4, 1, 9),
        )
        .filters(groups * pick(5, 1, 4))
        .kernel(pick(6, 1, 5), pick(7, 1, 5))
        .stride(pick(8, 1, 4), pick(9, 1, 4))
        .dilation(pick(10, 1, 3), pick(11, 1, 3))
        .padding(Padding {
            top: pick(12, 0, 6),
            bottom: pick(13, 0, 6),
            left: pick(14, 0, 6),
            right: pick(15, 0, 6),
        })
        .groups(groups)
        .build()
        .ok()
}

#[test]
fn convolution_is_its_definition() {
    let problems: Vec<Conv2d> = (0..4000).filter_map(random_problem).collect();
    assert!(problems.len() > 1500, "{} problems", problems.len());
    for conv in problems {
        let x = integers(conv.input().elements(), 7);
        let w = integers(conv.filter().len(), 8);
        assert_eq!(
            conv2d(&conv, &x, &w, None, None).unwrap(),
            by_definition(&conv, &x, &w),
            "{conv}"
        );
    }
}

#[test]
fn non_finite_weights_meet_the_padding() {
    let conv: Conv2d = "mb1ic1ih3oc1kh3ph1".parse().unwrap();
    let x = vec![1.0; 9];
    for (tap, value) in [
        (0, f64::INFINITY),
        (4, f64::NAN),
        (8, f64::NEG_INFINITY),
        (5, f64::INFINITY),
    ] {
        let mut w = vec![1.0; 9];
        w[tap] = value;
        let got = conv2d(&conv, &x, &w, None, None).unwrap();
        for (got, want) in got.iter().zip(by_definition(&conv, &x, &w)) {
            assert!(
                *got == want || got.is_nan() && want.is_nan(),
                "tap {tap}: {got} for {want}"
            );
        }
    }
}

#[test]
fn hand_computed() {
    // 2x2 kernel over 3x3, as in any textbook.
    let conv: Conv2d = "mb1ic1ih3oc1kh2ph0+bias+relu".parse().unwrap();
    let x: Vec<f64> = (1..=9).map(f64::from).collect();
    let y = conv2d(&conv, &x, &[1.0, 0.0, 0.0, -1.0], Some(&[3.5]), None).unwrap();
    assert_eq!(y, [0.0; 4]);
    let y = conv2d(&conv, &x, &[1.0, 2.0, 3.0, 4.0], Some(&[-50.0]), None).unwrap();
    // 1 + 4 + 12 + 20 = 37, 47, 67, 77.
    assert_eq!(y, [0.0, 0.0, 17.0, 27.0]);
    let abs = conv2d_abs(&conv, &x, &[-1.0, 2.0, -3.0, 4.0], Some(&[-50.0]), None).unwrap();
    assert_eq!(abs, [87.0, 97.0, 117.0, 127.0]);
}

#[test]
fn probes() {
    let conv: Conv2d = "mb1ic1ih5oc1kh3ph1".parse().unwrap();
    // All ones count taps.
    let counts = conv2d(&conv, &[1.0; 25], &[1.0; 9], None, None).unwrap();
    assert_eq!(counts[..6], [4.0, 6.0, 6.0, 6.0, 4.0, 6.0]);
    assert_eq!(counts[12], 9.0);
    // A one-hot image gives the filter rotated by 180 degrees: the operation is a
    // cross-correlation.
    let mut x = [0.0; 25];
    x[12] = 1.0;
    let w: Vec<f64> = (1..=9).map(f64::from).collect();
    let y = conv2d(&conv, &x, &w, None, None).unwrap();
    assert_eq!([y[6], y[7], y[8]], [9.0, 8.0, 7.0]);
    assert_eq!([y[16], y[17], y[18]], [3.0, 2.0, 1.0]);
    // A one-hot kernel shifts the image.
    let x = integers(25, 3);
    let mut w = [0.0; 9];
    w[5] = 1.0;
    let y = conv2d(&conv, &x, &w, None, None).unwrap();
    assert_eq!(y[..4], x[1..5]);
    assert_eq!(y[4], 0.0);
}

#[test]
fn groups_are_a_concatenation() {
    let grouped: Conv2d = "g3mb2ic6ih7oc9kh3sh2ph1+bias".parse().unwrap();
    let single: Conv2d = "mb2ic2ih7oc3kh3sh2ph1+bias".parse().unwrap();
    let x = integers(grouped.input().elements(), 1);
    let w = integers(grouped.filter().len(), 2);
    let bias = integers(9, 3);
    let y = conv2d(&grouped, &x, &w, Some(&bias), None).unwrap();
    let (plane, pixels) = (49, grouped.output().h() * grouped.output().w());
    for group in 0..3 {
        let x: Vec<f64> = (0..2)
            .flat_map(|n| x[(n * 6 + group * 2) * plane..][..2 * plane].to_vec())
            .collect();
        let part = conv2d(
            &single,
            &x,
            &w[group * single.filter().len()..][..single.filter().len()],
            Some(&bias[group * 3..group * 3 + 3]),
            None,
        )
        .unwrap();
        for n in 0..2 {
            assert_eq!(
                part[n * 3 * pixels..][..3 * pixels],
                y[(n * 9 + group * 3) * pixels..][..3 * pixels]
            );
        }
    }
}

#[test]
fn residual_comes_before_relu() {
    let conv: Conv2d = "mb1ic1ih2oc1kh1+residual+relu".parse().unwrap();
    let y = conv2d(
        &conv,
        &[1.0, -1.0, f64::NAN, 2.0],
        &[1.0],
        None,
        Some(&[-3.0, 3.0, 0.0, 1.0]),
    )
    .unwrap();
    assert_eq!((y[0], y[1], y[3]), (0.0, 2.0, 3.0));
    assert!(y[2].is_nan());
    assert!(relu(&[f64::NAN])[0].is_nan());
    assert_eq!(
        relu(&[-1.0, -0.0, 2.0, f64::NEG_INFINITY, f64::INFINITY]),
        [0.0, 0.0, 2.0, 0.0, f64::INFINITY]
    );
}

#[test]
fn wrong_lengths_are_errors() {
    let conv: Conv2d = "mb1ic1ih2oc1kh1+bias".parse().unwrap();
    assert!(conv2d(&conv, &[0.0; 3], &[1.0], Some(&[0.0]), None).is_err());
    assert!(conv2d(&conv, &[0.0; 4], &[1.0; 2], Some(&[0.0]), None).is_err());
    assert!(conv2d(&conv, &[0.0; 4], &[1.0], None, None).is_err());
    assert!(conv2d(&conv, &[0.0; 4], &[1.0], Some(&[0.0]), Some(&[0.0; 4])).is_err());
}

fn max(text: &str, x: &[f64]) -> (Vec<f64>, Vec<u8>) {
    let pool: Pool2d = text.parse().unwrap();
    let (y, indices) = pool2d(&pool, x).unwrap();
    (y, indices.unwrap())
}

#[test]
fn maxima() {
    let ninf = f64::NEG_INFINITY;
    // Padding is minus infinity, not zero.
    let (y, at) = max("mb1ic1ih2kh2ph1+indices", &[-1.0, -2.0, -3.0, -4.0]);
    assert_eq!(y, [-1.0, -1.0, -2.0, -1.0, -1.0, -2.0, -3.0, -3.0, -4.0]);
    assert_eq!(at, [3, 2, 2, 1, 0, 0, 1, 0, 0]);
    // The first maximum wins a tie, and an image of minus infinities has a valid index.
    assert_eq!(
        max("mb1ic1ih2kh2+indices", &[5.0, 5.0, 5.0, 5.0]),
        (vec![5.0], vec![0])
    );
    assert_eq!(
        max("mb1ic1ih2kh2+indices", &[ninf; 4]),
        (vec![ninf], vec![0])
    );
    // A NaN wins, the last one has the index.
    let (y, at) = max(
        "mb1ic1ih2kh2+indices",
        &[f64::NAN, f64::INFINITY, f64::NAN, 1.0],
    );
    assert!(y[0].is_nan());
    assert_eq!(at, [2]);
    // Windows wholly in padding.
    let (y, at) = max("mb1ic1ih2iw1kh2kw1sh2sw1ph2pw0+indices", &[1.0, 7.0]);
    assert_eq!(
        (y, at),
        (vec![ninf, 7.0, ninf], vec![NO_INDEX, 1, NO_INDEX])
    );
}

#[test]
fn means() {
    let mean = |text: &str, x: &[f64]| {
        let pool: Pool2d = text.parse().unwrap();
        (pool2d(&pool, x).unwrap().0, pool2d_abs(&pool, x).unwrap())
    };
    let x = [4.0, 8.0, -12.0, 16.0];
    assert_eq!(mean("mb1ic1ih2kh2sh2+avg_p", &x), (vec![4.0], vec![10.0]));
    assert_eq!(
        mean("mb1ic1ih2kh2ph1sh2+avg_p", &x).0,
        [1.0, 2.0, -3.0, 4.0]
    );
    assert_eq!(mean("mb1ic1ih2kh2ph1sh2+avg_np", &x).0, x);
    assert_eq!(
        mean("mb1ic1ih2kh2ph1sh2+avg_np+div-2", &x).0,
        [-2.0, -4.0, 6.0, -8.0]
    );
    // Ceil mode: the last column's window extends one column beyond the image, which the divisor
    // never counts.
    let row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    assert_eq!(
        mean("mb1ic1ih1iw6kh1kw3sh1sw2ph0pw0+avg_p+ceil", &row).0,
        [2.0, 4.0, 5.5]
    );
    // With a padding of one, padding counts in the divisor, columns beyond it do not.
    assert_eq!(
        mean("mb1ic1ih1iw6kh1kw5sh1sw4ph0pw1+avg_p+ceil", &row).0,
        [2.0, 15.0 / 4.0]
    );
    assert_eq!(
        mean("mb1ic1ih1iw6kh1kw5sh1sw4ph0pw1+avg_np+ceil", &row).0,
        [2.5, 5.0]
    );
    // A window wholly in padding: the mean of zeros if padding counts, of nothing if not.
    let tall = "mb1ic1ih2iw1kh2kw1sh2sw1ph2pw0";
    let included = mean(&format!("{tall}+avg_p"), &[3.0, 5.0]).0;
    assert_eq!(included, [0.0, 4.0, 0.0]);
    let excluded = mean(&format!("{tall}+avg_np"), &[3.0, 5.0]).0;
    assert!(excluded[0].is_nan() && excluded[1] == 4.0 && excluded[2].is_nan());
    assert_eq!(
        mean(
            "mb1ic2ih2+global_avg",
            &[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 8.0]
        )
        .0,
        [2.5, 2.0]
    );
    assert_eq!(
        mean(
            "mb1ic2ih2+global_max",
            &[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, -8.0]
        )
        .0,
        [4.0, 0.0]
    );
}

#[test]
fn adaptive_windows_overlap_and_stretch() {
    let row = |w: usize, q: usize, x: &[f64]| {
        let pool = Pool2d::builder()
            .kind(PoolKind::AdaptiveAverage { p: 1, q })
            .input(1, 1, 1, w)
            .build()
            .unwrap();
        pool2d(&pool, x).unwrap().0
    };
    // floor(i * 7 / 3) .. ceil((i + 1) * 7 / 3): 0..3, 2..5, 4..7.
    assert_eq!(
        row(7, 3, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        [1.0, 3.0, 5.0]
    );
    // Stretched from 3 to 5: 0..1, 0..2, 1..2, 1..3, 2..3.
    assert_eq!(row(3, 5, &[2.0, 4.0, 8.0]), [2.0, 3.0, 4.0, 6.0, 8.0]);
}
