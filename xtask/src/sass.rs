//! `cargo xtask sass`: machine code.

use clap::Args;

use crate::command::Command;
use crate::{Failure, ptx};

#[derive(Args)]
pub struct Options {
    /// Options of scripts/sass (`--help` lists them) and parts of kernels' names
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<String>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let mut command = Command::new("python3 scripts/sass").args(&options.arguments);
    if !options.arguments.iter().any(|argument| argument == "--ptx") {
        command = command.arg("--ptx").arg(ptx::fresh_folder(&[])?);
    }
    command.run()
}
