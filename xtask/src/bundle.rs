//! `cargo xtask bundle`: packs tests, benchmarks and command line for a GPU machine without Rust.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};
use std::{env, fs};

use clap::Args;
use serde_json::Value;

use crate::command::Command;
use crate::{Failure, root, target};

#[derive(Args)]
pub struct Options {
    /// The folder to write; default: target/bundle
    folder: Option<PathBuf>,
    /// Add machine code for this compute capability times ten, such as 90; may be given several
    /// times
    #[arg(long, value_name = "N")]
    sm: Vec<u32>,
    /// Afterwards copy the folder out of the repository and start its run-all there for five
    /// minutes, on the emulator and without Rust
    #[arg(long)]
    check: bool,
}

/// Minutes that the check gives run-all, and the time that it may take.
const MINUTES: u32 = 5;
const LIMIT: Duration = Duration::from_secs(330);

/// All that run-all starts besides the bundle's own programs.
const TOOLS: [&str; 9] = [
    "bash", "cat", "dirname", "gzip", "mkdir", "rm", "tar", "touch", "uname",
];

pub fn run(options: &Options) -> Result<(), Failure> {
    let folder = options
        .folder
        .clone()
        .unwrap_or_else(|| target().join("bundle"));
    let mut command = Command::new("scripts/bundle");
    for sm in &options.sm {
        command = command.arg("--sm").arg(sm.to_string());
    }
    command.arg(&folder).run()?;
    if options.check {
        check(&root().join(folder))?;
    }
    Ok(())
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a copy of the bundle where there is no Rust, and checks what it leaves.
fn check(bundle: &Path) -> Result<(), Failure> {
    let name = format!("warpconv-bundle-{}", process::id());
    let scratch = Scratch(env::temp_dir().join(name));
    let copy = scratch.0.join("bundle");
    let tools = scratch.0.join("tools");
    fs::create_dir_all(&tools).map_err(|error| cannot("make", &tools, &error))?;
    Command::new("cp -r").arg(bundle).arg(&copy).run()?;
    for tool in TOOLS {
        link(tool, &tools)?;
    }
    let start = Instant::now();
    let ran = Command::new("")
        .program(copy.join("run-all"))
        .args(["--minutes", &MINUTES.to_string()])
        .env("PATH", &tools)
        .env("WARPCONV_DEVICE", "emulator:90")
        .run();
    let took = start.elapsed();
    let results = copy.join("results");
    let summary = results.join("summary.txt");
    let summary = fs::read_to_string(&summary).map_err(|error| cannot("read", &summary, &error))?;
    ran.map_err(|failure| format!("{failure}\n{summary}"))?;
    if took > LIMIT {
        let seconds = took.as_secs();
        return Err(format!("run-all --minutes {MINUTES} took {seconds} s"));
    }
    let listed = scratch.0.join("list.json");
    Command::new("")
        .program(copy.join("unpacked/bin/warpconv"))
        .args(["--quiet", "--device", "emulator:90", "--json"])
        .arg(&listed)
        .args(["verify", "--smoke", "--list"])
        .env("PATH", &tools)
        .output()?;
    let archive = results.join("results.tar.gz");
    let matrix = Command::new("tar -xzOf")
        .arg(&archive)
        .arg("matrix.json")
        .output()?;
    let listed = fs::read_to_string(&listed).map_err(|error| cannot("read", &listed, &error))?;
    let (kernels, ran) = compare(&listed, &matrix)?;
    println!(
        "run-all took {} s: {ran} of {kernels} kernels ran, none failed",
        took.as_secs()
    );
    Ok(())
}

/// Returns how many kernels the smoke list has, and how many of them ran.
///
/// # Errors
/// Names the kernels that are missing in the matrix, and those that failed there.
fn compare(listed: &str, matrix: &str) -> Result<(usize, usize), Failure> {
    let parse = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| format!("no JSON: {error}"))
    };
    let (listed, matrix) = (parse(listed)?, parse(matrix)?);
    let kernels = |records: &Value| -> BTreeSet<String> {
        let records = records.as_array().map_or(&[][..], Vec::as_slice);
        let ids = records
            .iter()
            .filter_map(|record| record["kernel"].as_str());
        ids.map(str::to_owned).collect()
    };
    let smoke = kernels(&listed["checks"]);
    if smoke.is_empty() {
        return Err(String::from("the smoke list is empty"));
    }
    let missing: Vec<_> = smoke.difference(&kernels(&matrix)).cloned().collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!(
            "the matrix lacks kernels of the smoke list: {missing}"
        ));
    }
    let records = matrix.as_array().map_or(&[][..], Vec::as_slice);
    let outcome = |record: &Value| record["outcome"].as_str().unwrap_or("none").to_owned();
    let failed: Vec<_> = records
        .iter()
        .filter(|record| !["OK", "not run"].contains(&&*outcome(record)))
        .map(|record| format!("{} of {}", outcome(record), record["kernel"]))
        .collect();
    if !failed.is_empty() {
        return Err(format!("in the matrix: {}", failed.join(", ")));
    }
    let ran = records.iter().filter(|record| outcome(record) == "OK");
    match ran.count() {
        0 => Err(String::from("no kernel ran")),
        ran => Ok((smoke.len(), ran)),
    }
}

/// Links a program that PATH has into a folder.
fn link(tool: &str, folder: &Path) -> Result<(), Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|place| place.join(tool))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("no {tool} in PATH"))?;
    let to = folder.join(tool);
    Command::new("ln -s").arg(found).arg(to).run()
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    format!("cannot {verb} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"checks": [{"kernel": "a"}, {"kernel": "a"}, {"kernel": "b"}]}"#;

    fn compared(matrix: &[(&str, &str)]) -> Result<(usize, usize), Failure> {
        let records = matrix.iter().map(|(kernel, outcome)| {
            serde_json::json!({"name": kernel, "kernel": kernel, "outcome": outcome})
        });
        compare(LIST, &Value::from_iter(records).to_string())
    }

    #[test]
    fn kernels_that_lack_or_fail_are_named() {
        assert_eq!(compared(&[("a", "OK"), ("b", "OK")]), Ok((2, 2)));
        assert_eq!(compared(&[("b", "not run"), ("a", "OK")]), Ok((2, 1)));
        let says = |matrix: &[(&str, &str)], text: &str| {
            let failure = compared(matrix).unwrap_err();
            assert!(failure.contains(text), "{failure}");
        };
        says(&[("a", "OK")], "lacks kernels of the smoke list: b");
        says(&[], "lacks kernels of the smoke list: a, b");
        says(&[("a", "OK"), ("b", "HANG")], "HANG of \"b\"");
        says(&[("a", "not run"), ("b", "not run")], "no kernel ran");
        assert!(compare("{}", "[]").is_err());
        assert!(compare(LIST, "[").is_err());
    }
}
