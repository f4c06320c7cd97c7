//! The ceilings of the card, and the rows of the first run in their order, until the time is over.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use warpconv::files;

use super::Context;
use super::process::{self, End, Job};
use super::record::{Outcome, one_line};
use super::{file_name, interrupt};
use crate::exit::Failure;
use crate::output::say;

/// Time of a row, cuDNN's search included.
const ROW_LIMIT: Duration = Duration::from_secs(60);

/// Time of the ceilings' program, and of PyTorch's.
const CEILINGS_LIMIT: Duration = Duration::from_secs(40);

/// Script that times PyTorch's matrix product. Its lines are those of the ceilings' program.
const TORCH: &str = include_str!("torch_matmul.py");

/// State of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowState {
    /// Benchmark program.
    pub program: String,
    /// Name of the row.
    pub row: String,
    /// Outcome.
    pub outcome: Outcome,
    /// Reason.
    pub message: String,
}

impl RowState {
    /// The row with its outcome and reason.
    pub fn words(&self) -> String {
        let (row, outcome, message) = (&self.row, self.outcome.name(), &self.message);
        format!("{row}: {outcome}: {message}")
    }

    /// Converts it to JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "program": self.program, "row": self.row, "outcome": self.outcome.name(),
            "message": self.message,
        })
    }

    /// Reads it from JSON; `None` if it is none.
    pub fn of_json(value: &Value) -> Option<RowState> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(RowState {
            program: text("program")?,
            row: text("row")?,
            outcome: Outcome::of(value["outcome"].as_str()?)?,
            message: text("message")?,
        })
    }
}

/// Measures the card's ceilings into `ceilings.jsonl`. Returns what could not be measured, and why.
pub fn ceilings(context: &Context) -> Vec<String> {
    let file = context.file("ceilings.jsonl");
    if has_records(&file) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    let mut job = bench(context, "ceilings", "ceilings.log");
    job.env.push(("WARPCONV_BENCH_JSON", (&file).into()));
    let ended = match program(context, "ceilings") {
        true => process::run(&job, CEILINGS_LIMIT, &context.clock).end,
        false => End::Failed("there is no such program in the bundle".to_owned()),
    };
    if ended != End::Exit(0) {
        let line = process::last_line(&job.log).unwrap_or_default();
        missing.push(format!("copy: {} {}", ended.words(), one_line(&line)));
    }
    if context.emulated {
        missing.push("PyTorch's matrix product: there is no GPU".to_owned());
    } else if let Err(why) = torch(context, &file) {
        missing.push(format!("PyTorch's matrix product: {why}"));
    }
    missing
}

/// Times PyTorch's matrix product and appends it to the file of ceilings.
fn torch(context: &Context, file: &Path) -> Result<(), String> {
    let log = context.log("torch.log");
    let text = process::output(
        "python3",
        &["-c", TORCH],
        &log,
        CEILINGS_LIMIT,
        &context.clock,
    )?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let lines: String = lines.flat_map(|line| [line, "\n"]).collect();
    if lines.is_empty() {
        let last = text.lines().last().unwrap_or("it printed nothing");
        return Err(one_line(last));
    }
    let before = fs::read_to_string(file).unwrap_or_default();
    fs::write(file, before + &lines).map_err(|error| error.to_string())
}

/// The rows in their order of importance: those of `first_run.txt`.
pub fn list(context: &Context) -> Result<Vec<(String, String)>, String> {
    let places = [
        "first_run.txt",
        "benches/first_run.txt",
        "data/first_run.txt",
    ];
    let mut places = places.iter().map(|place| context.programs.join(place));
    let Some(file) = places.find(|place| place.is_file()) else {
        return Err(format!(
            "there is no first_run.txt in {}",
            context.programs.display()
        ));
    };
    let text = files::text(&file, files::SHAPES)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (program, row) = line.split_once(char::is_whitespace)?;
        Some((program.to_owned(), row.trim().to_owned()))
    };
    let rows: Vec<_> = lines.filter_map(pair).collect();
    match rows.is_empty() {
        true => Err(format!("{} names no row", file.display())),
        false => Ok(rows),
    }
}

/// Measures the rows that have no result yet, without the kernels of `excluded`, and returns the
/// state of all.
pub fn run(
    context: &Context,
    known: &[RowState],
    excluded: &[String],
    mut save: impl FnMut(&[RowState]),
) -> Result<Vec<RowState>, Failure> {
    let listed = match list(context) {
        Ok(listed) => listed,
        Err(why) => {
            say(format_args!("rows: {why}"))?;
            return Ok(vec![RowState {
                program: String::new(),
                row: "all rows".to_owned(),
                outcome: Outcome::NotRun,
                message: why,
            }]);
        }
    };
    let mut states = Vec::new();
    for (program, row) in listed {
        let before = known.iter().find(|state| {
            state.program == program && state.row == row && state.outcome != Outcome::NotRun
        });
        let state = match before {
            Some(state) => state.clone(),
            None => {
                let state = one(context, &program, &row, excluded);
                say(format_args!("row {}", state.words()))?;
                state
            }
        };
        states.push(state);
        save(&states);
    }
    Ok(states)
}

/// Measures one row.
fn one(context: &Context, program_name: &str, row: &str, excluded: &[String]) -> RowState {
    let state = |outcome, message: String| RowState {
        program: program_name.to_owned(),
        row: row.to_owned(),
        outcome,
        message,
    };
    if let Some(over) = context.clock.over() {
        return state(Outcome::NotRun, over.reason());
    }
    if !program(context, program_name) {
        return state(
            Outcome::NotRun,
            "there is no such program in the bundle".to_owned(),
        );
    }
    let records = context.file("rows.jsonl");
    let before = length(&records);
    let mut job = bench(
        context,
        program_name,
        &format!("row-{}.log", file_name(row)),
    );
    job.env
        .push(("WARPCONV_BENCH", options(context, row, excluded).into()));
    job.env.push(("WARPCONV_BENCH_JSON", (&records).into()));
    let ended = process::run(&job, ROW_LIMIT, &context.clock);
    let last = || one_line(&process::last_line(&job.log).unwrap_or_default());
    let seconds = format!("{:.1} s", ended.seconds);
    let (outcome, message) = match ended.end {
        End::Exit(0) => match skipped(&records, before) {
            Some(why) => (Outcome::NotRun, one_line(&why)),
            None if length(&records) > before => (Outcome::Ok, seconds),
            None => (
                Outcome::Failed,
                format!("no record was written: {}", last()),
            ),
        },
        End::Exit(1) => (Outcome::Wrong, last()),
        End::TimeLimit => (Outcome::Hang, format!("killed after {seconds}")),
        End::Signal(signal) => (Outcome::Crash, interrupt::name(signal)),
        End::Over(over) => (Outcome::NotRun, over.reason()),
        other => (Outcome::Failed, format!("{}: {}", other.words(), last())),
    };
    if !outcome.is_failure() {
        let _ = fs::remove_file(&job.log);
    }
    state(outcome, message)
}

/// The benchmark's options of a row.
fn options(context: &Context, row: &str, excluded: &[String]) -> String {
    let mut options = format!("--quick --row {row}");
    if !excluded.is_empty() {
        options.push_str(" --exclude ");
        options.push_str(&excluded.join(","));
    }
    if context.no_cudnn {
        options.push_str(" --no-cudnn");
    }
    options
}

/// A benchmark program of the bundle.
pub fn bench(context: &Context, name: &str, log: &str) -> Job {
    let path = context.programs.join("benches").join(name);
    let mut job = Job::new(path, &["--bench"], context.log(log));
    job.env = context.device_env();
    job.env
        .push(("CRITERION_HOME", context.scratch("criterion").into()));
    job
}

fn program(context: &Context, name: &str) -> bool {
    context.programs.join("benches").join(name).is_file()
}

/// The reason of the last `skipped` line that was written after the first `before` bytes, if no row
/// was.
fn skipped(records: &Path, before: u64) -> Option<String> {
    let new = lines(records, before);
    if new.iter().any(|line| line["kind"] == "row") {
        return None;
    }
    let skipped = new.iter().rfind(|line| line["kind"] == "skipped")?;
    Some(skipped["why"].as_str().unwrap_or_default().to_owned())
}

/// The JSON lines of a file after its first `before` bytes; damaged lines are left out.
pub fn lines(file: &Path, before: u64) -> Vec<Value> {
    let bytes = fs::read(file).unwrap_or_default();
    let from = usize::try_from(before)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]);
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn has_records(file: &Path) -> bool {
    lines(file, 0).iter().any(|line| line["kind"] == "ceiling")
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |data| data.len())
}
