//! Pooling by its definition.

use super::{expect_len, for_each_plane};
use std::ops::Range;
use warpconv::error::Error;
use warpconv::problem::{NO_INDEX, Pool2d, PoolKind};

/// The output of a pooling and, if the problem has them, the indices of the maxima, both dense
/// NCHW. `x` is the input in NCHW.
///
/// # Errors
/// [`Error::Length`] if `x` does not have the problem's number of elements.
pub fn pool2d(pool: &Pool2d, x: &[f64]) -> Result<(Vec<f64>, Option<Vec<u8>>), Error> {
    expect_len("input", x, pool.input().elements())?;
    let mut results = vec![(0.0, NO_INDEX); pool.output().elements()];
    let input = pool.input().h() * pool.input().w();
    for_each_plane(
        &mut results,
        pool.output().h() * pool.output().w(),
        |plane, results| {
            let x = &x[plane * input..(plane + 1) * input];
            for (pixel, result) in results.iter_mut().enumerate() {
                let windows = windows(pool, pixel / pool.output().w(), pixel % pool.output().w());
                *result = match pool.kind() {
                    PoolKind::Max { .. } | PoolKind::GlobalMax => maximum(pool, x, &windows),
                    PoolKind::Average { .. }
                    | PoolKind::GlobalAverage
                    | PoolKind::AdaptiveAverage { .. } => (mean(pool, x, &windows), NO_INDEX),
                };
            }
        },
    );
    let indices = pool
        .indices()
        .then(|| results.iter().map(|&(_, index)| index).collect());
    Ok((
        results.into_iter().map(|(value, _)| value).collect(),
        indices,
    ))
}

/// The pooling of magnitudes: for a mean `sum |x| / |divisor|`, to which its rounding error is
/// proportional. Maxima are exact and do not need it; for them it is the pooling of `|x|`.
///
/// # Errors
/// As [`pool2d`].
pub fn pool2d_abs(pool: &Pool2d, x: &[f64]) -> Result<Vec<f64>, Error> {
    let magnitudes: Vec<f64> = x.iter().map(|x| x.abs()).collect();
    let (means, _) = pool2d(pool, &magnitudes)?;
    Ok(means.into_iter().map(f64::abs).collect())
}

/// A window along one axis.
struct Window {
    /// The position of tap 0, relative to the first element of the image.
    start: i64,
    /// Number of taps.
    taps: usize,
    dilation: i64,
    /// Taps within the image.
    inside: Range<usize>,
    /// Taps within the image or its padding.
    padded: usize,
}

/// The windows of output (p, q): rows, columns.
fn windows(pool: &Pool2d, p: usize, q: usize) -> [Window; 2] {
    let pad = pool.window().padding;
    let (sides, output) = ([(pad.top, pad.bottom), (pad.left, pad.right)], [p, q]);
    let [input, outputs] = [
        [pool.input().h(), pool.input().w()],
        [pool.output().h(), pool.output().w()],
    ];
    std::array::from_fn(|i| match pool.kind() {
        PoolKind::AdaptiveAverage { .. } => {
            let start = output[i] * input[i] / outputs[i];
            let end = ((output[i] + 1) * input[i]).div_ceil(outputs[i]);
            let taps = end - start;
            Window {
                start: start as i64,
                taps,
                dilation: 1,
                inside: 0..taps,
                padded: taps,
            }
        }
        PoolKind::Max { .. }
        | PoolKind::Average { .. }
        | PoolKind::GlobalMax
        | PoolKind::GlobalAverage => {
            let (before, after) = sides[i];
            let taps = [pool.window().kernel[0], pool.window().kernel[1]][i];
            let dilation = pool.window().dilation[i] as i64;
            let start = (output[i] * pool.window().stride[i]) as i64 - before as i64;
            let below = |limit: i64| {
                ((limit - start).max(0) as u64)
                    .div_ceil(dilation as u64)
                    .min(taps as u64)
            };
            let inside = below(0) as usize..below(input[i] as i64) as usize;
            let padded = below((input[i] + after) as i64) as usize;
            Window {
                start,
                taps,
                dilation,
                inside,
                padded,
            }
        }
    })
}

/// Calls `visit(tap, value)` for the elements of the image in the window, in row-major order; `tap`
/// counts all taps.
fn visit(
    pool: &Pool2d,
    x: &[f64],
    [rows, columns]: &[Window; 2],
    mut visit: impl FnMut(usize, f64),
) {
    for r in rows.inside.clone() {
        let h = (rows.start + r as i64 * rows.dilation) as usize;
        for s in columns.inside.clone() {
            let w = (columns.start + s as i64 * columns.dilation) as usize;
            visit(r * columns.taps + s, x[h * pool.input().w() + w]);
        }
    }
}

/// The first maximum, or the last NaN, and its tap.
fn maximum(pool: &Pool2d, x: &[f64], windows: &[Window; 2]) -> (f64, u8) {
    let mut best = (f64::NEG_INFINITY, None);
    visit(pool, x, windows, |tap, value| {
        if best.1.is_none() || value > best.0 || value.is_nan() {
            best = (value, Some(tap));
        }
    });
    // Only windows of at most 255 positions have indices; those of others are never read.
    (best.0, best.1.map_or(NO_INDEX, |tap| tap as u8))
}

fn mean(pool: &Pool2d, x: &[f64], windows: &[Window; 2]) -> f64 {
    let mut sum = 0.0;
    visit(pool, x, windows, |_, value| sum += value);
    let [rows, columns] = windows;
    let inside = rows.inside.len() * columns.inside.len();
    match pool.kind() {
        PoolKind::Average {
            divisor_override: Some(divisor),
            ..
        } => sum / f64::from(divisor),
        PoolKind::Average {
            count_include_pad: true,
            ..
        } => sum / (rows.padded * columns.padded) as f64,
        _ => sum / inside as f64,
    }
}
