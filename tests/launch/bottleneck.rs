//! Refusals of a bottleneck in one launch, the decision of a plan, and graphs of one launch against
//! three.

use cudarc::driver::CudaSlice;
use warpconv::Error;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::graph::{FuseOptions, Graph, GraphBuffers, Weights};
use warpconv::kernels::{DType, KernelId, Layout};
use warpconv::launch::{BottleneckBuffers, BottleneckPointers};
use warpconv::ops::Bottleneck;
use warpconv::plan::{Capability, Limits, Operation, Plan, Refusal};
use warpconv::problem::{Added, Bottleneck2d, Conv2d};
use warpconv_testing as check;

fn gpu() -> Gpu {
    Gpu::open(&DeviceChoice::from_env().expect("WARPCONV_DEVICE names a device"))
        .expect("a device to test on")
}

fn problem() -> Bottleneck2d {
    let builder = Bottleneck2d::builder().input(1, 12, 5, 4).mid_channels(3);
    builder.filters(8).build().expect("a valid problem")
}

fn plan(gpu: &Gpu, problem: &Bottleneck2d) -> Plan<Bottleneck2d> {
    Plan::new(problem, gpu.capability()).expect("a kernel for f32")
}

/// Buffers of the problem's lengths: x, the filters, the biases, y.
fn buffers(gpu: &Gpu, problem: &Bottleneck2d) -> [Vec<CudaSlice<f32>>; 4] {
    let zeros = |len: usize| gpu.upload(&vec![0.0f32; len]).expect("room");
    let convolutions = problem.convolutions().iter();
    [
        vec![zeros(problem.input().len())],
        convolutions
            .clone()
            .map(|c| zeros(c.filter().len()))
            .collect(),
        convolutions.map(|c| zeros(c.output().c())).collect(),
        vec![zeros(problem.output().len())],
    ]
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let gpu = gpu();
    let problem = problem();
    let prepared = gpu.prepare(&plan(&gpu, &problem)).unwrap();
    let [x, w, bias, mut y] = buffers(&gpu, &problem);
    let short = gpu.upload(&[0.0f32; 7]).unwrap();
    let length = |what, expected| Error::Length {
        what,
        expected,
        got: 7,
    };
    let mut launch = |change: &dyn Fn(&mut BottleneckBuffers<'_, f32>)| {
        let mut all = BottleneckBuffers {
            x: &x[0],
            w: [&w[0], &w[1], &w[2]],
            bias: [Some(&bias[0]), Some(&bias[1]), Some(&bias[2])],
            residual: None,
            y: &mut y[0],
        };
        change(&mut all);
        prepared.launch(gpu.stream(), all)
    };
    assert_eq!(launch(&|_| {}), Ok(()));
    // Of three filters each has its own name.
    type Change = dyn Fn(&mut BottleneckBuffers<'_, f32>);
    let refused: [(&Change, Error); 3] = [
        (
            &|all| all.bias[1] = None,
            Error::MissingBuffer { buffer: "bias2" },
        ),
        (
            &|all| all.w.swap(0, 1),
            Error::Length {
                what: "w1",
                expected: 36,
                got: 81,
            },
        ),
        (
            &|all| all.residual = Some(all.x),
            Error::UnexpectedBuffer { buffer: "residual" },
        ),
    ];
    for (change, error) in refused {
        assert_eq!(launch(change), Err(error));
    }
    let all = BottleneckBuffers {
        x: &short,
        w: [&w[0], &w[1], &w[2]],
        bias: [Some(&bias[0]), Some(&bias[1]), Some(&bias[2])],
        residual: None,
        y: &mut y[0],
    };
    assert_eq!(
        prepared.launch(gpu.stream(), all),
        Err(length("x", 12 * 20))
    );
}

#[test]
fn pointers_that_overlap_or_are_null_are_refused() {
    let gpu = gpu();
    let builder = problem().to_builder().filters(12);
    let problem = builder.added(Added::Tensor).build().unwrap();
    let prepared = gpu.prepare(&plan(&gpu, &problem)).unwrap();
    let good = BottleneckPointers {
        x: 0x1_0000,
        w: [0x2_0000, 0x3_0000, 0x4_0000],
        bias: [0x5_0000, 0x6_0000, 0x7_0000],
        residual: 0x8_0000,
        y: 0x9_0000,
    };
    let launch = |pointers| {
        // SAFETY: each of these is refused before anything is launched.
        unsafe { prepared.launch_raw(gpu.stream().cu_stream(), pointers) }
    };
    let y = |read| Error::Overlap { written: "y", read };
    for (pointers, error) in [
        (
            BottleneckPointers { x: 0, ..good },
            Error::NullBuffer { buffer: "x" },
        ),
        (BottleneckPointers { y: good.x, ..good }, y("x")),
        (
            BottleneckPointers {
                y: good.w[1],
                ..good
            },
            y("w2"),
        ),
        (
            BottleneckPointers {
                y: good.bias[2],
                ..good
            },
            y("bias3"),
        ),
        // Its own halo would change under it.
        (
            BottleneckPointers {
                y: good.residual,
                ..good
            },
            y("residual"),
        ),
        (
            BottleneckPointers {
                residual: 0,
                ..good
            },
            Error::MissingBuffer { buffer: "residual" },
        ),
        (
            BottleneckPointers {
                bias: [0x5_0000, 0, 0x7_0000],
                ..good
            },
            Error::MissingBuffer { buffer: "bias2" },
        ),
    ] {
        assert_eq!(launch(pointers), Err(error));
    }
    let off = BottleneckPointers {
        w: [0x2_0000, 0x3_0001, 0x4_0000],
        ..good
    };
    assert!(matches!(
        launch(off),
        Err(Error::Misaligned {
            buffer: "w2",
            needs: 4,
            has: 1,
            ..
        })
    ));
}

#[test]
fn a_plan_says_why_there_are_three_launches() {
    let wide = Bottleneck {
        channels: 2048,
        mid_channels: 512,
        k: 2048,
        ..Bottleneck::main_job(1, 7, 7)
    };
    let (graph, decision) = wide.choose(&FuseOptions::new(&Capability::h200())).unwrap();
    let [one, three] = &decision.alternatives[..] else {
        panic!("{decision}")
    };
    let refused = one.estimate.as_ref().unwrap_err();
    assert!(refused.kernels.iter().any(|(_, refusal)| matches!(
        refusal,
        Refusal::MidChannels {
            mid_channels: 512,
            ..
        }
    )));
    let text = decision.to_string();
    for word in [
        "three launches, for bottleneck",
        "mid channels, the problem has 512",
        "\nthree launches    3 kernels, ",
    ] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    assert!(
        refused
            .to_string()
            .starts_with("no kernel computes bottleneck\n")
    );
    assert_eq!((graph.launches(), decision.is_fused()), (3, false));
    // Two microseconds between launches, of which there are three.
    let plans = wide.problem().unwrap().convolutions().clone();
    let plans = plans.map(|conv| Plan::new(&conv, &Capability::h200()).unwrap());
    let each: f64 = plans.iter().map(|plan| plan.score().us).sum();
    let estimate = three.estimate.as_ref().unwrap();
    assert!((estimate.us - each - 4.0).abs() < 1e-9);
    let kernels = plans.each_ref().map(|plan| plan.kernel_id());
    assert_eq!(three.kernels, kernels);

    let job = Bottleneck {
        dtype: DType::Bf16,
        layout: Layout::Nhwc,
        ..Bottleneck::main_job(128, 56, 56)
    };
    let (graph, decision) = job.choose(&FuseOptions::new(&Capability::h200())).unwrap();
    assert!(
        decision.is_fused() && decision.reason().is_none(),
        "{decision}"
    );
    let estimate = decision.alternatives[decision.taken]
        .estimate
        .as_ref()
        .unwrap();
    assert_eq!(estimate.launches, 1);
    assert_eq!(estimate.bytes, job.problem().unwrap().min_bytes());
    assert!(
        decision.to_string().starts_with("one launch\n"),
        "{decision}"
    );
    assert_eq!(graph.launches(), 1);

    // What neither can plan is the error of the three.
    let limits = Limits {
        kernel: Some(KernelId(usize::MAX)),
        ..Limits::default()
    };
    let device = Capability::h200();
    let options = FuseOptions {
        limits,
        ..FuseOptions::new(&device)
    };
    let error = job.choose(&options).unwrap_err();
    assert!(matches!(error, Error::UnknownKernel { .. }), "{error}");
}

#[test]
fn one_launch_of_a_module_makes_what_three_make() {
    let gpu = gpu();
    let job = Bottleneck {
        channels: 20,
        mid_channels: 6,
        k: 20,
        residual: true,
        ..Bottleneck::main_job(2, 9, 7)
    };
    let run = |module: Graph| -> Vec<f32> {
        let prepared = module.prepare(&gpu).unwrap();
        let upload = |len: usize, seed| {
            let values = check::integers(len, 1, seed);
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            gpu.upload(&values).unwrap()
        };
        let x = upload(module.input_len(), 1);
        let filters = module.weights();
        let own: Vec<_> = (2u64..)
            .zip(&filters)
            .map(|(seed, conv): (u64, &Conv2d)| {
                (
                    upload(conv.filter().len(), seed),
                    upload(conv.output().c(), 10 + seed),
                )
            })
            .collect();
        let weights: Vec<Weights<'_, f32>> = own
            .iter()
            .map(|(w, bias)| Weights {
                w,
                bias: Some(bias),
            })
            .collect();
        let mut intermediates = module.allocate_intermediates(gpu.stream()).unwrap();
        let mut y = gpu.upload(&vec![f32::NAN; module.output_len()]).unwrap();
        let buffers = GraphBuffers {
            x: &x,
            weights: &weights,
            intermediates: &mut intermediates,
            y: &mut y,
            workspace: None,
        };
        prepared.launch(gpu.stream(), buffers).unwrap();
        gpu.download(&y).unwrap()
    };
    let three = run(job.separate().unwrap());
    assert!(three.iter().any(|value| *value > 0.0));
    assert_eq!(run(job.fused().unwrap()), three);
}
