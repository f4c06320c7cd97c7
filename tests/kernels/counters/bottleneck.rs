//! Whole bottlenecks by one launch: device memory, bank conflicts and multiplications against the
//! least.

use libtest_mimic::Trial;
use warpconv::device::Gpu;
use warpconv::kernels::{Algorithm, DType, Kernel, KernelId, kernels};
use warpconv::plan::{Capability, Operation, Plan};
use warpconv::problem::{Added, Bottleneck2d, FilterLayout};
use warpconv_testing as check;
use warpconv_testing::reference::BottleneckOperands;

use super::{Counters, Held, matrix_macs, trial};

/// Counters of a bottleneck's launch.
fn counted(gpu: &Gpu, plan: &Plan<Bottleneck2d>) -> Counters {
    let problem = plan.problem();
    let x = check::integers(problem.input().elements(), 1, 1);
    let w = problem
        .convolutions()
        .each_ref()
        .map(|conv| check::integers(conv.filter().elements(), 1, 2));
    let bias = problem
        .convolutions()
        .each_ref()
        .map(|conv| check::integers(conv.output().c(), 1, 3));
    let operands = BottleneckOperands {
        x: &x,
        w: w.each_ref().map(Vec::as_slice),
        bias: bias.each_ref().map(|bias| Some(&bias[..])),
        residual: None,
    };
    gpu.reset_counters();
    check::run_bottleneck(gpu, plan, &operands)
        .unwrap_or_else(|error| panic!("{} {problem}: {error}", plan.kernel().name()));
    gpu.counters().expect("the device is the emulator")
}

/// The main job's bottleneck, 56x56, one image, with its input added, for a kernel.
fn main_job(kernel: &Kernel) -> Option<Bottleneck2d> {
    let layout = kernel.layout?;
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
        .build();
    Some(problem.expect("the problem is valid"))
}

/// A test per kernel that takes the main job's bottleneck.
pub fn trials() -> Vec<Trial> {
    let device = Capability::h200();
    let mut trials = Vec::new();
    for (index, kernel) in kernels().iter().enumerate() {
        let fused = kernel.algorithm.bottleneck() && device.runs(kernel.arch);
        if !fused || kernel.stride != 1 {
            continue;
        }
        let Some(problem) = main_job(kernel) else {
            continue;
        };
        if Plan::with_kernel(&problem, &device, KernelId(index)).is_ok() {
            let name = format!("bottleneck::{}", kernel.name());
            trials.push(trial(name, 90, move |gpu, held| {
                check(gpu, &problem, KernelId(index), held);
            }));
        }
    }
    assert!(
        !trials.is_empty(),
        "no kernel computes a bottleneck at once"
    );
    trials
}

fn check(gpu: &Gpu, problem: &Bottleneck2d, id: KernelId, held: &mut Held) {
    let plan = Plan::with_kernel(problem, gpu.capability(), id);
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let counters = counted(gpu, &plan);
    let bytes = counters.device_bytes() as f64 / problem.min_bytes() as f64;
    held.hold("device memory", bytes, 1.15);
    held.hold("device memory, at least", -bytes, -1.0);
    if id.kernel().algorithm != Algorithm::BottleneckSimt {
        let macs = matrix_macs(&counters) as f64 / problem.macs() as f64;
        held.hold("matrix operations, at least", -macs, -1.0);
    } else {
        simt(problem, &counters, held);
    }
}

/// Limits of those on CUDA cores. Tiles of 8x8 compute 100 pixels of the first intermediate, as
/// 128, for 64 outputs, and share a load among fewer products.
fn simt(problem: &Bottleneck2d, counters: &Counters, held: &mut Held) {
    let warps = counters.instructions().warp as f64 * 32.0 / problem.macs() as f64;
    held.hold_expected("instructions per multiply-add", warps);
    let loads = counters.shared_loads;
    let conflicts = loads.conflicts as f64 / loads.wavefronts as f64;
    held.hold("conflicts per wavefront of shared loads", conflicts, 0.02);
}
