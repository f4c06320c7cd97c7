//! `explain`: the plan of a problem, its loaded kernel, the refused kernels with reasons, and the
//! roofline's bound.

mod image;

use std::fmt;

use serde_json::{Value, json};
use warpconv::device::Gpu;
use warpconv::kernels::Math;
use warpconv::launch::Launch;
use warpconv::plan::{Candidate, Limits, Operation, Plan, Refusal};
use warpconv::problem::notation::{self, Problem};
use warpconv::problem::{Conv2d, Pool2d};

use crate::args::{ExplainArgs, Global};
use crate::device;
use crate::exit::Failure;
use crate::output::{Align, JsonFile, bytes, grouped, number, say, several, table};
use crate::tuning;

/// Runs the command.
pub fn command(global: &Global, args: &ExplainArgs) -> Result<(), Failure> {
    let problem = read(args)?;
    let json = JsonFile::create(global.json.as_deref())?;
    let gpu = device::open(global.device)?;
    let tuning = tuning::load(global, &gpu);
    let (capability, limits) = (gpu.capability(), Limits::default());
    let row = match &problem {
        Problem::Conv(conv) => {
            let plan = Plan::tuned(conv, capability, &limits, &tuning).map_err(Failure::device)?;
            explain(&gpu, &plan, &conv_facts(conv), args.jit)?
        }
        Problem::Pool(pool) => {
            let plan = Plan::tuned(pool, capability, &limits, &tuning).map_err(Failure::device)?;
            explain(&gpu, &plan, &pool_facts(pool), args.jit)?
        }
    };
    match json {
        Some(file) => file.write(&json!({"device": device::to_json(&gpu), "rows": [row]})),
        None => Ok(()),
    }
}

/// Parses the problem, in the type and layout of the options.
fn read(args: &ExplainArgs) -> Result<Problem, Failure> {
    let named = notation::parse(&args.problem).map_err(Failure::input)?;
    for warning in &named.warnings {
        tuning::warn(format_args!("{}: {warning}", args.problem));
    }
    let changed = match named.problem {
        Problem::Conv(mut conv) => {
            let dtype = args.dtype.map_or(conv.dtype(), Into::into);
            let layout = args.layout.map_or(conv.layout(), Into::into);
            let math = args.math.map_or(conv.math(), Into::into);
            conv = conv
                .to_builder()
                .dtype(dtype)
                .layout(layout)
                .math(math)
                .build()
                .map_err(Failure::input)?;
            Problem::Conv(conv)
        }
        Problem::Pool(mut pool) => {
            let dtype = args.dtype.map_or(pool.dtype(), Into::into);
            let layout = args.layout.map_or(pool.layout(), Into::into);
            pool = pool
                .to_builder()
                .dtype(dtype)
                .layout(layout)
                .build()
                .map_err(Failure::input)?;
            Problem::Pool(pool)
        }
    };
    Ok(changed)
}

/// Describes a convolution in a line.
fn conv_facts(conv: &Conv2d) -> String {
    format!(
        "matrix product of {} x {} x {} in {}; {} multiplications{}, output {}x{}x{}x{}",
        conv.output().c() / conv.groups(),
        conv.output().n() * conv.output().h() * conv.output().w(),
        conv.filter().gemm_k(),
        several(conv.groups() as u64, "group"),
        grouped(conv.macs()),
        match conv.math() {
            Math::Strict => String::new(),
            math => format!(" in {} or more exactly", math.name()),
        },
        conv.input().n(),
        conv.output().c(),
        conv.output().h(),
        conv.output().w()
    )
}

/// Describes a pool in a line.
fn pool_facts(pool: &Pool2d) -> String {
    format!(
        "{:?}; output {}x{}x{}x{}",
        pool.kind(),
        pool.input().n(),
        pool.input().c(),
        pool.output().h(),
        pool.output().w()
    )
}

/// Prints the plan and returns its JSON.
fn explain<P: Launch + fmt::Display>(
    gpu: &Gpu,
    plan: &Plan<P>,
    facts: &str,
    jit: bool,
) -> Result<Value, Failure> {
    say(format_args!("problem: {}", plan.problem()))?;
    say(format_args!("         {facts}"))?;
    choice(plan)?;
    let image = image::explain(gpu, plan, jit)?;
    say(format_args!(
        "bound:   on an H200 at least {}: a prediction, not a measurement",
        plan.roofline()
    ))?;
    candidates(plan)?;
    let mut row = to_json(plan);
    row["image"] = image;
    Ok(row)
}

/// Prints the kernel and its launch.
fn choice<P: Operation>(plan: &Plan<P>) -> Result<(), Failure> {
    let kernel = plan.kernel();
    say(format_args!(
        "kernel:  {} ({}), {}",
        kernel.name(),
        kernel.algorithm.source(),
        match plan.tuned_kernel() {
            Some(tuned_kernel) => format!("tuned: {tuned_kernel}"),
            None => "ranked by the model: this problem is not measured here".to_owned(),
        }
    ))?;
    if let Some(factor) = plan.factor() {
        say(format_args!(
            "factor:  {factor} on this card; each estimate is multiplied by that of its family"
        ))?;
    }
    say(format_args!(
        "launch:  tile {}x{}x{} (gemm_m x gemm_n x gemm_k), {} of {} threads, {} of shared \
         memory per block",
        kernel.tile_m,
        kernel.tile_n,
        kernel.tile_k,
        several(u64::from(plan.grid()), "block"),
        plan.kernel().threads,
        bytes(u64::from(plan.shared_bytes()))
    ))?;
    let score = plan.score();
    if score.split_k > 1 {
        say(format_args!(
            "splits:  {} blocks share the sum of a tile",
            score.split_k
        ))?;
    }
    if score.workspace > 0 {
        let packs = if score.pack_us > 0.0 {
            ", filters packed first by a launch of its own (+packed filters need none)"
        } else {
            ""
        };
        say(format_args!(
            "memory:  {} of workspace{packs}",
            bytes(score.workspace)
        ))?;
    }
    Ok(())
}

/// The plan in JSON.
fn to_json<P: Operation + fmt::Display>(plan: &Plan<P>) -> Value {
    let (kernel, roofline, score) = (plan.kernel(), plan.roofline(), plan.score());
    json!({
        "problem": plan.problem().to_string(),
        "kernel": kernel.name(),
        "tuned": plan.tuned_kernel().map(|tuned_kernel| json!({
            "by": tuned_kernel.by.to_string(),
            "amount": number(Some(tuned_kernel.amount)),
            "of": tuned_kernel.of,
        })),
        "factor": number(plan.factor().map(|factor| factor.value())),
        "tile": [kernel.tile_m, kernel.tile_n, kernel.tile_k],
        "grid": plan.grid(),
        "block": plan.kernel().threads,
        "shared_bytes": plan.shared_bytes(),
        "macs": roofline.macs,
        "min_bytes": roofline.bytes,
        "bound": roofline.bound().to_string(),
        "predicted_us": number(Some(roofline.floor_us)),
        "splits": score.split_k,
        "workspace": score.workspace,
        "accepted": plan.accepted().map(|c| c.id.kernel().name()).collect::<Vec<_>>(),
        "ranking": plan.accepted().filter_map(ranked_json).collect::<Vec<_>>(),
        "refused": plan.refused().map(refusal_json).collect::<Vec<_>>(),
    })
}

/// Prints the tables of the kernels that accept and of those that refuse.
fn candidates<P: Operation>(plan: &Plan<P>) -> Result<(), Failure> {
    let calibrated = plan.factor().is_some();
    let ranked: Vec<Vec<String>> = plan
        .accepted()
        .enumerate()
        .map(|(rank, c)| ranked_row(rank, c, calibrated))
        .collect();
    let mut headings = vec![
        ("accepts", Align::Left),
        ("blocks", Align::Right),
        ("splits", Align::Right),
        ("waves", Align::Right),
        ("tile efficiency", Align::Right),
        ("workspace", Align::Right),
        ("arithmetic", Align::Right),
        ("memory", Align::Right),
        ("packing", Align::Right),
    ];
    if calibrated {
        headings.push(("factor", Align::Right));
    }
    headings.push(("rank by", Align::Right));
    say(table(&headings, ranked))?;
    // Kernels that could have run come first; those for another type or layout are obvious
    // refusals.
    let mut refused: Vec<&Candidate> = plan.refused().collect();
    refused.sort_by_key(|c| {
        matches!(
            c.evaluation,
            Err(Refusal::DType { .. } | Refusal::Layout { .. })
        )
    });
    if refused.is_empty() {
        return Ok(());
    }
    let rows = refused.into_iter().map(|c| {
        let why = c.evaluation.err();
        vec![
            c.id.kernel().name(),
            why.map_or_else(String::new, |why| why.to_string()),
        ]
    });
    say(table(
        &[("refused", Align::Left), ("because it", Align::Left)],
        rows.collect(),
    ))
}

/// A row of the table of kernels that accept; with the family's factor if the model is calibrated.
fn ranked_row(rank: usize, candidate: &Candidate, calibrated: bool) -> Vec<String> {
    let mut row = vec![format!("{}. {}", rank + 1, candidate.id.kernel().name())];
    match &candidate.evaluation {
        Ok(score) => {
            row.extend([
                grouped(score.blocks),
                score.split_k.to_string(),
                format!("{:.2}", score.waves),
                format!("{:.1}%", score.tile_efficiency * 100.0),
                bytes(score.workspace),
                format!("{:.2}", score.arithmetic_us),
                format!("{:.2}", score.memory_us),
                format!("{:.2}", score.pack_us),
            ]);
            if calibrated {
                row.push(
                    candidate
                        .factor
                        .map_or_else(|| "-".to_owned(), |factor| format!("{:.3}", factor.value())),
                );
            }
            row.push(format!("{:.2}", score.us));
        }
        Err(why) => row.push(why.to_string()),
    }
    row
}

/// A kernel that accepts, with the parts of its rank, in JSON.
fn ranked_json(candidate: &Candidate) -> Option<Value> {
    let score = candidate.evaluation.as_ref().ok()?;
    Some(json!({
        "kernel": candidate.id.kernel().name(),
        "us": number(Some(score.us)),
        "factor": number(candidate.factor.map(|factor| factor.value())),
        "arithmetic_us": number(Some(score.arithmetic_us)),
        "memory_us": number(Some(score.memory_us)),
        "pack_us": number(Some(score.pack_us)),
        "blocks": score.blocks,
        "splits": score.split_k,
        "waves": number(Some(score.waves)),
        "useful": number(Some(score.tile_efficiency)),
        "workspace": score.workspace,
    }))
}

/// A refusal in JSON.
fn refusal_json(candidate: &Candidate) -> Value {
    json!({
        "kernel": candidate.id.kernel().name(),
        "reason": candidate.evaluation.err().map(|why| why.to_string()),
    })
}
