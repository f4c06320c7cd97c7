//! The results of a run: kept in files, packed into the archive, and read again to resume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::record::{Outcome, Record};
use super::rows::RowState;
use super::smoke::List;
use super::tools::ToolResult;
use super::{Context, archive, commit, report};
use crate::exit::Failure;
use crate::output::say;

/// Folder of the files of a run that is not over, in the output's folder.
pub const WORKING: &str = "running";

/// Folder of files that are not kept, in the output's folder.
pub const SCRATCH: &str = "running-scratch";

/// Name of the archive.
const ARCHIVE: &str = "results.tar.gz";

/// Name of the summary.
const SUMMARY: &str = "summary.txt";

/// Everything that a run found.
#[derive(Debug, Default)]
pub struct State {
    output: PathBuf,
    /// The archive to go on from, until the device is known.
    earlier: Vec<(String, Vec<u8>)>,
    /// Text of the environment.
    pub environment: String,
    /// Identity of the run: commit, kernels, device.
    pub run: Value,
    /// Records of the canaries.
    pub canaries: Vec<Record>,
    /// Records of the kernels.
    pub matrix: Vec<Record>,
    /// States of the rows.
    pub rows: Vec<RowState>,
    /// Results of sanitizers and profilers.
    pub tools: Vec<ToolResult>,
    /// The ceilings that were not measured, and why.
    pub missing: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
}

impl State {
    /// Makes the folders; with `resume`, reads the archive of the output's folder.
    pub fn create(context: &Context, output: &Path, resume: bool) -> Result<State, Failure> {
        let mut state = State {
            output: output.to_owned(),
            ..State::default()
        };
        let file = state.archive();
        if resume {
            match archive::read(&file) {
                Ok(members) => state.earlier = members,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let shown = file.display();
                    let note = format!("--resume: there is no {shown}, so all is run");
                    say(&note)?;
                    state.notes.push(note);
                }
                Err(error) => return Err(failure(&file, error)),
            }
        }
        for folder in [&context.folder, &context.scratch] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failure(folder, error));
                }
                _ => {}
            }
        }
        for folder in [&context.scratch, &context.folder.join("logs")] {
            fs::create_dir_all(folder).map_err(|error| failure(folder, error))?;
        }
        Ok(state)
    }

    /// Path of the archive.
    pub fn archive(&self) -> PathBuf {
        self.output.join(ARCHIVE)
    }

    /// Notes the device, and takes over the earlier results if they are of the same kernels and
    /// device.
    pub fn open(&mut self, context: &Context, list: &List) -> Result<(), Failure> {
        self.run = json!({
            "commit": commit(), "version": env!("CARGO_PKG_VERSION"),
            "kernels": list.fingerprint(), "device": list.device,
        });
        let earlier = std::mem::take(&mut self.earlier);
        if earlier.is_empty() {
            return self.save(context);
        }
        let value = |name: &str| -> Value {
            let member = earlier.iter().find(|(member, _)| member == name);
            member
                .and_then(|(_, bytes)| serde_json::from_slice(bytes).ok())
                .unwrap_or_default()
        };
        let before = value("run.json");
        if before != self.run {
            return Err(Failure::Input(format!(
                "--resume: {} is of another commit or device ({before}, now {}); name another \
                 --output, or leave --resume out",
                self.archive().display(),
                self.run
            )));
        }
        let records = |name: &str| -> Vec<Record> {
            let value = value(name);
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            list.iter().filter_map(Record::of_json).collect()
        };
        self.canaries = records("canaries.json");
        self.matrix = records("matrix.json");
        let rows = value("rows.json");
        let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
        self.rows = rows.iter().filter_map(RowState::of_json).collect();
        for (name, bytes) in &earlier {
            let kept = ["rows.jsonl", "ceilings.jsonl"].contains(&name.as_str());
            // Names of one level, as this program writes them.
            let log = name
                .strip_prefix("logs/")
                .filter(|rest| *rest == super::file_name(rest));
            if kept || log.is_some_and(|log| !log.starts_with('.')) {
                let path = context.file(name);
                fs::write(&path, bytes).map_err(|error| failure(&path, error))?;
            }
        }
        let note = format!(
            "--resume: {} kernels and {} rows have a result from before",
            ran(&self.matrix),
            self.rows
                .iter()
                .filter(|row| row.outcome != Outcome::NotRun)
                .count()
        );
        say(&note)?;
        self.notes.push(note);
        self.save(context)
    }

    /// Writes the files and packs the archive.
    pub fn save(&self, context: &Context) -> Result<(), Failure> {
        self.write(context)
            .map_err(|(path, error)| failure(&path, error))
    }

    /// As [`State::save`] in the middle of a stage; a full disk is reported at its end.
    pub fn store(&self, context: &Context) {
        let _ = self.save(context);
    }

    fn write(&self, context: &Context) -> Result<(), (PathBuf, io::Error)> {
        let records = |records: &[Record]| records.iter().map(Record::to_json).collect();
        let files: [(&str, Value); 5] = [
            ("run.json", self.run.clone()),
            ("canaries.json", records(&self.canaries)),
            ("matrix.json", records(&self.matrix)),
            (
                "rows.json",
                self.rows.iter().map(RowState::to_json).collect(),
            ),
            (
                "tools.json",
                self.tools.iter().map(ToolResult::to_json).collect(),
            ),
        ];
        for (name, value) in files {
            put(&context.file(name), &format!("{value:#}\n"))?;
        }
        put(&context.file("environment.txt"), &self.environment)?;
        let summary = report::summary(context, self);
        put(&context.file(SUMMARY), &summary)?;
        put(&self.output.join(SUMMARY), &summary)?;
        let target = self.archive();
        archive::pack(&context.folder, &target).map_err(|error| (target, error))
    }

    /// Writes everything for the last time and removes the working folders.
    pub fn finish(&mut self, context: &Context) -> Result<(), Failure> {
        self.save(context)?;
        // What stays behind does no harm: the next run removes it.
        let _ = fs::remove_dir_all(&context.folder);
        let _ = fs::remove_dir_all(&context.scratch);
        Ok(())
    }

    /// Everything but the rows' records, for `--json`.
    pub fn to_json(&self) -> Value {
        let records = |records: &[Record]| records.iter().map(Record::to_json).collect::<Value>();
        json!({
            "run": self.run,
            "canaries": records(&self.canaries),
            "matrix": records(&self.matrix),
            "rows": self.rows.iter().map(RowState::to_json).collect::<Value>(),
            "tools": self.tools.iter().map(ToolResult::to_json).collect::<Value>(),
        })
    }

    /// Kernels that rows must not use: those that failed, those that were not run because their
    /// family hung, and those of `--exclude`.
    pub fn excluded(&self, context: &Context) -> Vec<String> {
        let hung: Vec<&str> = self.hung().map(|record| record.family.as_str()).collect();
        let out = |record: &&Record| {
            record.outcome.is_failure()
                || record.outcome == Outcome::NotRun && hung.contains(&record.family.as_str())
        };
        let failed = self.matrix.iter().chain(&self.canaries).filter(out);
        let mut names: Vec<String> = failed.map(|record| record.kernel.clone()).collect();
        names.extend(context.exclude.iter().cloned());
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
        names
    }

    fn hung(&self) -> impl Iterator<Item = &Record> {
        let records = self.canaries.iter().chain(&self.matrix);
        records.filter(|record| record.outcome.is_hang())
    }

    /// Number of canaries, kernels, rows and tools that failed.
    pub fn failures(&self) -> usize {
        let records = self.canaries.iter().chain(&self.matrix).map(|r| r.outcome);
        let rows = self.rows.iter().map(|row| row.outcome);
        let tools = self.tools.iter().map(|tool| tool.outcome);
        let all = records.chain(rows).chain(tools);
        all.filter(|outcome| outcome.is_failure()).count()
    }
}

/// Number of records that have a result.
fn ran(records: &[Record]) -> usize {
    let with_result = |record: &&Record| record.outcome != Outcome::NotRun;
    records.iter().filter(with_result).count()
}

/// Writes a file so that a reader sees the old or the new one.
fn put(path: &Path, text: &str) -> Result<(), (PathBuf, io::Error)> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|error| (path.to_owned(), error))
}

fn failure(path: &Path, error: io::Error) -> Failure {
    Failure::File {
        path: path.to_owned(),
        error,
    }
}
