//! Launches that compute in a workspace: what is asked of it, what is left in it, and that nothing
//! else changes.

use crate::common::tensor::{job, packed_job, plan};
use crate::common::{gpu, zeros};
use cudarc::driver::{CudaContext, CudaSlice, DevicePtr, DevicePtrMut};
use half::f16;
use warpconv::device::Gpu;
use warpconv::graph::{GraphBuffers, Weights};
use warpconv::launch::{ConvBuffers, ConvPointers, Prepared, Workspace};
use warpconv::ops::{self, Bottleneck};
use warpconv::plan::{Operation, Plan, WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
use warpconv::problem::Conv2d;
use warpconv::{DType, Error, Layout};
use warpconv_testing as check;

fn prepare(plan: &Plan<Conv2d>) -> Prepared<Conv2d> {
    gpu().prepare(plan).unwrap()
}

fn workspace(bytes: u64) -> Workspace {
    Workspace::new(gpu().stream(), bytes).unwrap()
}

#[test]
fn a_plan_says_what_it_needs() {
    let (job, packed) = (job(), packed_job());
    let (whole, split) = (plan(&packed.conv, 1), plan(&packed.conv, 3));
    assert_eq!((whole.launches(), whole.workspace_bytes()), (1, 0));
    assert_eq!((split.launches(), split.score().split_k), (1, 3));
    let kernel = split.kernel();
    let tile = u64::from(kernel.tile_m * kernel.tile_n) * 4;
    assert_eq!(
        split.workspace_bytes(),
        WORKSPACE_COUNTERS + u64::from(split.grid()) * tile
    );
    let packs = plan(&job.conv, 1);
    assert_eq!(packs.launches(), 2);
    assert_eq!(
        packs.workspace_bytes(),
        WORKSPACE_COUNTERS + 40 * 9 * 64 * 2
    );
    let none = plan(&job.conv.with_batch(1).unwrap(), 1)
        .problem()
        .with_batch(0)
        .unwrap();
    let none = Plan::new(&none, gpu().capability()).unwrap();
    assert_eq!((none.launches(), none.workspace_bytes()), (0, 0));
}

#[test]
fn the_driver_is_asked_for_all_of_the_shared_memory() {
    let conv = packed_job().conv;
    let capability = gpu().capability();
    let mut large = 0;
    for candidate in Plan::candidates(&conv, capability) {
        if candidate.evaluation.is_err() {
            continue;
        }
        let plan = Plan::with_kernel(&conv, capability, candidate.id).unwrap();
        let attributes = prepare(&plan).attributes().unwrap();
        assert_eq!(attributes.shared_bytes, plan.shared_bytes());
        large = large.max(plan.shared_bytes());
    }
    // A function may have 48 KiB without asking; beyond that the launches above the baseline work
    // only because it did.
    let asks = capability.version() >= (8, 0);
    assert!(!asks || large > 48 << 10, "{large} bytes at most");
}

#[test]
fn one_workspace_serves_any_number_of_plans() {
    let (job, packed) = (job(), packed_job());
    let plans: Vec<_> = [1, 2, 3, 5]
        .into_iter()
        .flat_map(|split_k| {
            [
                (&job, plan(&job.conv, split_k)),
                (&packed, plan(&packed.conv, split_k)),
            ]
        })
        .collect();
    let most = plans
        .iter()
        .map(|(_, plan)| plan.workspace_bytes())
        .max()
        .unwrap();
    let mut workspace = workspace(most);
    assert_eq!(workspace.bytes(), most);
    // Twice, so that each meets what every other one has left.
    for (job, plan) in plans.iter().chain(&plans) {
        job.run(&prepare(plan), &mut workspace);
    }
}

#[test]
fn splits_give_the_same_bits_every_time() {
    let gpu = gpu();
    let conv: Conv2d = "mb1ic256ih5oc24kh3ph1+f16+nhwc".parse().unwrap();
    let reals = |len, seed| -> CudaSlice<f16> {
        let values = check::reals(len, DType::F16, seed).into_iter();
        gpu.upload(&values.map(f16::from_f64).collect::<Vec<_>>())
            .unwrap()
    };
    let (x, w) = (reals(conv.input().len(), 1), reals(conv.filter().len(), 2));
    let prepared = prepare(&plan(&conv, 4));
    let mut workspace = workspace(prepared.plan().workspace_bytes());
    let mut run = || {
        let mut y = zeros::<f16>(conv.output().len());
        let buffers = ConvBuffers::new(&x, &w, &mut y).workspace(&mut workspace);
        prepared.launch(gpu.stream(), buffers).unwrap();
        let y = gpu.download(&y).unwrap();
        y.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    let first = run();
    assert!(first.iter().any(|&bits| bits != 0));
    for _ in 0..4 {
        assert_eq!(run(), first);
    }
}

#[test]
fn a_workspace_that_will_not_do_is_refused() {
    let (gpu, job) = (gpu(), job());
    let prepared = prepare(&plan(&job.conv, 2));
    let needs = prepared.plan().workspace_bytes();
    let mut y = job.y();
    let missing = Error::MissingBuffer {
        buffer: "workspace",
    };
    assert_eq!(
        prepared.launch(gpu.stream(), job.buffers(&mut y)),
        Err(missing)
    );
    let mut short = workspace(needs - 1);
    let has = needs - 1;
    let refused = prepared.launch(gpu.stream(), job.buffers(&mut y).workspace(&mut short));
    assert_eq!(refused, Err(Error::WorkspaceTooSmall { needs, has }));
    let text = refused.unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "the workspace has {has} bytes, the plan needs {needs}: take \
             Workspace::new(stream, plan.workspace_bytes()), or plan within \
             Limits {{ workspace: {has}, .. }}"
        )
    );
    assert_eq!(workspace(0).bytes(), 0);
    // Shorter than the counters, all of it is zeroed and nothing behind it.
    assert_eq!(workspace(100).bytes(), 100);

    let twin = Gpu::new(CudaContext::new(gpu.context().ordinal()).unwrap()).unwrap();
    let mut theirs = Workspace::new(twin.stream(), needs).unwrap();
    let refused = prepared.launch(gpu.stream(), job.buffers(&mut y).workspace(&mut theirs));
    assert_eq!(refused, Err(Error::WrongContext { what: "workspace" }));

    // One that is given and not needed is no mistake: it may be shared.
    let packed = packed_job();
    packed.run(&prepare(&plan(&packed.conv, 1)), &mut short);
    job.run(&prepared, &mut workspace(needs));
}

#[test]
fn raw_pointers_are_held_to_what_the_kernel_needs() {
    let (gpu, job) = (gpu(), packed_job());
    let prepared = prepare(&plan(&job.conv, 2));
    let needs = prepared.plan().workspace_bytes();
    let stream = gpu.stream();
    let mut y = job.y();
    let mut room = gpu
        .stream()
        .alloc_zeros::<u8>(needs as usize + 4096)
        .unwrap();
    let (x, _x) = job.x.device_ptr(stream);
    let (w, _w) = job.w.device_ptr(stream);
    let (bias, _bias) = job.bias.device_ptr(stream);
    let (y, _y) = y.device_ptr_mut(stream);
    let (workspace, _workspace) = room.device_ptr_mut(stream);
    let good = ConvPointers {
        x,
        w,
        bias,
        residual: 0,
        y,
        workspace,
    };
    let launch = |change: &dyn Fn(&mut ConvPointers)| {
        let mut pointers = good;
        change(&mut pointers);
        // SAFETY: refused before anything is launched, see the assertions; the last one's pointers
        // are the buffers'.
        unsafe { prepared.launch_raw(stream.cu_stream(), pointers) }
    };
    let off = |buffer, address: u64, needs| {
        let has = 1 << address.trailing_zeros();
        Err(Error::Misaligned {
            buffer,
            address,
            needs,
            has,
        })
    };
    let vector = u64::from(prepared.plan().kernel().vector);
    assert!(
        vector > 2,
        "the first kernel copies more than an element of x"
    );
    assert_eq!(
        launch(&|p| p.x += vector / 2),
        off("x", x + vector / 2, vector)
    );
    assert_eq!(launch(&|p| p.w += 8), off("w", w + 8, 16));
    assert_eq!(launch(&|p| p.bias += 1), off("bias", bias + 1, 2));
    let half = WORKSPACE_ALIGNMENT / 2;
    assert_eq!(
        launch(&|p| p.workspace += half),
        off("workspace", workspace + half, 256)
    );
    assert_eq!(
        launch(&|p| p.workspace = 0),
        Err(Error::MissingBuffer {
            buffer: "workspace"
        })
    );
    for at in [x, w, bias, y] {
        // Which of them it meets first depends on where they were allocated.
        let refused = launch(&|p| p.workspace = at & !(WORKSPACE_ALIGNMENT - 1));
        let overlaps = matches!(
            refused,
            Err(Error::Overlap {
                written: "workspace",
                ..
            })
        );
        assert!(overlaps, "{refused:?}");
    }
    launch(&|_| {}).unwrap();
    gpu.synchronize().unwrap();
}

#[test]
fn one_call_brings_its_own_workspace() {
    for job in [job(), packed_job()] {
        let gpu = gpu();
        let stream = gpu.context().new_stream().unwrap();
        gpu.synchronize().unwrap();
        let gpu = gpu.with_stream(stream.clone()).unwrap();
        let y = ops::conv2d(&gpu, &job.conv, &job.x, &job.w)
            .bias(&job.bias)
            .run();
        let y = stream.clone_dtoh(&y.unwrap()).unwrap();
        assert_eq!(y, job.want);
    }
}

#[test]
fn filters_are_packed_once_for_all() {
    let (gpu, job) = (gpu(), job());
    let (conv, w) = ops::pack_filter(gpu, &job.conv, &job.w).unwrap();
    let prepared = prepare(&plan(&conv, 1));
    assert_eq!(prepared.plan().workspace_bytes(), 0);
    let mut y = job.y();
    let buffers = ConvBuffers::new(&job.x, &w, &mut y).bias(&job.bias);
    prepared.launch(gpu.stream(), buffers).unwrap();
    assert_eq!(gpu.download(&y).unwrap(), job.want);
}

#[test]
fn the_launches_of_a_module_share_a_workspace() {
    let gpu = gpu();
    let job = Bottleneck {
        channels: 20,
        mid_channels: 7,
        k: 20,
        dtype: DType::F16,
        layout: Layout::Nhwc,
        ..Bottleneck::main_job(1, 6, 5)
    };
    let module = job.separate().unwrap();
    let prepared = module.prepare(gpu).unwrap();
    let convs = module.weights();
    let plans = convs
        .iter()
        .map(|conv| Plan::new(conv, gpu.capability()).unwrap());
    let needs = plans.map(|plan| plan.workspace_bytes());
    assert_eq!(prepared.workspace_bytes(), needs.max().unwrap());
    let mut workspace = prepared.allocate_workspace(gpu.stream()).unwrap();
    assert_eq!(
        workspace.as_ref().map_or(0, Workspace::bytes),
        prepared.workspace_bytes()
    );
    let ones = |len| gpu.upload(&vec![f16::ONE; len]).unwrap();
    let device: Vec<_> = convs
        .iter()
        .map(|c| (ones(c.filter().len()), ones(c.output().c())))
        .collect();
    let weights: Vec<_> = device
        .iter()
        .map(|(w, b)| Weights {
            w: w as _,
            bias: Some(b as _),
        })
        .collect();
    let mut intermediates = module.allocate_intermediates::<f16>(gpu.stream()).unwrap();
    let (x, mut y) = (ones(module.input_len()), zeros::<f16>(module.output_len()));
    let buffers = GraphBuffers {
        x: &x,
        weights: &weights,
        intermediates: &mut intermediates,
        y: &mut y,
        workspace: workspace.as_mut(),
    };
    prepared.launch(gpu.stream(), buffers).unwrap();
    // 20 + 1 = 21; 7 * 21 taps inside the image + 1; 7 times that + 1. Integers up to 2048 are
    // f16's, then every second.
    let y = gpu.download(&y).unwrap();
    let pixel =
        |taps: f64| f16::from_f64(7.0 * f16::from_f64(7.0 * 21.0 * taps + 1.0).to_f64() + 1.0);
    assert_eq!(y[..20], [pixel(4.0); 20]);
    assert_eq!(y[20..40], [pixel(6.0); 20]);
    assert_eq!(y[6 * 20..][..20], [pixel(9.0); 20]);
}
