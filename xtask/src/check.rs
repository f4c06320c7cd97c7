//! `cargo xtask check`: what takes under two minutes when the crate was built before.

use crate::Failure;
use crate::command::Command;

/// The modules are those that are stored: nothing is compiled with nvcc.
const PREBUILT: (&str, &str) = ("WARPCONV_PREBUILT", "1");

pub fn run() -> Result<(), Failure> {
    for line in [
        "cargo fmt --all --check",
        "cargo clippy --workspace --all-targets --locked -- -D warnings",
        "cargo test --locked --lib --test planning",
        "cargo test --locked --doc",
        "cargo test --locked -p xtask",
    ] {
        Command::new(line).env(PREBUILT.0, PREBUILT.1).run()?;
    }
    println!("all checks passed; `cargo xtask test` runs the suites on the emulator or a GPU");
    Ok(())
}
