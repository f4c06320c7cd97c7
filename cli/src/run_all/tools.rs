//! compute-sanitizer and ncu on the checks of named kernels.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::environment::tool;
use super::process::{self, End, Job};
use super::record::{Outcome, one_line};
use super::{Context, file_name};
use crate::exit::Failure;
use crate::output::say;

/// Time of one run under a tool.
const LIMIT: Duration = Duration::from_secs(120);

/// The tools of compute-sanitizer.
const SANITIZERS: [&str; 4] = ["memcheck", "racecheck", "initcheck", "synccheck"];

/// Code by which compute-sanitizer tells that it found errors.
const FOUND: i32 = 99;

/// Result of a tool on a kernel.
#[derive(Clone, Debug)]
pub struct ToolResult {
    /// Tool and kernel.
    pub title: String,
    /// Outcome.
    pub outcome: Outcome,
    /// The last line of its output, or why it did not run.
    pub message: String,
}

impl ToolResult {
    /// Converts it to JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "title": self.title, "outcome": self.outcome.name(), "message": self.message,
        })
    }
}

/// Runs the tools on the kernels that the options name.
pub fn run(
    context: &Context,
    sanitize: &[String],
    profile: &[String],
) -> Result<Vec<ToolResult>, Failure> {
    let mut results = Vec::new();
    for kernel in sanitize {
        for name in SANITIZERS {
            let code = FOUND.to_string();
            let args = ["--tool", name, "--error-exitcode", &code];
            results.push(one(context, "compute-sanitizer", name, &args, kernel)?);
        }
    }
    for kernel in profile {
        let report = context.log(&format!("ncu-{}", file_name(kernel)));
        let report = report.display().to_string();
        let args = ["--set", "full", "--force-overwrite", "--export", &report];
        results.push(one(context, "ncu", "profile", &args, kernel)?);
    }
    Ok(results)
}

fn one(
    context: &Context,
    program: &str,
    what: &str,
    args: &[&str],
    kernel: &str,
) -> Result<ToolResult, Failure> {
    let title = format!("{program} {what} {kernel}");
    let (outcome, message) = match (tool(program), context.clock.over()) {
        _ if context.emulated => (Outcome::NotRun, "it needs a GPU".to_owned()),
        (_, Some(over)) => (Outcome::NotRun, over.reason()),
        (None, _) => (Outcome::NotRun, format!("{program} is not installed")),
        (Some(path), None) => watched(context, path, &title, args, kernel),
    };
    say(format_args!("{title}: {}: {message}", outcome.name()))?;
    Ok(ToolResult {
        title,
        outcome,
        message,
    })
}

/// Runs the checks of a kernel under a tool.
fn watched(
    context: &Context,
    path: PathBuf,
    title: &str,
    args: &[&str],
    kernel: &str,
) -> (Outcome, String) {
    let mut all: Vec<OsString> = args.iter().map(OsString::from).collect();
    all.push(context.program.clone().into());
    all.extend(context.own_args());
    all.extend(["verify", "--smoke", "--kernel", kernel].map(OsString::from));
    let mut job = Job::new(
        path,
        &all,
        context.log(&format!("{}.log", file_name(title))),
    );
    job.env = context.env.clone();
    let ended = process::run(&job, LIMIT, &context.clock);
    let last = one_line(&process::last_line(&job.log).unwrap_or_default());
    match ended.end {
        End::Exit(0) => (Outcome::Ok, last),
        End::Exit(FOUND) => (Outcome::Wrong, last),
        End::Over(over) => (Outcome::NotRun, over.reason()),
        End::TimeLimit => (
            Outcome::Hang,
            format!("killed after {:.0} s", ended.seconds),
        ),
        other => (Outcome::Failed, format!("{}: {last}", other.words())),
    }
}
