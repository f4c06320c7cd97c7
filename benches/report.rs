//! Puts the rows of the other benchmarks together: a table, the families against their targets,
//! JSON and a chart.
//!
//! `cargo bench --bench report -- --records records.jsonl --json report.json --svg report.svg`,
//! where records.jsonl is the file that `WARPCONV_BENCH_JSON` named for the other benchmarks.
//! `cargo bench` with that variable runs them and ends with the report.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use warpconv_bench::report::{file, modules, svg, text};

/// Puts the records of benchmarks together. Arguments of criterion, which `cargo bench` passes to
/// every benchmark, are ignored.
#[derive(Parser)]
#[command(ignore_errors = true)]
struct Options {
    /// The file of records [default: what WARPCONV_BENCH_JSON names]
    #[arg(long)]
    records: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the families and the rows as a bar chart
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Rows of the chart: those whose name contains every one of these [default: n128 bf16 nhwc]
    #[arg(long, value_delimiter = ',')]
    chart: Vec<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let named = || std::env::var_os(warpconv_bench::options::JSON_VARIABLE).map(PathBuf::from);
    let Some(path) = options.records.clone().or_else(named) else {
        println!("report: no file of records is named (--records, WARPCONV_BENCH_JSON).");
        return ExitCode::SUCCESS;
    };
    match report(&options, &path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("report: {why}");
            ExitCode::FAILURE
        }
    }
}

fn report(options: &Options, path: &std::path::Path) -> Result<(), String> {
    let contents = file::read(path)?;
    if contents.unread > 0 {
        println!(
            "{} lines of {} are not rows",
            contents.unread,
            path.display()
        );
    }
    if contents.rows.is_empty() {
        return Err(format!("{} holds no rows", path.display()));
    }
    let emulated = contents.is_emulated();
    for run in contents.distinct_runs() {
        println!("{}", text::describe(run));
    }
    for line in text::notes(&contents) {
        println!("{line}");
    }
    println!("\n{}", text::columns(emulated));
    for row in &contents.rows {
        text::row(row, emulated);
    }
    text::families(&contents.rows, emulated);
    for line in modules::lines(&contents.rows) {
        println!("{line}");
    }
    let write = |path: &PathBuf, what: String| {
        std::fs::write(path, what)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    };
    if let Some(path) = &options.json {
        write(path, format!("{:#}\n", file::to_json(&contents)))?;
    }
    if let Some(path) = &options.svg {
        write(path, svg::draw(&contents, &options.chart)?)?;
    }
    Ok(())
}
