//! After the rows: the report of their records, and with `--full` the tests, the stored cases and
//! all benchmarks of the bundle.

use std::fs;
use std::time::Duration;

use super::process::{self, End, Job};
use super::record::{Outcome, one_line};
use super::rows::bench;
use super::tools::ToolResult;
use super::{Context, file_name};
use crate::exit::Failure;
use crate::output::say;

/// Time of the report's program.
const REPORT_LIMIT: Duration = Duration::from_secs(20);

/// Time of a test program, of the stored cases, and of a benchmark program.
const LIMIT: Duration = Duration::from_secs(900);

/// The benchmark programs, the shortest first.
const BENCHES: [&str; 4] = ["pool", "bottleneck", "inception", "layers"];

/// Parts of the tests that read the emulator's counters or look at compilers.
const SKIPPED: [&str; 4] = [
    "counters::",
    "shared_memory::",
    "mutations::",
    "machine_code::",
];

/// Puts the records of the rows together: `report.txt`, `report.json` and `report.svg`.
pub fn report(context: &Context) {
    let records = context.file("rows.jsonl");
    let program = context.programs.join("benches/report");
    if !program.is_file() || !records.is_file() {
        return;
    }
    let mut job = Job::new(program, &["--records"], context.file("report.txt"));
    job.args.push(records.into());
    for kind in ["json", "svg"] {
        job.args.push(format!("--{kind}").into());
        job.args
            .push(context.file(&format!("report.{kind}")).into());
    }
    job.env = context.env.clone();
    // Its output says what it lacks.
    process::run(&job, REPORT_LIMIT, &context.clock);
}

/// Runs tests, stored cases and all benchmarks.
pub fn full(context: &Context) -> Result<Vec<ToolResult>, Failure> {
    let mut results = Vec::new();
    for test in tests(context) {
        let path = context.programs.join("tests").join(&test);
        let skipped = SKIPPED.iter().flat_map(|name| ["--skip", name]);
        let args: Vec<&str> = match test == "kernels" && !context.emulated {
            true => skipped.collect(),
            false => Vec::new(),
        };
        let log = context.log(&format!("test-{}.log", file_name(&test)));
        let mut job = Job::new(path, &args, log);
        job.env = context.device_env();
        results.push(one(context, &format!("tests {test}"), job)?);
    }
    let data = context.programs.join("data");
    if data.is_dir() {
        let mut args = context.own_args();
        args.extend(["verify".into(), data.into()]);
        let mut job = Job::new(&context.program, &args, context.log("verify.log"));
        job.env = context.env.clone();
        results.push(one(context, "stored cases", job)?);
    }
    for name in BENCHES {
        let mut job = bench(context, name, &format!("bench-{name}.log"));
        let options = if context.no_cudnn { "--no-cudnn" } else { "" };
        job.env.push(("WARPCONV_BENCH", options.into()));
        job.env
            .push(("WARPCONV_BENCH_JSON", context.file("rows.jsonl").into()));
        results.push(one(context, &format!("benchmarks {name}"), job)?);
    }
    Ok(results)
}

/// The test programs of the bundle.
fn tests(context: &Context) -> Vec<String> {
    let entries = fs::read_dir(context.programs.join("tests"));
    let entries = entries.into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn one(context: &Context, title: &str, job: Job) -> Result<ToolResult, Failure> {
    let last = || one_line(&process::last_line(&job.log).unwrap_or_default());
    let (outcome, message) = match context.clock.over() {
        Some(over) => (Outcome::NotRun, over.reason()),
        None if !job.program.is_file() => (
            Outcome::NotRun,
            "there is no such program in the bundle".to_owned(),
        ),
        None => match process::run(&job, LIMIT, &context.clock).end {
            End::Exit(0) => (Outcome::Ok, last()),
            End::Over(over) => (Outcome::NotRun, over.reason()),
            End::TimeLimit => (Outcome::Hang, End::TimeLimit.words()),
            End::Signal(signal) => (Outcome::Crash, super::interrupt::name(signal)),
            other => (Outcome::Failed, format!("{}: {}", other.words(), last())),
        },
    };
    say(format_args!("{title}: {}: {message}", outcome.name()))?;
    Ok(ToolResult {
        title: title.to_owned(),
        outcome,
        message,
    })
}
