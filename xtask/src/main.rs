//! The tasks of the crate's developers: `cargo xtask --help`.

// Compiles the modules as a build does.
#[allow(dead_code, reason = "a build script has more than this needs")]
#[path = "../../build.rs"]
mod build;
mod bundle;
mod check;
mod ci;
mod command;
mod cubins;
mod prebuilt;
mod ptx;
mod sass;
mod stats;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use command::Command;

/// One sentence with the reason of a failure.
type Failure = String;

/// Checks, tests and builds warpconv. Each task prints the commands that it runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run what takes under two minutes: format, clippy, unit, planning and documentation tests
    Check,
    /// Run the tests, or those whose names contain a pattern
    Test(test::Options),
    /// Rewrite the stored expectations of emulator programs and counted limits
    Bless(test::BlessOptions),
    /// Make kernels/prebuilt, the PTX that a build without nvcc embeds
    Prebuilt(prebuilt::Options),
    /// Unpack the stored PTX
    Ptx(ptx::Options),
    /// Assemble the stored PTX into files of machine code, one per architecture
    Cubins(cubins::Options),
    /// Assemble the stored PTX and show registers, spills and main loops (runs scripts/sass)
    #[command(disable_help_flag = true)]
    Sass(sass::Options),
    /// Run the benchmarks: times on a GPU, counted instructions on the emulator
    Bench(BenchOptions),
    /// Pack tests, benchmarks and command line for a GPU machine without Rust (runs scripts/bundle)
    Bundle(bundle::Options),
    /// Run all steps of .ci/run, which installs the CUDA compilers that some of them need
    Ci(ci::Options),
    /// Count what is held down: long lines, public items, upward imports, bytes
    Stats(stats::Options),
}

#[derive(Args)]
struct BenchOptions {
    /// Benchmark cuDNN beside this crate's kernels
    #[arg(long)]
    cudnn: bool,
    /// A benchmark program, such as layers; may be given several times; none means all
    #[arg(long, value_name = "PROGRAM")]
    bench: Vec<String>,
    /// Arguments of the programs: parts of names, --save-baseline NAME, --baseline NAME, ...
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), Failure> {
    match task {
        Task::Check => check::run(),
        Task::Test(options) => test::run(&options),
        Task::Bless(options) => test::bless(&options),
        Task::Prebuilt(options) => prebuilt::run(&options),
        Task::Ptx(options) => ptx::run(&options),
        Task::Cubins(options) => cubins::run(&options),
        Task::Sass(options) => sass::run(&options),
        Task::Bench(options) => bench(&options),
        Task::Bundle(options) => bundle::run(&options),
        Task::Ci(options) => ci::run(&options),
        Task::Stats(options) => stats::run(&options),
    }
}

fn bench(options: &BenchOptions) -> Result<(), Failure> {
    let mut command = Command::new("cargo bench --locked -p warpconv-bench");
    if options.cudnn {
        command = command.args(["--features", "cudnn"]);
    }
    for program in &options.bench {
        command = command.args(["--bench", program]);
    }
    if !options.arguments.is_empty() {
        command = command.arg("--").args(&options.arguments);
    }
    command.run()
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// The folder of build products.
fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A folder for the tasks' own files.
fn work() -> PathBuf {
    target().join("xtask")
}
