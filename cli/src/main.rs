//! The command line: `bottleneck` (savings of a bottleneck, shown and checked), `verify` (cases
//! against their stored results, on this device), `explain` (the plan of a problem, with reasons),
//! `counters` (its counters on the emulator), `tune` (the fastest kernel, measured), `calibrate`
//! (the cost model compared with measured rows), `nets` (whole networks), `classify` (classes of an
//! image), `era` (AlexNet compared with this machine's processor) and `run-all` (every kernel and
//! the first rows of a device, in stated minutes).
//!
//! Exit codes: 0 all well; 1 a check failed; 2 wrong usage or unreadable input; 3 no device, or a
//! device error; of `run-all` 128 and the number of the signal that ended it.

#![deny(missing_docs)]

mod args;
mod bottleneck;
mod calibrate;
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
mod run_all;
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
        Command::Calibrate(args) => calibrate::command(&cli.global, &args),
        Command::Nets(args) => nets::command(&cli.global, &args),
        Command::Classify(args) => classify::command(&cli.global, &args),
        Command::Era(args) => era::command(&cli.global, &args),
        Command::RunAll(args) => run_all::command(&cli.global, &args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe (`warpconv verify ... | head`).
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            // An error of standard error is ignored; the exit code still reports the failure.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("warpconv: {failure}\n"),
            );
            ExitCode::from(failure.code())
        }
    }
}
