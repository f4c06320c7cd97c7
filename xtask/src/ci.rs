//! `cargo xtask ci`: everything that a change must pass, in the order in which it is cheapest to
//! fail.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::command::Command;
use crate::{Failure, target};

#[derive(Args)]
pub struct Options {
    /// Print the names of the steps
    #[arg(long)]
    list: bool,
    /// Run this step alone
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Begin with this step
    #[arg(long, value_name = "STEP", conflicts_with = "only")]
    from: Option<String>,
}

/// Options of clippy, behind cargo's.
const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// Commands that are run together.
struct Step {
    name: &'static str,
    purpose: &'static str,
    commands: Vec<Command>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let steps = steps();
    if options.list {
        for step in &steps {
            println!("{:14} {}", step.name, step.purpose);
        }
        return Ok(());
    }
    let chosen = choose(&steps, options)?;
    let mut times = Vec::new();
    for step in chosen {
        println!("\n=== {}: {}", step.name, step.purpose);
        let start = Instant::now();
        for command in &step.commands {
            let line = format!("the whole step: cargo xtask ci --only {}", step.name);
            command
                .run()
                .map_err(|failure| format!("{failure}\n{line}"))?;
        }
        times.push(format!(
            "{:14} {:5} s",
            step.name,
            start.elapsed().as_secs()
        ));
    }
    println!("\n=== all steps passed\n{}", times.join("\n"));
    Ok(())
}

fn choose<'a>(steps: &'a [Step], options: &Options) -> Result<Vec<&'a Step>, Failure> {
    let named = |name: &String| {
        let at = steps.iter().position(|step| step.name == name);
        at.ok_or_else(|| format!("no step {name}; `cargo xtask ci --list` lists them"))
    };
    if let Some(from) = &options.from {
        return Ok(steps[named(from)?..].iter().collect());
    }
    if options.only.is_empty() {
        return Ok(steps.iter().collect());
    }
    options
        .only
        .iter()
        .map(|name| Ok(&steps[named(name)?]))
        .collect()
}

/// The modules are compiled with nvcc where that is what is checked: by `prebuilt`, `sass` and
/// `no-features`. Everything else takes the stored PTX, which `prebuilt` holds to be the same, and
/// saves compiling hundreds of modules per profile.
fn command(line: &str) -> Command {
    Command::new(line).env("WARPCONV_PREBUILT", "1")
}

fn step(name: &'static str, purpose: &'static str, commands: Vec<Command>) -> Step {
    Step {
        name,
        purpose,
        commands,
    }
}

fn steps() -> Vec<Step> {
    let mut steps = fast_steps();
    steps.extend(machine_code_steps());
    steps.extend(test_steps());
    steps
}

fn fast_steps() -> Vec<Step> {
    vec![
        step(
            "format",
            "cargo fmt, clang-format",
            vec![
                command("cargo fmt --all --check"),
                command("cargo fmt --check --manifest-path scripts/mutate/Cargo.toml"),
                command("cargo fmt --check --manifest-path scripts/foreign-cubecl/Cargo.toml"),
                command("sh -c").arg(
                    "clang-format --dry-run -Werror $(git ls-files 'kernels/*.cu' 'kernels/*.cuh')",
                ),
            ],
        ),
        step(
            "lints",
            "clippy without warnings",
            vec![
                command("cargo clippy --workspace --all-targets --locked").args(DENY_WARNINGS),
                command("cargo clippy -p warpconv-bench --all-targets --features cudnn --locked")
                    .args(DENY_WARNINGS),
                command("cargo clippy --manifest-path scripts/mutate/Cargo.toml --locked")
                    .args(DENY_WARNINGS)
                    .env("CARGO_TARGET_DIR", target().join("mutate/tool")),
            ],
        ),
    ]
}

fn machine_code_steps() -> Vec<Step> {
    vec![
        step(
            "prebuilt",
            "the stored PTX equals what the pinned nvcc makes",
            vec![command("cargo xtask prebuilt --check")],
        ),
        step(
            "old-ptxas",
            "an older assembler takes the stored PTX",
            vec![command("cargo xtask prebuilt --old-ptxas").arg(old_ptxas())],
        ),
        step(
            "sass",
            "no spills; arithmetic dominates the main loops",
            vec![command("cargo xtask sass --check")],
        ),
        step(
            "no-features",
            "a library build without default features, its PTX compiled by nvcc",
            vec![
                Command::new("cargo build -p warpconv --locked --no-default-features")
                    .without("WARPCONV_PREBUILT"),
            ],
        ),
    ]
}

fn test_steps() -> Vec<Step> {
    vec![
        step(
            "documentation",
            "cargo doc without warnings",
            vec![
                command("cargo doc --workspace --no-deps --locked")
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ],
        ),
        step(
            "tests",
            "all tests",
            vec![
                command("cargo test --locked"),
                command("cargo test --locked -p xtask"),
                command("cargo test --locked -p warpconv-bench --features cudnn --lib cudnn"),
            ],
        ),
        step(
            "foreign",
            "programs of others on the emulator: cudarc's tests, kernels of Triton and cubecl",
            vec![command("scripts/foreign")],
        ),
        step(
            "schedules",
            "suites under other schedules of the emulator",
            ["lazy", "random:1", "random:2"]
                .into_iter()
                .flat_map(scheduled)
                .collect(),
        ),
        step(
            "stats",
            "the counts that are held down",
            vec![command("cargo xtask stats --check --coverage")],
        ),
        step(
            "main-job",
            "the bottleneck and all stored cases, by the command line",
            vec![
                command("cargo run --release --locked -- bottleneck --json target/bottleneck.json"),
                command("cargo run --release --locked -- verify tests/data"),
            ],
        ),
        step(
            "bundle",
            "the folder for a machine with a GPU, and its run on the emulator",
            vec![command("cargo xtask bundle --sm 90 --check")],
        ),
    ]
}

/// Work of streams runs when it runs: a missing wait gives wrong results where it runs late, or in
/// another order. Two commands, since names of tests are left out per program: `streams` of the
/// emulator tries the other schedules by itself, `streams` of the library belongs here. Both choose
/// all packages: another choice of packages would build the emulator anew.
fn scheduled(schedule: &str) -> [Command; 2] {
    const OTHERS: [&str; 4] = ["fuzz::", "limits::", "ordering::", "streams::"];
    const ONE_STREAM: [&str; 6] = [
        "sm75::",
        "sm80::",
        "sm90::",
        "counters::",
        "shared_memory::",
        "mutations::",
    ];
    let tests = |programs: &[&'static str], skipped: &[&'static str]| {
        command("cargo test --locked")
            .args(programs.iter().flat_map(|program| ["--test", program]))
            .arg("--")
            .args(skipped.iter().flat_map(|tests| ["--skip", tests]))
            .env("PTX_EMULATOR_SCHEDULE", schedule)
    };
    [
        tests(&["driver"], &OTHERS),
        tests(&["kernels", "launch", "graph"], &ONE_STREAM),
    ]
}

/// The assembler that .ci/run installs: what it takes, a driver of CUDA 12.0 takes.
fn old_ptxas() -> PathBuf {
    std::env::var_os("WARPCONV_OLD_PTXAS")
        .map_or_else(|| target().join("ci-venv-old/ptxas"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_by_name() {
        let steps = steps();
        let options = |only: &[&str], from: Option<&str>| Options {
            list: false,
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            from: from.map(str::to_owned),
        };
        let names = |options: &Options| {
            let chosen = choose(&steps, options)?;
            Ok::<_, Failure>(chosen.iter().map(|step| step.name).collect::<Vec<_>>())
        };
        assert_eq!(
            names(&options(&["sass", "format"], None)).unwrap(),
            ["sass", "format"]
        );
        assert_eq!(
            names(&options(&[], Some("stats"))).unwrap(),
            ["stats", "main-job", "bundle"]
        );
        assert_eq!(names(&options(&[], None)).unwrap().len(), steps.len());
        assert!(names(&options(&["nothing"], None)).is_err());
    }
}
