//! Images and planes of more than 2^31 elements: poolings and what keeps the extents count them in 64 bits, a convolution
//! says its limit. Tensors have more than 4 GB of addresses, of which the launches touch a few pages: a slice of 8 channels of a
//! very wide tensor (NHWC), or windows far apart in a plane of 2.16e9 pixels (NCHW). Results are compared with the f64
//! reference of the small problem that holds the touched elements only; offsets that were cut to 32 bits read what was never
//! written, which the emulator reports.

mod common;

use common::{gpu, integers};
use cudarc::driver::CudaSlice;
use half::f16;
use warpconv::ops;
use warpconv::problem::{Conv2d, Pool2d, Pool2dBuilder, PoolKind, Relu, Softmax, TensorDesc};
use warpconv::{DType, Error, Layout, reference};

/// Channels of the slice, those of the tensor around it, and the first.
const C: usize = 8;
const PITCH: usize = 240_000_000;
const FIRST: usize = PITCH - C;
/// Rows, columns of the very wide plane and columns from one window to the next.
const ROWS: usize = 3;
const COLUMNS: usize = 720_000_000;
const STEP: usize = 239_000_000;

fn half(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A buffer with the runs of elements where they belong, and nothing else written.
fn sparse<'a>(len: usize, runs: impl Iterator<Item = (usize, &'a [f16])>) -> CudaSlice<f16> {
    let stream = gpu().stream();
    // SAFETY: the launches read what is written below, and any bits are a valid f16.
    let mut buffer = unsafe { stream.alloc::<f16>(len) }.unwrap();
    for (at, run) in runs {
        let mut place = buffer.slice_mut(at..at + run.len());
        stream.memcpy_htod(run, &mut place).unwrap();
    }
    buffer
}

fn download(buffer: &CudaSlice<f16>) -> Vec<f64> {
    let got = gpu().download(buffer).unwrap();
    got.iter().map(|value| value.to_f64()).collect()
}

/// Values of `pixels` NHWC pixels in the reference's order.
fn planes(values: &[f32], pixels: usize) -> Vec<f64> {
    let values = wide(values);
    (0..C)
        .flat_map(|c| (0..pixels).map(move |pixel| pixel * C + c))
        .map(|at| values[at])
        .collect()
}

/// Nine pixels, 240 million channels apart.
fn pixels(values: &[f16]) -> CudaSlice<f16> {
    let runs = values.chunks(C).enumerate();
    sparse(
        9 * PITCH,
        runs.map(|(pixel, run)| (pixel * PITCH + FIRST, run)),
    )
}

fn kinds() -> [PoolKind; 6] {
    [
        PoolKind::Max { indices: false },
        PoolKind::Max { indices: true },
        PoolKind::Average {
            count_include_pad: true,
            divisor_override: Some(4),
        },
        PoolKind::GlobalMax,
        PoolKind::GlobalAverage,
        PoolKind::AdaptiveAverage { p: 1, q: 3 },
    ]
}

fn pooled(kind: PoolKind, size: usize) -> Pool2dBuilder {
    let builder = Pool2d::builder().kind(kind).dtype(DType::F16);
    match kind.is_windowed() {
        true => builder.window(size, size),
        false => builder,
    }
}

/// Holds a pooling to the reference of `small`, whose input is `values`.
fn judge(pool: &Pool2d, small: &Pool2d, x: &CudaSlice<f16>, values: &[f64]) {
    let (want, positions) = reference::pool2d(small, values).unwrap();
    let (y, indices) = ops::pool2d(gpu(), pool, x).run().unwrap();
    let got = download(&y);
    let (pixels, c) = (pool.p() * pool.q(), pool.c());
    for (at, &want) in want.iter().enumerate() {
        let (channel, pixel) = (at / pixels, at % pixels);
        let place = match pool.layout() {
            Layout::Nchw => at,
            Layout::Nhwc => pixel * c + channel,
        };
        // Sums of small integers are exact in f32; the quotient and the result are each rounded once.
        let bound = want.abs() * 2f64.powi(-10);
        assert!(
            (got[place] - want).abs() <= bound,
            "{pool} at {at}: {} for {want}",
            got[place]
        );
        if let (Some(indices), Some(positions)) = (&indices, &positions) {
            assert_eq!(
                gpu().download(indices).unwrap()[place],
                positions[at],
                "{pool}"
            );
        }
    }
}

#[test]
fn pools_of_a_slice_of_a_very_wide_tensor() {
    let values = integers(9 * C, 3);
    let x = pixels(&half(&values));
    for kind in kinds() {
        for size in [2, 3] {
            let small = pooled(kind, size).input(1, C, 3, 3).build().unwrap();
            let pool = pooled(kind, size)
                .layout(Layout::Nhwc)
                .input(1, C, 3, 3)
                .input_slice(PITCH, FIRST)
                .build()
                .unwrap();
            judge(&pool, &small, &x, &planes(&values, 9));
        }
    }
}

#[test]
fn pools_of_a_plane_of_more_than_two_to_the_31_pixels() {
    for (kind, size, stride) in [
        (PoolKind::Max { indices: false }, 3, 1),
        (PoolKind::Max { indices: true }, 3, 2),
        (PoolKind::Max { indices: true }, 3, 3),
        (PoolKind::Max { indices: false }, 2, 2),
        (kinds()[2], 3, 1),
    ] {
        let builder = pooled(kind, size).stride(stride, STEP);
        let pool = builder.input(1, 1, ROWS, COLUMNS).build().unwrap();
        assert!(pool.input().len() > 1 << 31 && pool.q() == 4);
        let width = size * pool.q();
        let values = integers(ROWS * width, 5);
        let stored = half(&values);
        let runs = stored.chunks(size).enumerate().map(|(run, cells)| {
            let (row, window) = (run / pool.q(), run % pool.q());
            (row * COLUMNS + window * STEP, cells)
        });
        let x = sparse(pool.input().len(), runs);
        let small = pooled(kind, size).stride(stride, size);
        let small = small.input(1, 1, ROWS, width).build().unwrap();
        judge(&pool, &small, &x, &wide(&values));
    }
}

#[test]
fn what_keeps_the_extents_takes_very_wide_tensors() {
    let values = integers(9 * C, 7);
    let x = pixels(&half(&values));
    let dense = TensorDesc::new(1, C, 3, 3, Layout::Nhwc, DType::F16).unwrap();
    let input = dense.slice(PITCH, FIRST).unwrap();
    let relu = Relu::between(input.clone(), dense.clone()).unwrap();
    let got = download(&ops::relu(gpu(), &relu, &x).run().unwrap());
    assert_eq!(
        got,
        values
            .iter()
            .map(|&v| f64::from(v.max(0.0)))
            .collect::<Vec<_>>()
    );
    let softmax = Softmax::between(input, dense).unwrap();
    let got = download(&ops::softmax(gpu(), &softmax, &x).run().unwrap());
    for (pixel, (got, values)) in got.chunks(C).zip(values.chunks(C)).enumerate() {
        let total: f64 = values.iter().map(|&v| f64::from(v).exp()).sum();
        for (got, &value) in got.iter().zip(values) {
            let want = f64::from(value).exp() / total;
            // A rounding to f16 (2^-11), or to its least step where it is denormal.
            assert!(
                (got - want).abs() <= want * 2f64.powi(-10) + 2f64.powi(-25),
                "pixel {pixel}"
            );
        }
    }
}

#[test]
fn a_convolution_says_its_limit_and_the_way_out() {
    let build = |h: usize| {
        Conv2d::builder()
            .input(1, 1, h, 70_000)
            .filters(1)
            .kernel(3, 3)
            .build()
    };
    assert!(build(30_000).is_ok());
    let error = build(70_000).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                value: 4_900_000_000,
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        "one image of a convolution",
        "bands of rows",
        ": 4900000000, beyond the limit of 2147483647",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(Relu::new(1, 1, 70_000, 70_000, Layout::Nchw, DType::F16).is_ok());
}
