//! Every kernel against the reference, on one device. A test binary a tier includes this: a process
//! speaks to one device.
//!
//! With an NVIDIA GPU the tests run on it, planned as if it were of the tier's capability; else on
//! the emulator, which poses as such a device. `WARPCONV_DEVICE` can name either, and then there is
//! no other.

pub mod activation;
pub mod alignment;
pub mod bottleneck;
pub mod conv;
pub mod lrn;
pub mod pool;
pub mod relu;

use std::sync::OnceLock;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::{Algorithm, KernelId, kernels};
use warpconv::plan::{Capability, Operation, Plan};
use warpconv_testing::{Mismatch, RunError};

/// A device and what it is planned for.
pub struct Device {
    pub gpu: Gpu,
    pub capability: Capability,
}

/// The device of this process: the GPU if there is one, else the emulator as `sm`.
pub fn device(sm: u32) -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
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

/// Why a result is wrong.
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

/// Which kernels have run.
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
            self.0.push(candidate.kernel);
            let plan = Plan::with_kernel(problem, &device.capability, candidate.kernel);
            let result = plan.map_err(Failure::from).and_then(|plan| check(&plan));
            if let Err(Failure(why)) = result {
                panic!("{line} with {}: {why}", candidate.kernel.kernel().name());
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

/// The tests of a tier.
macro_rules! tests_on {
    ($sm:expr) => {
        #[test]
        fn convolutions_of_edge_shapes_are_exact() {
            suite::conv::edge_shapes(suite::device($sm));
        }

        #[test]
        fn random_convolutions_are_within_rounding() {
            suite::conv::random(suite::device($sm));
        }

        #[test]
        fn blocks_share_sums() {
            suite::conv::split_k(suite::device($sm));
        }

        #[test]
        fn nan_and_infinity_reach_just_the_right_outputs() {
            suite::conv::special_values(suite::device($sm));
        }

        #[test]
        fn convolutions_take_buffers_of_any_alignment() {
            suite::alignment::alignment(suite::device($sm));
        }

        #[test]
        fn buffers_that_a_kernel_cannot_read_are_refused() {
            suite::alignment::broken_promises(suite::device($sm));
        }

        #[test]
        fn long_sums_stay_in_f32() {
            suite::conv::long_sums(suite::device($sm));
        }

        #[test]
        fn images_of_a_batch_are_independent() {
            suite::conv::batch_split(suite::device($sm));
        }

        #[test]
        fn probes_find_every_tap() {
            suite::conv::probes(suite::device($sm));
        }

        #[test]
        fn bottlenecks_of_edge_shapes_are_exact() {
            suite::bottleneck::edge_shapes(suite::device($sm));
        }

        #[test]
        fn random_bottlenecks_are_within_rounding() {
            suite::bottleneck::random(suite::device($sm));
        }

        #[test]
        fn bottlenecks_take_buffers_of_any_alignment() {
            suite::bottleneck::alignment(suite::device($sm));
        }

        #[test]
        fn nan_and_infinity_pass_through_bottlenecks_as_through_three_launches() {
            suite::bottleneck::special_values(suite::device($sm));
        }

        #[test]
        fn bottlenecks_of_an_empty_batch_launch_nothing() {
            suite::bottleneck::empty(suite::device($sm));
        }

        #[test]
        fn poolings_of_edge_shapes() {
            suite::pool::edge_shapes(suite::device($sm));
        }

        #[test]
        fn random_poolings() {
            suite::pool::random(suite::device($sm));
        }

        #[test]
        fn ties_nan_and_infinity_in_windows() {
            suite::pool::special_values(suite::device($sm));
        }

        #[test]
        fn poolings_take_buffers_of_any_alignment() {
            suite::pool::alignment(suite::device($sm));
        }

        #[test]
        fn relu_of_any_size_and_place() {
            suite::relu::all(suite::device($sm));
        }

        #[test]
        fn normalisations_of_any_size_and_place() {
            suite::lrn::all(suite::device($sm));
        }

        #[test]
        fn nan_and_infinity_stay_in_the_windows_of_normalisations() {
            suite::lrn::special_values(suite::device($sm));
        }

        #[test]
        fn softmax_of_short_and_long_rows() {
            suite::activation::softmax(suite::device($sm));
            suite::activation::long_softmax(suite::device($sm));
        }

        #[test]
        fn nan_and_infinity_spoil_their_own_row_of_a_softmax() {
            suite::activation::special_softmax(suite::device($sm));
        }

        #[test]
        fn tangents_of_any_size_and_place() {
            suite::activation::tanh(suite::device($sm));
        }

        #[test]
        fn trainable_subsampling() {
            suite::activation::subsample(suite::device($sm));
        }

        #[test]
        fn small_layers_in_a_module() {
            suite::activation::module(suite::device($sm));
        }
    };
}
