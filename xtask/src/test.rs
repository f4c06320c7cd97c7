//! `cargo xtask test` and `cargo xtask bless`.

use clap::Args;

use crate::Failure;
use crate::command::Command;

/// Rewrites expectations where it is set.
const UPDATE: &str = "UPDATE_EXPECTED";

#[derive(Args)]
pub struct Options {
    /// The test program: kernels, planning, launch, graph, cli; of the emulator, instructions,
    /// driver, programs
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
    let command = || match &options.topic {
        Some(topic) => Command::new("cargo test --locked").args(["--test", topic]),
        None => Command::new("cargo test --locked"),
    };
    if options.patterns.is_empty() {
        return command().run();
    }
    // One run per pattern: the programs that name tests by themselves take a single one.
    for pattern in &options.patterns {
        command().args(["--", pattern]).run()?;
    }
    Ok(())
}

/// Runs the tests that store what they measure, with leave to store it.
pub fn bless(options: &BlessOptions) -> Result<(), Failure> {
    let programs = || Command::new("cargo test --locked --test programs").env(UPDATE, "1");
    let counters = || Command::new("cargo test --locked --test kernels").env(UPDATE, "1");
    if options.patterns.is_empty() {
        programs().run()?;
        counters().args(["--", "counters::"]).run()?;
    }
    for pattern in &options.patterns {
        // A pattern that names the tests of one program saves building the other.
        if !pattern.starts_with("counters::") {
            programs().args(["--", pattern]).run()?;
        }
        if !pattern.starts_with("pass::") && !pattern.starts_with("fail::") {
            counters().args(["--", pattern]).run()?;
        }
    }
    Command::new("git status --short").run()
}
