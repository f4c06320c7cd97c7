//! Every kernel on CUDA cores on one problem that fills its tiles.

use libtest_mimic::Trial;
use ptx_emulator::counters::GlobalTraffic;
use ptx_emulator::{Class, Counters};
use warpconv::device::Gpu;
use warpconv::kernels::{Algorithm, DType, Kernel, KernelId, Layout, kernels};
use warpconv::plan::{Operation, Plan};
use warpconv::problem::{Conv2d, Padding, Pool2d};

use super::{Held, conflicts, convolve, plan_of, pool, trial};

/// A problem: tiles of up to 128 filters and 256 pixels are full, rows are whole sectors.
fn convolution(kernel: &Kernel) -> Option<Conv2d> {
    let (channels, size, groups, filters) = match kernel.algorithm {
        Algorithm::Direct => (32, 3, 1, 128),
        Algorithm::DirectFewChannels => (3, 5, 1, 128),
        Algorithm::Pointwise => (64, 1, 1, 128),
        Algorithm::Grouped => (64, 3, 2, 128),
        Algorithm::SmallGroups => (32, 3, 4, 32),
        Algorithm::Depthwise if kernel.tile_k > 1 => (32, kernel.tile_k as usize, 32, 32),
        Algorithm::Depthwise => (32, 3, 32, 32),
        _ => return None,
    };
    let conv = Conv2d::builder()
        .input(2, channels, 16, 16)
        .filters(filters)
        .kernel(size, size)
        .padding(Padding::same(size / 2))
        .groups(groups)
        .dtype(kernel.dtype)
        .layout(kernel.layout?)
        .bias(true)
        .build();
    Some(conv.expect("the problem is valid"))
}

/// A pool of as many pixels.
fn pooling(kernel: &Kernel) -> Option<Pool2d> {
    let text = match kernel.algorithm {
        Algorithm::MaxPool => "mb2ic32ih16oh16kh3ph1+max",
        Algorithm::AvgPool => "mb2ic32ih16oh16kh3ph1+avg_p",
        Algorithm::GlobalPool => "mb2ic32ih16+global_avg",
        _ => return None,
    };
    let pool: Pool2d = text.parse().expect("the problem is valid");
    let layout = kernel.layout?;
    let pool = pool
        .to_builder()
        .dtype(kernel.dtype)
        .build()
        .and_then(|pool| pool.to_builder().layout(layout).build());
    Some(pool.expect("a valid variant"))
}

/// A test per kernel of convolution or pooling on CUDA cores.
pub fn trials() -> Vec<Trial> {
    let all = kernels().iter().enumerate();
    let here = all.filter(|(_, kernel)| {
        let algorithm = kernel.algorithm;
        let here = Conv2d::computed_by(algorithm) || Pool2d::computed_by(algorithm);
        here && !algorithm.tensor()
    });
    let trials = here.map(|(place, kernel)| {
        let name = format!("simt::{}", kernel.name());
        trial(name, 90, move |gpu, held| {
            check(gpu, KernelId(place), held);
        })
    });
    trials.collect()
}

/// Holds a kernel to its limits.
fn check(gpu: &Gpu, id: KernelId, held: &mut Held) {
    let (kernel, name) = (id.kernel(), id.kernel().name());
    if let Some(conv) = convolution(kernel) {
        let counters = convolve(gpu, &plan_of(gpu, &conv, id));
        traffic(&name, &counters, conv.min_bytes());
        each(kernel, &counters, conv.macs(), held);
        if kernel.tile_k == 8 {
            tile(kernel, &conv, &counters, held);
        }
    } else {
        let problem = pooling(kernel).expect("a problem for every kernel of pooling");
        let plan = Plan::with_kernel(&problem, gpu.capability(), id)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let counters = pool(gpu, &plan);
        let window =
            problem.output().elements() * problem.window().kernel[0] * problem.window().kernel[1];
        traffic(&name, &counters, problem.min_bytes());
        each(kernel, &counters, window as u64, held);
    }
}

/// Each byte of device memory is moved once: x, w and y fit the caches, so a launch has no excuse.
fn traffic(name: &str, counters: &Counters, least: u64) {
    assert_eq!(counters.device_bytes(), least, "{name}: device memory");
}

/// Limits of every kernel.
fn each(kernel: &Kernel, counters: &Counters, work: u64, held: &mut Held) {
    let times = |traffic: &GlobalTraffic| traffic.sectors as f64 * 32.0 / traffic.bytes as f64;
    // Rows that begin off a sector (padding) and threads that walk along channels touch more
    // sectors than their bytes would fill.
    held.hold_expected("sectors of loads", times(&counters.global_loads));
    let stores = match (kernel.algorithm, kernel.layout) {
        // A block has one result, alone in its sector.
        (Algorithm::GlobalPool, Some(Layout::Nchw)) => 32.0 / kernel.dtype.size() as f64,
        // Eight filters of 16 bits a pixel, of 32.
        (Algorithm::SmallGroups, Some(Layout::Nhwc)) if kernel.dtype != DType::F32 => 2.0,
        // Whole sectors.
        _ => 1.0,
    };
    held.hold("sectors of stores", times(&counters.global_stores), stores);
    let instructions = counters.instructions().warp as f64 * 32.0 / work as f64;
    held.hold_expected("instructions", instructions);
    // Those of depthwise convolution in NHWC bring their filters into shared memory once, some 30
    // channels at a time.
    let most = if kernel.algorithm == Algorithm::Depthwise {
        228
    } else {
        0
    };
    held.hold(
        "bank conflicts",
        conflicts(counters) as f64,
        f64::from(most),
    );
}

/// Limits of a tile of a matrix product.
fn tile(kernel: &Kernel, conv: &Conv2d, counters: &Counters, held: &mut Held) {
    let name = kernel.name();
    let (m, n) = (kernel.tile_m as usize, kernel.tile_n as usize);
    let terms = conv.filter().gemm_k().next_multiple_of(8);
    // The multiply-adds are the problem's: no tile is partly empty, and only the few_channels
    // kernel's sum is padded.
    let macs = (conv.macs() as usize / conv.filter().gemm_k() * terms) as u64;
    assert_eq!(
        32 * counters.class(Class::FmaF32).warp,
        macs,
        "{name}: multiply-adds"
    );
    // A tile asks for each element of its operands once, and for a bias with each output at most.
    let tiles = conv.output().c() / m * (conv.output().elements() / conv.output().c() / n);
    let elements = tiles * (m + n) * terms + 2 * conv.output().elements();
    let asked = counters.global_loads.bytes + counters.global_stores.bytes;
    let most = (elements * conv.dtype().size()) as f64;
    held.hold("bytes asked for", asked as f64, most);
    // A thread that keeps 8x8 sums fetches 16 values for 64 multiply-adds, four to a wavefront of
    // each quarter warp: 1/4; one with 4x8 fetches 12 for 32. A fifth more for the epilogue, and as
    // much again for the few_channels kernel's table.
    let sums = if m < 64 { 12.0 / 32.0 } else { 16.0 / 64.0 };
    let table = if kernel.algorithm == Algorithm::DirectFewChannels {
        1.45
    } else {
        1.0
    };
    let wavefronts = counters.shared_loads.wavefronts as f64;
    let each = wavefronts / counters.class(Class::FmaF32).warp as f64;
    held.hold("wavefronts of loads", each, 1.2 * sums * table);
}
