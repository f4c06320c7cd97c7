//! Poolings: each kernel that accepts a problem against the reference.

use super::conv::samples;
use super::{Coverage, Device, Failure};
use proptest::prelude::*;
use warpconv::kernels::Algorithm;
use warpconv::plan::Plan;
use warpconv::problem::{Padding, Pool2d, PoolKind};
use warpconv::{DType, Layout};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Guards, Tolerance};

/// Shapes that have broken kernels elsewhere; each is run as maximum, maximum with indices, and
/// both means.
const WINDOWS: &[&str] = &[
    "ic3ih1kh1",
    "ic3ih8kh2sh2",
    "ic3ih7kh2",
    "ic5ih9kh3sh2",
    "ic5ih9kh3ph1",
    "ic3ih27kh3sh2",
    "ic4ih10kh3sh2ph1",
    "ic4ih10kh3sh2+ceil",
    "ic4ih11kh3sh2ph1+ceil",
    "ic3ih5kh2sh2ph1+ceil",
    "ic3ih2kh1sh2+ceil",
    "ic2ih9iw7kh5ph2pw2kw5",
    "ic2ih11kh2sh3",
    "ic2ih9kh3ph1dh1",
    "ic2ih12kh3sh2ph2dh2",
    "ic3ih6iw9kh3kw2sh1sw2ph1pw0",
    "ic3ih4iw4kh1kw2sh2sw2ph0pw1+ceil",
    "ic3ih6iw7kh4kw3ph0pw2+pb1+pr0",
    "mb1ic3ih7kh7",
    "mb1ic2ih1iw130kh1kw3pw1ph0",
    "mb1ic2ih130iw1kh3kw1pw0ph1",
    "mb5ic1ih5iw3kh3ph1",
    "mb1ic257ih3kh2",
    "mb1ic9ih40kh13kw15iw20",
    "ic16_ih10oh6_kh5sh5ph10",
    "ic1_ih32oh6kh6sh6ph2_iw2ow1kw1sw1pw0",
    "ic6ih6kh3ph1+in11:3+out9:2",
    "ic8ih6kh2sh2+in16:8+out24:8",
];

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm::MaxPool,
    Algorithm::AvgPool,
    Algorithm::GlobalPool,
];

fn parse(text: &str) -> Pool2d {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn kinds(pool: &Pool2d) -> Vec<PoolKind> {
    let mean = |count_include_pad, divisor_override| PoolKind::Average {
        count_include_pad,
        divisor_override,
    };
    let mut kinds = vec![
        PoolKind::Max { indices: false },
        mean(true, None),
        mean(false, None),
        mean(true, Some(-3)),
    ];
    if pool.window().kernel[0] * pool.window().kernel[1] <= 255 {
        kinds.push(PoolKind::Max { indices: true });
    }
    kinds
}

/// The problem in every type and layout.
fn variants(pool: &Pool2d) -> impl Iterator<Item = Pool2d> {
    let choices = Layout::ALL
        .into_iter()
        .flat_map(|layout| DType::ALL.map(|dtype| (layout, dtype)));
    choices.map(|(layout, dtype)| {
        pool.to_builder()
            .layout(layout)
            .dtype(dtype)
            .build()
            .expect("a variant of a valid problem")
    })
}

fn run_and_compare(
    device: &Device,
    plan: &Plan<Pool2d>,
    guards: Guards,
    x: &[f64],
) -> Result<(), Failure> {
    let pool = plan.problem();
    let (got, got_indices) = check::run_pool_with_guards(&device.gpu, plan, guards, x)?;
    let (want, indices) = reference::pool2d(pool, x)?;
    let extents = check::extents(pool.output());
    let magnitudes = reference::pool2d_abs(pool, x)?;
    let tolerance = Tolerance::of_pool(pool, &magnitudes);
    check::compare(&got, &want, extents, pool.input().dtype(), tolerance)?;
    match (got_indices, indices) {
        (Some(got), Some(want)) => check::compare_indices(&got, &want, extents)
            .map(|_| ())
            .map_err(Failure::from),
        (None, None) => Ok(()),
        _ => Err(Failure("indices are missing, or were not asked for".into())),
    }
}

fn run(device: &Device, coverage: &mut Coverage, guards: Guards, pool: &Pool2d, x: &[f64]) {
    coverage.each_kernel(device, pool, &pool.to_string(), |plan| {
        run_and_compare(device, plan, guards, x)
    });
}

fn reals(pool: &Pool2d, seed: u64) -> Vec<f64> {
    check::reals(pool.input().elements(), pool.input().dtype(), seed)
}

/// Real numbers through every edge shape, kind, type, layout and kernel.
pub fn edge_shapes(device: &Device) {
    let mut coverage = Coverage::default();
    let guards = Guards::of(&device.gpu);
    for line in WINDOWS {
        let pool = parse(line);
        for kind in kinds(&pool) {
            for pool in variants(
                &pool
                    .to_builder()
                    .kind(kind)
                    .build()
                    .expect("a kind for the window"),
            ) {
                run(device, &mut coverage, guards, &pool, &reals(&pool, 5));
            }
        }
    }
    for line in [
        "ic3ih7+global_avg",
        "ic3ih7+global_max",
        "mb1ic2ih1iw1+global_avg",
        "mb3ic9ih5iw31+global_max",
        "mb1ic2ih64iw65+global_avg",
        "mb1ic1ih231+global_max",
        "ic5ih6+global_avg+in9:3+out11:5",
        "ic4ih6+global_max+in9:3+out11:5",
        "ic3ih7oh3+adaptive_avg",
        "ic3ih3oh5+adaptive_avg",
        "ic2ih9iw10oh4ow7+adaptive_avg",
        "mb1ic3ih5iw6oh1ow1+adaptive_avg",
        "ic5ih7iw3oh2ow3+adaptive_avg+in6:1+out8:3",
    ] {
        for pool in variants(&parse(line)) {
            run(device, &mut coverage, guards, &pool, &reals(&pool, 6));
        }
    }
    coverage.expect_all(device, &ALGORITHMS);
}

prop_compose! {
    fn any_pool()(
        (n, c) in (1usize..4, 1usize..20),
        (h, w) in (1usize..20, 1usize..20),
        window in prop_oneof![Just((3usize, 3usize)), Just((2, 2)), (1usize..6, 1usize..6)],
        stride in prop_oneof![Just((1usize, 1usize)), Just((2, 2)), (1usize..4, 1usize..4)],
        dilation in prop_oneof![4 => Just((1usize, 1usize)), 1 => (1usize..3, 1usize..3)],
        sides in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        kind in 0usize..7,
        (ceil, include) in any::<(bool, bool)>(),
        divisor in proptest::option::weighted(0.2, 1i32..9),
        (dtype, layout) in (0usize..3, 0usize..2),
        slice in proptest::option::weighted(0.25, (0usize..5, 0usize..5)),
    ) -> Option<Pool2d> {
        let kind = match kind {
            0 => PoolKind::Max { indices: false },
            1 | 2 => PoolKind::Max { indices: true },
            3 | 4 => PoolKind::Average { count_include_pad: include, divisor_override: divisor },
            5 => PoolKind::AdaptiveAverage { p: window.0, q: window.1 },
            _ if include => PoolKind::GlobalMax,
            _ => PoolKind::GlobalAverage,
        };
        let mut builder = Pool2d::builder()
            .input(n, c, h, w)
            .kind(kind)
            .dtype(DType::ALL[dtype])
            .layout(Layout::ALL[layout]);
        if matches!(kind, PoolKind::Max { .. } | PoolKind::Average { .. }) {
            builder = builder
                .kernel(window.0, window.1)
                .stride(stride.0, stride.1)
                .dilation(dilation.0, dilation.1)
                .padding(Padding { top: sides.0, bottom: sides.1, left: sides.2, right: sides.3 })
                .ceil_mode(ceil);
        }
        if let Some((before, after)) = slice {
            let all = before + c + after;
            builder = builder.input_slice(all, before).output_slice(all, after);
        }
        builder.build().ok()
    }
}

/// Random poolings through every kernel.
pub fn random(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut coverage = Coverage::default();
    for (seed, pool) in samples(any_pool(), 150).enumerate() {
        run(
            device,
            &mut coverage,
            guards,
            &pool,
            &reals(&pool, seed as u64),
        );
    }
}

/// Windows with ties, NaN, infinities and zeros of both signs.
pub fn special_values(device: &Device) {
    let guards = Guards::of(&device.gpu);
    let mut coverage = Coverage::default();
    for line in [
        "ic3ih9kh3sh2ph1",
        "ic5ih8kh2sh2",
        "ic9ih7kh3ph1",
        "ic2ih8kh5kw4iw9ph2pw1",
        "ic4ih6kh3dh1ph1",
    ] {
        let pool = parse(line);
        for kind in kinds(&pool) {
            for pool in variants(
                &pool
                    .to_builder()
                    .kind(kind)
                    .build()
                    .expect("a kind for the window"),
            ) {
                let len = pool.input().elements();
                let ties = check::integers(len, 1, 3);
                run(device, &mut coverage, guards, &pool, &ties);
                let mut special = check::integers(len, 2, 4);
                check::sprinkle_special(&mut special, 7, 5);
                run(device, &mut coverage, guards, &pool, &special);
                run(
                    device,
                    &mut coverage,
                    guards,
                    &pool,
                    &vec![f64::NEG_INFINITY; len],
                );
            }
        }
    }
    for line in [
        "ic3ih7+global_avg",
        "ic9ih9+global_max",
        "ic3ih7oh3+adaptive_avg",
    ] {
        for pool in variants(&parse(line)) {
            let mut special = check::integers(pool.input().elements(), 2, 4);
            check::sprinkle_special(&mut special, 50, 5);
            run(device, &mut coverage, guards, &pool, &special);
        }
    }
}

/// Buffers that are aligned to their elements and no more.
pub fn alignment(device: &Device) {
    let mut coverage = Coverage::default();
    for line in ["mb1ic16ih8kh3sh2ph1", "mb1ic8ih8kh2sh2"] {
        let pool = parse(line);
        for kind in kinds(&pool) {
            for pool in variants(
                &pool
                    .to_builder()
                    .kind(kind)
                    .build()
                    .expect("a kind for the window"),
            ) {
                for shift in 1..4 {
                    run(
                        device,
                        &mut coverage,
                        Guards { bytes: 64, shift },
                        &pool,
                        &reals(&pool, 8),
                    );
                }
            }
        }
    }
    for line in [
        "mb1ic16ih8+global_avg",
        "mb1ic16ih8+global_max",
        "mb1ic16ih8oh3+adaptive_avg",
    ] {
        for pool in variants(&parse(line)) {
            run(
                device,
                &mut coverage,
                Guards {
                    bytes: 64,
                    shift: 1,
                },
                &pool,
                &reals(&pool, 8),
            );
        }
    }
}
