//! Every refusal of a launch, with its numbers; and that the context works afterwards.

mod pointers;

use crate::common::{Case, gpu, small_conv, zeros};
use cudarc::driver::CudaContext;
use half::f16;
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
use warpconv::graph::{GraphBuffers, Weights};
use warpconv::launch::{ConvBuffers, PoolBuffers, Prepared, UnaryBuffers};
use warpconv::ops::{self, Bottleneck};
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Pool2d, PoolKind, Relu, TensorDesc};
use warpconv::{DType, Error, Layout};

fn prepare(problem: &Conv2d) -> Prepared<Conv2d> {
    gpu()
        .prepare(&Plan::new(problem, gpu().capability()).unwrap())
        .unwrap()
}

/// The device still computes what it should.
fn works() {
    let case = Case::new(small_conv(), 42);
    let gpu = gpu();
    let (x, w) = (gpu.upload(&case.x).unwrap(), gpu.upload(&case.w).unwrap());
    let bias = gpu.upload(&case.bias).unwrap();
    let y = ops::conv2d(gpu, &case.problem, &x, &w)
        .bias(&bias)
        .run()
        .unwrap();
    assert_eq!(gpu.download(&y).unwrap(), case.y);
}

#[test]
fn lengths_are_exact() {
    let (gpu, problem) = (
        gpu(),
        small_conv().to_builder().residual(true).build().unwrap(),
    );
    let plan = prepare(&problem);
    let lens = [
        problem.input().len(),
        problem.filter().len(),
        6,
        problem.output().len(),
        problem.output().len(),
    ];
    let names = ["x", "w", "bias", "residual", "y"];
    for (wrong, name) in names.into_iter().enumerate() {
        for change in [-1isize, 1] {
            let mut lens = lens;
            lens[wrong] = lens[wrong].strict_add_signed(change);
            let [x, w, bias, residual, mut y] = lens.map(zeros::<f32>);
            let buffers = ConvBuffers::new(&x, &w, &mut y)
                .bias(&bias)
                .residual(&residual);
            let error = plan.launch(gpu.stream(), buffers).unwrap_err();
            let expected = lens[wrong].strict_add_signed(-change);
            assert_eq!(
                error,
                Error::Length {
                    what: name,
                    expected,
                    got: lens[wrong]
                }
            );
        }
    }

    let pool = Pool2d::builder()
        .input(1, 2, 6, 6)
        .kernel(2, 2)
        .kind(PoolKind::Max { indices: true })
        .build()
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&pool, gpu.capability()).unwrap())
        .unwrap();
    let (x, mut y) = (
        zeros::<f32>(pool.input().len()),
        zeros::<f32>(pool.output().len()),
    );
    let mut short = gpu
        .stream()
        .alloc_zeros::<u8>(pool.output().elements() - 1)
        .unwrap();
    let error = plan
        .launch(
            gpu.stream(),
            PoolBuffers {
                x: &x,
                y: &mut y,
                indices: Some(&mut short),
            },
        )
        .unwrap_err();
    assert_eq!(
        error,
        Error::Length {
            what: "indices",
            expected: 50,
            got: 49
        }
    );

    let relu = TensorDesc::new([1, 2, 3, 4], Layout::Nchw, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&relu, gpu.capability()).unwrap())
        .unwrap();
    let error = plan
        .launch(
            gpu.stream(),
            UnaryBuffers {
                x: &zeros::<f32>(23),
                y: &mut zeros::<f32>(24),
            },
        )
        .unwrap_err();
    assert_eq!(
        error,
        Error::Length {
            what: "x",
            expected: 24,
            got: 23
        }
    );
    let error = plan
        .launch_in_place(gpu.stream(), &mut zeros::<f32>(25))
        .unwrap_err();
    assert_eq!(
        error,
        Error::Length {
            what: "x",
            expected: 24,
            got: 25
        }
    );
    works();
}

#[test]
fn operands_and_types_are_the_problems() {
    let gpu = gpu();
    let with = small_conv();
    let without = with.to_builder().bias(false).build().unwrap();
    let (x, w) = (
        zeros::<f32>(with.input().len()),
        zeros::<f32>(with.filter().len()),
    );
    let (bias, other) = (zeros::<f32>(6), zeros::<f32>(with.output().len()));
    let mut y = zeros::<f32>(with.output().len());
    let error = prepare(&with)
        .launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y))
        .unwrap_err();
    assert_eq!(error, Error::MissingBuffer { buffer: "bias" });
    let error = prepare(&without)
        .launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
        .unwrap_err();
    assert_eq!(error, Error::UnexpectedBuffer { buffer: "bias" });
    let error = prepare(&without)
        .launch(
            gpu.stream(),
            ConvBuffers::new(&x, &w, &mut y).residual(&other),
        )
        .unwrap_err();
    assert_eq!(error, Error::UnexpectedBuffer { buffer: "residual" });

    let (x, w) = (
        zeros::<f16>(with.input().len()),
        zeros::<f16>(with.filter().len()),
    );
    let mut y = zeros::<f16>(with.output().len());
    let error = prepare(&without)
        .launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y))
        .unwrap_err();
    assert_eq!(
        error,
        Error::WrongDType {
            problem: DType::F32,
            buffers: DType::F16
        }
    );
    assert_eq!(
        error.to_string(),
        "the problem is in f32, the buffers hold f16"
    );

    let pool = Pool2d::builder()
        .input(1, 2, 6, 6)
        .kernel(2, 2)
        .build()
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&pool, gpu.capability()).unwrap())
        .unwrap();
    let (x, mut y) = (zeros::<f32>(72), zeros::<f32>(50));
    let mut indices = gpu.stream().alloc_zeros::<u8>(50).unwrap();
    let error = plan
        .launch(
            gpu.stream(),
            PoolBuffers {
                x: &x,
                y: &mut y,
                indices: Some(&mut indices),
            },
        )
        .unwrap_err();
    assert_eq!(error, Error::UnexpectedBuffer { buffer: "indices" });
    works();
}

#[test]
fn buffers_and_streams_of_another_context_are_refused() {
    let gpu = gpu();
    let other = match gpu.kind() {
        DeviceKind::Gpu => {
            // Making a context binds it; the launches below bind their own.
            CudaContext::new_non_primary(gpu.context().ordinal(), 0).unwrap()
        }
        DeviceKind::Emulator => {
            let sm = if gpu.capability().version() == (8, 0) {
                75
            } else {
                80
            };
            Gpu::open(&DeviceChoice::Emulator { sm })
                .unwrap()
                .context()
                .clone()
        }
    };
    let problem = small_conv().to_builder().bias(false).build().unwrap();
    let plan = prepare(&problem);
    let theirs = other.default_stream();
    let foreign = theirs.alloc_zeros::<f32>(problem.input().len()).unwrap();
    let (x, w) = (
        zeros::<f32>(problem.input().len()),
        zeros::<f32>(problem.filter().len()),
    );
    let mut y = zeros::<f32>(problem.output().len());
    let error = plan
        .launch(gpu.stream(), ConvBuffers::new(&foreign, &w, &mut y))
        .unwrap_err();
    assert_eq!(error, Error::WrongContext { what: "x" });
    let error = plan
        .launch(&theirs, ConvBuffers::new(&x, &w, &mut y))
        .unwrap_err();
    assert_eq!(error, Error::WrongContext { what: "stream" });
    works();
}

#[test]
fn too_large_an_output_is_out_of_memory() {
    let gpu = gpu();
    let problem = Conv2d::builder()
        .input(1 << 12, 1, 512, 512)
        .filters(1 << 10)
        .kernel(1, 1)
        .build();
    let problem = problem.unwrap();
    let tiny = zeros::<f32>(1);
    let error = ops::conv2d(gpu, &problem, &tiny, &tiny).run().unwrap_err();
    assert_eq!(
        error,
        Error::OutOfMemory {
            operation: "allocating the output"
        }
    );
    works();
}

#[test]
fn a_plan_for_a_newer_device_is_refused_by_an_older_one() {
    let gpu = gpu();
    let newest = warpconv::plan::Capability::h200();
    let problem = small_conv();
    let plan = Plan::new(&problem, &newest).unwrap();
    let prepared = gpu.prepare(&plan);
    if gpu.capability().runs(plan.kernel().arch) {
        assert!(prepared.is_ok());
    } else {
        let device = gpu.capability().version();
        assert_eq!(
            prepared.unwrap_err(),
            Error::PlanForAnotherDevice {
                plan: (9, 0),
                device
            }
        );
    }
    works();
}

#[test]
fn a_module_counts_its_operands() {
    let gpu = gpu();
    let module = Bottleneck {
        channels: 4,
        mid_channels: 2,
        ..Bottleneck::main_job(1, 4, 4)
    }
    .separate()
    .unwrap();
    let prepared = module.prepare(gpu).unwrap();
    let x = zeros::<f32>(module.input_len());
    let mut y = zeros::<f32>(module.output_len());
    let mut intermediates = module.allocate_intermediates::<f32>(gpu.stream()).unwrap();
    let one = [Weights {
        w: &x as _,
        bias: None,
    }];
    let buffers = GraphBuffers {
        x: &x,
        weights: &one,
        intermediates: &mut intermediates,
        y: &mut y,
        workspace: None,
    };
    let error = prepared.launch(gpu.stream(), buffers).unwrap_err();
    assert_eq!(
        error,
        Error::Length {
            what: "the weights of a graph",
            expected: 3,
            got: 1
        }
    );
    let three = [one[0]; 3];
    let buffers = GraphBuffers {
        x: &x,
        weights: &three,
        intermediates: &mut intermediates[..1],
        y: &mut y,
        workspace: None,
    };
    let error = prepared.launch(gpu.stream(), buffers).unwrap_err();
    assert_eq!(
        error,
        Error::Length {
            what: "the intermediate buffers of a graph",
            expected: 2,
            got: 1
        }
    );
    works();
}

#[test]
fn devices_that_are_not_there() {
    let first = gpu();
    let wrong = Gpu::open(&DeviceChoice::Cuda(1000)).unwrap_err();
    match first.kind() {
        DeviceKind::Gpu => {
            assert!(matches!(wrong, Error::NoDevice { ordinal: 1000, devices } if devices > 0))
        }
        DeviceKind::Emulator => assert!(matches!(wrong, Error::DriverInUse { .. }), "{wrong}"),
    }
    let emulated = Gpu::open(&DeviceChoice::Emulator { sm: 80 });
    match first.kind() {
        DeviceKind::Gpu => assert!(matches!(emulated.unwrap_err(), Error::DriverInUse { .. })),
        DeviceKind::Emulator => assert_eq!(emulated.unwrap().capability().version(), (8, 0)),
    }
    assert!(matches!(
        Gpu::open(&DeviceChoice::Emulator { sm: 61 }),
        Err(Error::NoEmulator { .. } | Error::DriverInUse { .. })
    ));
    works();
}
