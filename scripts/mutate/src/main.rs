//! Mutation tester: changes the program in one small way at a time and sees whether a test notices.
//!
//! ```text
//! scripts/mutate/run [--dir DIR]... [--sample N] [--seed S] [--time SECONDS] [--jobs N]
//!     [--also TEST]...
//! scripts/mutate/run --report
//! ```
//!
//! All mutants are compiled into one build under `target/mutate`, each behind a switch that an
//! environment variable sets, since thousands of builds would take days. A first run of every test
//! notes which mutants it reaches; then each mutant runs those tests only, the fastest binaries
//! first, up to the first failure. Results are kept in `target/mutate/results.jsonl` by the text of
//! the mutant and its function, so that a run that was stopped goes on.

mod build;
mod points;
mod report;
mod results;
mod rewrite;
mod tests;

use std::collections::HashSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use results::{Record, Results};

/// Default scope of mutation.
const DIRS: [&str; 5] = [
    "emulator/src/sanitizer",
    "emulator/src/memory",
    "emulator/src/exec",
    "src/launch",
    "src/plan",
];

struct Options {
    dirs: Vec<String>,
    sample: usize,
    seed: u64,
    time: Duration,
    jobs: usize,
    /// Tests beside those that always run.
    also: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = pico_args::Arguments::from_env();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let results = Results::open(&root.join("target/mutate/results.jsonl"))?;
    if arguments.contains("--report") {
        print!("{}", report::report(&root, &results)?);
        return Ok(());
    }
    let mut dirs: Vec<String> = arguments.values_from_str("--dir")?;
    if dirs.is_empty() {
        dirs = DIRS.map(str::to_owned).to_vec();
    }
    let options = Options {
        dirs,
        sample: arguments
            .opt_value_from_str("--sample")?
            .unwrap_or(usize::MAX),
        seed: arguments.opt_value_from_str("--seed")?.unwrap_or(1),
        time: Duration::from_secs(arguments.opt_value_from_str("--time")?.unwrap_or(u64::MAX)),
        also: arguments.values_from_str("--also")?,
        jobs: arguments.opt_value_from_str("--jobs")?.unwrap_or(2),
    };
    let rest = arguments.finish();
    if !rest.is_empty() {
        return Err(format!("unknown arguments: {rest:?}").into());
    }
    run(&root, &options, results)
}

fn run(
    root: &std::path::Path,
    options: &Options,
    mut results: Results,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let tree = build::Tree::of(root);
    let chosen = build::choose(&tree, &options.dirs, options.sample, options.seed)?;
    let (all, skipped) = (chosen.all, results.known(&chosen.mutants));
    println!(
        "{all} mutants, {} chosen, {skipped} of them done before",
        chosen.mutants.len()
    );
    let built = build::build(&tree, chosen.mutants, &options.also, &mut results)?;
    println!(
        "built with {} mutants after {:?}",
        built.mutants.len(),
        began.elapsed()
    );
    let baseline = tests::baseline(&built, &root.join("target/mutate/reached"), options.jobs)?;
    println!(
        "{} tests reach them, after {:?}",
        baseline.len(),
        began.elapsed()
    );
    let todo: Vec<usize> = (0..built.mutants.len())
        .filter(|&i| !results.has(&built.mutants[i]))
        .collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results = Mutex::new(results);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(&i) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if began.elapsed() > options.time {
                        break;
                    }
                    let outcome = tests::try_mutant(&built, &baseline, i);
                    let record = Record::new(&built.mutants[i], &outcome);
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if record.status != "killed" || count.is_multiple_of(50) {
                        println!("{count}/{}: {record}", todo.len());
                    }
                    let mut results = results
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    if let Err(error) = results.add(record) {
                        eprintln!("results: {error}");
                    }
                }
            });
        }
    });
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let keys: HashSet<String> = built.mutants.iter().map(|m| m.key()).collect();
    println!(
        "after {:?}:\n{}",
        began.elapsed(),
        report::summary(&results, Some(&keys))
    );
    Ok(())
}
