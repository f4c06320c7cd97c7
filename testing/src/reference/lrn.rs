//! Local response normalisation by its definition, and error bounds of f32 arithmetic.

use std::ops::Range;

use super::{LEAST, UNIT, expect_len, for_each_plane};
use warpconv::error::Error;
use warpconv::launch::Unary;
use warpconv::problem::{Lrn, LrnParameters};

/// The output of a local response normalisation, dense NCHW. `x` is the input in NCHW.
///
/// # Errors
/// [`Error::Length`] if `x` does not have the problem's number of elements.
pub fn lrn(problem: &Lrn, x: &[f64]) -> Result<Vec<f64>, Error> {
    each(problem, x, |_, y| y)
}

/// Bound of the output's distance from [`lrn`]'s before it is rounded to the storage type, for
/// exact `x`: `(|beta| d + p) 2^-24 |y|`. `d = size + 4` counts the roundings of the base (its
/// terms, its constants and the last addition), `p` those of the power and the operations after it.
///
/// With beta = 3/4 the kernel computes `r = rsqrtf(base)`, at most 2 ulp from the correctly rounded
/// result, and `x (r sqrtf(r))`: p = 5 + 5/2 + 3. Otherwise it computes `x / powf(base, beta)`, at
/// most 4 ulp from the correctly rounded result. Rounding beta to f32 adds an error proportional to
/// the logarithm of the base: p = 9 + 1 + |beta ln(base)|. The figures are those of NVIDIA's CUDA
/// Programming Guide (sections 5.5.7 and 5.5.8 of the edition for CUDA 13, mathematical functions)
/// without fast math, the largest observed. The correctly rounded result itself is half an ulp off,
/// and an ulp is at most 2^-23 of a number. Square roots and divisions are correctly rounded.
///
/// # Errors
/// As [`lrn`].
pub fn lrn_bound(problem: &Lrn, x: &[f64]) -> Result<Vec<f64>, Error> {
    let parameters = problem.parameters();
    let base_roundings = parameters.size.min(problem.input().c()) as f64 + 4.0;
    each(problem, x, |base, y| {
        let power = if parameters.beta == 0.75 {
            10.5
        } else {
            10.0 + (parameters.beta * base.ln()).abs()
        };
        // Loss of squares below the least number of f32, which matters where the base is not much
        // larger.
        let lost = base_roundings * LEAST / base;
        let base_error = parameters.beta.abs() * (base_roundings * UNIT + lost);
        // The factor 1.01 covers products of errors.
        1.01 * y.abs() * (base_error + power * UNIT) + LEAST
    })
}

/// The channels, of `channels`, whose squares go into channel `c`'s sum.
pub fn lrn_window(parameters: &LrnParameters, c: usize, channels: usize) -> Range<usize> {
    let before = parameters.size / 2;
    let end = c.saturating_add(parameters.size - before).min(channels);
    c.saturating_sub(before)..end
}

/// Calls `value(base, y)` for every element; base is what is raised to the power.
fn each(
    problem: &Lrn,
    x: &[f64],
    value: impl Fn(f64, f64) -> f64 + Sync,
) -> Result<Vec<f64>, Error> {
    expect_len("input", x, problem.input().elements())?;
    let parameters = problem.parameters();
    let plane = problem.input().h() * problem.input().w();
    let mut result = vec![0.0; x.len()];
    for_each_plane(&mut result, problem.input().c() * plane, |image, result| {
        let x = &x[image * problem.input().c() * plane..][..problem.input().c() * plane];
        for (place, result) in result.iter_mut().enumerate() {
            let (channel, pixel) = (place / plane, place % plane);
            let window = lrn_window(&parameters, channel, problem.input().c());
            let squares: f64 = window.map(|c| x[c * plane + pixel].powi(2)).sum();
            let base = parameters.k + parameters.alpha / parameters.size as f64 * squares;
            *result = value(base, x[place] / base.powf(parameters.beta));
        }
    });
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpconv::problem::{LrnParameters, TensorDesc};
    use warpconv::{DType, Layout};

    fn of(c: usize, parameters: LrnParameters) -> Lrn {
        TensorDesc::new([1, c, 1, 1], Layout::Nchw, DType::F32)
            .and_then(|x| Lrn::new(&x, &x, parameters))
            .expect("a valid problem")
    }

    #[test]
    fn a_window_is_clipped_and_its_size_is_not() {
        let parameters = LrnParameters {
            size: 3,
            alpha: 3.0,
            beta: 1.0,
            k: 1.0,
        };
        let y = lrn(&of(3, parameters), &[1.0, 2.0, 3.0]).expect("a result");
        assert_eq!(y, [1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]);
    }

    #[test]
    fn an_even_window_looks_back_further() {
        // torch.nn.LocalResponseNorm(2, alpha=2, beta=1, k=0) of [1, 2, 3]: 1 / 1, 2 / 5, 3 / 13.
        let parameters = LrnParameters {
            size: 2,
            alpha: 2.0,
            beta: 1.0,
            k: 0.0,
        };
        let y = lrn(&of(3, parameters), &[1.0, 2.0, 3.0]).expect("a result");
        assert_eq!(y, [1.0, 2.0 / 5.0, 3.0 / 13.0]);
    }
}
