//! The tasks of the crate's developers: `cargo xtask --help`.

// Compiles the modules as a build does.
#[allow(dead_code, reason = "a build script has more than this needs")]
#[path = "../../build.rs"]
mod build;
mod command;
mod prebuilt;
mod ptx;
mod sass;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One sentence that says why a task failed.
type Failure = String;

/// Checks, tests and builds warpconv.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make kernels/prebuilt, the PTX that a build without nvcc embeds
    Prebuilt(prebuilt::Options),
    /// Unpack the stored PTX
    Ptx(ptx::Options),
    /// Assemble the stored PTX and show registers, spills and main loops (runs scripts/sass)
    #[command(disable_help_flag = true)]
    Sass(sass::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Prebuilt(options) => prebuilt::run(&options),
        Task::Ptx(options) => ptx::run(&options),
        Task::Sass(options) => sass::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// A folder for the tasks' own files.
fn work() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("xtask")
}
