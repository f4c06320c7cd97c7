//! A launch allocates nothing on the host and nothing on the device, and loads no module; what is
//! dropped is given back. Each test has a process of its own, since all tests of a process share
//! the device's memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use half::f16;

use crate::common::process::own_process;
use crate::common::{Case, gpu, small_conv, tensor, zeros};
use warpconv::graph::{GraphBuffers, Weights};
use warpconv::kernels::DType;
use warpconv::launch::{ConvBuffers, Workspace};
use warpconv::ops::{self, Inception};
use warpconv::plan::Plan;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Launches several times, and holds that neither the host's nor the device's memory is asked for
/// any. One launch must have gone before, for the first call resolves the driver's functions.
fn allocates_nothing(mut launch: impl FnMut()) {
    let gpu = gpu();
    gpu.synchronize().unwrap();
    let free = gpu.context().mem_get_info().unwrap().0;
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..8 {
        launch();
    }
    let allocated = ALLOCATIONS.with(Cell::get) - before;
    gpu.synchronize().unwrap();
    assert_eq!(allocated, 0, "allocations on the host");
    assert_eq!(
        gpu.context().mem_get_info().unwrap().0,
        free,
        "device memory"
    );
}

#[test]
fn a_launch_allocates_nothing() {
    own_process(|| {
        let gpu = gpu();
        let case = Case::new(small_conv(), 1);
        let plan = gpu
            .prepare(&Plan::new(&case.problem, gpu.capability()).unwrap())
            .unwrap();
        let (x, w) = (gpu.upload(&case.x).unwrap(), gpu.upload(&case.w).unwrap());
        let bias = gpu.upload(&case.bias).unwrap();
        let mut y = zeros::<f32>(case.y.len());
        let mut launch = || {
            plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
                .unwrap();
        };
        launch();
        allocates_nothing(launch);
        assert_eq!(gpu.download(&y).unwrap(), case.y);
    });
}

#[test]
fn nor_does_one_that_packs_filters_and_splits_sums() {
    own_process(|| {
        let gpu = gpu();
        let job = tensor::job();
        let prepared = gpu.prepare(&tensor::plan(&job.conv, 3)).unwrap();
        let mut workspace =
            Workspace::new(gpu.stream(), prepared.plan().workspace_bytes()).unwrap();
        job.run(&prepared, &mut workspace);
        let mut y = job.y();
        allocates_nothing(|| {
            let buffers = job.buffers(&mut y).workspace(&mut workspace);
            prepared.launch(gpu.stream(), buffers).unwrap();
        });
        assert_eq!(gpu.download(&y).unwrap(), job.want);
    });
}

/// A fused inception module; separate launches where the device has no kernels for it.
#[test]
fn nor_does_a_module_of_several_convolutions_a_launch() {
    own_process(|| {
        let gpu = gpu();
        let job = Inception {
            dtype: DType::F16,
            layout: warpconv::Layout::Nhwc,
            ..Inception::inception_3a(1, 5, 3)
        };
        let module = match gpu.capability().version() >= (8, 0) {
            true => job.fused().unwrap(),
            false => job.separate().unwrap(),
        };
        let prepared = module.prepare(gpu).unwrap();
        let x = gpu.upload(&vec![f16::ONE; module.input_len()]).unwrap();
        let operands: Vec<_> = module
            .weights()
            .iter()
            .map(|conv| {
                let bias = gpu.upload(&vec![f16::ONE; conv.output().c()]).unwrap();
                (zeros::<f16>(conv.filter().len()), bias)
            })
            .collect();
        let weights: Vec<Weights<'_, f16>> = operands
            .iter()
            .map(|(w, bias)| Weights {
                w,
                bias: Some(bias),
            })
            .collect();
        let mut intermediates = module.allocate_intermediates(gpu.stream()).unwrap();
        let mut y = zeros::<f16>(module.output_len());
        let mut workspace = prepared.allocate_workspace(gpu.stream()).unwrap();
        let mut launch = || {
            let buffers = GraphBuffers {
                x: &x,
                weights: &weights,
                intermediates: &mut intermediates,
                y: &mut y,
                workspace: workspace.as_mut(),
            };
            prepared.launch(gpu.stream(), buffers).unwrap();
        };
        launch();
        allocates_nothing(launch);
        // With filters of zero every output is its bias.
        assert_eq!(
            gpu.download(&y).unwrap(),
            vec![f16::ONE; module.output_len()]
        );
    });
}

#[test]
fn what_is_dropped_is_given_back() {
    own_process(|| {
        let gpu = gpu();
        let case = Case::new(small_conv(), 2);
        let once = || {
            let plan = Plan::new(&case.problem, gpu.capability()).unwrap();
            let plan = gpu.prepare(&plan).unwrap();
            let (x, w) = (gpu.upload(&case.x).unwrap(), gpu.upload(&case.w).unwrap());
            let bias = gpu.upload(&case.bias).unwrap();
            let mut y = zeros::<f32>(case.y.len());
            plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
                .unwrap();
            let again = ops::conv2d(gpu, &case.problem, &x, &w).bias(&bias).run();
            assert_eq!(
                gpu.download(&y).unwrap(),
                gpu.download(&again.unwrap()).unwrap()
            );
            // No elements, but a buffer behind them.
            assert!(gpu.upload::<f32>(&[]).unwrap().is_empty());
        };
        let free = || {
            gpu.synchronize().unwrap();
            gpu.context().mem_get_info().unwrap().0
        };
        // The kernel stays loaded, and a driver may keep memory for the next allocations.
        once();
        let before = free();
        for _ in 0..32 {
            once();
        }
        assert_eq!(free(), before, "device memory");
    });
}
