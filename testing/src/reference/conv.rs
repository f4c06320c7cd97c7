//! Convolution by its definition.

use super::{expect_len, for_each_plane, rectify};
use std::ops::Range;
use warpconv::error::Error;
use warpconv::problem::Conv2d;

/// The output of a convolution, epilogue included, dense NCHW.
///
/// `x` is the input in NCHW, `w` the filters in KCRS; `bias` and `residual` (NCHW) are given
/// exactly if the problem has them. Padding is multiplied as zeros: over padding, an infinite or
/// NaN weight gives NaN.
///
/// # Errors
/// [`Error::Length`] if a slice does not have the problem's number of elements.
pub fn conv2d(
    conv: &Conv2d,
    x: &[f64],
    w: &[f64],
    bias: Option<&[f64]>,
    residual: Option<&[f64]>,
) -> Result<Vec<f64>, Error> {
    check(conv, x, w, bias, residual)?;
    let mut y = sums(conv, x, w, bias, residual);
    if conv.relu() {
        y.iter_mut().for_each(|y| *y = rectify(*y));
    }
    Ok(y)
}

/// The sum of the magnitudes that each output adds up: `sum |x| |w| + |bias| + |residual|`, dense
/// NCHW.
///
/// The rounding error of an output is bounded by a small multiple of this sum: see
/// [`Tolerance`](crate::Tolerance).
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_abs(
    conv: &Conv2d,
    x: &[f64],
    w: &[f64],
    bias: Option<&[f64]>,
    residual: Option<&[f64]>,
) -> Result<Vec<f64>, Error> {
    check(conv, x, w, bias, residual)?;
    let abs = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    let [bias, residual] = [bias.map(abs), residual.map(abs)];
    Ok(sums(
        conv,
        &abs(x),
        &abs(w),
        bias.as_deref(),
        residual.as_deref(),
    ))
}

fn check(
    conv: &Conv2d,
    x: &[f64],
    w: &[f64],
    bias: Option<&[f64]>,
    residual: Option<&[f64]>,
) -> Result<(), Error> {
    expect_len("input", x, conv.input().elements())?;
    expect_len("filters", w, conv.filter().elements())?;
    let biases = if conv.bias() { conv.output().c() } else { 0 };
    expect_len("bias", bias.unwrap_or(&[]), biases)?;
    let residuals = conv.residual().map_or(0, |_| conv.output().elements());
    expect_len("residual", residual.unwrap_or(&[]), residuals)
}

/// The output before the ReLU.
fn sums(
    conv: &Conv2d,
    x: &[f64],
    w: &[f64],
    bias: Option<&[f64]>,
    residual: Option<&[f64]>,
) -> Vec<f64> {
    let mut y = vec![0.0; conv.output().elements()];
    let pixels = conv.output().h() * conv.output().w();
    for_each_plane(&mut y, pixels, |plane, y| {
        let (image, k) = (plane / conv.output().c(), plane % conv.output().c());
        let start = bias.map_or(0.0, |bias| bias[k]);
        match residual {
            Some(residual) => y
                .iter_mut()
                .zip(&residual[plane * pixels..])
                .for_each(|(y, r)| *y = start + r),
            None => y.fill(start),
        }
        accumulate(conv, x, w, image, k, y);
    });
    y
}

/// Adds all taps of filter `k` over image `image` to the plane `y`.
fn accumulate(conv: &Conv2d, x: &[f64], w: &[f64], image: usize, k: usize, y: &mut [f64]) {
    let plane = conv.input().h() * conv.input().w();
    let group = k / (conv.output().c() / conv.groups());
    let pad = conv.window().padding;
    let rows = valid(
        conv.filter().r,
        conv.output().h(),
        conv.input().h(),
        pad.top,
        conv.window().stride[0],
        conv.window().dilation[0],
    );
    let columns = valid(
        conv.filter().s,
        conv.output().w(),
        conv.input().w(),
        pad.left,
        conv.window().stride[1],
        conv.window().dilation[1],
    );
    let weights = w[k * conv.filter().gemm_k()..].chunks(conv.filter().r * conv.filter().s);
    for (c, weights) in weights.take(conv.filter().c).enumerate() {
        let channel = image * conv.input().c() + group * conv.filter().c + c;
        let x = &x[channel * plane..(channel + 1) * plane];
        for (tap, &weight) in weights.iter().enumerate() {
            let (r, s) = (tap / conv.filter().s, tap % conv.filter().s);
            tap_over_plane(conv, x, weight, &rows[r], &columns[s], y);
        }
    }
}

/// Valid range of a tap: the outputs for which it lies within the image, and the input of the first
/// of them.
struct Meets {
    outputs: Range<usize>,
    first: usize,
}

/// The valid range of every tap of an axis.
fn valid(
    taps: usize,
    outputs: usize,
    input: usize,
    before: usize,
    stride: usize,
    dilation: usize,
) -> Vec<Meets> {
    (0..taps)
        .map(|tap| {
            // Output o reads input o * stride + tap * dilation - before.
            let shift = tap * dilation;
            let start = before.saturating_sub(shift).div_ceil(stride).min(outputs);
            let end = match (input + before).checked_sub(shift + 1) {
                Some(last) => (last / stride + 1).min(outputs),
                None => 0,
            };
            let outputs = start..end.max(start);
            let first = if outputs.is_empty() {
                0
            } else {
                start * stride + shift - before
            };
            Meets { outputs, first }
        })
        .collect()
}

/// Adds one tap to the plane.
fn tap_over_plane(
    conv: &Conv2d,
    x: &[f64],
    weight: f64,
    rows: &Meets,
    columns: &Meets,
    y: &mut [f64],
) {
    let [stride_h, stride_w] = conv.window().stride;
    for (p, y) in y.chunks_mut(conv.output().w()).enumerate() {
        let inside = rows.outputs.contains(&p);
        if inside && !columns.outputs.is_empty() {
            let h = rows.first + (p - rows.outputs.start) * stride_h;
            let x = &x[h * conv.input().w() + columns.first..];
            let y = &mut y[columns.outputs.clone()];
            if stride_w == 1 {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
            } else {
                y.iter_mut()
                    .zip(x.iter().step_by(stride_w))
                    .for_each(|(y, x)| *y += weight * x);
            }
        }
        if !weight.is_finite() {
            let padding = |q: &usize| !(inside && columns.outputs.contains(q));
            (0..y.len()).filter(padding).for_each(|q| y[q] = f64::NAN);
        }
    }
}
