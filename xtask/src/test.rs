//! `cargo xtask test` and `cargo xtask bless`.

use clap::Args;

use crate::Failure;
use crate::command::Command;

/// Rewrites expectations where it is set.
const UPDATE: &str = "UPDATE_EXPECTED";

#[derive(Args)]
pub struct Options {
    /// The test program: kernels, planning, launch, graph, cli, or one of the emulator's
    #[arg(long, value_name = "PROGRAM")]
    topic: Option<String>,
    /// Parts of tests' names; none means all
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

#[derive(Args)]
pub struct BlessOptions {
    /// Parts of tests' names; none means all emulator programs and counted limits
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let mut command = Command::new("cargo test --locked");
    if let Some(topic) = &options.topic {
        command = command.args(["--test", topic]);
    }
    if !options.patterns.is_empty() {
        command = command.arg("--").args(&options.patterns);
    }
    command.run()
}

/// Runs the tests that store what they measure, with leave to store it.
pub fn bless(options: &BlessOptions) -> Result<(), Failure> {
    let programs = Command::new("cargo test --locked --test programs").env(UPDATE, "1");
    let counters = Command::new("cargo test --locked --test kernels").env(UPDATE, "1");
    let patterns = &options.patterns;
    match patterns.is_empty() {
        true => {
            programs.run()?;
            counters.args(["--", "counters::"]).run()?;
        }
        false => {
            programs.arg("--").args(patterns).run()?;
            counters.arg("--").args(patterns).run()?;
        }
    }
    Command::new("git status --short").run()
}
