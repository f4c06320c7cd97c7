//! Every kernel against the reference, on each architecture.
//!
//! With an NVIDIA GPU the tests run on it, planned as if it were of that compute capability; else
//! on a device of the emulator that has it. `WARPCONV_DEVICE` can name either, and then there is no
//! other.

pub mod activation;
pub mod alignment;
pub mod bottleneck;
pub mod conv;
pub mod lrn;
pub mod pool;
pub mod relu;

use crate::trials::{current, test};
use libtest_mimic::Trial;
use std::sync::OnceLock;
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
use warpconv::kernels::{Algorithm, KernelId, kernels};
use warpconv::plan::{Capability, Operation, Plan};
use warpconv::problem::notation::{self, Problem};
use warpconv_testing::{Mismatch, RunError};

/// A device and what it is planned for.
pub struct Device {
    pub gpu: Gpu,
    pub capability: Capability,
}

impl Device {
    /// The command that runs a kernel on a problem again: `warpconv verify` where it has a notation
    /// for the problem, else this test.
    fn repeat(&self, line: &str, kernel: &str) -> String {
        let options = match notation::parse(line).map(|named| named.problem) {
            Ok(Problem::Conv(conv)) => format!(
                "--batch {} --dtype {} --layout {} --filter-layout {} --math {}",
                conv.input().n(),
                conv.dtype().name(),
                conv.layout().name(),
                conv.filter().layout.name(),
                conv.math().name()
            ),
            Ok(Problem::Pool(pool)) => format!(
                "--batch {} --dtype {} --layout {}",
                pool.input().n(),
                pool.dtype().name(),
                pool.layout().name()
            ),
            Err(_) => return format!("cargo test --test kernels -- --exact {}", current()),
        };
        let Capability { major, minor, .. } = self.capability;
        let on = match self.gpu.kind() {
            DeviceKind::Gpu => String::from("gpu"),
            DeviceKind::Emulator => format!("emulator:{major}{minor}"),
        };
        format!(
            "cargo run --release -- verify <(echo '{line}') --kernel {kernel} {options} --device \
             {on}"
        )
    }
}

/// The device of an architecture: the GPU if there is one, else the emulator's.
fn device(sm: u32) -> &'static Device {
    static DEVICES: [OnceLock<Device>; 3] = [const { OnceLock::new() }; 3];
    let index = match sm {
        75 => 0,
        80 => 1,
        _ => 2,
    };
    DEVICES[index].get_or_init(|| {
        let emulator = DeviceChoice::Emulator { sm };
        let gpu = match DeviceChoice::from_env().expect("WARPCONV_DEVICE names a device") {
            DeviceChoice::Auto => {
                Gpu::open(&DeviceChoice::Cuda(0)).or_else(|_| Gpu::open(&emulator))
            }
            DeviceChoice::Emulator { .. } => Gpu::open(&emulator),
            chosen => Gpu::open(&chosen),
        };
        let gpu = gpu.unwrap_or_else(|error| panic!("no device to test on: {error}"));
        let mut capability = *gpu.capability();
        let wanted = (sm / 10, sm % 10);
        if capability.version() > wanted {
            (capability.major, capability.minor) = wanted;
        }
        Device { gpu, capability }
    })
}

/// Reason why a result is wrong.
#[derive(Debug)]
pub struct Failure(String);

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Failure(error.to_string())
    }
}

impl From<Mismatch> for Failure {
    fn from(mismatch: Mismatch) -> Self {
        Failure(mismatch.to_string())
    }
}

impl From<warpconv::Error> for Failure {
    fn from(error: warpconv::Error) -> Self {
        Failure(error.to_string())
    }
}

/// Kernels that have run.
#[derive(Default)]
pub struct Coverage(Vec<KernelId>);

impl Coverage {
    /// Runs `check` with a plan for each kernel that accepts the problem; panics with the problem's
    /// line if one fails.
    pub fn each_kernel<P: Operation + std::fmt::Debug>(
        &mut self,
        device: &Device,
        problem: &P,
        line: &str,
        mut check: impl FnMut(&Plan<P>) -> Result<(), Failure>,
    ) {
        let mut any = false;
        for candidate in Plan::candidates(problem, &device.capability) {
            if candidate.evaluation.is_err() {
                continue;
            }
            any = true;
            self.0.push(candidate.id);
            let plan = Plan::with_kernel(problem, &device.capability, candidate.id);
            let result = plan.map_err(Failure::from).and_then(|plan| check(&plan));
            if let Err(Failure(why)) = result {
                let name = candidate.id.kernel().name();
                panic!(
                    "{line} with {name}: {why}\nrepeat: {}",
                    device.repeat(line, &name)
                );
            }
        }
        assert!(any, "no kernel takes {line}");
    }

    /// Panics unless every kernel of these algorithms that the device can run, and has the shared
    /// memory for, has run.
    pub fn expect_all(&self, device: &Device, algorithms: &[Algorithm]) {
        for (index, kernel) in kernels().iter().enumerate() {
            let room = device.capability.shared_per_block_optin;
            if algorithms.contains(&kernel.algorithm)
                && device.capability.runs(kernel.arch)
                && kernel.dynamic_shared() <= room
            {
                assert!(
                    self.0.contains(&KernelId(index)),
                    "{} was never run",
                    kernel.name()
                );
            }
        }
    }
}

/// A test on a device.
type Test = (&'static str, fn(&Device));

/// The tests of every architecture.
const TESTS: &[Test] = &[
    ("convolutions_of_edge_shapes_are_exact", conv::edge_shapes),
    ("random_convolutions_are_within_rounding", conv::random),
    ("blocks_share_sums", conv::split_k),
    (
        "nan_and_infinity_reach_just_the_right_outputs",
        conv::special_values,
    ),
    (
        "convolutions_take_buffers_of_any_alignment",
        alignment::alignment,
    ),
    (
        "buffers_that_a_kernel_cannot_read_are_refused",
        alignment::broken_promises,
    ),
    ("long_sums_stay_in_f32", conv::long_sums),
    ("images_of_a_batch_are_independent", conv::batch_split),
    ("probes_find_every_tap", conv::probes),
    (
        "bottlenecks_of_edge_shapes_are_exact",
        bottleneck::edge_shapes,
    ),
    ("random_bottlenecks_are_within_rounding", bottleneck::random),
    (
        "bottlenecks_take_buffers_of_any_alignment",
        bottleneck::alignment,
    ),
    (
        "nan_and_infinity_pass_through_bottlenecks_as_through_three_launches",
        bottleneck::special_values,
    ),
    (
        "bottlenecks_of_an_empty_batch_launch_nothing",
        bottleneck::empty,
    ),
    ("poolings_of_edge_shapes", pool::edge_shapes),
    ("random_poolings", pool::random),
    ("ties_nan_and_infinity_in_windows", pool::special_values),
    ("poolings_take_buffers_of_any_alignment", pool::alignment),
    ("relu_of_any_size_and_place", relu::all),
    ("normalisations_of_any_size_and_place", lrn::all),
    (
        "nan_and_infinity_stay_in_the_windows_of_normalisations",
        lrn::special_values,
    ),
    ("softmax_of_short_and_long_rows", |device| {
        activation::softmax(device);
        activation::long_softmax(device);
    }),
    (
        "nan_and_infinity_spoil_their_own_row_of_a_softmax",
        activation::special_softmax,
    ),
    ("tangents_of_any_size_and_place", activation::tanh),
    ("trainable_subsampling", activation::subsample),
    ("small_layers_in_a_module", activation::module),
];

/// Every test on each of the architectures.
pub fn trials() -> Vec<Trial> {
    let all = [75, 80, 90].into_iter().flat_map(|sm| {
        let tests = TESTS.iter();
        tests.map(move |&(name, run)| test(format!("sm{sm}::{name}"), move || run(device(sm))))
    });
    let repeat = test("suite::a_failure_names_the_command_that_repeats_it", || {
        let command = device(80).repeat("mb2ic3ih5oc4kh3+f16+nhwc", "a_kernel");
        let expected = "cargo run --release -- verify <(echo 'mb2ic3ih5oc4kh3+f16+nhwc') \
            --kernel a_kernel --batch 2 --dtype f16 --layout nhwc --filter-layout kcrs \
            --math strict --device ";
        assert!(command.starts_with(expected), "{command}");
    });
    all.chain([repeat]).collect()
}
