//! Limits that hold the kernels to what they cost, as a profiler would count it: a change that
//! moves more bytes, touches more sectors, conflicts in shared memory or issues more instructions
//! fails here. Each test is one kernel on one problem. What follows from the problem (bytes at
//! least, no bank conflicts) stands in the code; what was counted stands in `expected.tsv`, and
//! [`SLACK`] above it is allowed. `UPDATE_EXPECTED=1` writes the file anew for the tests that run:
//! look at the difference, and give the reason for a higher number in the commit.
//!
//! The counters are the emulator's, so this runs anywhere; on a GPU there is nothing to look at.
//! `warpconv counters` shows the same numbers for any problem.

mod bottleneck;
mod expected;
mod simt;
mod small;
mod tensor;

use libtest_mimic::Trial;
use ptx_emulator::Counters;
use ptx_emulator::counters::MatrixKind;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::KernelId;
use warpconv::plan::{Limits, Plan};
use warpconv::problem::{Conv2d, Pool2d};
use warpconv_testing as check;

use crate::trials::{in_child, test};

/// Times what was counted, for another compiler's taste.
const SLACK: f64 = 1.05;

/// A test per kernel and problem.
pub fn trials() -> Vec<Trial> {
    let mut all = simt::trials();
    all.extend(small::trials());
    all.extend(tensor::trials());
    all.extend(bottleneck::trials());
    let names: Vec<String> = all.iter().map(|trial| trial.name().to_owned()).collect();
    all.push(test(
        "counters::stored_numbers_belong_to_tests",
        move || {
            let mut stored = expected::tests();
            stored.retain(|name| !names.contains(name));
            assert!(stored.is_empty(), "remove from expected.tsv: {stored:?}");
        },
    ));
    all
}

/// A test of the limits that `check` holds on a device of the emulator.
fn trial(name: String, sm: u32, check: impl FnOnce(&Gpu, &mut Held) + Send + 'static) -> Trial {
    let name = format!("counters::{name}");
    in_child(name.clone(), move || {
        let gpu = Gpu::open(&DeviceChoice::Emulator { sm }).expect("the emulator's library");
        let mut held = Held {
            name,
            broken: Vec::new(),
            counted: Vec::new(),
        };
        check(&gpu, &mut held);
        held.finish();
    })
}

/// The problem's plan with a kernel that must accept it, one block per tile.
fn plan_of(gpu: &Gpu, conv: &Conv2d, id: KernelId) -> Plan<Conv2d> {
    let limits = Limits {
        kernel: Some(id),
        split_k: Some(1),
        ..Limits::default()
    };
    Plan::within(conv, gpu.capability(), &limits)
        .unwrap_or_else(|error| panic!("{}: {error}", id.kernel().name()))
}

/// Counters of a convolution's launches.
fn convolve(gpu: &Gpu, plan: &Plan<Conv2d>) -> Counters {
    let conv = plan.problem();
    let x = check::integers(conv.input().elements(), 2, 1);
    let w = check::integers(conv.filter().len(), 2, 2);
    let bias = conv
        .bias()
        .then(|| check::integers(conv.output().c(), 2, 3));
    gpu.reset_counters();
    check::run_conv(gpu, plan, &x, &w, bias.as_deref(), None)
        .unwrap_or_else(|error| panic!("{} {conv}: {error}", plan.kernel().name()));
    gpu.counters().expect("the device is the emulator")
}

/// Counters of a pooling's launch.
fn pool(gpu: &Gpu, plan: &Plan<Pool2d>) -> Counters {
    let x = check::integers(plan.problem().input().elements(), 2, 1);
    gpu.reset_counters();
    check::run_pool(gpu, plan, &x)
        .unwrap_or_else(|error| panic!("{}: {error}", plan.kernel().name()));
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

/// The limits of one test: what is beyond them is reported at the end.
struct Held {
    name: String,
    broken: Vec<String>,
    /// Counters that are compared with the stored numbers.
    counted: Vec<(String, f64)>,
}

impl Held {
    /// Notes that `found` is not at most `most`, NaN included.
    fn hold(&mut self, what: &str, found: f64, most: f64) {
        let within = found <= most;
        if !within {
            self.broken
                .push(format!("{what}: {found:.3}, at most {most:.3}"));
        }
    }

    /// Notes that `found` is more than the stored number allows.
    fn hold_expected(&mut self, what: &str, found: f64) {
        self.counted.push((what.to_owned(), found));
        if expected::updating() {
            return;
        }
        match expected::get(&self.name, what) {
            Some(counted) => self.hold(what, found, SLACK * counted),
            None => self.broken.push(format!("{what}: {found:.3}, not stored")),
        }
    }

    fn finish(self) {
        assert!(
            self.broken.is_empty(),
            "{}\nwrite the counted limits anew: \
             UPDATE_EXPECTED=1 cargo test --test kernels -- --exact '{}'",
            self.broken.join("\n"),
            self.name
        );
        if expected::updating() && !self.counted.is_empty() {
            expected::put(&self.name, &self.counted);
        }
    }
}
