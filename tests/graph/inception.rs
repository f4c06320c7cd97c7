//! Whole inception modules: the bytes they move, captured, on an older device, and the naive one.

use warpconv::Error;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::graph::{FuseOptions, Graph, Step};
use warpconv::kernels::{DType, Layout, Math};
use warpconv::ops::Inception;
use warpconv::plan::Tuning;
use warpconv_testing::reference;
use warpconv_testing::{GraphOnDevice, Operands, Stored, integers, sprinkle_special};

use crate::common::gpu;
use crate::common::inception::{GOOGLENET, IMAGE, ODD, filters, fuses, module, same};
use crate::common::process::own_process;

/// Each launch's sectors of device memory counted once, by the plans as they are: input, filters
/// and output, what lies between the launches written and read again, parts of sums that blocks
/// share. The bound is the least that three launches move: all 1x1s over the input, 3x3 and 5x5,
/// and the pooling with its projection, each its operands once.
#[test]
fn little_more_moves_than_three_launches_must() {
    own_process(|| {
        let gpu = gpu();
        if !fuses() || gpu.counters().is_none() {
            return;
        }
        for (index, n, side, dtype, layout) in [
            (0, 1, 28, DType::Bf16, Layout::Nhwc),
            (0, 2, 14, DType::F32, Layout::Nchw),
            (6, 1, 14, DType::Bf16, Layout::Nhwc),
            (8, 1, 7, DType::F16, Layout::Nhwc),
            (8, 3, 7, DType::Bf16, Layout::Nhwc),
            (8, 1, 7, DType::F32, Layout::Nhwc),
        ] {
            let (name, widths) = GOOGLENET[index];
            let job = module(widths, n, (side, side), dtype, layout);
            let least = job.fused_in_three().unwrap().min_bytes();
            for fused in [job.fused().unwrap(), job.fused_in_three().unwrap()] {
                let moved = match dtype {
                    DType::F32 => moved_by::<f32>(&fused),
                    DType::F16 => moved_by::<half::f16>(&fused),
                    DType::Bf16 => moved_by::<half::bf16>(&fused),
                };
                let numbers = format!(
                    "{name}, N = {n}, {}: {moved} bytes by {} launches, the least of three is \
                     {least}",
                    dtype.name(),
                    fused.launches()
                );
                println!("{numbers}");
                assert!(4 * moved <= 5 * least, "{numbers}");
                assert!(2 * moved > least, "{numbers}");
            }
        }
    });
}

/// Bytes from and to device memory of one pass.
fn moved_by<T: Stored>(module: &Graph) -> u64 {
    let gpu = gpu();
    let mut loaded = GraphOnDevice::<T>::new(gpu, module).unwrap();
    gpu.synchronize().unwrap();
    gpu.reset_counters();
    loaded.launch().unwrap();
    gpu.synchronize().unwrap();
    gpu.counters().unwrap().device_bytes()
}

/// A captured module, replayed twice, gives what plain launches give, to the bit: what a launch
/// leaves in the workspace does for the next one.
#[test]
fn a_captured_module_is_what_plain_launches_are() {
    own_process(|| {
        if !fuses() {
            return;
        }
        let gpu = gpu();
        // SAFETY: what follows happens in one stream, and so does each of the other tests.
        unsafe { gpu.context().disable_event_tracking() };
        let stream = gpu.context().new_stream().unwrap();
        let tuning = Tuning::new(gpu.card());
        for (widths, image) in [(ODD, IMAGE), (GOOGLENET[8].1, (2, 3))] {
            let job = module(widths, 1, image, DType::Bf16, Layout::Nhwc);
            let fused = job.fused().unwrap();
            let load =
                || GraphOnDevice::<half::bf16>::in_stream(gpu, &stream, &fused, &tuning).unwrap();
            let x = integers(fused.input().unwrap().elements(), 3, 11);
            let mut plain = load();
            plain.launch().unwrap();
            let first = plain.outputs().unwrap();
            plain.set_input(&x).unwrap();
            plain.launch().unwrap();
            let want = plain.outputs().unwrap();
            assert_ne!(first, want);
            assert!(want.iter().flat_map(|(_, y)| y).all(|v| v.is_finite()));

            let mut captured = load();
            let graph = captured.capture().unwrap();
            graph.launch().unwrap();
            assert_eq!(captured.outputs().unwrap(), first);
            captured.set_input(&x).unwrap();
            for _ in 0..2 {
                graph.launch().unwrap();
                assert_eq!(captured.outputs().unwrap(), want);
            }
        }
    });
}

/// A device of compute capability 7.5 has no such kernels: the launches are separate, which is
/// said, and each is within its bound of the reference.
#[test]
fn an_older_device_computes_it_separately() {
    let gpu = match Gpu::open(&DeviceChoice::Emulator { sm: 75 }) {
        Ok(gpu) => gpu,
        // A process has one driver: where that is a GPU's, this is for a run without.
        Err(Error::DriverInUse { .. } | Error::NoEmulator { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(gpu.capability().version(), (7, 5));
    for (dtype, layout) in [(DType::F16, Layout::Nhwc), (DType::F16, Layout::Nchw)] {
        let job = module(ODD, 2, IMAGE, dtype, layout);
        assert!(job.fused().unwrap().prepare(&gpu).is_err());
        let (graph, decision) = job.choose(&FuseOptions::new(gpu.capability())).unwrap();
        assert!(!decision.is_fused());
        assert_eq!(graph, job.separate().unwrap());
        let text = decision.to_string();
        assert!(
            text.contains("needs compute capability 8.0, the device has 7.5"),
            "{text}"
        );
        let mut loaded = GraphOnDevice::<half::f16>::new(&gpu, &graph).unwrap();
        loaded.launch().unwrap();
        assert_eq!(loaded.check(u64::MAX).unwrap().failure, None);
    }
}

/// The naive module: every launch within its bound, and with infinities and NaN in the input what
/// the reference says, to the bit.
#[test]
fn the_naive_module_is_what_the_reference_says() {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            let job = Inception {
                math: Math::Strict,
                ..module(ODD, 2, IMAGE, dtype, layout)
            };
            let naive = job.naive().unwrap();
            for special in [false, true] {
                let name = format!("naive {} {} {special}", dtype.name(), layout.name());
                let mut x = integers(naive.input().unwrap().elements(), 1, 7);
                if special {
                    sprinkle_special(&mut x, 97, 3);
                }
                let got = match dtype {
                    DType::F32 => run_dense::<f32>(&naive, &x),
                    DType::F16 => run_dense::<half::f16>(&naive, &x),
                    DType::Bf16 => run_dense::<half::bf16>(&naive, &x),
                };
                let mut want = Vec::new();
                for node in naive.nodes() {
                    want.push(match &node.step {
                        Step::Conv(conv) => {
                            let (w, bias) = filters(conv, want.len());
                            reference::conv2d(conv, &x, &w, Some(&bias), None).unwrap()
                        }
                        Step::Pool(pool) => reference::pool2d(pool, &x).unwrap().0,
                        step => panic!("{step:?}"),
                    });
                }
                assert_eq!(special, want.iter().flatten().any(|v| v.is_nan()), "{name}");
                assert_eq!(got.len(), want.len(), "{name}");
                for (got, want) in got.iter().zip(&want) {
                    same(&name, got, want);
                }
            }
        }
    }
}

/// Each tensor in the module's output, dense, for the weights of [`filters`].
fn run_dense<T: Stored>(module: &Graph, x: &[f64]) -> Vec<Vec<f64>> {
    let weights = module.weights();
    let operands = weights.iter().enumerate().map(|(index, conv)| {
        let (w, bias) = filters(conv, index);
        Operands {
            w,
            bias: Some(bias),
        }
    });
    let (gpu, operands) = (gpu(), operands.collect());
    let tuning = Tuning::new(gpu.card());
    let mut loaded =
        GraphOnDevice::<T>::with(gpu, gpu.stream(), module, &tuning, x, operands).unwrap();
    loaded.launch().unwrap();
    let outputs = loaded.outputs().unwrap();
    outputs.into_iter().map(|(_, y)| y).collect()
}
