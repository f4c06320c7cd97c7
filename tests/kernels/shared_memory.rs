//! Counters of one launch of each convolution kernel on a problem that fills its tiles: no bank
//! conflict in shared memory, and every byte of device memory moved once. The counters are the
//! emulator's; on a GPU there is nothing to look at here.

use crate::trials::in_child;
use libtest_mimic::Trial;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::{Algorithm, Kernel, KernelId, kernels};
use warpconv::plan::{Limits, Operation, Plan};
use warpconv::problem::{Conv2d, FilterLayout, Padding};
use warpconv_testing as check;

/// One problem an algorithm: its tiles of up to 128 filters and 256 pixels are full, rows are whole
/// sectors.
fn problem(algorithm: Algorithm) -> Option<Conv2d> {
    let (channels, kernel, groups, filters) = match algorithm {
        Algorithm::Direct => (32, 3, 1, 128),
        Algorithm::DirectFewChannels => (3, 5, 1, 128),
        Algorithm::Pointwise => (64, 1, 1, 128),
        Algorithm::Grouped => (32, 3, 2, 128),
        Algorithm::SmallGroups | Algorithm::MmaSmallGroups => (32, 3, 4, 32),
        Algorithm::Mma => (64, 3, 1, 128),
        Algorithm::MmaFewChannels => (8, 3, 1, 128),
        _ => return None,
    };
    let conv = Conv2d::builder()
        .input(2, channels, 16, 16)
        .filters(filters)
        .kernel(kernel, kernel)
        .padding(Padding::same(kernel / 2))
        .groups(groups)
        .bias(true)
        .build();
    Some(conv.expect("the problem is valid"))
}

/// Checks one kernel.
fn check(gpu: &Gpu, id: KernelId, kernel: &Kernel) {
    let conv = problem(kernel.algorithm).expect("a problem of this file");
    let name = kernel.name();
    let layout = kernel.layout.expect("a convolution keeps to one layout");
    // Kernels on tensor cores read these filters where they lie.
    let filters = match kernel.algorithm.tensor() {
        true => FilterLayout::Krsc,
        false => FilterLayout::Kcrs,
    };
    let conv = conv
        .to_builder()
        .dtype(kernel.dtype)
        .math(kernel.math)
        .layout(layout)
        .filter_layout(filters)
        .build()
        .expect("a valid variant");
    let limits = Limits {
        kernel: Some(id),
        split_k: Some(1),
        ..Limits::default()
    };
    let plan = Plan::within(&conv, gpu.capability(), &limits)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let x = check::integers(conv.input().elements(), 3, 1);
    let w = check::integers(conv.filter().len(), 2, 2);
    let bias = check::integers(conv.output().c(), 5, 3);

    gpu.reset_counters();
    check::run_conv(gpu, &plan, &x, &w, Some(&bias), None)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let counters = gpu.counters().expect("the device is the emulator");
    assert!(counters.shared_loads.requests > 0, "{name}");
    assert_eq!(counters.shared_loads.conflicts, 0, "{name}: loads");
    assert_eq!(counters.shared_stores.conflicts, 0, "{name}: stores");
    let size = kernel.dtype.size();
    let read = (x.len() + w.len() + bias.len()) * size;
    let written = conv.output().elements() * size;
    assert_eq!(counters.device_bytes_read, read as u64, "{name}: read");
    assert_eq!(
        counters.device_bytes_written, written as u64,
        "{name}: written"
    );
}

/// A test per kernel.
pub fn trials() -> Vec<Trial> {
    let all = kernels().iter().enumerate();
    let here = all.filter(|(_, kernel)| {
        problem(kernel.algorithm).is_some() && Conv2d::computed_by(kernel.algorithm)
    });
    here.map(|(place, kernel)| {
        in_child(format!("shared_memory::{}", kernel.name()), move || {
            let emulator = DeviceChoice::Emulator { sm: 90 };
            let gpu = Gpu::open(&emulator).expect("the emulator's library");
            check(&gpu, KernelId(place), kernel);
        })
    })
    .collect()
}
