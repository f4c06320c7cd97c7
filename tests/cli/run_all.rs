//! `warpconv run-all` with kernels that loop for ever, fault and are wrong, on the emulator.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::Value;
use warpconv::kernels::{KernelId, kernels};
use warpconv::ptx;

use crate::command::{Scratch, expect, text};

/// The names of the kernels that begin so.
fn named(start: &str) -> Vec<String> {
    let names = kernels().iter().map(|kernel| kernel.name());
    names.filter(|name| name.starts_with(start)).collect()
}

/// The first kernel whose name begins so, with its PTX.
fn kernel(start: &str) -> (String, String) {
    let names = kernels().iter().map(|kernel| kernel.name());
    let (index, name) = names
        .enumerate()
        .find(|(_, name)| name.starts_with(start))
        .unwrap();
    (name, ptx::text(KernelId(index)).unwrap())
}

/// The text with an instruction before the kernel's first.
fn with_first(text: &str, instruction: &str) -> String {
    // Behind the declarations of registers.
    let body = text.find("\n{").expect("a body");
    let first = text[body..].find("ld.param").expect("a parameter") + body;
    let line = text[..first].rfind('\n').expect("a line") + 1;
    format!("{}{instruction}\n{}", &text[..line], &text[line..])
}

/// A kernel that never ends.
fn endless(text: &str) -> String {
    with_first(text, "PLANTED:\n\tbra.uni PLANTED;")
}

/// A kernel whose stores go a gigabyte beyond.
fn faulting(text: &str) -> String {
    let store = |line: &str| match line.trim_start().starts_with("st.global") {
        true => line.replacen(']', "+1073741824]", 1),
        false => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(store).collect();
    let changed = lines.join("\n") + "\n";
    assert_ne!(changed, text);
    changed
}

/// ReLU with ones in place of zeros.
fn wrong(text: &str) -> String {
    let changed = text.replace(", 0f00000000, %f", ", 0f3F800000, %f");
    assert_ne!(changed, text);
    changed
}

/// Writes a module into a folder.
fn plant(folder: &Path, name: &str, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(format!("{name}.ptx")), text).unwrap();
}

/// Writes a program of the bundle, as a script of the shell.
fn script(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `run-all` with its folders in the scratch folder.
fn run_all(scratch: &Scratch, device: &str, args: &[&str]) -> Command {
    let programs = scratch.file("programs");
    fs::create_dir_all(&programs).unwrap();
    let mut command = Command::new(crate::paths::warpconv());
    command
        .args(["run-all", "--device", device, "--programs"])
        .arg(programs)
        .arg("--output")
        .arg(scratch.file("results"))
        .args(args)
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
fn ended(command: &mut Command, code: i32) -> (Output, Files) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let mut results = command.get_args().skip_while(|arg| *arg != "--output");
    let results = PathBuf::from(results.nth(1).unwrap());
    (output, files(&results))
}

type Files = BTreeMap<String, String>;

/// The files of the archive; the folder has nothing besides.
fn files(results: &Path) -> Files {
    let names = fs::read_dir(results).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["results.tar.gz", "summary.txt"]);
    let file = File::open(results.join("results.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let member = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    };
    let files: Files = archive.entries().unwrap().map(member).collect();
    let summary = fs::read_to_string(results.join("summary.txt")).unwrap();
    assert_eq!(files["summary.txt"], summary);
    files
}

/// The records of a JSON file of the archive, by name.
fn records(files: &Files, name: &str) -> BTreeMap<String, Value> {
    let value: Value = serde_json::from_str(&files[name]).unwrap();
    let records = value.as_array().unwrap().iter();
    let name = |record: &Value| record["name"].as_str().unwrap().to_owned();
    records
        .map(|record| (name(record), record.clone()))
        .collect()
}

fn message(record: &Value) -> &str {
    record["message"].as_str().unwrap()
}

#[test]
fn planted_kernels_are_named_as_what_they_are_and_all_others_have_their_rows() {
    let scratch = Scratch::new("run-all-planted");
    let (hung, hung_text) = kernel("max_pool_f32");
    let (faulted, faulted_text) = kernel("tanh_f32");
    let (differs, differs_text) = kernel("relu_f32");
    let planted = scratch.file("planted");
    plant(&planted, &hung, &endless(&hung_text));
    plant(&planted, &faulted, &faulting(&faulted_text));
    plant(&planted, &differs, &wrong(&differs_text));
    let programs = scratch.file("programs");
    // In place of bounded waits, what these end with.
    plant(
        &programs.join("watchdog"),
        &hung,
        &with_first(&hung_text, "\ttrap;"),
    );
    let rows = "# a comment\nmeasures\tnet/a\nskips net/b\nfails net/c\nabsent net/d\n";
    fs::create_dir_all(programs.join("benches")).unwrap();
    fs::write(programs.join("benches/first_run.txt"), rows).unwrap();
    let line = "echo \"{\\\"kind\\\":\\\"row\\\",\\\"id\\\":\\\"net/a\\\",\\\"kernel\\\":\
        \\\"$WARPCONV_BENCH\\\",\\\"instructions\\\":12}\" >>\"$WARPCONV_BENCH_JSON\"";
    script(programs.join("benches/measures"), line);
    let line = "echo '{\"kind\":\"skipped\",\"id\":\"net/b\",\"why\":\"too large\"}' \
        >>\"$WARPCONV_BENCH_JSON\"";
    script(programs.join("benches/skips"), line);
    script(
        programs.join("benches/fails"),
        "echo row net/c differs; exit 1",
    );

    let only = ["--only", "relu_,max_pool,tanh", "--limit", "10"];
    let mut command = run_all(&scratch, "emulator:90", &only);
    command.env("WARPCONV_OVERRIDE_PTX", &planted);
    let (output, files) = ended(&mut command, 1);

    let matrix = records(&files, "matrix.json");
    let outcome = |name: &str| matrix[name]["outcome"].as_str().unwrap();
    assert_eq!(outcome(&hung), "HANG", "{}", matrix[&hung]);
    let watchdog = matrix[&hung]["watchdog"].as_str().unwrap();
    assert!(watchdog.contains("CUDA_ERROR_LAUNCH_FAILED"), "{watchdog}");
    assert_eq!(outcome(&faulted), "CUDA ERROR");
    let why = message(&matrix[&faulted]);
    assert!(why.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{why}");
    assert_eq!(outcome(&differs), "WRONG");
    let why = message(&matrix[&differs]);
    assert!(why.contains("largest error 1, first at [0,"), "{why}");
    // Every other kernel has a row, and has passed unless its family hung.
    for name in [named("relu_"), named("max_pool"), named("tanh_")].concat() {
        let record = &matrix[&name];
        if [&hung, &faulted, &differs].contains(&&name) {
            continue;
        }
        match record["outcome"].as_str().unwrap() {
            "OK" => assert!(record["registers"].is_u64() && record["passed"].as_u64() > Some(0)),
            "not run" => {
                assert!(name.starts_with("max_pool"), "{record}");
                assert_eq!(message(record), format!("max_pool hung at {hung}"));
            }
            other => panic!("{name}: {other} {record}"),
        }
    }
    let (all, with_row) = (kernels().len(), matrix.len());
    assert_eq!(with_row, all, "compute capability 9.0 runs all kernels");
    let canaries = records(&files, "canaries.json");
    assert_eq!(canaries["relu"]["outcome"], "WRONG");
    assert_eq!(message(&canaries["mma"]), "excluded");

    // Rows leave out what failed, and the rest of what hung.
    let row: Value = serde_json::from_str(files["rows.jsonl"].lines().next().unwrap()).unwrap();
    let options = row["kernel"].as_str().unwrap();
    assert!(
        options.starts_with("--quick --row net/a --exclude "),
        "{options}"
    );
    for name in [&hung, &faulted, &differs] {
        assert!(options.contains(name.as_str()), "{options}");
    }
    let states: Value = serde_json::from_str(&files["rows.json"]).unwrap();
    let states: Vec<_> = states
        .as_array()
        .unwrap()
        .iter()
        .map(|state| {
            let text = |key: &str| state[key].as_str().unwrap().to_owned();
            (text("row"), text("outcome"), text("message"))
        })
        .collect();
    assert_eq!(states[0].1, "OK");
    let expected = [
        ("net/b", "not run", "too large"),
        ("net/c", "WRONG", "row net/c differs"),
        ("net/d", "not run", "there is no such program in the bundle"),
    ];
    for (state, (row, outcome, why)) in states[1..].iter().zip(expected) {
        assert_eq!((&*state.0, &*state.1, &*state.2), (row, outcome, why));
    }

    // The last lines of the summary name each.
    let lines: Vec<&str> = files["summary.txt"].lines().collect();
    let essence = lines[lines.len().saturating_sub(60)..].join("\n");
    for part in [
        &format!("{hung}: HANG"),
        &format!("{faulted}: CUDA ERROR"),
        &format!("{differs}: WRONG"),
        "net/a: 12 instructions",
        "net/c: WRONG",
    ] {
        assert!(essence.contains(part), "no `{part}` in\n{essence}");
    }
    let out = text(&output.stdout);
    assert!(out.contains(&format!("kernel {hung}: HANG")), "{out}");
    for name in [
        "environment.txt",
        "run.json",
        &format!("logs/{faulted}.log"),
    ] {
        assert!(!files[name].is_empty(), "{name}");
    }
}

#[test]
fn a_short_run_ends_in_time_and_says_what_it_did_not_run() {
    let scratch = Scratch::new("run-all-short");
    let started = Instant::now();
    let (_, files) = ended(
        &mut run_all(&scratch, "emulator:90", &["--minutes", "0.1"]),
        0,
    );
    // Six seconds, and what a busy machine adds to the last write.
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "{:?}",
        started.elapsed()
    );
    let matrix = records(&files, "matrix.json");
    assert_eq!(matrix.len(), kernels().len());
    let not_run = matrix
        .values()
        .filter(|record| record["outcome"] == "not run");
    let not_run: Vec<&Value> = not_run.collect();
    assert!(!not_run.is_empty());
    for record in not_run {
        assert!(message(record).contains("minutes"), "{record}");
    }
    let failed =
        |record: &&Value| !["OK", "not run"].contains(&record["outcome"].as_str().unwrap());
    assert_eq!(matrix.values().find(failed), None);
}

#[test]
fn a_stopped_run_leaves_its_results_and_resume_goes_on() {
    let scratch = Scratch::new("run-all-resume");
    let (hung, hung_text) = kernel("tanh_f32");
    plant(&scratch.file("planted"), &hung, &endless(&hung_text));
    let only = ["--only", "relu_,tanh_"];
    let mut child = run_all(&scratch, "emulator:90", &only)
        .env("WARPCONV_OVERRIDE_PTX", scratch.file("planted"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Until the planted kernel runs.
    let log = scratch.file(&format!("results/running/logs/{hung}.log"));
    let started = Instant::now();
    while !log.exists() && started.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(log.exists());
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: a call without pointers; the child is ours and was not waited for.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + libc::SIGTERM));
    let before = files(&scratch.file("results"));
    let canary = |files: &Files| records(files, "canaries.json")["relu"].clone();
    assert_eq!(canary(&before)["outcome"], "OK");
    let record = &records(&before, "matrix.json")[&hung];
    assert_eq!(
        (&record["outcome"], message(record)),
        (&"not run".into(), "stopped by SIGTERM")
    );

    let args = ["--only", "relu_,tanh_", "--resume"];
    let (_, after) = ended(&mut run_all(&scratch, "emulator:90", &args), 0);
    // With its seconds: it did not run again.
    assert_eq!(canary(&after), canary(&before));
    let matrix = records(&after, "matrix.json");
    for name in [named("relu_"), named("tanh_")].concat() {
        assert_eq!(matrix[&name]["outcome"], "OK", "{}", matrix[&name]);
    }

    let output = run_all(&scratch, "emulator:80", &args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let err = text(&output.stderr);
    assert!(err.contains("is of another commit or device"), "{err}");
}

#[test]
fn what_cannot_run_is_said() {
    let scratch = Scratch::new("run-all-usage");
    let output = scratch.path("results");
    for (args, word) in [
        (&["--minutes", "0"][..], "more than 0"),
        (&["--quick", "--full"], "cannot be used with"),
        (&["--programs", "/nowhere"], "/nowhere is no folder"),
    ] {
        let args = [
            &["run-all", "--device", "emulator:90", "--output", &output][..],
            args,
        ];
        let (_, err) = expect(&args.concat(), 2);
        assert!(err.contains(word), "{err}");
    }
    // A device that does not answer: that is in the summary.
    let (_, files) = ended(&mut run_all(&scratch, "gpu:99", &[]), 3);
    let summary = &files["summary.txt"];
    assert!(
        summary.contains("the device gpu:99 does not answer: "),
        "{summary}"
    );
    // A damaged archive is not resumed.
    fs::write(scratch.file("results/results.tar.gz"), "no archive").unwrap();
    let output = run_all(&scratch, "emulator:90", &["--resume"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        text(&output.stderr).contains("results.tar.gz"),
        "{output:?}"
    );
}
