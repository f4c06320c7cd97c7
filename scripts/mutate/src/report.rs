//! Report of the results, as text for a terminal and as Markdown.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use crate::results::{Record, Results};

const STATES: [&str; 4] = ["killed", "timeout", "survived", "unreached"];

/// A table of counts by file, of the given mutants or of all.
pub fn summary(results: &Results, keys: Option<&HashSet<String>>) -> String {
    let mut files: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut total = [0; 4];
    for record in results.records.values() {
        if keys.is_some_and(|keys| !keys.contains(&record.key)) {
            continue;
        }
        if let Some(state) = STATES.iter().position(|state| *state == record.status) {
            files.entry(&record.file).or_default()[state] += 1;
            total[state] += 1;
        }
    }
    let mut out = String::from(
        "| file | killed | timed out | survived | not reached |\n|---|---|---|---|---|\n",
    );
    for (file, [killed, timeout, survived, unreached]) in files.into_iter().chain([("all", total)])
    {
        let _ = writeln!(
            out,
            "| {file} | {killed} | {timeout} | {survived} | {unreached} |"
        );
    }
    out
}

/// Reasons why survivors survive: lines of `reasons.tsv`, which are key, tab, reason.
fn reasons(root: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(root.join("scripts/mutate/reasons.tsv")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    pairs
        .map(|(key, reason)| (key.to_owned(), reason.to_owned()))
        .collect()
}

/// Key of a survivor in `reasons.tsv`: stable when lines move, and free of tabs and line ends.
fn name(record: &Record) -> String {
    format!("{} {}: {}", record.file, record.function, record.change())
}

/// Summary and survivors.
pub fn report(root: &Path, results: &Results) -> Result<String, Box<dyn Error>> {
    let reasons = reasons(root);
    let mut out = summary(results, None);
    out += "\n| place | function | change | reason |\n|---|---|---|---|\n";
    let mut records: Vec<&Record> = results.records.values().collect();
    records.retain(|record| matches!(record.status.as_str(), "survived" | "unreached"));
    records.sort_by_key(|record| (&record.file, record.line, &record.replacement));
    for record in records {
        let reached = if record.status == "unreached" {
            "not reached"
        } else {
            ""
        };
        let reason = reasons.get(&name(record)).map_or(reached, String::as_str);
        let change = record.change().replace('|', "\\|");
        let Record {
            file,
            line,
            function,
            ..
        } = record;
        let _ = writeln!(out, "| {file}:{line} | {function} | {change} | {reason} |");
    }
    Ok(out)
}
