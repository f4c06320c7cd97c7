//! Convolutions: each kernel that accepts a problem against the reference.

mod shapes;

use super::{Coverage, Device, Failure};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use shapes::EDGE_SHAPES;
use warpconv::kernels::{Algorithm, Kernel, Math, kernels};
use warpconv::plan::{Limits, Operation, Plan};
use warpconv::problem::{Builder, Conv2d, FilterLayout, Padding};
use warpconv::{DType, Layout};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Guards, Tolerance};

/// Algorithms that convolve.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Direct,
    Algorithm::DirectFewChannels,
    Algorithm::Pointwise,
    Algorithm::Grouped,
    Algorithm::SmallGroups,
    Algorithm::Depthwise,
    Algorithm::Mma,
    Algorithm::MmaFewChannels,
    Algorithm::MmaSmallGroups,
];

/// A problem's operands.
pub(super) struct Operands {
    x: Vec<f64>,
    w: Vec<f64>,
    bias: Option<Vec<f64>>,
    residual: Option<Vec<f64>>,
}

impl Operands {
    fn new(conv: &Conv2d, mut fill: impl FnMut(usize, u64) -> Vec<f64>) -> Self {
        Self {
            x: fill(conv.input().elements(), 1),
            w: fill(conv.filter().elements(), 2),
            bias: conv.bias().then(|| fill(conv.output().c(), 3)),
            residual: conv.residual().map(|_| fill(conv.output().elements(), 4)),
        }
    }

    /// Small integers: sums are exact in f32 in any order.
    pub(super) fn integers(conv: &Conv2d) -> Self {
        Self::new(conv, |len, seed| check::integers(len, 4, seed))
    }

    pub(super) fn slices(&self) -> [Option<&[f64]>; 4] {
        [
            Some(&self.x),
            Some(&self.w),
            self.bias.as_deref(),
            self.residual.as_deref(),
        ]
    }

    pub(super) fn want(&self, conv: &Conv2d) -> Vec<f64> {
        let [_, _, bias, residual] = self.slices();
        reference::conv2d(conv, &self.x, &self.w, bias, residual)
            .expect("operands of the problem's size")
    }

    fn magnitudes(&self, conv: &Conv2d) -> Vec<f64> {
        let [_, _, bias, residual] = self.slices();
        reference::conv2d_abs(conv, &self.x, &self.w, bias, residual)
            .expect("operands of the problem's size")
    }
}

pub(super) fn parse(text: &str) -> Conv2d {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// f32 in the mode that every kernel may compute in: tests of exact numbers ask for no more.
fn loosest(builder: Builder<Conv2d>, dtype: DType) -> Builder<Conv2d> {
    match dtype {
        DType::F32 => builder.math(Math::Tf32),
        _ => builder,
    }
}

/// The problem in every type and layout; the filter's layout and the epilogue go through their
/// choices meanwhile.
pub(super) fn variants(conv: &Conv2d, turn: usize) -> Vec<Conv2d> {
    let mut turn = turn;
    let mut all = Vec::new();
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            let builder = loosest(conv.to_builder().dtype(dtype).layout(layout), dtype);
            // The depthwise kernels read no packed filters.
            let choices = if conv.filter().c == 1 { 2 } else { 3 };
            let builder = builder.filter_layout(FilterLayout::ALL[turn % choices]);
            let builder = match turn % 5 {
                0 => builder.bias(true),
                1 => builder.relu(true),
                2 => builder.residual(true).bias(true).relu(true),
                _ => builder,
            };
            all.push(builder.build().expect("a variant of a valid problem"));
            turn += 1;
        }
    }
    all
}

pub(super) fn run_and_compare(
    device: &Device,
    plan: &Plan<Conv2d>,
    guards: Guards,
    operands: &Operands,
    want: &[f64],
    tolerance: Tolerance<'_>,
) -> Result<Vec<f64>, Failure> {
    let conv = plan.problem();
    let got = check::run_conv_with_guards(&device.gpu, plan, guards, operands.slices())?;
    check::compare(
        &got,
        want,
        check::extents(conv.output()),
        conv.dtype(),
        tolerance,
    )?;
    Ok(got)
}

/// Integers through every edge shape, type, layout and kernel: no error is allowed.
pub fn edge_shapes(device: &Device) {
    let mut coverage = Coverage::default();
    let guards = Guards::of(&device.gpu);
    for (turn, line) in EDGE_SHAPES.iter().enumerate() {
        for conv in variants(&parse(line), turn) {
            let operands = Operands::integers(&conv);
            let want = operands.want(&conv);
            coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)
                    .map(|_| ())
            });
        }
    }
    let planned: Vec<Algorithm> = ALGORITHMS
        .into_iter()
        .filter(|algorithm| Conv2d::computed_by(*algorithm))
        .collect();
    coverage.expect_all(device, &planned);
}

prop_compose! {
    fn any_conv()(
        (n, h, w) in (1usize..4, 1usize..18, 1usize..18),
        groups in prop_oneof![4 => Just(1usize), 2 => 2usize..5, 1 => 5usize..40],
        (c, k) in prop_oneof![(1usize..4, 1usize..5), (1usize..40, 1usize..70)],
        kernel in prop_oneof![
            3 => Just((1usize, 1usize)),
            3 => Just((3, 3)),
            1 => Just((5, 5)),
            1 => Just((7, 7)),
            2 => (1usize..6, 1usize..6),
        ],
        stride in prop_oneof![
            3 => Just((1usize, 1usize)),
            2 => Just((2, 2)),
            1 => (1usize..4, 1usize..4),
        ],
        dilation in prop_oneof![4 => Just((1usize, 1usize)), 1 => (1usize..3, 1usize..3)],
        sides in prop_oneof![
            2 => Just((0usize, 0usize, 0usize, 0usize)),
            2 => Just((1, 1, 1, 1)),
            2 => (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        ],
        (bias, relu, residual) in any::<(bool, bool, bool)>(),
        (dtype, math, layout, filter) in (0usize..3, 0usize..3, 0usize..2, 0usize..3),
        slice in proptest::option::weighted(0.25, (0usize..5, 0usize..5)),
    ) -> Option<Conv2d> {
        // Many groups of many channels would only take time.
        let (c, k) = if groups > 4 { (c % 4 + 1, k % 4 + 1) } else { (c, k) };
        let mut builder = Conv2d::builder()
            .input(n, groups * c, h, w)
            .filters(groups * k)
            .groups(groups)
            .kernel(kernel.0, kernel.1)
            .stride(stride.0, stride.1)
            .dilation(dilation.0, dilation.1)
            .padding(Padding { top: sides.0, bottom: sides.1, left: sides.2, right: sides.3 })
            .bias(bias)
            .relu(relu)
            .residual(residual)
            .dtype(DType::ALL[dtype])
            .math(if dtype == 0 { Math::ALL[math] } else { Math::Strict })
            .layout(Layout::ALL[layout])
            .filter_layout(FilterLayout::ALL[filter]);
        if let Some((before, after)) = slice {
            builder = builder
                .input_slice(before + groups * c + after, before)
                .output_slice(after + groups * k + before, after);
        }
        builder.build().ok().filter(|conv| conv.macs() < 2_000_000)
    }
}

/// Real numbers through random problems and every kernel, within the bound of their rounding.
pub fn random(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut coverage = Coverage::default();
    for conv in samples(any_conv(), 60) {
        let operands = Operands::new(&conv, |len, seed| check::reals(len, conv.dtype(), seed));
        let (want, magnitudes) = (operands.want(&conv), operands.magnitudes(&conv));
        coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
            let (kernel, split_k) = (plan.kernel(), plan.score().split_k);
            let tolerance = Tolerance::of_conv(&conv, kernel, split_k, &magnitudes);
            let first = run_and_compare(device, plan, guards, &operands, &want, tolerance)?;
            // The same bits every time.
            let again = run_and_compare(device, plan, guards, &operands, &want, tolerance)?;
            if first != again {
                return Err(Failure("a second run gives other bits".into()));
            }
            Ok(())
        });
    }
}

/// Sums of a tile that several blocks share: the same numbers, the counters of the workspace zero
/// again for the next launch.
pub fn split_k(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut ran = 0;
    for line in [
        "mb1ic40ih5oc70kh3ph1+bias+relu",
        "mb1ic300ih4oc20kh1+bias+residual",
        "mb1ic5ih9oc12kh5ph2",
        "g6mb1ic48ih5oc48kh3ph1",
    ] {
        for conv in variants(&parse(line), 0) {
            let operands = Operands::integers(&conv);
            let want = operands.want(&conv);
            for candidate in Plan::candidates(&conv, &device.capability) {
                for split_k in [2, 3, 5] {
                    let limits = Limits {
                        kernel: Some(candidate.id),
                        split_k: Some(split_k),
                        ..Limits::default()
                    };
                    let Ok(plan) = Plan::within(&conv, &device.capability, &limits) else {
                        continue;
                    };
                    ran += 1;
                    if let Err(Failure(why)) =
                        run_and_compare(device, &plan, guards, &operands, &want, Tolerance::Exact)
                    {
                        let kernel = candidate.id.kernel().name();
                        panic!("{conv} with {kernel} in {split_k} parts: {why}");
                    }
                }
            }
        }
    }
    let shares = |kernel: &Kernel| {
        let mma = matches!(
            kernel.algorithm,
            Algorithm::Mma | Algorithm::MmaFewChannels | Algorithm::MmaSmallGroups
        );
        mma && Conv2d::computed_by(kernel.algorithm) && device.capability.runs(kernel.arch)
    };
    assert_eq!(ran > 0, kernels().iter().any(shares));
}

/// `count` problems of the strategy, the same ones every time: a failure names its problem, which
/// parses.
pub fn samples<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = Option<T>>,
    count: usize,
) -> impl Iterator<Item = T> {
    use proptest::strategy::ValueTree;
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let drawn = std::iter::repeat_with(move || {
        strategy
            .new_tree(&mut runner)
            .ok()
            .and_then(|tree| tree.current())
    });
    drawn.flatten().take(count)
}

/// NaN and infinities in inputs and weights: they reach the outputs that they belong to, padding
/// included, and no other.
pub fn special_values(device: &Device) {
    let shapes = [
        "ic5ih7oc9kh3ph1",
        "mb2ic9ih5oc17kh1+relu",
        "mb1ic3ih9oc6kh3sh2ph1+pb2+bias+relu",
        "g2ic6ih6oc4kh3ph1",
        "g4ic4ih7oc8kh3ph1+relu",
        "g8ic8ih8oc8kh3ph1",
        "g5ic5ih8oc5kh4ph2",
        "mb1ic1ih11oc2kh5ph2",
    ];
    let mut coverage = Coverage::default();
    let guards = Guards::of(&device.gpu);
    for (turn, line) in shapes.iter().enumerate() {
        let plain = parse(line);
        for (layout, dtype) in Layout::ALL
            .into_iter()
            .flat_map(|l| DType::ALL.map(|d| (l, d)))
        {
            let conv = loosest(plain.to_builder().layout(layout).dtype(dtype), dtype)
                .build()
                .expect("a valid variant");
            let mut operands = Operands::integers(&conv);
            check::sprinkle_special(&mut operands.x, 60, turn as u64);
            check::sprinkle_special(&mut operands.w, 40, turn as u64 + 9);
            let want = operands.want(&conv);
            coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)
                    .map(|_| ())
            });
        }
    }
}

/// 4096 ones: an f16 sum would stick at 2048, a bf16 one at 256. And products far beyond f16's
/// range that cancel.
pub fn long_sums(device: &Device) {
    let mut coverage = Coverage::default();
    let guards = Guards::of(&device.gpu);
    for line in [
        "mb1ic4096ih2oc3kh1",
        "mb1ic512ih3oc2kh3ph1",
        "g2mb1ic1024ih2oc4kh1",
        "g2mb1ic16ih16oc2kh16",
    ] {
        for (layout, dtype) in Layout::ALL
            .into_iter()
            .flat_map(|l| DType::ALL.map(|d| (l, d)))
        {
            let conv = loosest(parse(line).to_builder().layout(layout).dtype(dtype), dtype)
                .build()
                .expect("a valid variant");
            let ones = Operands::new(&conv, |len, _| vec![1.0; len]);
            let cancelling = Operands::new(&conv, |len, seed| match seed {
                1 => vec![256.0; len],
                _ => (0..len)
                    .map(|place| if place % 2 == 0 { 256.0 } else { -256.0 })
                    .collect(),
            });
            for operands in [ones, cancelling] {
                let want = operands.want(&conv);
                coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                    run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)
                        .map(|_| ())
                });
            }
        }
    }
}

/// An image's result does not depend on the images beside it, not in a single bit.
pub fn batch_split(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut coverage = Coverage::default();
    for line in [
        "mb4ic7ih9oc10kh3ph1+bias",
        "mb4ic12ih7oc40kh1",
        "g2mb4ic6ih6oc8kh3ph1",
        "g6mb4ic6ih9oc6kh3ph1",
    ] {
        for layout in Layout::ALL {
            let conv = parse(line)
                .to_builder()
                .layout(layout)
                .build()
                .expect("a valid variant");
            let half = conv.with_batch(2).expect("a valid variant");
            let operands = Operands::new(&conv, |len, seed| check::reals(len, conv.dtype(), seed));
            coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                let whole =
                    check::run_conv_with_guards(&device.gpu, plan, guards, operands.slices())?;
                let part = Plan::with_kernel(&half, &device.capability, plan.kernel_id())?;
                let [_, w, bias, _] = operands.slices();
                let mut parts = Vec::new();
                for x in operands.x.chunks(half.input().elements()) {
                    parts.extend(check::run_conv_with_guards(
                        &device.gpu,
                        &part,
                        guards,
                        [Some(x), w, bias, None],
                    )?);
                }
                if whole == parts {
                    Ok(())
                } else {
                    Err(Failure("halves of the batch differ".into()))
                }
            });
        }
    }
}

/// All ones count taps; a one in the image gives the kernel back; a one in the kernel shifts the
/// image.
pub fn probes(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut coverage = Coverage::default();
    for line in [
        "mb1ic3ih6oc4kh3ph1",
        "g3mb1ic3ih6oc3kh3ph1",
        "g2mb1ic4ih6oc4kh3ph1",
        "mb1ic5ih4oc6kh1",
    ] {
        for layout in Layout::ALL {
            let conv = parse(line)
                .to_builder()
                .layout(layout)
                .build()
                .expect("a valid variant");
            let ones = Operands::new(&conv, |len, _| vec![1.0; len]);
            let mut probes = vec![ones];
            let middle = |len: usize| len / 2 + 1;
            let mut one_hot = Operands::integers(&conv);
            one_hot.x.fill(0.0);
            let place = middle(one_hot.x.len());
            one_hot.x[place] = 1.0;
            probes.push(one_hot);
            let mut shift = Operands::integers(&conv);
            shift.w.fill(0.0);
            let place = middle(shift.w.len());
            shift.w[place] = 1.0;
            probes.push(shift);
            for operands in probes {
                let want = operands.want(&conv);
                coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                    run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)
                        .map(|_| ())
                });
            }
        }
    }
}
