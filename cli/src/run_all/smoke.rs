//! The smoke list, and `verify --smoke` of one kernel in a process of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::process::{self, End, Job};
use super::record::{Record, set_outcome};
use super::{Context, file_name};

/// An entry of the smoke list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id of the kernel.
    pub kernel: String,
    /// Family of the kernel.
    pub family: String,
    /// Option that the check is there for: residual, split-K 2.
    pub label: String,
    /// Problem in benchdnn's notation.
    pub problem: String,
}

/// The smoke list of the device, with the device.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Device, as every command's JSON describes it.
    pub device: Value,
    /// Entries in order.
    pub entries: Vec<Entry>,
}

impl List {
    /// Number of kernels.
    pub fn kernels(&self) -> usize {
        let kernels = self.entries.iter().map(|entry| entry.kernel.as_str());
        kernels.collect::<BTreeSet<_>>().len()
    }

    /// Identity of the list: the checksum of its kernels, labels and problems.
    pub fn fingerprint(&self) -> String {
        let mut sum = flate2::Crc::new();
        for entry in &self.entries {
            for text in [&entry.kernel, &entry.label, &entry.problem] {
                sum.update(text.as_bytes());
                sum.update(b"\n");
            }
        }
        format!("{:08x}", sum.sum())
    }
}

/// Time in which the device must answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Environment variable that names a folder of modules to load in place of the embedded ones.
const OVERRIDE: &str = "WARPCONV_OVERRIDE_PTX";

/// Lists the entries; the reason if the device does not answer.
pub fn list(context: &Context) -> Result<List, String> {
    let file = context.scratch("list.json");
    let job = job(context, &["--list"], &file, "list.log");
    let ended = process::run(&job, ANSWER, &context.clock);
    let document = document(&file);
    if ended.end != End::Exit(0) {
        let why = process::last_line(&job.log).unwrap_or_else(|| "it says nothing".to_owned());
        return Err(format!("{}: {why}", ended.end.words()));
    }
    let checks = document["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let entries: Vec<Entry> = checks.iter().filter_map(entry).collect();
    if entries.is_empty() {
        return Err("the smoke list is empty".to_owned());
    }
    let _ = fs::remove_file(&job.log);
    Ok(List {
        device: document["device"].clone(),
        entries,
    })
}

fn entry(check: &Value) -> Option<Entry> {
    let text = |key: &str| check[key].as_str().map(str::to_owned);
    Some(Entry {
        kernel: text("kernel")?,
        family: text("family")?,
        label: text("label")?,
        problem: text("problem").unwrap_or_default(),
    })
}

/// Runs the checks of a kernel that `filter` matches, alone on the device, and makes the record.
pub fn kernel(context: &Context, name: &str, entry: &Entry, filter: Option<&str>) -> Record {
    let record = once(context, name, entry, filter, context.limit);
    located(context, record, entry, filter)
}

/// The same with a time limit and without the watchdog's module.
pub fn once(
    context: &Context,
    name: &str,
    entry: &Entry,
    filter: Option<&str>,
    limit: Duration,
) -> Record {
    run(context, name, entry, filter, (None, limit))
}

/// The record, with the report of the watchdog's module if the kernel hung.
pub fn located(
    context: &Context,
    mut record: Record,
    entry: &Entry,
    filter: Option<&str>,
) -> Record {
    if record.outcome.is_hang() {
        record.watchdog = watchdog(context, &record.name, entry, filter);
    }
    record
}

/// Runs the kernel of the watchdog's build, whose waits are bounded, and returns what it reports.
fn watchdog(context: &Context, name: &str, entry: &Entry, filter: Option<&str>) -> String {
    let folder = context.programs.join("watchdog");
    if !folder.join(format!("{}.ptx", entry.kernel)).is_file() {
        return "it has no module for this kernel".to_owned();
    }
    let name = format!("watchdog {name}");
    let record = run(
        context,
        &name,
        entry,
        filter,
        (Some(&folder), context.limit),
    );
    record.words()
}

fn run(
    context: &Context,
    name: &str,
    entry: &Entry,
    filter: Option<&str>,
    (modules, limit): (Option<&Path>, Duration),
) -> Record {
    let stem = file_name(name);
    let file = context.scratch(&format!("{stem}.json"));
    let mut args = vec!["--kernel", &entry.kernel];
    if let Some(filter) = filter {
        args.extend(["--filter", filter]);
    }
    let mut job = job(context, &args, &file, &format!("{stem}.log"));
    if let Some(folder) = modules {
        job.env.push((OVERRIDE, folder.into()));
    }
    let ended = process::run(&job, limit, &context.clock);
    let mut record = Record::not_run(name, &entry.kernel, &entry.family, "");
    record.seconds = ended.seconds;
    let last_line = process::last_line(&job.log);
    set_outcome(&mut record, &ended.end, &document(&file), last_line);
    if ended.stuck {
        record
            .message
            .push_str("; the killed process does not disappear");
    }
    let _ = fs::remove_file(&file);
    if !record.outcome.is_failure() {
        let _ = fs::remove_file(&job.log);
    }
    record
}

/// `warpconv verify --smoke` with arguments.
fn job(context: &Context, args: &[&str], json: &Path, log: &str) -> Job {
    let mut all: Vec<OsString> = context.own_args();
    all.extend(["verify", "--smoke"].map(OsString::from));
    all.extend(args.iter().map(OsString::from));
    all.extend([OsString::from("--json"), json.into()]);
    let mut job = Job::new(&context.program, &all, context.log(log));
    job.env = context.env.clone();
    job
}

/// A JSON file that a process left; null if there is none or it is damaged.
fn document(file: &PathBuf) -> Value {
    let text = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
