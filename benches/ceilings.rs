//! The card's own ceilings: the rate of a device-to-device copy and of a fill, measured, and the
//! table's rates of arithmetic that the roofline uses.
//!
//! `WARPCONV_BENCH_JSON=records.jsonl cargo bench --bench ceilings`

use std::process::ExitCode;

fn main() -> ExitCode {
    warpconv_bench::ceilings::run()
}
