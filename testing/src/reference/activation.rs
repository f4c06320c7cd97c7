//! Softmax, the scaled hyperbolic tangent and trainable subsampling by their definitions, and error
//! bounds of f32 arithmetic.
//!
//! The bounds follow NVIDIA's CUDA Programming Guide (section 5.5.7 of the edition for CUDA 13,
//! mathematical functions). Without fast math, `expf` and `tanhf` differ by at most 2 ulp from the
//! correctly rounded result, whose own error is half an ulp. The sum is 5 units of 2^-24, since an
//! ulp is at most 2^-23 of a number. The guide calls these the largest differences observed, not
//! guaranteed. Additions, multiplications and divisions are correctly rounded, to 2^-24.

use super::{LEAST, UNIT, expect_len, for_each_plane, rectify};
use warpconv::error::Error;
use warpconv::launch::Unary;
use warpconv::problem::{Activation, Softmax, Subsample, Tanh};

/// The output of a softmax over channels, dense NCHW. `x` is the input in NCHW.
///
/// # Errors
/// [`Error::Length`] if `x` does not have the problem's number of elements.
pub fn softmax(problem: &Softmax, x: &[f64]) -> Result<Vec<f64>, Error> {
    rows(problem, x, |_, y, _| y)
}

/// Bound of the output's distance from [`softmax`]'s before it is rounded to the storage type, for
/// exact `x`: `(t[c] + sum_j y[j] t[j] + d + 11) 2^-24 y[c]` with `t[c] = max - x[c]`. The
/// difference from the maximum is rounded, so that its exponential has a relative error of `t[c]`
/// units; the terms of the sum contribute theirs, weighted. Each of the two exponentials adds 5
/// units, the division one. `d` is the most additions that a term passes through: those of `c`
/// terms over at least eight threads, and 16 to combine the threads.
///
/// # Errors
/// As [`softmax`].
pub fn softmax_bound(problem: &Softmax, x: &[f64]) -> Result<Vec<f64>, Error> {
    let depth = (problem.input().c().div_ceil(8) + 16) as f64;
    rows(problem, x, |below, y, mean_below| {
        let units = below + mean_below + depth + 11.0;
        // The factor 1.01 covers products of errors; values near the least number of f32 lose their
        // last bits.
        1.01 * units * UNIT * y + 4.0 * LEAST
    })
}

/// Calls `value(max - x[c], y[c], sum_j y[j] (max - x[j]))` for every element.
fn rows(
    problem: &Softmax,
    x: &[f64],
    value: impl Fn(f64, f64, f64) -> f64 + Sync,
) -> Result<Vec<f64>, Error> {
    expect_len("input", x, problem.input().elements())?;
    let (c, plane) = (
        problem.input().c(),
        problem.input().h() * problem.input().w(),
    );
    let mut result = vec![0.0; x.len()];
    for_each_plane(&mut result, c * plane, |image, result| {
        let x = &x[image * c * plane..][..c * plane];
        for pixel in 0..plane {
            let row = || x.iter().skip(pixel).step_by(plane);
            let largest = row().fold(f64::NEG_INFINITY, |largest, &x| largest.max(x));
            let total: f64 = row().map(|x| (x - largest).exp()).sum();
            // An exponential of 0 contributes nothing, even for an infinite difference.
            let part = |x: f64| match ((x - largest).exp() / total, largest - x) {
                (0.0, _) => (0.0, 0.0),
                (y, below) => (y, below),
            };
            let mean: f64 = row().map(|&x| part(x)).map(|(y, below)| y * below).sum();
            for channel in 0..c {
                let place = channel * plane + pixel;
                let (y, below) = part(x[place]);
                result[place] = value(below, y, mean);
            }
        }
    });
    Ok(result)
}

/// `amplitude tanh(slope x)` of every element.
pub fn tanh(problem: &Tanh, x: &[f64]) -> Vec<f64> {
    let [amplitude, slope] = problem.scale();
    x.iter().map(|x| amplitude * (slope * x).tanh()).collect()
}

/// Bound of the output's distance from [`tanh`]'s before it is rounded to the storage type, for
/// exact `x`: `9 * 2^-24 |y|`. The slope and its product add two units, which tanh does not
/// amplify; `tanhf` adds five, the amplitude and its product two.
pub fn tanh_bound(problem: &Tanh, x: &[f64]) -> Vec<f64> {
    let [amplitude, slope] = problem.scale().map(f64::abs);
    let lost = amplitude * (slope + 2.0) * LEAST;
    tanh(problem, x)
        .into_iter()
        .map(|y| 1.01 * 9.0 * UNIT * y.abs() + lost + LEAST)
        .collect()
}

/// The output of a trainable subsampling, dense NCHW. `x` is the input in NCHW; coefficients and
/// biases are one per channel.
///
/// # Errors
/// [`Error::Length`] if an operand does not have the problem's number of elements.
pub fn subsample(
    problem: &Subsample,
    x: &[f64],
    coefficient: &[f64],
    bias: &[f64],
) -> Result<Vec<f64>, Error> {
    windows(problem, x, coefficient, bias, |before, _| {
        activated(problem.activation(), before)
    })
}

/// Bound of the output's distance from [`subsample`]'s before it is rounded to the storage type,
/// for exact operands. Before the activation it is `(r s + 3) 2^-24` of the sum of the magnitudes:
/// the window's additions, the division, the fused multiply-add. tanh multiplies that by at most
/// amplitude times slope, and adds the bound of [`tanh_bound`].
///
/// # Errors
/// As [`subsample`].
pub fn subsample_bound(
    problem: &Subsample,
    x: &[f64],
    coefficient: &[f64],
    bias: &[f64],
) -> Result<Vec<f64>, Error> {
    let [r, s] = problem.window().kernel;
    let roundings = (r * s + 3) as f64;
    windows(problem, x, coefficient, bias, |before, magnitude| {
        let linear = 1.01 * roundings * (UNIT * magnitude + LEAST);
        match problem.activation() {
            Activation::Identity | Activation::Relu => linear,
            Activation::Tanh { amplitude, slope } => {
                let y = activated(problem.activation(), before);
                let lost = amplitude.abs() * (slope.abs() + 2.0) * LEAST;
                (amplitude * slope).abs() * linear + 1.01 * 9.0 * UNIT * y.abs() + lost + LEAST
            }
        }
    })
}

fn activated(activation: Activation, value: f64) -> f64 {
    match activation {
        Activation::Identity => value,
        Activation::Relu => rectify(value),
        Activation::Tanh { amplitude, slope } => amplitude * (slope * value).tanh(),
    }
}

/// Calls `value(before the activation, sum of magnitudes)` for every output.
fn windows(
    problem: &Subsample,
    x: &[f64],
    coefficient: &[f64],
    bias: &[f64],
    value: impl Fn(f64, f64) -> f64 + Sync,
) -> Result<Vec<f64>, Error> {
    let (input, output) = (problem.input(), problem.output());
    expect_len("input", x, input.elements())?;
    expect_len("coefficient", coefficient, problem.input().c())?;
    expect_len("bias", bias, problem.input().c())?;
    let ([r, s], [stride_h, stride_w]) = (problem.window().kernel, problem.window().stride);
    let (plane, divisor) = (input.h() * input.w(), problem.divisor() as f64);
    let mut result = vec![0.0; output.elements()];
    for_each_plane(
        &mut result,
        problem.output().h() * problem.output().w(),
        |index, result| {
            let channel = index % problem.input().c();
            let x = &x[index * plane..][..plane];
            for (place, result) in result.iter_mut().enumerate() {
                let (p, q) = (place / problem.output().w(), place % problem.output().w());
                let (mut sum, mut magnitude) = (0.0, 0.0);
                for row in p * stride_h..p * stride_h + r {
                    for &x in &x[row * input.w() + q * stride_w..][..s] {
                        sum += x;
                        magnitude += x.abs();
                    }
                }
                let (coefficient, bias) = (coefficient[channel], bias[channel]);
                *result = value(
                    coefficient * (sum / divisor) + bias,
                    coefficient.abs() * (magnitude / divisor) + bias.abs(),
                );
            }
        },
    );
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use warpconv::problem::TensorDesc;
    use warpconv::{DType, Layout};

    #[test]
    fn softmax_of_the_special_values_is_pytorchs() {
        let of = |x: &[f64]| {
            let problem = TensorDesc::new([1, x.len(), 1, 1], Layout::Nchw, DType::F32)
                .and_then(|x| Softmax::new(&x, &x));
            softmax(&problem.expect("a valid problem"), x).expect("a result")
        };
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert_eq!(of(&[-inf, 0.0, 0.0]), [0.0, 0.5, 0.5]);
        for row in [[inf, 0.0, 1.0], [nan, 0.0, 1.0], [-inf, -inf, -inf]] {
            assert!(of(&row).iter().all(|y| y.is_nan()), "{row:?}");
        }
        let sum: f64 = of(&[700.0, 710.0, 720.0]).iter().sum();
        assert_abs_diff_eq!(sum, 1.0, epsilon = 1e-15);
    }

    #[test]
    fn a_subsampling_is_a_weighted_sum() {
        let builder = Subsample::builder().kernel(2, 2).stride(2, 2);
        let sums = builder.input(1, 2, 2, 3);
        let means = sums.clone().mean(true).build().expect("a valid problem");
        let sums = sums.build().expect("a valid problem");
        let x = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0, 5.0, 6.0, 9.0, 7.0, 8.0, 9.0];
        let y = subsample(&sums, &x, &[2.0, -1.0], &[0.5, 1.0]);
        assert_eq!(y, Ok(vec![20.5, -25.0]));
        let y = subsample(&means, &x, &[2.0, -1.0], &[0.5, 1.0]);
        assert_eq!(y, Ok(vec![5.5, -5.5]));
    }
}
