//! Every kernel on CUDA cores on one problem that fills its tiles.

use ptx_emulator::counters::GlobalTraffic;
use ptx_emulator::{Class, Counters};
use warpconv::device::Gpu;
use warpconv::kernels::{Algorithm, DType, Kernel, KernelId, Layout, kernels};
use warpconv::plan::{Operation, PoolPlan};
use warpconv::problem::{Conv2d, Padding, Pool2d};

use super::{Broken, conflicts, convolve, plan_of, pool};

/// What a kernel may cost.
struct Limits {
    /// Times the sectors that the bytes of its loads would fill. Rows that begin off a sector
    /// (padding) and threads that walk along channels touch more.
    load_sectors: f64,
    /// Instructions of warps for each multiply-add, or each element of a pool's window, of a warp.
    instructions: f64,
}

/// The limits of a kernel: what was counted when the kernel was last tuned, and 5% for another
/// compiler's taste.
fn limits(kernel: &Kernel) -> Limits {
    const SLACK: f64 = 1.05;
    let nhwc = kernel.layout == Some(Layout::Nhwc);
    // f32, and the types of 16 bits, whose sectors hold twice the elements and whose values have to
    // be converted.
    let pick = |pair: [f64; 2]| pair[usize::from(kernel.dtype != DType::F32)];
    let (nchw_sectors, nhwc_sectors) = match kernel.algorithm {
        Algorithm::Direct => ([4.55, 5.45], [4.92, 6.49]),
        Algorithm::DirectFewChannels => ([1.24, 1.61], [2.05, 2.84]),
        Algorithm::Pointwise => ([0.93, 1.39], [2.75, 3.50]),
        Algorithm::Grouped => ([4.55, 4.05], [4.80, 5.67]),
        // Each thread reads its own pixel's channels.
        Algorithm::SmallGroups => ([1.30, 1.53], [6.82, 13.49]),
        Algorithm::Depthwise => ([0.86, 0.92], [1.0, 1.0]),
        _ => ([1.04, 1.04], [1.0, 1.0]),
    };
    let instructions = match (kernel.algorithm, kernel.tile_m, kernel.tile_n) {
        (Algorithm::Direct, 128, _) => [1.39, 1.45],
        (Algorithm::Direct, 64, 128) => [1.45, 1.45],
        (Algorithm::Direct, 64, _) => [1.55, 1.65],
        (Algorithm::Direct, ..) => [1.78, 1.78],
        (Algorithm::DirectFewChannels, 64, _) => [1.89, 2.06],
        (Algorithm::DirectFewChannels, ..) => [2.42, 2.42],
        (Algorithm::Pointwise, 128, _) => [1.60, 1.78],
        (Algorithm::Pointwise, 64, _) => [1.71, 1.93],
        (Algorithm::Pointwise, ..) => [1.85, 1.85],
        (Algorithm::Grouped, 64, _) => [1.55, 1.55],
        (Algorithm::Grouped, ..) => [1.90, 2.03],
        (Algorithm::SmallGroups, ..) => [2.44, 2.70],
        (Algorithm::Depthwise, ..) => match (nhwc, kernel.tile_k) {
            (false, 3) => [12.82, 14.88],
            (false, 5) => [8.19, 9.80],
            (false, 7) => [6.80, 8.66],
            (false, _) => [24.58, 28.00],
            (true, 3) => [6.06, 8.13],
            (true, 5) => [4.24, 5.75],
            (true, _) => [9.23, 12.28],
        },
        (Algorithm::MaxPool, ..) if nhwc => [11.10, 12.41],
        (Algorithm::MaxPool, ..) => [11.75, 13.06],
        (Algorithm::AvgPool, ..) if nhwc => [10.00, 9.42],
        (Algorithm::AvgPool, ..) => [34.67, 36.56],
        _ if nhwc => [6.83, 10.73],
        _ => [19.75, 25.50],
    };
    Limits {
        load_sectors: SLACK * pick(if nhwc { nhwc_sectors } else { nchw_sectors }),
        instructions: SLACK * pick(instructions),
    }
}

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
        .with_dtype(kernel.dtype)
        .and_then(|pool| pool.with_layout(layout));
    Some(pool.expect("a valid variant"))
}

/// Holds every kernel of this file's algorithms to its limits.
pub fn check(gpu: &Gpu, broken: &mut Broken) {
    let mut checked = 0;
    for (place, kernel) in kernels().iter().enumerate() {
        let (id, name) = (KernelId(place), kernel.name());
        if let Some(conv) = convolution(kernel) {
            let counters = convolve(gpu, &plan_of(gpu, &conv, id));
            traffic(&name, &counters, conv.min_bytes());
            each(kernel, &counters, conv.macs(), broken);
            if kernel.tile_k == 8 {
                tile(kernel, &conv, &counters, broken);
            }
        } else if let Some(problem) = pooling(kernel) {
            let plan = PoolPlan::with_kernel(&problem, gpu.capability(), id)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let counters = pool(gpu, &plan);
            let window = problem.output().elements() * problem.r() * problem.s();
            traffic(&name, &counters, problem.min_bytes());
            each(kernel, &counters, window as u64, broken);
        } else {
            continue;
        }
        checked += 1;
    }
    let others = |kernel: &&Kernel| {
        let algorithm = kernel.algorithm;
        let here = Conv2d::computed_by(algorithm) || Pool2d::computed_by(algorithm);
        here && !algorithm.tensor()
    };
    assert_eq!(checked, kernels().iter().filter(others).count());
}

/// Each byte of device memory is moved once: x, w and y fit the caches, so a launch has no excuse.
fn traffic(name: &str, counters: &Counters, least: u64) {
    assert_eq!(counters.device_bytes(), least, "{name}: device memory");
}

/// What every kernel is held to.
fn each(kernel: &Kernel, counters: &Counters, work: u64, broken: &mut Broken) {
    let (name, limits) = (kernel.name(), limits(kernel));
    let times = |traffic: &GlobalTraffic| traffic.sectors as f64 * 32.0 / traffic.bytes as f64;
    let loads = times(&counters.global_loads);
    broken.hold("sectors of loads", &name, loads, limits.load_sectors);
    let stores = match (kernel.algorithm, kernel.layout) {
        // A block has one result, alone in its sector.
        (Algorithm::GlobalPool, Some(Layout::Nchw)) => 32.0 / kernel.dtype.size() as f64,
        // Eight filters of 16 bits a pixel, of 32.
        (Algorithm::SmallGroups, Some(Layout::Nhwc)) if kernel.dtype != DType::F32 => 2.0,
        // Whole sectors.
        _ => 1.0,
    };
    broken.hold(
        "sectors of stores",
        &name,
        times(&counters.global_stores),
        stores,
    );
    let instructions = counters.instructions().warp as f64 * 32.0 / work as f64;
    broken.hold("instructions", &name, instructions, limits.instructions);
    // Those of depthwise convolution in NHWC bring their filters into shared memory once, some 30
    // channels at a time.
    let most = if kernel.algorithm == Algorithm::Depthwise {
        228
    } else {
        0
    };
    broken.hold(
        "bank conflicts",
        &name,
        conflicts(counters) as f64,
        f64::from(most),
    );
}

/// What a tile of a matrix product is held to.
fn tile(kernel: &Kernel, conv: &Conv2d, counters: &Counters, broken: &mut Broken) {
    let name = kernel.name();
    let (m, n) = (kernel.tile_m as usize, kernel.tile_n as usize);
    let terms = conv.gemm_k().next_multiple_of(8);
    // The multiply-adds are the problem's: no tile is partly empty, and only the few_channels kernel's sum
    // is padded.
    let macs = (conv.macs() as usize / conv.gemm_k() * terms) as u64;
    assert_eq!(
        32 * counters.class(Class::FmaF32).warp,
        macs,
        "{name}: multiply-adds"
    );
    // A tile asks for each element of its operands once, and for a bias with each output at most.
    let tiles = conv.groups() * (conv.group_k() / m) * (conv.gemm_n() / n);
    let elements = tiles * (m + n) * terms + 2 * conv.output().elements();
    let asked = counters.global_loads.bytes + counters.global_stores.bytes;
    let most = (elements * conv.dtype().size()) as f64;
    broken.hold("bytes asked for", &name, asked as f64, most);
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
    broken.hold("wavefronts of loads", &name, each, 1.2 * sums * table);
}
