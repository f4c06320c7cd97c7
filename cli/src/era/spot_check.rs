//! Check of some of the processor's results against f64.

use warpconv::graph::Step;
use warpconv::launch::Unary;
use warpconv::plan::Operation;
use warpconv::problem::{Conv2d, Lrn, Pool2d};
use warpconv_testing::Random;
use warpconv_testing::reference;

use super::{Operands, foreign};
use crate::exit::Failure;

/// Number of a convolution's outputs that are compared.
const POINTS: u64 = 64;

/// Bound of the error that f32 additions cause per term, in any order: the unit roundoff.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// Compares some outputs with f64 arithmetic on the same operands. Returns their number and a
/// description of the first wrong one.
pub fn check(
    step: &Step,
    operands: &Operands,
    y: &[f32],
) -> Result<(usize, Option<String>), Failure> {
    match step {
        Step::Conv(conv) => Ok(points(conv, operands, y)),
        Step::Pool(pool) => pooled(pool, &operands.x, y).map_err(Failure::input),
        Step::Lrn(lrn) => normalised(lrn, &operands.x, y).map_err(Failure::input),
        _ => Err(foreign()),
    }
}

/// Compares outputs spread over a convolution, each within `(terms + 4) 2^-24` of the sum of its
/// terms' magnitudes.
fn points(conv: &Conv2d, operands: &Operands, y: &[f32]) -> (usize, Option<String>) {
    let mut random = Random::new(7);
    let count = POINTS.min(y.len() as u64);
    let wrong = (0..count).find_map(|_| {
        let place = random.below(y.len() as u64) as usize;
        let (want, magnitude) = point(conv, operands, place);
        let bound = (conv.filter().gemm_k() + 4) as f64 * UNIT * magnitude;
        differs(place, y[place], want, bound)
    });
    (count as usize, wrong)
}

/// One output of a convolution, and the magnitudes of its terms.
fn point(conv: &Conv2d, operands: &Operands, place: usize) -> (f64, f64) {
    let plane = conv.output().h() * conv.output().w();
    let (n, k) = (
        place / plane / conv.output().c(),
        place / plane % conv.output().c(),
    );
    let (p, q) = (place % plane / conv.output().w(), place % conv.output().w());
    let first = k / (conv.output().c() / conv.groups()) * conv.filter().c;
    let ([stride_h, stride_w], [dilation_h, dilation_w]) =
        (conv.window().stride, conv.window().dilation);
    let bias = f64::from(operands.bias[k]);
    let (mut sum, mut magnitude) = (bias, bias.abs());
    for term in 0..conv.filter().gemm_k() {
        let (c, tap) = (
            term / (conv.filter().r * conv.filter().s),
            term % (conv.filter().r * conv.filter().s),
        );
        let h = (p * stride_h + tap / conv.filter().s * dilation_h)
            .wrapping_sub(conv.window().padding.top);
        let w = (q * stride_w + tap % conv.filter().s * dilation_w)
            .wrapping_sub(conv.window().padding.left);
        if h >= conv.input().h() || w >= conv.input().w() {
            continue;
        }
        let x = operands.x
            [((n * conv.input().c() + first + c) * conv.input().h() + h) * conv.input().w() + w];
        let product = f64::from(x) * f64::from(operands.w[k * conv.filter().gemm_k() + term]);
        sum += product;
        magnitude += product.abs();
    }
    let relu = conv.relu() && sum < 0.0;
    (if relu { 0.0 } else { sum }, magnitude)
}

/// Compares the first image of a pooling, which must be exact.
fn pooled(pool: &Pool2d, x: &[f32], y: &[f32]) -> Result<(usize, Option<String>), warpconv::Error> {
    let one = pool.with_batch(1)?;
    let (want, _) = reference::pool2d(&one, &wide(x, one.input().elements()))?;
    Ok(first_wrong(y, &want, &vec![0.0; want.len()]))
}

/// Compares the first image of a normalisation, within the bound of the device's kernel, whose
/// arithmetic is nearly the same.
fn normalised(lrn: &Lrn, x: &[f32], y: &[f32]) -> Result<(usize, Option<String>), warpconv::Error> {
    let one = lrn.with_batch(1)?;
    let x = wide(x, one.input().elements());
    let want = reference::lrn(&one, &x)?;
    Ok(first_wrong(y, &want, &reference::lrn_bound(&one, &x)?))
}

fn wide(values: &[f32], len: usize) -> Vec<f64> {
    values[..len.min(values.len())]
        .iter()
        .map(|&value| f64::from(value))
        .collect()
}

fn first_wrong(y: &[f32], want: &[f64], bounds: &[f64]) -> (usize, Option<String>) {
    let all = y.iter().zip(want).zip(bounds).enumerate();
    let wrong = all
        .map(|(place, ((&y, &want), &bound))| differs(place, y, want, bound))
        .find_map(|wrong| wrong);
    (want.len().min(y.len()), wrong)
}

fn differs(place: usize, got: f32, want: f64, bound: f64) -> Option<String> {
    // `<=` is false for NaN.
    let agrees = (f64::from(got) - want).abs() <= bound;
    (!agrees).then(|| {
        format!("processor: output {place} is {got:e}, expected {want:e} within {bound:.1e}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_output_is_found() {
        let conv = Conv2d::builder().input(1, 2, 3, 3).filters(2).kernel(2, 2);
        let conv = conv.bias(true).build().expect("a valid convolution");
        let operands = Operands {
            x: vec![1.0; 18],
            w: vec![0.5; 16],
            bias: vec![1.0, 2.0],
        };
        let mut y = vec![5.0; 4];
        y.extend([6.0; 4]);
        assert_eq!(points(&conv, &operands, &y), (8, None));
        for wrong in [f32::NAN, 5.0001] {
            y[..4].fill(wrong);
            let (_, found) = points(&conv, &operands, &y);
            assert!(found.expect("wrong").contains("expected 5e0"));
        }
    }
}
