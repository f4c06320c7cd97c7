//! Plans for kernels on tensor cores: choice, split-K and refusals.

use warpconv::kernels::{Algorithm, KernelId, Math, kernels};
use warpconv::plan::{Capability, Limits, Operation, Plan, Refusal};
use warpconv::problem::Conv2d;
use warpconv::{DType, Error, Layout};

fn devices() -> [Capability; 3] {
    [Capability::sm75(), Capability::sm80(), Capability::h200()]
}

fn refusal(problem: &Conv2d, device: &Capability, kernel: KernelId) -> Refusal {
    match Plan::with_kernel(problem, device, kernel) {
        Err(Error::KernelRefused {
            refusal,
            kernel: named,
        }) => {
            assert_eq!(named, kernel.kernel().name());
            refusal
        }
        other => panic!("{other:?}"),
    }
}

fn parse(text: &str) -> Conv2d {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn planned(text: &str, device: &Capability) -> Plan<Conv2d> {
    Plan::new(&parse(text), device).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The algorithm of the plan on each kind of device.
fn algorithms(text: &str) -> [Algorithm; 3] {
    devices().map(|device| planned(text, &device).kernel().algorithm)
}

#[test]
fn half_precision_runs_on_tensor_cores() {
    for text in [
        "mb32ic128ih28oc192kh3ph1",
        "mb8ic252ih56oc252kh3ph1",
        "mb8ic252ih56oc63kh1",
        "mb8ic63ih56oc63kh3ph1",
        "mb8ic63ih56oc252kh1",
        "mb32g2ic96ih27oc256kh5ph2",
    ] {
        for layout in ["", "+nhwc+krsc", "+nhwc+packed"] {
            let [_, ampere, hopper] = algorithms(&format!("{text}+bf16{layout}"));
            assert!(ampere.tensor() && hopper.tensor(), "{text}{layout}");
            for algorithm in algorithms(&format!("{text}+f16{layout}")) {
                assert!(algorithm.tensor(), "{text}{layout}: {algorithm:?}");
            }
        }
    }
}

#[test]
fn few_channels_and_small_groups_have_kernels_of_their_own() {
    for layout in ["", "+nhwc+krsc"] {
        for dtype in ["+f16", "+bf16", "+tf32"] {
            let first = algorithms(&format!("mb32ic3ih224oc64kh7sh2ph3{dtype}{layout}"));
            assert_eq!(
                first[1..],
                [Algorithm::MmaFewChannels; 2],
                "{dtype}{layout}"
            );
        }
    }
    // In NCHW, where pixels come one by one, CUDA cores are about as good.
    for dtype in ["+f16", "+bf16"] {
        let narrow = algorithms(&format!("g32mb32ic128ih56oc128kh3ph1+nhwc+krsc{dtype}"));
        assert_eq!(narrow[1..], [Algorithm::MmaSmallGroups; 2], "{dtype}");
    }
    // One channel a group is no product of matrices.
    let depthwise = algorithms("g144mb32ic144ih56oc144kh3ph1+bf16+nhwc+krsc");
    assert_eq!(depthwise, [Algorithm::Depthwise; 3]);
}

#[test]
fn f32_is_multiplied_as_exactly_as_asked() {
    for device in devices() {
        for (words, most) in [
            ("", Math::Strict),
            ("+tf32x3", Math::Tf32x3),
            ("+tf32", Math::Tf32),
        ] {
            for shape in [
                "mb32ic128ih28oc192kh3ph1+nhwc+krsc",
                "mb32ic3ih64oc64kh7sh2ph3",
            ] {
                let plan = planned(&format!("{shape}{words}"), &device);
                let kernel = plan.kernel();
                assert_eq!(kernel.algorithm.tensor(), kernel.math != Math::Strict);
                for candidate in plan.accepted() {
                    assert!(candidate.id.kernel().math <= most, "{candidate}");
                }
                let too_inexact = |c: &&warpconv::plan::Candidate| {
                    matches!(c.evaluation, Err(Refusal::Math { .. }))
                };
                let inexact = kernels()
                    .iter()
                    .filter(|k| Conv2d::computed_by(k.algorithm))
                    .filter(|k| k.dtype == DType::F32 && k.layout == Some(plan.problem().layout()))
                    .filter(|k| k.math > most);
                assert_eq!(plan.refused().filter(too_inexact).count(), inexact.count());
            }
        }
    }
    // Where there is enough to do, tensor cores win as soon as they may be taken.
    for words in ["+tf32", "+tf32x3"] {
        let text = format!("mb32ic128ih28oc192kh3ph1+nhwc+krsc{words}");
        let kernel = planned(&text, &Capability::h200()).kernel();
        assert!(kernel.algorithm.tensor(), "{words}: {}", kernel.name());
    }
}

#[test]
fn few_pixels_share_their_sums() {
    let text = "mb1ic512ih7oc512kh3ph1+bf16+nhwc+krsc";
    for device in [Capability::sm80(), Capability::h200()] {
        let plan = planned(text, &device);
        assert!(plan.score().split_k > 1, "{}", plan);
        assert_eq!(plan.launches(), 1);
        let tile = plan.kernel();
        let parts = u64::from(plan.grid()) * 4 * u64::from(tile.tile_m * tile.tile_n);
        assert!(plan.workspace_bytes() >= (64 << 10), "{plan}");
        assert!(plan.workspace_bytes() <= (64 << 10) + parts.max(1 << 23));
        // Without workspace each tile is one block's.
        let frugal = Limits {
            workspace: 0,
            ..Limits::default()
        };
        let alone = Plan::within(plan.problem(), &device, &frugal).unwrap();
        assert_eq!((alone.score().split_k, alone.workspace_bytes()), (1, 0));
        assert!(alone.score().us > plan.score().us);
        // Plenty of pixels need no sharing.
        assert_eq!(
            planned("mb64ic512ih28oc512kh3ph1+bf16+nhwc+krsc", &device)
                .score()
                .split_k,
            1
        );
    }
}

#[test]
fn splits_can_be_forced() {
    let problem = parse("mb1ic256ih7oc64kh3ph1+bf16+nhwc+krsc");
    let device = Capability::sm80();
    let kernel = planned("mb1ic256ih7oc64kh3ph1+bf16+nhwc+krsc", &device).kernel_id();
    let within = |split_k, kernel| {
        let limits = Limits {
            kernel: Some(kernel),
            split_k: Some(split_k),
            ..Limits::default()
        };
        Plan::within(&problem, &device, &limits)
    };
    for split_k in [1, 2, 3] {
        let plan = within(split_k, kernel).unwrap();
        assert_eq!((plan.score().split_k, plan.kernel_id()), (split_k, kernel));
    }
    let blocks = |split_k| within(split_k, kernel).unwrap().grid();
    assert_eq!((3 * blocks(1), 2 * blocks(3)), (blocks(3), 3 * blocks(2)));
    for split_k in [0, 1000] {
        assert!(
            matches!(
                within(split_k, kernel),
                Err(Error::KernelRefused { refusal: Refusal::SplitK { asked, .. },
                .. }) if asked == split_k
            ),
            "{split_k}"
        );
    }
    let cores = kernels()
        .iter()
        .position(|k| {
            (k.algorithm, k.dtype, k.layout) == (Algorithm::Direct, DType::Bf16, Some(Layout::Nhwc))
        })
        .unwrap();
    assert!(within(1, KernelId(cores)).is_ok());
    assert!(matches!(
        within(2, KernelId(cores)),
        Err(Error::KernelRefused {
            refusal: Refusal::SplitK { asked: 2, most: 1 },
            ..
        })
    ));
}

#[test]
fn tensor_kernels_say_why_they_refuse() {
    let tensor = |algorithm: Algorithm, dtype: DType, vector: u32| {
        let place = kernels().iter().position(|k| {
            (k.algorithm, k.dtype, k.vector, k.layout)
                == (algorithm, dtype, vector, Some(Layout::Nhwc))
        });
        KernelId(place.unwrap_or_else(|| panic!("no {algorithm:?} {dtype:?} v{vector}")))
    };
    let h200 = Capability::h200();
    let wide = tensor(Algorithm::Mma, DType::Bf16, 16);
    for (text, has) in [
        ("mb1ic252ih8oc64kh3+bf16+nhwc", 8),
        ("mb1ic63ih8oc64kh3+bf16+nhwc", 2),
        ("mb1ic64ih8oc64kh3+bf16+nhwc+align4", 4),
        ("mb1ic64ih8oc64kh3+bf16+nhwc+in72:4", 8),
    ] {
        assert_eq!(
            refusal(&parse(text), &h200, wide),
            Refusal::Alignment { needs: 16, has },
            "{text}"
        );
    }
    let text = refusal(&parse("mb1ic252ih8oc64kh3+bf16+nhwc"), &h200, wide).to_string();
    assert!(text.contains("16 bytes") && text.contains('8'), "{text}");
    let plain = parse("mb1ic64ih8oc64kh3+bf16+nhwc+krsc");
    assert_eq!(
        refusal(&plain, &Capability::sm75(), wide),
        Refusal::Arch {
            needs: (8, 0),
            has: (7, 5)
        }
    );
    let single = tensor(Algorithm::Mma, DType::F32, 16);
    assert_eq!(
        refusal(&parse("mb1ic64ih8oc64kh3+nhwc"), &h200, single),
        Refusal::Math {
            kernel: single.kernel().math,
            problem: Math::Strict
        }
    );
    let limits = Limits {
        workspace: 1 << 10,
        kernel: Some(wide),
        ..Limits::default()
    };
    let kcrs = parse("mb1ic64ih8oc64kh3+bf16+nhwc");
    assert!(matches!(
        Plan::within(&kcrs, &h200, &limits),
        Err(Error::KernelRefused {
            refusal: Refusal::Workspace { most: 1024, needs },
            ..
        }) if needs >= (64 << 10) + 64 * 64 * 9 * 2
    ));
    let mut small = h200;
    small.shared_per_block_optin = 32 << 10;
    assert!(matches!(
        refusal(&plain, &small, wide),
        Refusal::SharedMemory { has, needs } if has == 32 << 10 && needs > has
    ));
}

#[test]
fn a_plan_s_bound_is_that_of_the_units_it_may_use() {
    let floor = |words: &str| {
        let text = format!("mb32ic256ih28oc256kh3ph1{words}");
        planned(&text, &Capability::h200()).roofline().compute_us
    };
    let strict = floor("");
    for (words, flops) in [("+bf16", 790e12), ("+tf32", 417e12), ("+tf32x3", 139e12)] {
        assert!((strict / floor(words) / (flops / 67e12) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn depthwise_takes_a_depthwise_kernel_however_few_images() {
    for line in [
        "g512mb1ic512ih14oc512kh3sh2ph1+nhwc",
        "g1024mb1ic1024ih7oc1024kh3ph1+nhwc+bf16",
        "g512mb32ic512ih14oc512kh3sh2ph1",
    ] {
        let problem: Conv2d = line.parse().expect("a valid problem");
        let plan = Plan::new(&problem, &Capability::h200()).expect("a plan");
        let kernel = plan.kernel();
        assert_eq!(
            kernel.algorithm,
            Algorithm::Depthwise,
            "{line}: {}",
            kernel.name()
        );
    }
}
