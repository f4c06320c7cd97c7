//! The small layers between convolutions: bound by memory, so held to what they move.

use ptx_emulator::Counters;
use warpconv::DType;
use warpconv::device::Gpu;
use warpconv::kernels::Layout;
use warpconv::launch::Unary;
use warpconv::plan::Plan;
use warpconv::problem::{Lrn, LrnParameters, Softmax, Subsample, Tanh};
use warpconv_testing as check;
use warpconv_testing::Guards;

use super::{Broken, conflicts};

/// Bytes that threads may ask for, in bytes of the input.
struct Loads(f64);

/// Holds each of them to its limits, in every type and layout.
pub fn check(gpu: &Gpu, broken: &mut Broken) {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            let planes = [2, 96, 16, 16];
            let lrn = |parameters| Lrn::new(planes, layout, dtype, parameters).expect("valid");
            // NCHW: segments of 16 channels and the four around them. NHWC: a vector and the two
            // beside it.
            let most = match layout {
                Layout::Nchw => 1.25,
                Layout::Nhwc => 3.0,
            };
            map(gpu, &lrn(LrnParameters::ALEXNET), Loads(most), broken);
            // Any other window is read term by term, and the value again.
            let seven = LrnParameters {
                size: 7,
                ..LrnParameters::ALEXNET
            };
            map(gpu, &lrn(seven), Loads(8.0), broken);

            let softmax = |extents| Softmax::new(extents, layout, dtype).expect("valid");
            // What stays in registers is read once, what does not three times.
            map(gpu, &softmax([24, 1024, 1, 1]), Loads(1.0), broken);
            map(gpu, &softmax([1, 131_072, 1, 1]), Loads(3.0), broken);
            map(gpu, &softmax([2, 64, 8, 8]), Loads(1.0), broken);

            let tanh = Tanh::new(planes, layout, dtype).expect("valid");
            map(gpu, &tanh, Loads(1.0), broken);
            subsample(gpu, layout, dtype, broken);
        }
    }
}

fn map<P: Unary>(gpu: &Gpu, problem: &P, loads: Loads, broken: &mut Broken) {
    let plan = Plan::new(problem, gpu.capability()).expect("a plan");
    let x = check::reals(problem.x().elements(), problem.dtype(), 1);
    gpu.reset_counters();
    check::run_unary(gpu, &plan, &x).expect("a run");
    let counters = gpu.counters().expect("the device is the emulator");
    let bytes = problem.x().elements() * problem.dtype().size();
    let name = plan.kernel().kernel().name();
    hold(&name, &counters, [bytes, 2 * bytes], loads, broken);
}

fn subsample(gpu: &Gpu, layout: Layout, dtype: DType, broken: &mut Broken) {
    let problem = Subsample::new([2, 16, 32, 32], layout, dtype, [2, 2]).expect("valid");
    let plan = Plan::new(&problem, gpu.capability()).expect("a plan");
    let x = check::reals(problem.input().elements(), dtype, 1);
    let weights = check::reals(problem.c(), dtype, 2);
    let guards = Guards::of(gpu);
    gpu.reset_counters();
    check::run_subsample(gpu, &plan, guards, [&x, &weights, &weights]).expect("a run");
    let counters = gpu.counters().expect("the device is the emulator");
    let bytes = problem.input().elements() * dtype.size();
    let all = problem.min_bytes() as usize;
    let name = plan.kernel().kernel().name();
    // Each output reads a coefficient and a bias beside its window of four.
    hold(&name, &counters, [bytes, all], Loads(1.5), broken);
}

/// The input's bytes and all that must be moved.
fn hold(
    name: &str,
    counters: &Counters,
    [input, all]: [usize; 2],
    Loads(most): Loads,
    broken: &mut Broken,
) {
    let moved = counters.device_bytes() as f64 / all as f64;
    broken.hold("device memory, times the least", name, moved, 1.0);
    let asked = counters.global_loads.bytes as f64 / input as f64;
    broken.hold("bytes asked for, times the input", name, asked, most);
    broken.hold("bank conflicts", name, conflicts(counters) as f64, 0.0);
}
