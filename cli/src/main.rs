//! The command line: `bottleneck` (what a bottleneck saves, shown and checked), `verify` (cases
//! against their stored results, on this device), `explain` (what a plan would do, and why),
//! `counters` (what it does, counted), `tune` (which kernel is fastest, measured), `nets` (whole
//! networks), `classify` (what one of them sees in a picture) and `era` (AlexNet beside this
//! machine's processor).
//!
//! Exit codes: 0 all well; 1 a check failed; 2 wrong usage or unreadable input; 3 no device, or a
//! device error.

#![deny(missing_docs)]

mod args;
mod bottleneck;
mod classify;
mod counters;
mod device;
mod era;
mod exit;
mod explain;
mod image;
mod logger;
mod nets;
mod output;
mod problems;
mod tune;
mod tuning;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::install();
    let outcome = match cli.command.unwrap_or_default() {
        Command::Bottleneck(args) => bottleneck::command(&cli.global, &args),
        Command::Verify(args) => verify::command(&cli.global, &args),
        Command::Explain(args) => explain::command(&cli.global, &args),
        Command::Counters(args) => counters::command(&cli.global, &args),
        Command::Tune(args) => tune::command(&cli.global, &args),
        Command::Nets(args) => nets::command(&cli.global, &args),
        Command::Classify(args) => classify::command(&cli.global, &args),
        Command::Era(args) => era::command(&cli.global, &args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough (`warpconv verify ... | head`).
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed standard error leaves nowhere to complain; the exit code still tells.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("warpconv: {failure}\n"),
            );
            ExitCode::from(failure.code())
        }
    }
}
