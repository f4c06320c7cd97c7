//! Softmax, the scaled hyperbolic tangent and trainable subsampling.

use super::{Coverage, Device, Failure};
use warpconv::graph::{Graph, Node, Step, TensorId};
use warpconv::kernels::Algorithm;
use warpconv::launch::Unary;
use warpconv::plan::Plan;
use warpconv::problem::{Activation, Conv2d, Lrn, Softmax, Subsample, Tanh, TensorDesc};
use warpconv::{DType, Layout};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{GraphOnDevice, Guards, Tolerance};

/// Rows shorter than a warp, around what a warp and a block keep in registers, and beyond; planes
/// of one pixel and others.
const SOFTMAX: [[usize; 4]; 10] = [
    [1, 1, 1, 1],
    [7, 10, 1, 1],
    [3, 255, 1, 1],
    [2, 257, 1, 1],
    [2, 1000, 1, 1],
    [1, 1025, 1, 1],
    [2, 5000, 1, 1],
    [2, 12, 5, 7],
    [1, 64, 4, 8],
    [2, 70, 3, 11],
];

/// Softmax of numbers far apart, dense and between slices, in place too.
pub fn softmax(device: &Device) {
    let mut coverage = Coverage::default();
    for extents in SOFTMAX {
        for layout in Layout::ALL {
            for dtype in DType::ALL {
                let plain = TensorDesc::new(extents, layout, dtype)
                    .and_then(|x| Softmax::new(&x, &x))
                    .expect("a valid problem");
                let [input, output] =
                    [(extents[1] + 5, 2), (extents[1] + 3, 3)].map(|(pitch, offset)| {
                        plain.input().slice(pitch, offset).expect("a valid slice")
                    });
                let sliced = Softmax::new(&input, &output).expect("a valid problem");
                let x = numbers(extents, dtype, 20.0);
                for (softmax, shift) in [(plain, 0), (sliced, 1)] {
                    let want = reference::softmax(&softmax, &x).expect("a reference");
                    let sums = reference::softmax_bound(&softmax, &x).expect("bounds");
                    each(device, &mut coverage, &softmax, shift, &x, [&want, &sums]);
                }
            }
        }
    }
    coverage.expect_all(device, &[Algorithm::Softmax]);
}

/// A row of a hundred thousand, where a sum that is not spread over threads would lose its last
/// digits.
pub fn long_softmax(device: &Device) {
    let mut coverage = Coverage::default();
    for dtype in DType::ALL {
        let extents = [1, 100_003, 1, 1];
        let softmax = TensorDesc::new(extents, Layout::Nchw, dtype)
            .and_then(|x| Softmax::new(&x, &x))
            .expect("a valid problem");
        let x = numbers(extents, dtype, 2.0);
        let want = reference::softmax(&softmax, &x).expect("a reference");
        let sums = reference::softmax_bound(&softmax, &x).expect("bounds");
        each(device, &mut coverage, &softmax, 0, &x, [&want, &sums]);
    }
}

/// A NaN or an infinity spoils its own row only; -inf is 0 among numbers; the largest numbers do
/// not overflow.
pub fn special_softmax(device: &Device) {
    let mut coverage = Coverage::default();
    for (layout, h) in [(Layout::Nchw, 4), (Layout::Nhwc, 4), (Layout::Nhwc, 1)] {
        let extents = [2, 40, h, 9];
        let softmax = TensorDesc::new(extents, layout, DType::F32)
            .and_then(|x| Softmax::new(&x, &x))
            .expect("a valid problem");
        let mut x = numbers(extents, DType::F32, 3e38);
        check::sprinkle_special(&mut x, 60, 8);
        // One pixel of nothing but -inf.
        x.iter_mut()
            .step_by(h * 9)
            .take(40)
            .for_each(|x| *x = f64::NEG_INFINITY);
        let want = reference::softmax(&softmax, &x).expect("a reference");
        let sums = reference::softmax_bound(&softmax, &x).expect("bounds");
        assert!(want.iter().any(|y| y.is_nan()) && want.iter().any(|y| y.is_finite()));
        each(device, &mut coverage, &softmax, 0, &x, [&want, &sums]);
    }
}

/// The tangent, plain and LeNet-5's, of numbers around 0, where it is nearly linear, far from it,
/// and special ones.
pub fn tanh(device: &Device) {
    let mut coverage = Coverage::default();
    for extents in [[1, 1, 1, 1], [2, 7, 3, 5], [1, 3, 61, 83], [2, 16, 4, 4]] {
        for layout in Layout::ALL {
            for dtype in DType::ALL {
                for [amplitude, slope] in [[1.0, 1.0], warpconv_nets::LENET5_TANH, [-0.5, 3.0]] {
                    let plain = TensorDesc::new(extents, layout, dtype)
                        .and_then(|x| Tanh::new(&x, &x, [amplitude, slope]))
                        .expect("a valid problem");
                    let [input, output] =
                        [(extents[1] + 1, 1), (extents[1] + 3, 2)].map(|(pitch, offset)| {
                            plain.input().slice(pitch, offset).expect("a valid slice")
                        });
                    let sliced =
                        Tanh::new(&input, &output, [amplitude, slope]).expect("a valid problem");
                    let mut x = numbers(extents, dtype, 4.0);
                    for (place, x) in x.iter_mut().enumerate() {
                        // Down to where a square of f32 vanishes, and up to where the tangent is 1.
                        *x = check::round(dtype, *x * 2f64.powi(6 - (place % 80) as i32));
                    }
                    check::sprinkle_special(&mut x, 30, 5);
                    let want = reference::tanh(&plain, &x);
                    let sums = reference::tanh_bound(&plain, &x);
                    each(device, &mut coverage, &plain, 0, &x, [&want, &sums]);
                    each(device, &mut coverage, &sliced, 2, &x, [&want, &sums]);
                }
            }
        }
    }
    coverage.expect_all(device, &[Algorithm::Tanh]);
}

/// LeNet-5's S2, windows of other sizes, overlapping and with gaps, sums and means, each
/// activation.
pub fn subsample(device: &Device) {
    let mut coverage = Coverage::default();
    let [amplitude, slope] = warpconv_nets::LENET5_TANH;
    let shapes = [
        ([2, 6, 28, 28], [2, 2], [2, 2]),
        ([1, 16, 10, 10], [2, 2], [2, 2]),
        ([3, 5, 7, 9], [3, 2], [3, 2]),
        ([2, 24, 6, 7], [3, 3], [2, 1]),
        ([1, 8, 9, 8], [1, 2], [4, 3]),
        ([2, 3, 1, 1], [1, 1], [1, 1]),
    ];
    for (number, (extents, window, stride)) in shapes.into_iter().enumerate() {
        for layout in Layout::ALL {
            for dtype in DType::ALL {
                let activation = [
                    Activation::Tanh { amplitude, slope },
                    Activation::Identity,
                    Activation::Relu,
                ][(number + dtype as usize) % 3];
                let [n, c, h, w] = extents;
                let plain = Subsample::builder()
                    .input(n, c, h, w)
                    .layout(layout)
                    .dtype(dtype)
                    .kernel(window[0], window[1])
                    .stride(stride[0], stride[1])
                    .activation(activation)
                    .mean(number % 2 == 1);
                let sliced = plain.clone().input_slice(c + 3, 2).output_slice(c + 8, 8);
                let [plain, sliced] =
                    [plain, sliced].map(|builder| builder.build().expect("a valid problem"));
                windows(device, &mut coverage, &plain, 0);
                windows(device, &mut coverage, &sliced, 1);
            }
        }
    }
    coverage.expect_all(device, &[Algorithm::Subsample]);
}

fn windows(device: &Device, coverage: &mut Coverage, problem: &Subsample, shift: usize) {
    let dtype = problem.input().dtype();
    let mut x = numbers(check::extents(problem.input()), dtype, 1.0);
    check::sprinkle_special(&mut x, 90, 2);
    let coefficient = check::reals(problem.input().c(), dtype, 5);
    let bias = check::reals(problem.input().c(), dtype, 6);
    let want = reference::subsample(problem, &x, &coefficient, &bias).expect("a reference");
    let sums = reference::subsample_bound(problem, &x, &coefficient, &bias).expect("bounds");
    let guards = Guards {
        shift,
        ..Guards::of(&device.gpu)
    };
    let line = format!("{problem:?}");
    coverage.each_kernel(device, problem, &line, |plan: &Plan<Subsample>| {
        let operands = [&x[..], &coefficient, &bias];
        let got = check::run_subsample(&device.gpu, plan, guards, operands)?;
        let extents = check::extents(problem.output());
        check::compare(&got, &want, extents, dtype, Tolerance::Off { sums: &sums })?;
        Ok(())
    });
}

/// Numbers of `-most..most`, as `dtype` stores them.
fn numbers(extents: [usize; 4], dtype: DType, most: f64) -> Vec<f64> {
    let units = check::reals(extents.iter().product(), DType::F32, 31);
    units
        .into_iter()
        .map(|unit| check::round(dtype, unit * most))
        .collect()
}

/// Runs every kernel, from one buffer to another and, where both are the same tensor, in place.
fn each<P: Unary>(
    device: &Device,
    coverage: &mut Coverage,
    problem: &P,
    shift: usize,
    x: &[f64],
    [want, sums]: [&[f64]; 2],
) {
    let guards = Guards {
        shift,
        ..Guards::of(&device.gpu)
    };
    let run_and_compare = |got: Vec<f64>| {
        let extents = check::extents(problem.output());
        check::compare(
            &got,
            want,
            extents,
            problem.dtype(),
            Tolerance::Off { sums },
        )
        .map_err(Failure::from)
    };
    coverage.each_kernel(
        device,
        problem,
        &format!("{problem:?}"),
        |plan: &Plan<P>| {
            run_and_compare(check::run_unary_with_guards(&device.gpu, plan, guards, x)?)?;
            if problem.input() == problem.output() {
                run_and_compare(check::run_unary_in_place(&device.gpu, plan, x)?)?;
            }
            Ok(())
        },
    );
}

/// All small layers behind one another in a module: each launch against the reference of what it
/// was given.
pub fn module(device: &Device) {
    let [amplitude, slope] = warpconv_nets::LENET5_TANH;
    for layout in Layout::ALL {
        let steps = || -> Result<Vec<Step>, warpconv::Error> {
            let dtype = DType::F32;
            let conv = Conv2d::builder()
                .input(3, 1, 14, 14)
                .filters(6)
                .kernel(5, 5);
            let subsample = Subsample::builder()
                .input(3, 6, 10, 10)
                .layout(layout)
                .kernel(2, 2)
                .stride(2, 2)
                .activation(Activation::Tanh { amplitude, slope });
            let [wide, small] =
                [10, 5].map(|side| TensorDesc::new([3, 6, side, side], layout, dtype));
            let (wide, small) = (wide?, small?);
            Ok(vec![
                Step::Conv(conv.layout(layout).bias(true).build()?),
                Step::Tanh(Tanh::new(&wide, &wide, [amplitude, slope])?),
                Step::Subsample(subsample.build()?),
                Step::Lrn(Lrn::new(&small, &small, warpconv_nets::ALEXNET_LRN)?),
                Step::Softmax(Softmax::new(&small, &small)?),
            ])
        };
        let steps = steps().expect("valid problems");
        let last = steps.len() - 1;
        let nodes = steps.into_iter().enumerate().map(|(index, step)| {
            let from = match index {
                0 => TensorId::Input,
                _ => TensorId::Intermediate(index - 1),
            };
            let to = match index {
                _ if index == last => TensorId::Output,
                _ => TensorId::Intermediate(index),
            };
            Node::new(format!("layer {index}"), step, from, to)
        });
        let module = Graph::new(nodes.collect(), DType::F32).expect("a valid module");
        let mut loaded = GraphOnDevice::<f32>::new(&device.gpu, &module).expect("a module");
        loaded.launch().expect("a launch");
        let check_result = loaded.check(u64::MAX).expect("a verdict");
        assert_eq!(check_result.failure, None);
        // A hundred roundings, of numbers that the layers before do not enlarge.
        assert!(check_result.max_rel_error < 1e-5, "{check_result}");
    }
}
