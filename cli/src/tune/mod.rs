//! `tune`: measures every candidate of a problem on this device, and stores the fastest for plans.

mod device;
mod search;

use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::DType;
use warpconv::device::{DeviceKind, Gpu};
use warpconv::plan::{Limits, Operation, Plan, Tuning};
use warpconv::problem::notation::Problem;

use crate::args::{ByArg, Global, TuneArgs};
use crate::exit::Failure;
use crate::output::{Align, JsonFile, Progress, grouped, number, table};
use crate::problems::{self, Listed};
use crate::{device as devices, tuning};
use device::{Counting, Timing};
use search::{Measuring, Search, Tried, candidates, search};

/// Inputs of every problem.
struct Context<'a> {
    gpu: Gpu,
    args: &'a TuneArgs,
    limits: Limits,
    progress: Progress,
}

/// Runs the command.
pub fn command(global: &Global, args: &TuneArgs) -> Result<(), Failure> {
    let problems = problems::read(&args.problems)?;
    let json = JsonFile::create(global.json.as_deref())?;
    let gpu = devices::open(global.device)?;
    check_measure(gpu.kind(), args.by)?;
    let path = match args.dry_run {
        true => None,
        false => Some(file(global)?),
    };
    let context = Context {
        limits: Limits {
            workspace: args.workspace.unwrap_or(Limits::default().workspace),
            ..Limits::default()
        },
        progress: Progress::new(problems.len(), global.quiet),
        gpu,
        args,
    };
    let mut rows = Vec::new();
    let mut failed = 0;
    for listed in &problems {
        context.progress.doing(listed.label.clone());
        let found = context.problem(listed)?;
        context.report(listed, &found)?;
        failed += usize::from(found.tuned_kernel.is_none());
        if let (Some(tuned_kernel), Some(path)) = (found.tuned_kernel, &path) {
            // Stored after each problem: results survive if the program is interrupted.
            let mut tuning = Tuning::new(context.gpu.card());
            tuning.insert(&notation(listed), tuned_kernel);
            save(&tuning, path)?;
        }
        rows.push(row_json(listed, &found));
        context.progress.step();
        if found.lost {
            return Err(Failure::Device(format!(
                "the device was lost in {}; earlier measurements are kept",
                listed.label
            )));
        }
    }
    context.progress.finish();
    if let Some(file) = json {
        file.write(&json!({"device": devices::to_json(&context.gpu), "rows": rows}))?;
    }
    if let Some(path) = path {
        context
            .progress
            .say(format_args!("winners: {}", path.display()))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}

/// Checks that the device can measure the quantity of the options.
fn check_measure(kind: DeviceKind, by: ByArg) -> Result<(), Failure> {
    match (kind, by) {
        (DeviceKind::Emulator, ByArg::Time) => Err(Failure::Input(
            "the emulator has no times, so nothing can be tuned on it: run this on a machine with \
             a GPU, or compare \
             instructions with --by instructions, which are no times"
                .to_owned(),
        )),
        (DeviceKind::Gpu, ByArg::Instructions) => Err(Failure::Input(
            "a GPU counts no instructions: leave --by instructions out, or give --device \
             emulator"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The path of the tuning file.
fn file(global: &Global) -> Result<std::path::PathBuf, Failure> {
    tuning::path(global).ok_or_else(|| {
        Failure::Input(
            "there is no place for winners: name one with --tuning, or give --dry-run".to_owned(),
        )
    })
}

/// Adds the fastest kernels to the file; a damaged file is replaced, with a warning.
fn save(tuning: &Tuning, path: &Path) -> Result<(), Failure> {
    if let Err(error) = Tuning::read(path, tuning.card().clone()) {
        tuning::warn(format_args!("{error}"));
    }
    tuning
        .save(path)
        .map_err(|error| Failure::Input(format!("the winners cannot be kept: {error}")))
}

impl Context<'_> {
    /// Measures a problem's candidates.
    fn problem(&self, listed: &Listed) -> Result<Search, Failure> {
        let samples = self.args.samples;
        let gpu = &self.gpu;
        let failed = |error: warpconv::Error| Failure::device(error);
        let emulated = gpu.kind() == DeviceKind::Emulator;
        match &listed.problem {
            Problem::Conv(conv) if emulated => self.search(conv, Counting { gpu }),
            Problem::Pool(pool) if emulated => self.search(pool, Counting { gpu }),
            Problem::Conv(conv) => match conv.dtype() {
                DType::F32 => self.search(
                    conv,
                    Timing::<f32>::conv(gpu, conv, samples).map_err(failed)?,
                ),
                DType::F16 => self.search(
                    conv,
                    Timing::<f16>::conv(gpu, conv, samples).map_err(failed)?,
                ),
                DType::Bf16 => self.search(
                    conv,
                    Timing::<bf16>::conv(gpu, conv, samples).map_err(failed)?,
                ),
            },
            Problem::Pool(pool) => match pool.dtype() {
                DType::F32 => self.search(
                    pool,
                    Timing::<f32>::pool(gpu, pool, samples).map_err(failed)?,
                ),
                DType::F16 => self.search(
                    pool,
                    Timing::<f16>::pool(gpu, pool, samples).map_err(failed)?,
                ),
                DType::Bf16 => self.search(
                    pool,
                    Timing::<bf16>::pool(gpu, pool, samples).map_err(failed)?,
                ),
            },
        }
    }

    fn search<P: Operation>(
        &self,
        problem: &P,
        mut measuring: impl Measuring<P>,
    ) -> Result<Search, Failure> {
        let plans =
            candidates(problem, self.gpu.capability(), &self.limits).map_err(Failure::device)?;
        let step = |plan: &Plan<P>| {
            let kernel = plan.kernel().name();
            self.progress.doing(name(&kernel, plan.score().split_k));
        };
        Ok(search(&plans, &mut measuring, step))
    }

    /// Prints the results of a problem.
    fn report(&self, listed: &Listed, found: &Search) -> Result<(), Failure> {
        let best = found.tuned_kernel.map(|tuned_kernel| tuned_kernel.amount);
        let unit = match self.args.by {
            ByArg::Time => "us",
            ByArg::Instructions => "instructions of warps",
        };
        let rows = found.tried.iter().map(|tried| {
            let (amount, times) = match &tried.outcome {
                Ok(measured) => (
                    show(self.args.by, measured.amount),
                    best.filter(|&best| best > 0.0).map_or_else(
                        || "-".to_owned(),
                        |best| format!("{:.2}", measured.amount / best),
                    ),
                ),
                Err(why) => (why.clone(), "-".to_owned()),
            };
            vec![
                tried.kernel.kernel().name(),
                tried.split_k.to_string(),
                amount,
                times,
            ]
        });
        let headings = [
            ("kernel", Align::Left),
            ("splits", Align::Right),
            (unit, Align::Right),
            ("times the best", Align::Right),
        ];
        let say = |line: String| self.progress.say(line);
        say(format!("\nproblem: {}", listed.title()))?;
        say(table(&headings, rows.collect()).to_string())?;
        for (kernel, split_k) in &found.disagree {
            say(format!(
                "FAILED {}: its result is not that of the first kernel; see `verify`",
                name(&kernel.kernel().name(), *split_k)
            ))?;
        }
        match (found.tuned_kernel, found.tried.first()) {
            (Some(tuned_kernel), Some(first)) => {
                let own =
                    (first.kernel, first.split_k) == (tuned_kernel.kernel, tuned_kernel.split_k);
                let (kernel, amount) = (tuned_kernel.kernel.kernel().name(), tuned_kernel.amount);
                say(format!(
                    "best: {}, {} {unit}{}",
                    name(&kernel, tuned_kernel.split_k),
                    show(self.args.by, amount),
                    if own {
                        ", also the plan's choice without measurements".to_owned()
                    } else {
                        instead(first, amount)
                    }
                ))
            }
            _ => say("no fastest kernel: nothing is stored for this problem".to_owned()),
        }
    }
}

/// Text of the plan's choice without measurements.
fn instead(first: &Tried, best: f64) -> String {
    let kernel = name(&first.kernel.kernel().name(), first.split_k);
    match &first.outcome {
        Ok(measured) if best > 0.0 => format!(
            "; without measurements the plan's choice is {kernel}: {:.2} times that",
            measured.amount / best
        ),
        _ => format!("; without measurements the plan's choice is {kernel}"),
    }
}

/// Text of a candidate.
fn name(kernel: &str, split_k: u32) -> String {
    match split_k {
        1 => kernel.to_owned(),
        split_k => format!("{kernel} in {split_k} splits"),
    }
}

/// Formats a measured amount.
fn show(by: ByArg, amount: f64) -> String {
    match by {
        ByArg::Time => format!("{amount:.2}"),
        ByArg::Instructions => grouped(amount as u64),
    }
}

/// The problem in the notation of tuning files.
fn notation(listed: &Listed) -> String {
    match &listed.problem {
        Problem::Conv(conv) => conv.to_string(),
        Problem::Pool(pool) => pool.to_string(),
    }
}

/// A problem in JSON.
fn row_json(listed: &Listed, found: &Search) -> Value {
    let tried = found.tried.iter().map(|tried| {
        json!({
            "kernel": tried.kernel.kernel().name(),
            "splits": tried.split_k,
            "amount": number(tried.outcome.as_ref().ok().map(|measured| measured.amount)),
            "error": tried.outcome.as_ref().err(),
        })
    });
    json!({
        "problem": notation(listed),
        "name": listed.name,
        "by": found.tuned_kernel.map(|tuned_kernel| tuned_kernel.by.to_string()),
        "kernel": found.tuned_kernel.map(|tuned_kernel| tuned_kernel.kernel.kernel().name()),
        "splits": found.tuned_kernel.map(|tuned_kernel| tuned_kernel.split_k),
        "amount": number(found.tuned_kernel.map(|tuned_kernel| tuned_kernel.amount)),
        "candidates": tried.collect::<Vec<_>>(),
    })
}
