//! Plans per problem and device, and the refusals of the other kernels.

use warpconv::kernels::{Algorithm, Arch, KernelId, kernels};
use warpconv::plan::{Capability, Operation, Plan, Refusal};
use warpconv::problem::{
    Conv2d, FilterLayout, Lrn, Padding, Pool2d, PoolKind, Relu, Softmax, Subsample, Tanh,
    TensorDesc,
};
use warpconv::{DType, Error, Layout};

fn devices() -> [Capability; 3] {
    [Capability::sm75(), Capability::sm80(), Capability::h200()]
}

fn conv(n: usize, c: usize, hw: usize, k: usize, size: usize, groups: usize) -> Conv2d {
    Conv2d::builder()
        .input(n, c, hw, hw)
        .filters(k)
        .kernel(size, size)
        .padding(Padding::same(size / 2))
        .groups(groups)
        .build()
        .unwrap()
}

fn algorithm(problem: &Conv2d) -> Algorithm {
    Plan::new(problem, &Capability::h200())
        .unwrap()
        .kernel()
        .algorithm
}

fn first(algorithm: Algorithm, layout: Layout) -> KernelId {
    let fits = |k: &&warpconv::kernels::Kernel| {
        k.algorithm == algorithm && k.dtype == DType::F32 && k.layout.is_none_or(|l| l == layout)
    };
    KernelId(kernels().iter().position(|k| fits(&k)).unwrap())
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

#[test]
fn each_kind_of_convolution_gets_its_kernel() {
    assert_eq!(algorithm(&conv(32, 128, 28, 192, 3, 1)), Algorithm::Direct);
    assert_eq!(
        algorithm(&conv(32, 252, 56, 63, 1, 1)),
        Algorithm::Pointwise
    );
    assert_eq!(
        algorithm(&conv(32, 3, 224, 64, 7, 1)),
        Algorithm::DirectFewChannels
    );
    assert_eq!(algorithm(&conv(32, 96, 27, 256, 5, 2)), Algorithm::Grouped);
    assert_eq!(
        algorithm(&conv(32, 144, 56, 144, 3, 144)),
        Algorithm::Depthwise
    );
    assert_eq!(
        algorithm(&conv(32, 32, 56, 64, 3, 32)),
        Algorithm::Depthwise
    );
}

#[test]
fn every_problem_has_a_kernel_on_every_tier() {
    let shapes = [
        conv(1, 1, 1, 1, 1, 1),
        conv(1, 1, 4, 1, 3, 1),
        conv(2, 3, 9, 5, 3, 1),
        conv(1, 63, 7, 252, 1, 1),
        conv(2, 6, 5, 9, 3, 3),
        conv(1, 64, 7, 64, 3, 32),
        conv(1, 5, 6, 10, 3, 5),
        conv(1, 512, 7, 512, 3, 1),
    ];
    for device in devices() {
        for problem in &shapes {
            for dtype in DType::ALL {
                for layout in Layout::ALL {
                    for filters in FilterLayout::ALL {
                        let problem = problem
                            .to_builder()
                            .dtype(dtype)
                            .build()
                            .unwrap()
                            .to_builder()
                            .layout(layout)
                            .build()
                            .unwrap();
                        let problem = problem.to_builder().filter_layout(filters).build().unwrap();
                        let plan = Plan::new(&problem, &device).unwrap();
                        assert!(device.runs(plan.kernel().arch), "{problem}");
                        assert!(
                            plan.grid() > 0 && plan.shared_bytes() <= device.shared_per_block_optin,
                            "{problem}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_grid_covers_every_output() {
    for problem in [
        conv(3, 20, 13, 70, 3, 1),
        conv(1, 64, 7, 96, 1, 1),
        conv(2, 12, 9, 30, 3, 3),
    ] {
        for candidate in Plan::candidates(&problem, &Capability::h200()) {
            let Ok(score) = candidate.evaluation else {
                continue;
            };
            let kernel = candidate.id.kernel();
            if matches!(
                kernel.algorithm,
                Algorithm::Direct
                    | Algorithm::DirectFewChannels
                    | Algorithm::Pointwise
                    | Algorithm::Grouped
            ) {
                let tiles = |len: usize, tile: u32| len.div_ceil(tile as usize) as u64;
                let expected = problem.groups() as u64
                    * tiles(problem.output().c() / problem.groups(), kernel.tile_m)
                    * tiles(
                        problem.output().elements() / problem.output().c(),
                        kernel.tile_n,
                    );
                assert_eq!(score.blocks, expected, "{} for {problem}", kernel.name());
            }
            let plan = Plan::with_kernel(&problem, &Capability::h200(), candidate.id).unwrap();
            assert_eq!(u64::from(plan.grid()), score.blocks);
            assert_eq!(plan.kernel().threads, kernel.threads);
            assert!(score.tile_efficiency > 0.0 && score.tile_efficiency <= 1.0);
        }
    }
}

#[test]
fn refusals_have_their_reason_and_its_numbers() {
    let h200 = Capability::h200();
    let nchw = |algorithm| first(algorithm, Layout::Nchw);
    let plain = conv(1, 16, 8, 16, 3, 1);

    let grouped = conv(1, 16, 8, 16, 3, 4);
    assert_eq!(
        refusal(&grouped, &h200, nchw(Algorithm::Direct)),
        Refusal::OneGroupOnly { groups: 4 }
    );
    assert_eq!(
        refusal(&plain, &h200, nchw(Algorithm::Grouped)),
        Refusal::SeveralGroupsOnly
    );
    assert_eq!(
        refusal(&grouped, &h200, nchw(Algorithm::Depthwise)),
        Refusal::OneChannelAGroupOnly { group_c: 4 }
    );
    assert_eq!(
        refusal(&plain, &h200, nchw(Algorithm::Pointwise)),
        Refusal::PointwiseOnly { r: 3, s: 3 }
    );
    let padded = conv(1, 16, 8, 16, 1, 1)
        .to_builder()
        .padding(Padding::same(2))
        .build()
        .unwrap();
    assert_eq!(
        refusal(&padded, &h200, nchw(Algorithm::Pointwise)),
        Refusal::Padded { padding: 2 }
    );
    let long = conv(1, 64, 8, 16, 3, 1);
    assert_eq!(
        refusal(&long, &h200, nchw(Algorithm::DirectFewChannels)),
        Refusal::SumTooLong {
            terms: 576,
            most: 512
        }
    );
    let half = plain.to_builder().dtype(DType::F16).build().unwrap();
    assert_eq!(
        refusal(&half, &h200, nchw(Algorithm::Direct)),
        Refusal::DType {
            kernel: DType::F32,
            problem: DType::F16
        }
    );
    let nhwc = plain.to_builder().layout(Layout::Nhwc).build().unwrap();
    assert_eq!(
        refusal(&nhwc, &h200, nchw(Algorithm::Direct)),
        Refusal::Layout {
            kernel: Layout::Nchw,
            problem: Layout::Nhwc
        }
    );
    assert!(matches!(
        refusal(&plain, &h200, nchw(Algorithm::MaxPool)),
        Refusal::Operation { .. }
    ));

    let newer = kernels().iter().position(|k| {
        (k.algorithm, k.dtype, k.layout, k.arch)
            == (
                Algorithm::Direct,
                DType::F32,
                Some(Layout::Nchw),
                Arch::Sm80,
            )
    });
    let arch = refusal(&plain, &Capability::sm75(), KernelId(newer.unwrap()));
    assert_eq!(
        arch,
        Refusal::Arch {
            needs: (8, 0),
            has: (7, 5)
        }
    );
    assert_eq!(
        arch.to_string(),
        "needs compute capability 8.0, the device has 7.5"
    );
    let mut small = h200;
    small.shared_per_block = 1 << 10;
    assert!(matches!(
        refusal(&plain, &small, nchw(Algorithm::Direct)),
        Refusal::SharedMemory { has: 1024, needs } if needs > 1024
    ));
    let mut narrow = h200;
    narrow.max_grid_x = 1;
    let wide = conv(1, 16, 64, 16, 3, 1);
    assert!(matches!(
        refusal(&wide, &narrow, nchw(Algorithm::Direct)),
        Refusal::Grid { most: 1, blocks } if blocks > 1
    ));
}

#[test]
fn a_kernel_that_is_not_there_is_an_error() {
    let problem = conv(1, 1, 4, 1, 3, 1);
    for index in [kernels().len(), usize::MAX] {
        let error = Plan::with_kernel(&problem, &Capability::h200(), KernelId(index)).unwrap_err();
        assert_eq!(
            error,
            Error::UnknownKernel {
                index,
                kernels: kernels().len()
            }
        );
    }
}

#[test]
fn a_device_that_runs_nothing_is_told_why() {
    let mut old = Capability::sm75();
    (old.major, old.minor) = (6, 1);
    let Err(Error::NoKernel { problem, refused }) = Plan::new(&conv(1, 4, 4, 4, 3, 1), &old) else {
        panic!("a device of capability 6.1 runs no kernel")
    };
    assert!(problem.starts_with("mb1_ic4"), "{problem}");
    assert!(refused.iter().any(|(_, why)| *why
        == Refusal::Arch {
            needs: (7, 5),
            has: (6, 1)
        }));
}

#[test]
fn an_empty_batch_is_planned_and_launches_nothing() {
    let problem = conv(4, 16, 8, 16, 3, 1).with_batch(0).unwrap();
    let plan = Plan::new(&problem, &Capability::h200()).unwrap();
    assert_eq!(plan.grid(), 0);
    assert_eq!(plan.roofline().macs, 0);
}

#[test]
fn candidates_are_ordered_and_complete() {
    let plan = Plan::new(&conv(32, 128, 28, 192, 3, 1), &Capability::h200()).unwrap();
    let scores: Vec<f64> = plan.accepted().map(|c| c.evaluation.unwrap().us).collect();
    assert!(scores.is_sorted(), "{scores:?}");
    assert_eq!(plan.accepted().next().unwrap().id, plan.kernel_id());
    let all = plan.accepted().count() + plan.refused().count();
    let mut asked = plan.accepted().chain(plan.refused());
    let tensor = asked.any(|c| c.id.kernel().algorithm.tensor());
    let convolutions = kernels().iter().filter(|k| {
        // Those on tensor cores are all asked or none of them.
        Conv2d::computed_by(k.algorithm) && (tensor || !k.algorithm.tensor())
    });
    assert_eq!(all, convolutions.count());
    let text = plan.to_string();
    assert!(
        text.contains(&plan.kernel().name()) && text.contains("bound by arithmetic"),
        "{text}"
    );
    assert!(
        plan.refused()
            .all(|c| c.to_string().starts_with(&c.id.kernel().name()))
    );
}

#[test]
fn tiles_follow_the_problem() {
    let device = Capability::h200();
    let tile = |problem: &Conv2d| {
        let kernel = Plan::new(problem, &device).unwrap().kernel();
        (kernel.tile_m, kernel.tile_n)
    };
    // Enough of everything: the tile with the most reuse.
    assert_eq!(tile(&conv(128, 128, 28, 256, 3, 1)), (128, 128));
    // 49 pixels: one image of GoogLeNet's last modules does not fill 132 multiprocessors with large
    // tiles.
    let (m, n) = tile(&conv(1, 160, 7, 320, 3, 1));
    assert!(m * n < 128 * 128, "{m}x{n}");
    // 63 filters: half of a tile of 128 would be padding.
    assert!(tile(&conv(128, 252, 56, 63, 1, 1)).0 <= 64);
}

#[test]
fn poolings_and_relus_are_planned() {
    let builder = || {
        Pool2d::builder()
            .input(2, 10, 9, 9)
            .kernel(3, 3)
            .stride(2, 2)
    };
    let average = PoolKind::Average {
        count_include_pad: true,
        divisor_override: None,
    };
    let global = |kind| {
        Pool2d::builder()
            .input(2, 10, 9, 9)
            .kind(kind)
            .build()
            .unwrap()
    };
    let cases = [
        (builder().build().unwrap(), Algorithm::MaxPool),
        (
            builder()
                .kind(PoolKind::Max { indices: true })
                .build()
                .unwrap(),
            Algorithm::MaxPool,
        ),
        (builder().kind(average).build().unwrap(), Algorithm::AvgPool),
        (
            global(PoolKind::AdaptiveAverage { p: 4, q: 3 }),
            Algorithm::AvgPool,
        ),
        (global(PoolKind::GlobalAverage), Algorithm::GlobalPool),
        (global(PoolKind::GlobalMax), Algorithm::GlobalPool),
    ];
    for device in devices() {
        for (problem, algorithm) in &cases {
            for layout in Layout::ALL {
                for dtype in DType::ALL {
                    let problem = problem
                        .to_builder()
                        .layout(layout)
                        .build()
                        .unwrap()
                        .to_builder()
                        .dtype(dtype)
                        .build()
                        .unwrap();
                    let plan = Plan::new(&problem, &device).unwrap();
                    assert_eq!(plan.kernel().algorithm, *algorithm, "{problem}");
                    assert!(plan.grid() > 0, "{problem}");
                }
            }
        }
        for dtype in DType::ALL {
            let problem = TensorDesc::new([2, 3, 4, 5], Layout::Nhwc, dtype)
                .and_then(|x| Relu::new(&x, &x))
                .unwrap();
            assert_eq!(Plan::new(&problem, &device).unwrap().grid(), 1);
        }
    }
}

/// The blocks that a plan names for small layers: enough for what a thread takes at most: 64
/// elements, or 256 of a normalisation.
#[test]
fn grids_of_small_layers_grow_with_them() {
    let [n, c, h, w] = [8, 64, 32, 32];
    let elements = (n * c * h * w) as u32;
    for device in devices() {
        for layout in Layout::ALL {
            let x = TensorDesc::new([n, c, h, w], layout, DType::F32).unwrap();
            let relu = Relu::new(&x, &x).unwrap();
            let tanh = Tanh::new(&x, &x, [1.0, 1.0]).unwrap();
            let lrn = Lrn::new(&x, &x, warpconv_nets::ALEXNET_LRN).unwrap();
            let softmax = Softmax::new(&x, &x).unwrap();
            let halves = Subsample::builder().kernel(2, 2).stride(2, 2);
            let halves = halves.input(n, c, h, w).layout(layout).build().unwrap();
            let blocks = [
                grid(&relu, &device, elements / 64),
                grid(&tanh, &device, elements / 64),
                // A segment of up to 64 channels per thread, and 64 channels per warp.
                grid(&lrn, &device, elements / 64 / 4),
                grid(&softmax, &device, elements / 64),
                grid(&halves, &device, elements / 4 / 4),
            ];
            assert!(blocks.iter().all(|&enough| enough), "{blocks:?} {layout:?}");
        }
    }
}

/// Returns whether the plan has blocks for so many threads; of small layers only its own kernels
/// are asked.
fn grid<P: Operation>(problem: &P, device: &Capability, threads: u32) -> bool {
    let plan = Plan::new(problem, device).unwrap();
    let chosen = plan.kernel().algorithm;
    for entry in kernels() {
        let asked = P::computed_by(entry.algorithm);
        assert_eq!(asked, entry.algorithm == chosen, "{}", entry.name());
    }
    plan.grid() > 1 && plan.grid() * plan.kernel().threads >= threads
}

#[test]
fn plans_may_be_sent_and_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Plan<Conv2d>>();
    shared::<warpconv::device::Gpu>();
    shared::<warpconv::launch::Prepared<Conv2d>>();
    shared::<warpconv::launch::Prepared<Pool2d>>();
    shared::<warpconv::launch::Prepared<Relu>>();
    shared::<warpconv::graph::PreparedGraph>();
}
