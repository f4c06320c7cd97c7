//! Bottlenecks by one launch: each kernel that accepts a problem against the reference, and against
//! three launches.

use super::conv::samples;
use super::{Coverage, Device, Failure};
use proptest::prelude::*;
use warpconv::kernels::{Algorithm, Math};
use warpconv::plan::{Operation, Plan};
use warpconv::problem::{Added, Bottleneck2d, Builder, FilterLayout};
use warpconv::{DType, Layout};
use warpconv_testing as check;
use warpconv_testing::reference::{self, BottleneckOperands};
use warpconv_testing::{ExpectedBottleneck, Guards, Tolerance};

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::BottleneckSimt,
    Algorithm::Bottleneck,
    Algorithm::BottleneckWgmma,
];

/// Images, channels, rows and columns of the input, narrow channels, filters, stride. Odd counts,
/// single pixels, less than a tile, rows longer than a tile.
const EDGE_SHAPES: [([usize; 4], usize, usize, usize); 15] = [
    ([1, 1, 1, 1], 1, 1, 1),
    ([2, 252, 7, 7], 63, 252, 1),
    ([1, 256, 9, 15], 64, 256, 1),
    ([1, 252, 15, 9], 63, 252, 2),
    ([1, 33, 13, 9], 7, 5, 1),
    ([3, 7, 13, 9], 33, 40, 2),
    ([1, 40, 56, 3], 16, 24, 1),
    ([1, 24, 3, 56], 17, 33, 2),
    ([2, 16, 8, 8], 8, 16, 2),
    ([1, 5, 2, 1], 3, 1, 2),
    ([1, 72, 6, 29], 64, 72, 1),
    ([1, 64, 5, 5], 31, 130, 1),
    ([1, 130, 4, 10], 16, 64, 1),
    ([2, 9, 1, 17], 5, 9, 1),
    ([1, 64, 16, 16], 16, 64, 1),
];

/// A problem's operands.
struct Operands {
    x: Vec<f64>,
    w: [Vec<f64>; 3],
    bias: [Option<Vec<f64>>; 3],
    residual: Option<Vec<f64>>,
}

impl Operands {
    fn new(problem: &Bottleneck2d, mut fill: impl FnMut(usize, u64) -> Vec<f64>) -> Self {
        let convs = problem.convolutions().each_ref();
        let mut seed = 1;
        let mut next = |len| {
            seed += 1;
            fill(len, seed)
        };
        Self {
            x: next(problem.input().elements()),
            w: convs.map(|conv| next(conv.filter().elements())),
            bias: convs.map(|conv| conv.bias().then(|| next(conv.output().c()))),
            residual: (problem.added() == Added::Tensor).then(|| next(problem.output().elements())),
        }
    }

    /// Integers of -1 to 1: intermediates stay where every type, tf32 too, holds integers exactly
    /// or rounds one sum, which is exact in f32 in any order, in one way.
    fn integers(problem: &Bottleneck2d) -> Self {
        Self::new(problem, |len, seed| check::integers(len, 1, seed))
    }

    fn all(&self) -> BottleneckOperands<'_> {
        BottleneckOperands {
            x: &self.x,
            w: self.w.each_ref().map(Vec::as_slice),
            bias: self.bias.each_ref().map(Option::as_deref),
            residual: self.residual.as_deref(),
        }
    }

    fn want(&self, problem: &Bottleneck2d) -> Vec<f64> {
        let store = |value| check::round(problem.input().dtype(), value);
        reference::bottleneck2d(problem, &self.all(), store)
            .expect("operands of the problem's size")
    }
}

/// The problem in every type and layout; slices, epilogue and the filters' layout go through their
/// choices meanwhile.
fn variants(
    &([n, c, h, w], mid_channels, k, stride): &([usize; 4], usize, usize, usize),
    turn: usize,
) -> Vec<Bottleneck2d> {
    let mut turn = turn;
    let mut all = Vec::new();
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            let mut builder = Bottleneck2d::builder()
                .input(n, c, h, w)
                .mid_channels(mid_channels)
                .filters(k)
                .stride(stride)
                .dtype(dtype)
                .layout(layout)
                .math(loosest(dtype))
                .filter_layout(FilterLayout::ALL[turn % 3]);
            builder = match turn % 5 {
                0 => builder.added(Added::Tensor),
                1 => builder.bias([false, true, false]).relu(false),
                2 => builder
                    .input_slice(c + 4, 4)
                    .residual_slice(k + 5, 3)
                    .output_slice(k + 9, 8),
                3 if c == k && stride == 1 => builder.added(Added::Input).input_slice(c + 3, 1),
                3 => builder.bias([false; 3]).output_slice(k + 1, 1),
                _ => builder,
            };
            all.push(builder.build().expect("a variant of a valid problem"));
            turn += 1;
        }
    }
    all
}

/// The mode in which every kernel of a type may compute.
fn loosest(dtype: DType) -> Math {
    match dtype {
        DType::F32 => Math::Tf32,
        DType::F16 | DType::Bf16 => Math::Strict,
    }
}

/// Calls `check` with a plan for each kernel that accepts the problem.
fn each_kernel(
    device: &Device,
    coverage: &mut Coverage,
    problem: &Bottleneck2d,
    mut check: impl FnMut(&Plan<Bottleneck2d>) -> Result<(), Failure>,
) {
    let accepting = Plan::candidates(problem, &device.capability)
        .into_iter()
        .any(|candidate| candidate.evaluation.is_ok());
    if accepting {
        coverage.each_kernel(device, problem, &problem.to_string(), &mut check);
    }
}

fn run_and_compare(
    device: &Device,
    plan: &Plan<Bottleneck2d>,
    guards: Guards,
    operands: &Operands,
    want: &[f64],
    tolerance: Tolerance<'_>,
) -> Result<Vec<f64>, Failure> {
    let problem = plan.problem();
    let got = check::run_bottleneck_with_guards(&device.gpu, plan, guards, &operands.all())?;
    let extents = check::extents(problem.output());
    check::compare(&got, want, extents, problem.input().dtype(), tolerance)?;
    Ok(got)
}

/// The same by three launches.
fn separate(device: &Device, problem: &Bottleneck2d, operands: &Operands) -> Vec<f64> {
    let mut x = operands.x.clone();
    for (index, conv) in problem.convolutions().iter().enumerate() {
        let plan = Plan::new(conv, &device.capability).expect("a kernel for the convolution");
        let residual = operands.all().added(problem).filter(|_| index == 2);
        let (w, bias) = (&operands.w[index], operands.bias[index].as_deref());
        x = check::run_conv(&device.gpu, &plan, &x, w, bias, residual)
            .unwrap_or_else(|error| panic!("{conv}: {error}"));
    }
    x
}

/// Integers through every edge shape, type, layout and kernel: no error is allowed, neither against
/// the reference nor against three launches.
pub fn edge_shapes(device: &Device) {
    let mut coverage = Coverage::default();
    let guards = Guards::of(&device.gpu);
    for (turn, shape) in EDGE_SHAPES.iter().enumerate() {
        for (index, problem) in variants(shape, turn).into_iter().enumerate() {
            let operands = Operands::integers(&problem);
            let want = operands.want(&problem);
            let mut first = None;
            each_kernel(device, &mut coverage, &problem, |plan| {
                let got =
                    run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)?;
                first.get_or_insert(got);
                Ok(())
            });
            // One variant of each shape: the launches are other tests' subject.
            if let Some(fused) = first.filter(|_| index == turn % 6) {
                assert_eq!(fused, separate(device, &problem, &operands), "{problem}");
            }
        }
    }
    coverage.expect_all(device, &ALGORITHMS);
}

prop_compose! {
    fn any_bottleneck()(
        (n, h, w) in (1usize..3, 1usize..20, 1usize..20),
        (c, mid_channels, k) in prop_oneof![
            (1usize..8, 1usize..8, 1usize..8),
            (1usize..80, 1usize..65, 1usize..90),
        ],
        identity in any::<bool>(),
        stride in 1usize..3,
        bias in any::<[bool; 3]>(),
        relu in any::<bool>(),
        added in 0usize..3,
        (dtype, math, layout, filter) in (0usize..3, 0usize..3, 0usize..2, 0usize..3),
        slice in proptest::option::weighted(0.3, (0usize..9, 0usize..9)),
    ) -> Option<Bottleneck2d> {
        let k = if identity { c } else { k };
        let added = match added {
            0 => Added::Nothing,
            1 if c == k && stride == 1 => Added::Input,
            _ => Added::Tensor,
        };
        let builder: Builder<Bottleneck2d> = Bottleneck2d::builder()
            .input(n, c, h, w)
            .mid_channels(mid_channels)
            .filters(k)
            .stride(stride)
            .bias(bias)
            .added(added)
            .relu(relu)
            .dtype(DType::ALL[dtype])
            .math(if dtype == 0 { Math::ALL[math] } else { Math::Strict })
            .layout(Layout::ALL[layout])
            .filter_layout(FilterLayout::ALL[filter]);
        let builder = match slice {
            Some((before, after)) => builder
                .input_slice(before + c + after, before)
                .output_slice(after + k + before, after),
            None => builder,
        };
        builder.build().ok().filter(|problem| problem.macs() < 2_000_000)
    }
}

/// Filters scaled so that what comes out is about as large as what goes in.
fn reals(problem: &Bottleneck2d) -> Operands {
    let dtype = problem.input().dtype();
    let mut operands = Operands::new(problem, |len, seed| check::reals(len, dtype, seed));
    for (w, conv) in operands.w.iter_mut().zip(problem.convolutions()) {
        let scale = (3.0 / conv.filter().gemm_k() as f64).sqrt();
        w.iter_mut()
            .for_each(|w| *w = check::round(dtype, *w * scale));
    }
    operands
}

/// Real numbers through random problems and every kernel, within the bound that follows from the
/// sums; a second run gives the same bits.
pub fn random(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut coverage = Coverage::default();
    for problem in samples(any_bottleneck(), 60) {
        let operands = reals(&problem);
        each_kernel(device, &mut coverage, &problem, |plan| {
            let kernel = plan.kernel();
            let expected = ExpectedBottleneck::of(&problem, [kernel; 3], &operands.all())?;
            let run_and_compare = || {
                let (want, tolerance) = (&expected.values, expected.tolerance());
                run_and_compare(device, plan, guards, &operands, want, tolerance)
            };
            if run_and_compare()? != run_and_compare()? {
                return Err(Failure("a second run gives other bits".into()));
            }
            Ok(())
        });
    }
}

/// Buffers off their alignment, for problems that promise no more than an element's.
pub fn alignment(device: &Device) {
    let mut coverage = Coverage::default();
    for (turn, shape) in EDGE_SHAPES[1..8].iter().enumerate() {
        for problem in variants(shape, turn + 2) {
            let problem = problem
                .to_builder()
                .alignment(problem.input().dtype().size());
            let problem = problem.build().expect("a valid alignment");
            let operands = Operands::integers(&problem);
            let want = operands.want(&problem);
            let guards = Guards::of(&device.gpu).shifted(1 + turn % 3);
            each_kernel(device, &mut coverage, &problem, |plan| {
                run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)
                    .map(|_| ())
            });
        }
    }
}

/// NaN and infinities in any operand reach just the outputs that three launches let them reach.
pub fn special_values(device: &Device) {
    let mut coverage = Coverage::default();
    let guards = Guards::of(&device.gpu);
    for (turn, shape) in [
        ([1, 20, 9, 11], 9, 12, 1),
        ([1, 64, 17, 13], 31, 70, 2),
        ([2, 33, 5, 5], 16, 33, 1),
        ([1, 252, 9, 10], 63, 252, 1),
    ]
    .iter()
    .enumerate()
    {
        for (index, problem) in variants(shape, turn).into_iter().enumerate() {
            let mut operands = Operands::integers(&problem);
            let seed = (turn * 10 + index) as u64;
            // One operand of each problem, so that not everything is NaN: a pixel or two, or a
            // weight.
            match (turn + index) % 6 {
                0 => check::sprinkle_special(&mut operands.w[0], 90, seed),
                1 => check::sprinkle_special(&mut operands.w[1], 150, seed),
                2 => check::sprinkle_special(&mut operands.w[2], 90, seed),
                3 => {
                    for bias in operands.bias.iter_mut().flatten() {
                        check::sprinkle_special(bias, 12, seed);
                    }
                }
                _ => {
                    let every = operands.x.len() as u64 / 3;
                    check::sprinkle_special(&mut operands.x, every, seed);
                    if let Some(residual) = &mut operands.residual {
                        check::sprinkle_special(residual, 20, seed);
                    }
                }
            }
            let want = operands.want(&problem);
            each_kernel(device, &mut coverage, &problem, |plan| {
                run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)
                    .map(|_| ())
            });
            if index == turn {
                let three = separate(device, &problem, &operands);
                let extents = check::extents(problem.output());
                check::compare(
                    &three,
                    &want,
                    extents,
                    problem.input().dtype(),
                    Tolerance::Exact,
                )
                .unwrap_or_else(|why| panic!("{problem} by three launches: {why}"));
            }
        }
    }
}

/// An empty batch is nothing to do.
pub fn empty(device: &Device) {
    let mut coverage = Coverage::default();
    for problem in variants(&([0, 16, 5, 5], 8, 16, 1), 0) {
        let operands = Operands::integers(&problem);
        each_kernel(device, &mut coverage, &problem, |plan| {
            assert_eq!(plan.grid(), 0);
            let guards = Guards::of(&device.gpu);
            run_and_compare(device, plan, guards, &operands, &[], Tolerance::Exact).map(|_| ())
        });
    }
}
