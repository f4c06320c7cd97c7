//! Images and planes of more than 2^31 elements: poolings and what keeps the extents count them in
//! 64 bits, a convolution says its limit. Tensors have more than 4 GB of addresses, of which the
//! launches touch a few pages: a slice of 8 channels of a very wide tensor (NHWC), or windows far
//! apart in a plane of 2.16e9 pixels (NCHW). Results are compared with the f64 reference of the
//! small problem that holds the touched elements only; offsets that were cut to 32 bits read what
//! was never written, which the emulator reports.
//!
//! Not here: LRN and tanh of more than 2^31 elements, all of which they would have to compute (2e9
//! of them, some minutes of the emulator); what is here are their offsets beyond 2^31, within an
//! image and from one image to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::common::{gpu, integers};
use cudarc::driver::CudaSlice;
use half::f16;
use warpconv::ops;
use warpconv::problem::{
    Activation, Builder, Conv2d, Lrn, LrnParameters, Pool2d, PoolKind, Relu, Softmax, Subsample,
    Tanh, TensorDesc,
};
use warpconv::{DType, Error, Layout};
use warpconv_testing::reference;

/// Channels of the slice, those of the tensor around it, and the first.
const C: usize = 8;
const PITCH: usize = 240_000_000;
const FIRST: usize = PITCH - C;
/// Rows, columns of the very wide plane and columns from one window to the next.
const ROWS: usize = 3;
const COLUMNS: usize = 720_000_000;
const STEP: usize = 239_000_000;

/// One test at a time: each takes up to 11 GB of addresses, and the device has no more than the
/// machine has memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

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

fn pooled(kind: PoolKind, size: usize) -> Builder<Pool2d> {
    let builder = Pool2d::builder().kind(kind).dtype(DType::F16);
    match matches!(kind, PoolKind::Max { .. } | PoolKind::Average { .. }) {
        true => builder.kernel(size, size),
        false => builder,
    }
}

/// Holds a pooling to the reference of `small`, whose input is `values`.
fn run_and_compare(pool: &Pool2d, small: &Pool2d, x: &CudaSlice<f16>, values: &[f64]) {
    let (want, positions) = reference::pool2d(small, values).unwrap();
    let (y, indices) = ops::pool2d(gpu(), pool, x).unwrap();
    let got = download(&y);
    let (pixels, c) = (pool.output().h() * pool.output().w(), pool.input().c());
    for (at, &want) in want.iter().enumerate() {
        let (channel, pixel) = (at / pixels, at % pixels);
        let place = match pool.input().layout() {
            Layout::Nchw => at,
            Layout::Nhwc => pixel * c + channel,
        };
        // Sums of small integers are exact in f32; the quotient and the result are each rounded
        // once.
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
    let _alone = alone();
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
            run_and_compare(&pool, &small, &x, &planes(&values, 9));
        }
    }
}

#[test]
fn pools_of_a_plane_of_more_than_two_to_the_31_pixels() {
    let _alone = alone();
    for (kind, size, stride) in [
        (PoolKind::Max { indices: false }, 3, 1),
        (PoolKind::Max { indices: true }, 3, 2),
        (PoolKind::Max { indices: true }, 3, 3),
        (PoolKind::Max { indices: false }, 2, 2),
        (kinds()[2], 3, 1),
    ] {
        let builder = pooled(kind, size).stride(stride, STEP);
        let pool = builder.input(1, 1, ROWS, COLUMNS).build().unwrap();
        assert!(pool.input().len() > 1 << 31 && pool.output().w() == 4);
        let width = size * pool.output().w();
        let values = integers(ROWS * width, 5);
        let stored = half(&values);
        let runs = stored.chunks(size).enumerate().map(|(run, cells)| {
            let (row, window) = (run / pool.output().w(), run % pool.output().w());
            (row * COLUMNS + window * STEP, cells)
        });
        let x = sparse(pool.input().len(), runs);
        let small = pooled(kind, size).stride(stride, size);
        let small = small.input(1, 1, ROWS, width).build().unwrap();
        run_and_compare(&pool, &small, &x, &wide(&values));
    }
}

#[test]
fn what_keeps_the_extents_takes_very_wide_tensors() {
    let _alone = alone();
    let values = integers(9 * C, 7);
    let x = pixels(&half(&values));
    let dense = TensorDesc::new([1, C, 3, 3], Layout::Nhwc, DType::F16).unwrap();
    let input = dense.slice(PITCH, FIRST).unwrap();
    let relu = Relu::new(&input, &dense).unwrap();
    let got = download(&ops::unary(gpu(), &relu, &x).unwrap());
    assert_eq!(
        got,
        values
            .iter()
            .map(|&v| f64::from(v.max(0.0)))
            .collect::<Vec<_>>()
    );
    let softmax = Softmax::new(&input, &dense).unwrap();
    let got = download(&ops::unary(gpu(), &softmax, &x).unwrap());
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

/// A few elements of a tensor of more than 2^31.
struct Slice {
    /// The elements, dense and within the wide tensor.
    dense: TensorDesc,
    input: TensorDesc,
    x: CudaSlice<f16>,
    /// The elements in the reference's order.
    values: Vec<f64>,
}

/// NHWC: nine pixels, 240 million channels apart; NCHW: three images, 1.08e9 elements apart.
fn slices() -> [Slice; 2] {
    let desc = |n, layout| TensorDesc::new([n, C, 3, 3], layout, DType::F16).unwrap();
    let (pixel, image) = (desc(1, Layout::Nhwc), desc(3, Layout::Nchw));
    let values = integers(9 * C, 7);
    let (between, plane) = (PITCH / 2, 9);
    let images = integers(3 * C * plane, 11);
    let stored = half(&images);
    let runs = stored.chunks(C * plane).enumerate().map(|(number, run)| {
        let before = number * between + between - C;
        (before * plane, run)
    });
    [
        Slice {
            input: pixel.slice(PITCH, FIRST).unwrap(),
            dense: pixel,
            x: pixels(&half(&values)),
            values: planes(&values, 9),
        },
        Slice {
            input: image.slice(between, between - C).unwrap(),
            dense: image,
            x: sparse(3 * between * plane, runs),
            values: wide(&images),
        },
    ]
}

/// Holds a dense result to the reference's: `bounds` before the rounding to f16 (2^-11, or half of
/// its least step).
fn near(y: &CudaSlice<f16>, layout: Layout, want: &[f64], bounds: &[f64]) {
    let got = download(y);
    assert_eq!(got.len(), want.len());
    for (at, (want, bound)) in want.iter().zip(bounds).enumerate() {
        let place = match layout {
            Layout::Nchw => at,
            Layout::Nhwc => at % (got.len() / C) * C + at / (got.len() / C),
        };
        let allowed = bound + (want.abs() + bound) * 2f64.powi(-11) + 2f64.powi(-25);
        let off = (got[place] - want).abs();
        assert!(
            off <= allowed,
            "{layout:?} at {at}: {} for {want}",
            got[place]
        );
    }
}

#[test]
fn lrn_and_tanh_take_slices_of_very_wide_tensors() {
    let _alone = alone();
    let strong = LrnParameters {
        alpha: 1.0,
        ..warpconv_nets::GOOGLENET_LRN
    };
    for slice in slices() {
        let (layout, small) = (slice.dense.layout(), slice.dense.clone());
        let (input, x, values) = (&slice.input, &slice.x, &slice.values[..]);
        // Five channels stay in registers, windows of another size are summed from memory.
        for size in [5, 4] {
            let parameters = LrnParameters { size, ..strong };
            let lrn = Lrn::new(input, &small, parameters).unwrap();
            let y = ops::unary(gpu(), &lrn, x).unwrap();
            let dense = Lrn::new(&small, &small, parameters).unwrap();
            let want = reference::lrn(&dense, values).unwrap();
            near(
                &y,
                layout,
                &want,
                &reference::lrn_bound(&dense, values).unwrap(),
            );
        }
        let [amplitude, slope] = warpconv_nets::LENET5_TANH;
        let tanh = Tanh::new(input, &small, [amplitude, slope]).unwrap();
        let y = ops::unary(gpu(), &tanh, x).unwrap();
        let bounds = reference::tanh_bound(&tanh, values);
        near(&y, layout, &reference::tanh(&tanh, values), &bounds);
    }
}

/// A subsampling with LeNet-5's tangent.
fn subsampling([n, c, h, w]: [usize; 4], layout: Layout, stride: [usize; 2]) -> Subsample {
    let [amplitude, slope] = warpconv_nets::LENET5_TANH;
    Subsample::builder()
        .input(n, c, h, w)
        .layout(layout)
        .dtype(DType::F16)
        .kernel(3, 2)
        .stride(stride[0], stride[1])
        .activation(Activation::Tanh { amplitude, slope })
        .build()
        .unwrap()
}

/// Holds a subsampling to the reference of `small`, whose input is `values`.
fn judge_subsampling(problem: &Subsample, small: &Subsample, x: &CudaSlice<f16>, values: &[f64]) {
    // Small enough for the tangent not to be 1 everywhere; exact in f16.
    let operand = |seed| {
        let scaled = integers(small.input().c(), seed)
            .into_iter()
            .map(|v| v / 32.0);
        scaled.collect::<Vec<f32>>()
    };
    let (coefficient, bias) = (operand(13), operand(17));
    let device = |values: &[f32]| gpu().upload(&half(values)).unwrap();
    let (w, b) = (device(&coefficient), device(&bias));
    let y = ops::subsample(gpu(), problem, x, &w, &b).unwrap();
    let operands = [values, &wide(&coefficient), &wide(&bias)];
    let want = reference::subsample(small, operands[0], operands[1], operands[2]).unwrap();
    let bounds = reference::subsample_bound(small, operands[0], operands[1], operands[2]).unwrap();
    near(&y, problem.input().layout(), &want, &bounds);
}

#[test]
fn subsampling_takes_very_wide_tensors_and_planes() {
    let _alone = alone();
    let [pixels, images] = slices();
    for (slice, layout, pitch) in [
        (pixels, Layout::Nhwc, PITCH),
        (images, Layout::Nchw, PITCH / 2),
    ] {
        let n = slice.dense.n();
        let small = subsampling([n, C, 3, 3], layout, [1, 1]);
        let sliced = small.to_builder().input_slice(pitch, pitch - C);
        let problem = sliced.build().unwrap();
        judge_subsampling(&problem, &small, &slice.x, &slice.values);
    }
    let problem = subsampling([1, 1, ROWS, COLUMNS], Layout::Nchw, [1, STEP]);
    assert!(problem.input().len() > 1 << 31 && problem.output().w() == 4);
    let width = 2 * problem.output().w();
    let values = integers(ROWS * width, 5);
    let stored = half(&values);
    let runs = stored.chunks(2).enumerate().map(|(run, cells)| {
        let (row, window) = (run / problem.output().w(), run % problem.output().w());
        (row * COLUMNS + window * STEP, cells)
    });
    let x = sparse(problem.input().len(), runs);
    let small = subsampling([1, 1, ROWS, width], Layout::Nchw, [1, 2]);
    judge_subsampling(&problem, &small, &x, &wide(&values));
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
    assert!(
        TensorDesc::new([1, 1, 70_000, 70_000], Layout::Nchw, DType::F16)
            .and_then(|x| Relu::new(&x, &x))
            .is_ok()
    );
}
