//! Every kernel on tensor cores on problems of a tile, and plans for GoogLeNet's layers.

use libtest_mimic::Trial;
use warpconv::device::Gpu;
use warpconv::kernels::{Algorithm, DType, Kernel, KernelId, Layout, Math};
use warpconv::plan::{Capability, Operation, Plan, WORKSPACE_COUNTERS};
use warpconv::problem::{Conv2d, FilterLayout, Padding};

use super::{Held, conflicts, convolve, matrix_macs, plan_of, trial};

/// Multiply-adds for one of the problem's: three where each operand is two numbers.
fn products(kernel: &Kernel) -> u64 {
    match kernel.math {
        Math::Tf32x3 => 3,
        Math::Strict | Math::Tf32 => 1,
    }
}

/// A problem that fills a tile with filters and pixels, of few or many steps; `None` if the kernel
/// is none on tensor cores.
fn one_tile(kernel: &Kernel, deep: bool) -> Option<Conv2d> {
    let tile_k = kernel.tile_k as usize;
    let (mut filters, mut groups) = (kernel.tile_m as usize, 1);
    let (mut channels, mut size) = (tile_k * if deep { 2 } else { 1 }, 3);
    match kernel.algorithm {
        Algorithm::Mma | Algorithm::Wgmma | Algorithm::WgmmaGather => {}
        // All terms of the sum in one go: 288 and 144.
        Algorithm::MmaFewChannels => channels = if deep { 32 } else { 16 },
        // A step is a tap.
        Algorithm::MmaSmallGroups => {
            groups = (kernel.tile_m as usize / tile_k).max(2);
            channels = groups * tile_k;
            filters = channels;
            size = if deep { 5 } else { 3 };
        }
        _ => return None,
    }
    let conv = Conv2d::builder()
        .input(1, channels, 8, kernel.tile_n as usize / 8)
        .filters(filters)
        .kernel(size, size)
        .padding(Padding::same(size / 2))
        .groups(groups)
        .dtype(kernel.dtype)
        .math(kernel.math)
        .layout(kernel.layout?)
        .filter_layout(FilterLayout::Krsc)
        .bias(true)
        .build();
    Some(conv.expect("the problem is valid"))
}

/// The kernels on tensor cores that plans consider.
fn planned(device: &Capability) -> Vec<KernelId> {
    let conv: Conv2d = "mb1ic8ih8oc8kh1".parse().expect("the problem is valid");
    let candidates = Plan::candidates(&conv, device).into_iter();
    candidates
        .map(|candidate| candidate.id)
        .filter(|id| id.kernel().algorithm.tensor())
        .collect()
}

/// A test per main loop, and one per layer and architecture.
pub fn trials() -> Vec<Trial> {
    let loops = planned(&Capability::h200()).into_iter().map(|id| {
        let name = format!("main_loop::{}", id.kernel().name());
        trial(name, 90, move |gpu, held| main_loop(gpu, id, held))
    });
    let layers = [80, 90].into_iter().flat_map(|sm| {
        LAYERS.iter().map(move |each| {
            let (_, name) = each.text.split_once('"').expect("a layer has a name");
            let name = name.trim_end_matches('"').replace('/', "_");
            trial(format!("layer::{name}_sm{sm}"), sm, |gpu, held| {
                layer(gpu, each, held);
            })
        })
    });
    loops.chain(layers).collect()
}

/// A main loop has no bank conflict, and multiplies what the problem asks for.
fn main_loop(gpu: &Gpu, id: KernelId, held: &mut Held) {
    let (kernel, name) = (id.kernel(), id.kernel().name());
    let problem =
        |deep| one_tile(kernel, deep).expect("a problem for every kernel on tensor cores");
    let mut run = |conv: &Conv2d| {
        let plan = plan_of(gpu, conv, id);
        let counters = convolve(gpu, &plan);
        let least = (conv.macs() * products(kernel)) as f64;
        let macs = matrix_macs(&counters) as f64;
        // Below one would be a result that nobody multiplied for.
        assert!(macs >= least, "{name}: {macs} multiply-adds, not {least}");
        // A full tile: only a sum's last step may be padded.
        held.hold("matrix operations", macs / least, 1.15);
        // Each pixel and filter once, whatever the taps.
        let bytes = counters.device_bytes() as f64 / conv.min_bytes() as f64;
        if plan.launches() < 2 {
            held.hold("device memory", bytes, 1.05);
        }
        counters
    };
    // What comes before and after the loop is in both, so the difference is the loop's.
    let (few, many) = (run(&problem(false)), run(&problem(true)));
    let more = conflicts(&many).saturating_sub(conflicts(&few));
    held.hold("bank conflicts in the main loop", more as f64, 0.0);
}

/// A layer and how many times its least multiply-adds a plan may take.
struct Layer {
    text: &'static str,
    /// The project's promise for channels and filters in multiples of 64; what odd ones cost
    /// elsewhere.
    matrix: f64,
}

/// Layers of GoogLeNet at batches of 1 to 8, of every kind that it has. The batches are such that
/// the pixels fill tiles, else what would be held is not the kernels but 14 x 14.
const LAYERS: [Layer; 6] = [
    Layer {
        text: "mb1ic192ih28oc64kh1n\"inception_3a/1x1\"",
        matrix: 1.15,
    },
    Layer {
        text: "mb4ic128ih14oc256kh3ph1n\"inception_4c/3x3\"",
        matrix: 1.15,
    },
    Layer {
        text: "mb8ic832ih7oc256kh1n\"inception_5a/1x1\"",
        matrix: 1.15,
    },
    Layer {
        // Tiles of 64 take 196 pixels as 256.
        text: "mb1ic512ih14oc64kh1n\"inception_4b/pool_proj\"",
        matrix: 1.35,
    },
    Layer {
        // 480 channels are seven and a half times 64.
        text: "mb2ic480ih14oc192kh1n\"inception_4a/1x1\"",
        matrix: 1.25,
    },
    Layer {
        // Steps of 64 take 96 channels as 128, and tiles of 64 take 784 pixels as 832.
        text: "mb1ic96ih28oc128kh3ph1n\"inception_3a/3x3\"",
        matrix: 1.42,
    },
];

/// Plans for GoogLeNet's layers in bf16: no more bytes and matrix operations than the project
/// promises.
fn layer(gpu: &Gpu, layer: &Layer, held: &mut Held) {
    let conv: Conv2d = layer.text.parse().expect("the problem is valid");
    let conv = conv
        .to_builder()
        .dtype(DType::Bf16)
        .build()
        .and_then(|conv| conv.to_builder().layout(Layout::Nhwc).build())
        .and_then(|conv| conv.to_builder().filter_layout(FilterLayout::Krsc).build())
        .expect("a valid variant");
    let plan = Plan::new(&conv, gpu.capability()).expect("a kernel for every layer");
    let kernel = plan.kernel();
    if !kernel.algorithm.tensor() {
        let (name, any) = (kernel.name(), !planned(gpu.capability()).is_empty());
        assert!(!any, "{}: {name} is not on tensor cores", layer.text);
        return;
    }
    let counters = convolve(gpu, &plan);
    println!(
        "{} by {} in {} splits",
        layer.text,
        kernel.name(),
        plan.score().split_k
    );
    // Blocks that share a tile write their parts and read them, whole tiles, from the L2 cache
    // as a rule; the counters say device memory, so these are allowed for.
    let parts = plan.workspace_bytes().saturating_sub(WORKSPACE_COUNTERS);
    let bytes = counters.device_bytes().saturating_sub(2 * parts);
    held.hold("device memory", bytes as f64 / conv.min_bytes() as f64, 1.3);
    let macs = matrix_macs(&counters) as f64 / conv.macs() as f64;
    held.hold("matrix operations", macs, layer.matrix);
    held.hold("matrix operations, at least", -macs, -1.0);
}
