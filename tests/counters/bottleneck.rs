//! Whole bottlenecks by one launch: device memory, bank conflicts and multiplications against the
//! least.

use warpconv::device::Gpu;
use warpconv::kernels::{Algorithm, DType, Kernel, KernelId, kernels};
use warpconv::plan::BottleneckPlan;
use warpconv::problem::{Added, Bottleneck2d, FilterLayout};
use warpconv_testing as check;
use warpconv_testing::reference::BottleneckOperands;

use super::{Broken, Counters, matrix_macs};

/// What the launch of a bottleneck counted.
fn counted(gpu: &Gpu, plan: &BottleneckPlan) -> Counters {
    let problem = plan.problem();
    let x = check::integers(problem.input().elements(), 1, 1);
    let w = problem
        .convolutions()
        .each_ref()
        .map(|conv| check::integers(conv.filter_elements(), 1, 2));
    let bias = problem
        .convolutions()
        .each_ref()
        .map(|conv| check::integers(conv.k(), 1, 3));
    let operands = BottleneckOperands {
        x: &x,
        w: w.each_ref().map(Vec::as_slice),
        bias: bias.each_ref().map(|bias| Some(&bias[..])),
        residual: None,
    };
    gpu.reset_counters();
    check::run_bottleneck(gpu, plan, &operands)
        .unwrap_or_else(|error| panic!("{} {problem}: {error}", plan.kernel().kernel().name()));
    gpu.counters().expect("the device is the emulator")
}

/// The main job's bottleneck, 56x56, one image, with its input added, by every kernel of its stride
/// that takes it.
pub fn main_job(gpu: &Gpu, broken: &mut Broken) {
    let mut checked = 0;
    for (index, kernel) in kernels().iter().enumerate() {
        let fused = kernel.algorithm.bottleneck() && gpu.capability().runs(kernel.arch);
        let Some(layout) = kernel.layout.filter(|_| fused && kernel.stride == 1) else {
            continue;
        };
        // As many channels as copies of x want.
        let channels = if kernel.vector == 16 && kernel.dtype != DType::F32 {
            256
        } else {
            252
        };
        let problem = Bottleneck2d::builder()
            .input(1, channels, 56, 56)
            .mid_channels(channels / 4)
            .filters(channels)
            .added(Added::Input)
            .dtype(kernel.dtype)
            .math(kernel.math)
            .layout(layout)
            .filter_layout(FilterLayout::Krsc)
            .build()
            .expect("the problem is valid");
        let plan = BottleneckPlan::with_kernel(&problem, gpu.capability(), KernelId(index));
        let Ok(plan) = plan else { continue };
        let (name, counters) = (kernel.name(), counted(gpu, &plan));
        let bytes = counters.device_bytes() as f64 / problem.min_bytes() as f64;
        broken.hold("device memory", &name, bytes, 1.15);
        broken.hold("device memory, at least", &name, -bytes, -1.0);
        if kernel.algorithm != Algorithm::BottleneckSimt {
            let macs = matrix_macs(&counters) as f64 / problem.macs() as f64;
            broken.hold("matrix operations, at least", &name, -macs, -1.0);
        } else {
            simt(kernel, &problem, &counters, broken);
        }
        checked += 1;
    }
    assert!(checked > 0, "no kernel computes a bottleneck at once");
}

/// What those on CUDA cores may cost: as counted when they were last tuned, and 5% for another
/// compiler's taste. Tiles of 8x8 compute 100 pixels of the first intermediate, as 128, for 64
/// outputs, and share a load among fewer products.
fn simt(kernel: &Kernel, problem: &Bottleneck2d, counters: &Counters, broken: &mut Broken) {
    let name = kernel.name();
    let most = if kernel.tile_n == 28 { 1.50 } else { 2.10 };
    let warps = counters.instructions().warp as f64 * 32.0 / problem.macs() as f64;
    broken.hold("instructions a multiply-add", &name, warps, 1.05 * most);
    let loads = counters.shared_loads;
    let conflicts = loads.conflicts as f64 / loads.wavefronts as f64;
    broken.hold(
        "conflicts a wavefront of shared loads",
        &name,
        conflicts,
        0.02,
    );
}
