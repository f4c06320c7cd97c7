//! The stored numbers: `expected.tsv`, lines of a test, a counter and what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

/// Counted numbers, by test and counter.
type Table = BTreeMap<(String, String), f64>;

fn path() -> PathBuf {
    [
        env!("CARGO_MANIFEST_DIR"),
        "tests/kernels/counters/expected.tsv",
    ]
    .iter()
    .collect()
}

fn table() -> Table {
    let text = fs::read_to_string(path()).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let (test, counter, value) = (fields.next()?, fields.next()?, fields.next()?);
        Some(((test.to_owned(), counter.to_owned()), value.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Returns whether the numbers are to be written anew.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECTED").is_some()
}

/// Returns the stored number of a test and a counter.
pub fn get(test: &str, counter: &str) -> Option<f64> {
    table().get(&(test.to_owned(), counter.to_owned())).copied()
}

/// The tests that have stored numbers.
pub fn tests() -> BTreeSet<String> {
    table().into_keys().map(|(test, _)| test).collect()
}

/// Replaces the numbers of a test. Tests run side by side, so the file is locked meanwhile.
pub fn put(test: &str, counted: &[(String, f64)]) {
    let path = path();
    let lock = std::env::temp_dir().join("warpconv-expected-counters.lock");
    let lock = File::create(lock).expect("a lock file");
    lock.lock().expect("the lock");
    let mut table = table();
    table.retain(|(of, _), _| of != test);
    for (counter, value) in counted {
        table.insert((test.to_owned(), counter.clone()), *value);
    }
    let mut text = Vec::new();
    for ((test, counter), value) in &table {
        writeln!(text, "{test}\t{counter}\t{value:.3}").expect("memory");
    }
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
