//! The small layers between convolutions: bound by memory, so held to what they move.

use libtest_mimic::Trial;
use ptx_emulator::Counters;
use warpconv::DType;
use warpconv::device::Gpu;
use warpconv::kernels::Layout;
use warpconv::launch::Unary;
use warpconv::plan::{Operation, Plan};
use warpconv::problem::{Lrn, LrnParameters, Softmax, Subsample, Tanh, TensorDesc};
use warpconv_testing as check;
use warpconv_testing::Guards;

use super::{Held, conflicts, trial};

/// Bytes that threads may ask for, in bytes of the input.
struct Loads(f64);

/// A test per layer, in every type and layout.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            each_layer(dtype, layout, &mut trials);
        }
    }
    trials
}

fn each_layer(dtype: DType, layout: Layout, trials: &mut Vec<Trial>) {
    let (dtype_name, layout_name) = (dtype.name(), layout.name());
    let of = |layer: &str| format!("small::{layer}_{dtype_name}_{layout_name}");
    let planes = [2, 96, 16, 16];
    let lrn = |parameters| {
        TensorDesc::new(planes, layout, dtype)
            .and_then(|x| Lrn::new(&x, &x, parameters))
            .expect("valid")
    };
    // NCHW: segments of 16 channels and the four around them. NHWC: a vector and the two beside it.
    let most = match layout {
        Layout::Nchw => 1.25,
        Layout::Nhwc => 3.0,
    };
    trials.push(unary(
        of("lrn_5"),
        lrn(warpconv_nets::ALEXNET_LRN),
        Loads(most),
    ));
    // Any other window is read term by term, and the value again.
    let seven = LrnParameters {
        size: 7,
        ..warpconv_nets::ALEXNET_LRN
    };
    trials.push(unary(of("lrn_7"), lrn(seven), Loads(8.0)));

    let softmax = |extents| {
        TensorDesc::new(extents, layout, dtype)
            .and_then(|x| Softmax::new(&x, &x))
            .expect("valid")
    };
    // What stays in registers is read once, what does not three times.
    for (layer, extents, loads) in [
        ("softmax_1024", [24, 1024, 1, 1], 1.0),
        ("softmax_131072", [1, 131_072, 1, 1], 3.0),
        ("softmax_64x8x8", [2, 64, 8, 8], 1.0),
    ] {
        trials.push(unary(of(layer), softmax(extents), Loads(loads)));
    }

    let tanh = TensorDesc::new(planes, layout, dtype)
        .and_then(|x| Tanh::new(&x, &x, [1.0, 1.0]))
        .expect("valid");
    trials.push(unary(of("tanh"), tanh, Loads(1.0)));
    trials.push(trial(of("subsample"), 90, move |gpu, held| {
        subsample(gpu, layout, dtype, held);
    }));
}

fn unary<P: Unary + Send + 'static>(name: String, problem: P, loads: Loads) -> Trial {
    trial(name, 90, move |gpu, held| map(gpu, &problem, loads, held))
}

fn map<P: Unary>(gpu: &Gpu, problem: &P, loads: Loads, held: &mut Held) {
    let plan = Plan::new(problem, gpu.capability()).expect("a plan");
    let x = check::reals(problem.input().elements(), problem.dtype(), 1);
    gpu.reset_counters();
    check::run_unary(gpu, &plan, &x).expect("a run");
    let counters = gpu.counters().expect("the device is the emulator");
    let bytes = problem.input().elements() * problem.dtype().size();
    hold(&counters, [bytes, 2 * bytes], loads, held);
}

fn subsample(gpu: &Gpu, layout: Layout, dtype: DType, held: &mut Held) {
    let problem = Subsample::builder()
        .input(2, 16, 32, 32)
        .kernel(2, 2)
        .stride(2, 2)
        .layout(layout)
        .dtype(dtype)
        .build()
        .expect("valid");
    let plan = Plan::new(&problem, gpu.capability()).expect("a plan");
    let x = check::reals(problem.input().elements(), dtype, 1);
    let weights = check::reals(problem.input().c(), dtype, 2);
    let guards = Guards::of(gpu);
    gpu.reset_counters();
    check::run_subsample(gpu, &plan, guards, [&x, &weights, &weights]).expect("a run");
    let counters = gpu.counters().expect("the device is the emulator");
    let bytes = problem.input().elements() * dtype.size();
    let all = problem.min_bytes() as usize;
    // Each output reads a coefficient and a bias beside its window of four.
    hold(&counters, [bytes, all], Loads(1.5), held);
}

/// The input's bytes and all that must be moved.
fn hold(counters: &Counters, [input, all]: [usize; 2], Loads(most): Loads, held: &mut Held) {
    let moved = counters.device_bytes() as f64 / all as f64;
    held.hold("device memory, times the least", moved, 1.0);
    let asked = counters.global_loads.bytes as f64 / input as f64;
    held.hold("bytes asked for, times the input", asked, most);
    held.hold("bank conflicts", conflicts(counters) as f64, 0.0);
}
