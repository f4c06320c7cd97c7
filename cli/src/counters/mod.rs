//! `counters`: a plan's counters on the emulator, against the least that its problem needs; and a
//! predicted time on an H200.

mod machine;
mod occupancy;
mod predict;
mod report;

use serde_json::{Value, json};
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
use warpconv::kernels::{Algorithm, KernelId, Math};
use warpconv::plan::{Candidate, Capability, Limits, Operation, Plan, WORKSPACE_COUNTERS};
use warpconv::problem::notation::Problem;
use warpconv::problem::{Conv2d, Pool2d};
use warpconv_testing as check;

use ptx_emulator::client::Launch;
use ptx_emulator::counters::MatrixKind;
use ptx_emulator::{Class, Counters};

use crate::args::{CountersArgs, Global};
use crate::device;
use crate::exit::Failure;
use crate::output::{JsonFile, say};
use crate::problems::{self, Listed};
use crate::verify::kernel_of;
use machine::{Machine, Tools};
use occupancy::{Block, Occupancy, occupancy};
use predict::{Prediction, Work, predict};

/// The largest magnitude of operands. Values do not matter for the counters, but sums of these are
/// exact.
const MAX: u32 = 2;

/// Counters and estimates of one plan that ran.
struct Counted {
    kernel: KernelId,
    split_k: u32,
    /// Bytes of split-K partial sums that are written and read again.
    part_bytes: u64,
    grid: u32,
    block: u32,
    shared_bytes: u32,
    launches: Vec<Launch>,
    totals: Counters,
    least: Least,
    machine: Option<Result<Machine, String>>,
    occupancy: Option<Occupancy>,
    prediction: Prediction,
    model_us: f64,
}

impl Counted {
    /// Multiply-adds on tensor cores.
    fn matrix_macs(&self) -> u64 {
        matrix_macs(&self.totals)
    }

    /// The least multiply-adds on tensor cores: one per multiply-add of the problem, three where an
    /// operand is split into two numbers.
    fn least_matrix_macs(&self) -> u64 {
        let products = match self.kernel.kernel().math {
            Math::Tf32x3 => 3,
            Math::Strict | Math::Tf32 => 1,
        };
        self.least.macs.saturating_mul(products)
    }
}

/// Multiply-adds on tensor cores.
fn matrix_macs(totals: &Counters) -> u64 {
    let kinds = MatrixKind::ALL.into_iter();
    kinds.map(|kind| totals.matrix(kind).multiply_adds).sum()
}

/// The least work that a problem needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Least {
    /// Bytes read: each operand once.
    read: u64,
    /// Bytes written: the output once.
    written: u64,
    /// Multiply-adds; 0 for a pool.
    macs: u64,
}

/// Inputs of every run.
struct Context {
    gpu: Gpu,
    limits: Limits,
    all: bool,
    tools: Option<Tools>,
}

/// Runs the command.
pub fn command(global: &Global, args: &CountersArgs) -> Result<(), Failure> {
    let problems = problems::read(&args.problems)?;
    let kernel = args.kernel.as_deref().map(kernel_of).transpose()?;
    let json = JsonFile::create(global.json.as_deref())?;
    let context = Context {
        gpu: device::open(emulated(global.device)?)?,
        limits: Limits {
            kernel,
            split_k: args.split_k,
            ..Limits::default()
        },
        all: args.all,
        tools: if args.no_machine_code {
            None
        } else {
            Tools::find()
        },
    };
    if context.gpu.kind() != DeviceKind::Emulator {
        return Err(Failure::Device(
            "counters are the emulator's: give --device emulator".to_owned(),
        ));
    }
    if context.tools.is_none() {
        let why = if args.no_machine_code {
            "--no-machine-code"
        } else {
            "ptxas was not found"
        };
        say(format_args!(
            "{why}: registers, occupancy, spills and machine code are not shown"
        ))?;
    }
    let (mut rows, mut skipped): (Vec<Value>, usize) = (Vec::new(), 0);
    for listed in &problems {
        say(format_args!("\nproblem: {}", listed.title()))?;
        if listed.work() > args.max_macs {
            skipped += 1;
            say(format_args!(
                "skipped: more than {} multiplications (--max-macs)",
                args.max_macs
            ))?;
            continue;
        }
        match run(&context, listed)? {
            Outcome::Counted(new) => rows.extend(new),
            Outcome::Refused(why) => {
                skipped += 1;
                say(format_args!("skipped: {why}"))?;
            }
        }
    }
    if rows.is_empty() {
        return Err(Failure::Input(format!(
            "no problem to run: the options skip {skipped} of {}",
            problems.len()
        )));
    }
    match json {
        Some(file) => file.write(&json!({"device": device::to_json(&context.gpu), "rows": rows})),
        None => Ok(()),
    }
}

/// The emulator of the choice: only the emulator has counters.
fn emulated(choice: DeviceChoice) -> Result<DeviceChoice, Failure> {
    match choice {
        DeviceChoice::Auto => Ok(DeviceChoice::Emulator { sm: 90 }),
        DeviceChoice::Cuda(_) => Err(Failure::Input(format!(
            "--device {choice}: a GPU counts nothing that this command could read; give \
             emulator:75, :80 or :90"
        ))),
        emulator => Ok(emulator),
    }
}

/// Outcome of a problem.
enum Outcome {
    /// The rows of its plans.
    Counted(Vec<Value>),
    /// Reason why it did not run.
    Refused(String),
}

/// Runs a problem with every kernel of the options.
fn run(context: &Context, listed: &Listed) -> Result<Outcome, Failure> {
    match &listed.problem {
        Problem::Conv(conv) => {
            let least = Least {
                written: (conv.output().elements() * conv.dtype().size()) as u64,
                read: conv.min_bytes() - (conv.output().elements() * conv.dtype().size()) as u64,
                macs: conv.macs(),
            };
            each(context, listed, conv, least, run_conv)
        }
        Problem::Pool(pool) => {
            let read = (pool.input().elements() * pool.dtype().size()) as u64;
            let least = Least {
                read,
                written: pool.min_bytes() - read,
                macs: 0,
            };
            each(context, listed, pool, least, run_pool)
        }
    }
}

/// Runs each plan of a problem, prints its counters and returns the JSON.
fn each<P: Operation>(
    context: &Context,
    listed: &Listed,
    problem: &P,
    least: Least,
    launch: impl Fn(&Gpu, &Plan<P>) -> Result<(), String>,
) -> Result<Outcome, Failure> {
    let capability = context.gpu.capability();
    let plans = match plans(context, problem, capability) {
        Ok(plans) => plans,
        Err(why) => return Ok(Outcome::Refused(why)),
    };
    let mut rows = Vec::new();
    for plan in &plans {
        context.gpu.reset_counters();
        launch(&context.gpu, plan).map_err(Failure::Device)?;
        let counted = counted(context, plan, problem, least)?;
        report::print(&counted, capability)?;
        rows.push(report::to_json(&counted, listed));
    }
    Ok(Outcome::Counted(rows))
}

/// The plans of the options; else the reason why there is none.
fn plans<P: Operation>(
    context: &Context,
    problem: &P,
    capability: &Capability,
) -> Result<Vec<Plan<P>>, String> {
    let within = |limits: &Limits| {
        Plan::within(problem, capability, limits).map_err(|error| error.to_string())
    };
    let best = within(&context.limits)?;
    if !context.all {
        return Ok(vec![best]);
    }
    let accepted = best.accepted().map(|Candidate { id, .. }| {
        within(&Limits {
            kernel: Some(*id),
            ..context.limits
        })
    });
    accepted.collect()
}

/// Collects the counters and estimates of a plan that has just run.
fn counted<P: Operation>(
    context: &Context,
    plan: &Plan<P>,
    problem: &P,
    least: Least,
) -> Result<Counted, Failure> {
    let gone = || Failure::Device("the emulator has forgotten its launches".to_owned());
    let library = context.gpu.emulator().ok_or_else(gone)?;
    let (launches, totals) = (library.launches(), library.totals());
    let entry = plan.kernel();
    let capability = context.gpu.capability();
    let machine = context
        .tools
        .as_ref()
        .map(|tools| tools.examine(plan.kernel_id(), capability.version()));
    let occupancy = match &machine {
        Some(Ok(machine)) => Some(occupancy(
            Block {
                threads: plan.kernel().threads,
                registers: machine.registers,
                shared: plan.shared_bytes(),
            },
            capability,
        )),
        _ => None,
    };
    // The same kernel, ranked for an H200; a kernel for other cards only has the cost model's time
    // on its own card.
    let same = Limits {
        kernel: Some(plan.kernel_id()),
        split_k: Some(plan.score().split_k),
        ..context.limits
    };
    let h200 = Plan::within(problem, &Capability::h200(), &same);
    let model_us = h200.map_or(plan.score().us, |plan| plan.score().us);
    let main = launches.iter().map(blocks).max();
    let part_bytes = part_bytes(plan, &launches);
    let mut work = work(&totals, launches.len());
    if part_bytes <= H200_L2_BYTES / 2 {
        work.device_bytes = work.device_bytes.saturating_sub(part_bytes);
    }
    let prediction = predict(&work, entry, main.unwrap_or(0), model_us);
    Ok(Counted {
        kernel: plan.kernel_id(),
        split_k: plan.score().split_k,
        part_bytes,
        grid: plan.grid(),
        block: plan.kernel().threads,
        shared_bytes: plan.shared_bytes(),
        launches,
        totals,
        least,
        machine,
        occupancy,
        prediction,
        model_us,
    })
}

/// Capacity of an H200's L2 cache. Partial sums of up to half of it are assumed not to reach device
/// memory.
const H200_L2_BYTES: u64 = 50 << 20;

/// Bytes of split-K partial sums, written and read again: the workspace without its counters and
/// packed filters.
fn part_bytes<P: Operation>(plan: &Plan<P>, launches: &[Launch]) -> u64 {
    if plan.score().split_k <= 1 {
        return 0;
    }
    let packing = |launch: &&Launch| launch.kernel.starts_with(Algorithm::PackFilter.name());
    let packed = launches.iter().filter(packing);
    let packed: u64 = packed
        .map(|launch| launch.counters.device_bytes_written)
        .sum();
    let room = plan.score().workspace.saturating_sub(WORKSPACE_COUNTERS);
    2 * room.saturating_sub(packed)
}

/// Number of blocks of a launch.
fn blocks(launch: &Launch) -> u64 {
    launch
        .grid
        .iter()
        .map(|&extent| u64::from(extent))
        .product()
}

/// Inputs of the prediction.
fn work(totals: &Counters, launches: usize) -> Work {
    Work {
        device_bytes: totals.device_bytes(),
        sector_bytes: 32 * (totals.global_loads.sectors + totals.global_stores.sectors),
        instructions: totals.instructions().warp,
        fma_warps: totals.class(Class::FmaF32).warp,
        matrix_macs: matrix_macs(totals),
        wavefronts: totals.shared_loads.wavefronts + totals.shared_stores.wavefronts,
        launches: launches as u64,
    }
}

/// Runs a convolution once, on generated operands.
fn run_conv(gpu: &Gpu, plan: &Plan<Conv2d>) -> Result<(), String> {
    let conv: &Conv2d = plan.problem();
    let x = check::integers(conv.input().elements(), MAX, 1);
    let w = check::integers(conv.filter().elements(), MAX, 2);
    let bias = conv
        .bias()
        .then(|| check::integers(conv.output().c(), MAX, 3));
    let residual = conv
        .residual()
        .map(|desc| check::integers(desc.elements(), MAX, 4));
    check::run_conv(gpu, plan, &x, &w, bias.as_deref(), residual.as_deref())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Runs a pooling once, on generated operands.
fn run_pool(gpu: &Gpu, plan: &Plan<Pool2d>) -> Result<(), String> {
    let pool: &Pool2d = plan.problem();
    let x = check::integers(pool.input().elements(), MAX, 1);
    check::run_pool(gpu, plan, &x)
        .map(|_| ())
        .map_err(|error| error.to_string())
}
