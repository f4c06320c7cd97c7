//! Limits that hold the kernels to what they cost, as a profiler would count it: a change that
//! moves more bytes, touches more sectors, conflicts in shared memory or issues more instructions
//! fails here. Whoever has a reason to cost more changes the limit together with the kernel and
//! says why.
//!
//! The counters are the emulator's, so this runs anywhere; on a GPU there is nothing to look at.
//! `warpconv counters` shows the same numbers for any problem.

#![cfg(feature = "emulator")]

#[path = "counters/bottleneck.rs"]
mod bottleneck;
#[path = "counters/simt.rs"]
mod simt;
#[path = "counters/small.rs"]
mod small;
#[path = "counters/tensor.rs"]
mod tensor;

use ptx_emulator::Counters;
use ptx_emulator::counters::MatrixKind;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::KernelId;
use warpconv::plan::{ConvPlan, Limits, PoolPlan};
use warpconv::problem::Conv2d;
use warpconv_testing as check;

/// Runs of this file share the emulator's counters, so there is one test, which does one thing
/// after another.
#[test]
fn kernels_cost_no_more_than_they_may() {
    let gpu = |sm| Gpu::open(&DeviceChoice::Emulator { sm }).expect("the emulator's library");
    let h200 = gpu(90);
    let mut broken = Broken::default();
    simt::check(&h200, &mut broken);
    small::check(&h200, &mut broken);
    tensor::main_loops(&h200, &mut broken);
    bottleneck::main_job(&h200, &mut broken);
    for device in [gpu(80), h200] {
        tensor::layers(&device, &mut broken);
    }
    assert!(broken.0.is_empty(), "{}", broken.0.join("\n"));
}

/// The problem's plan with a kernel that must accept it, one block a tile.
fn plan_of(gpu: &Gpu, conv: &Conv2d, id: KernelId) -> ConvPlan {
    let limits = Limits {
        kernel: Some(id),
        split_k: Some(1),
        ..Limits::default()
    };
    ConvPlan::within(conv, gpu.capability(), &limits)
        .unwrap_or_else(|error| panic!("{}: {error}", id.kernel().name()))
}

/// What the launches of a convolution counted.
fn convolve(gpu: &Gpu, plan: &ConvPlan) -> Counters {
    let conv = plan.problem();
    let x = check::integers(conv.input().elements(), 2, 1);
    let w = check::integers(conv.filter_len(), 2, 2);
    let bias = conv.bias().then(|| check::integers(conv.k(), 2, 3));
    gpu.reset_counters();
    check::run_conv(gpu, plan, &x, &w, bias.as_deref(), None)
        .unwrap_or_else(|error| panic!("{} {conv}: {error}", plan.kernel().kernel().name()));
    gpu.counters().expect("the device is the emulator")
}

/// What the launch of a pooling counted.
fn pool(gpu: &Gpu, plan: &PoolPlan) -> Counters {
    let x = check::integers(plan.problem().input().elements(), 2, 1);
    gpu.reset_counters();
    check::run_pool(gpu, plan, &x)
        .unwrap_or_else(|error| panic!("{}: {error}", plan.kernel().kernel().name()));
    gpu.counters().expect("the device is the emulator")
}

/// Multiply-adds on tensor cores.
fn matrix_macs(counters: &Counters) -> u64 {
    let kinds = MatrixKind::ALL.into_iter();
    kinds.map(|kind| counters.matrix(kind).multiply_adds).sum()
}

/// Bank conflicts.
fn conflicts(counters: &Counters) -> u64 {
    counters.shared_loads.conflicts + counters.shared_stores.conflicts
}

/// What was found beyond its limit: all of it is reported at the end.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    /// Notes that `found` is not at most `most`, NaN included.
    fn hold(&mut self, what: &str, name: &str, found: f64, most: f64) {
        let within = found <= most;
        if !within {
            self.0
                .push(format!("{name}: {what}: {found:.3}, at most {most:.3}"));
        }
    }
}
