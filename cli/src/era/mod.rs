//! `era`: AlexNet's forward pass by layer, compared with this machine's processor, as in 2012.

mod cpu;
mod history;
mod report;
mod spot_check;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cudarc::driver::CudaStream;
use warpconv::DType;
use warpconv::device::{DeviceKind, Gpu};
use warpconv::graph::{Graph, Node, Step, TensorId};
use warpconv::plan::{PeakRates, Tuning};
use warpconv_nets::{NetworkConfig, alexnet};
use warpconv_testing::{GraphOnDevice, Random};

use crate::args::{EraArgs, Global};
use crate::device;
use crate::exit::Failure;
use crate::output::{JsonFile, Progress};
use crate::tuning;
use cpu::Cpu;

/// Rows and columns of AlexNet's images: the paper gives 224, but the 55 outputs of its first layer
/// need 227.
const IMAGE: usize = 227;

/// A layer that takes longer than this has no warm-up and runs only once.
const LONG: Duration = Duration::from_millis(1500);

/// Number of runs of a short layer on the processor, after a warm-up run; the least time counts.
const RUNS: usize = 3;

/// Samples of a layer on a GPU; their median counts.
const SAMPLES: usize = 11;

/// Limit of the f64 reference's multiplications to check a layer on a GPU; beyond it, only some
/// images are compared.
const REFERENCE_MACS: u64 = 1_000_000_000;

/// Result of one layer. Times in milliseconds.
pub struct Row {
    name: String,
    macs: u64,
    bytes: u64,
    cpu_ms: f64,
    /// Measured time; `None` without a GPU.
    gpu_ms: Option<f64>,
    /// Roofline of an H200 in f32.
    roofline_ms: f64,
    /// Roofline of one GTX 580.
    gtx_580_ms: f64,
    /// Number of the processor's outputs that were compared with f64.
    compared: usize,
    /// Description of the first wrong result of the processor or the GPU.
    failure: Option<String>,
}

/// Runs the command.
pub fn command(global: &Global, args: &EraArgs) -> Result<(), Failure> {
    let json = JsonFile::create(global.json.as_deref())?;
    let network = alexnet(
        &NetworkConfig::new(args.batch, IMAGE),
        warpconv_nets::ALEXNET_LRN,
    );
    let network = network.map_err(Failure::input)?;
    let gpu = device::open(global.device)?;
    let tuning = tuning::load(global, &gpu);
    let stream = device::stream(&gpu)?;
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let cpu = Cpu {
        threads: args.threads.map_or_else(cores, |threads| threads as usize),
    };

    let nodes = network.graph().nodes();
    let progress = Progress::new(nodes.len(), global.quiet);
    let input = network.graph().input_len();
    let mut x = draw(input, 1.0, 0);
    let mut rows = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        progress.doing(&*node.name);
        let layer = Operands::draw(&node.step, x, 2 * index as u64 + 1);
        let (row, y) = run(&gpu, &stream, &tuning, cpu, node, &layer)?;
        x = y;
        rows.push(row);
        progress.step();
    }
    drop(progress);
    let report = report::Report {
        gpu: &gpu,
        cpu,
        batch: args.batch,
        rows: &rows,
    };
    report.print()?;
    if let Some(file) = json {
        file.write(&report.json())?;
    }
    match rows.iter().filter(|row| row.failure.is_some()).count() {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}

/// Operands of a layer on the processor.
pub struct Operands {
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
}

impl Operands {
    /// Draws a bias, and filters scaled so that outputs keep the magnitude of the inputs for any
    /// length of sum.
    fn draw(step: &Step, x: Vec<f32>, seed: u64) -> Operands {
        let (w, bias) = match step {
            // The mean square of a number of [-1, 1) is a third, and a ReLU halves that of its
            // input.
            Step::Conv(conv) => (
                draw(
                    conv.filter().elements(),
                    (6.0 / conv.filter().gemm_k() as f64).sqrt(),
                    seed,
                ),
                draw(conv.output().c(), 0.25, seed + 1),
            ),
            _ => (Vec::new(), Vec::new()),
        };
        Operands { x, w, bias }
    }
}

/// Draws numbers of `-most..most`.
fn draw(len: usize, most: f64, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(|| (random.signed_unit() * most) as f32)
        .take(len)
        .collect()
}

/// Runs a layer on the processor, and on the GPU if there is one; its output is the next layer's
/// input.
fn run(
    gpu: &Gpu,
    stream: &Arc<CudaStream>,
    tuning: &Tuning,
    cpu: Cpu,
    node: &Node,
    operands: &Operands,
) -> Result<(Row, Vec<f32>), Failure> {
    let mut y = vec![f32::NAN; node.writes().map(|(_, desc)| desc.elements()).sum()];
    let cpu_ms = time(|| on_cpu(cpu, &node.step, operands, &mut y))?;
    let (compared, mut failure) = spot_check::check(&node.step, operands, &y)?;
    let gpu_ms = match gpu.kind() {
        DeviceKind::Emulator => None,
        DeviceKind::Gpu => {
            let (ms, wrong) = on_gpu(gpu, stream, tuning, node)?;
            failure = failure.or(wrong);
            Some(ms)
        }
    };
    let (macs, bytes) = (node.step.macs(), node.step.min_bytes());
    let floor = |peak_rates: &PeakRates| peak_rates.bound(macs, bytes).floor_us / 1e3;
    let row = Row {
        name: node.name.to_string(),
        macs,
        bytes,
        cpu_ms,
        gpu_ms,
        roofline_ms: floor(&PeakRates::h200(DType::F32)),
        gtx_580_ms: floor(&history::GTX_580),
        compared,
        failure,
    };
    Ok((row, y))
}

/// The least time of several runs, in milliseconds; the first is a warm-up, unless it takes long.
fn time(mut run: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut once = || {
        let start = Instant::now();
        run().map(|()| start.elapsed())
    };
    let first = once()?;
    let mut least = first;
    if first < LONG {
        least = Duration::MAX;
        for _ in 0..RUNS {
            least = least.min(once()?);
        }
    }
    Ok(least.as_secs_f64() * 1e3)
}

/// Computes a layer on the processor.
fn on_cpu(cpu: Cpu, step: &Step, operands: &Operands, y: &mut [f32]) -> Result<(), Failure> {
    let Operands { x, w, bias } = operands;
    match step {
        Step::Conv(conv) => cpu.conv(conv, x, w, bias, y),
        Step::Pool(pool) => cpu.max_pool(pool, x, y),
        Step::Lrn(lrn) => cpu.lrn(lrn, x, y),
        _ => return Err(foreign()),
    }
    Ok(())
}

/// The error for a layer that AlexNet does not have.
fn foreign() -> Failure {
    Failure::Input("a layer that the processor's side of `era` does not compute".to_owned())
}

/// Measures a layer by itself on the GPU, and checks it there.
fn on_gpu(
    gpu: &Gpu,
    stream: &Arc<CudaStream>,
    tuning: &Tuning,
    node: &Node,
) -> Result<(f64, Option<String>), Failure> {
    let alone = Node::new(
        node.name.clone(),
        node.step.clone(),
        TensorId::Input,
        TensorId::Output,
    );
    let module = Graph::new(vec![alone], DType::F32).map_err(Failure::input)?;
    let loaded = GraphOnDevice::<f32>::in_stream(gpu, stream, &module, tuning);
    let mut loaded = loaded.map_err(Failure::device)?;
    loaded.launch().map_err(Failure::device)?;
    let check_result = loaded.check(REFERENCE_MACS).map_err(Failure::device)?;
    let us = loaded.time(SAMPLES).map_err(Failure::device)?.us;
    Ok((
        us / 1e3,
        check_result.failure.map(|why| format!("GPU: {why}")),
    ))
}
