//! Reads the records of several benchmarks from a file of JSON lines, and writes the report as
//! JSON.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::summaries;
use crate::record::{Ceiling, Line, Row, Run, Skipped, parse};

/// Contents of a file of records.
#[derive(Debug, Default)]
pub struct Contents {
    /// The runs, in the order of the file.
    pub runs: Vec<Run>,
    /// The records; of several with one id, the last.
    pub rows: Vec<Row>,
    /// The rows that were not measured, and not by a later run either.
    pub skipped: Vec<Skipped>,
    /// The card's rates; of several with one name, the last.
    pub ceilings: Vec<Ceiling>,
    /// Number of lines that are none of these.
    pub unread: usize,
}

impl Contents {
    /// The runs that differ in more than their date: a file may have one per row.
    pub fn distinct_runs(&self) -> impl Iterator<Item = &Run> {
        let undated = |run: &Run| Run {
            date: String::new(),
            ..run.clone()
        };
        let mut seen: Vec<Run> = Vec::new();
        self.runs.iter().filter(move |run| {
            let run = undated(run);
            let new = !seen.contains(&run);
            if new {
                seen.push(run);
            }
            new
        })
    }

    /// Returns whether the records were counted on the emulator: then there are no times.
    pub fn is_emulated(&self) -> bool {
        self.runs.iter().any(|run| run.emulated)
    }
}

/// Reads a file of records.
pub fn read(path: &Path) -> Result<Contents, String> {
    let text = warpconv::files::text(path, warpconv::files::ROWS)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(contents(&text))
}

/// Parses the lines of a file.
pub fn contents(text: &str) -> Contents {
    let mut contents = Contents::default();
    // Indexed by id: a file may have a hundred thousand records.
    let mut places: HashMap<String, usize> = HashMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match parse(line) {
            Some(Line::Run(run)) => contents.runs.push(run),
            Some(Line::Row(row)) => {
                let end = contents.rows.len();
                match *places.entry(row.id.clone()).or_insert(end) {
                    place if place < end => contents.rows[place] = *row,
                    _ => contents.rows.push(*row),
                }
            }
            Some(Line::Skipped(skipped)) => {
                contents.skipped.retain(|known| known.id != skipped.id);
                contents.skipped.push(skipped);
            }
            Some(Line::Ceiling(ceiling)) => {
                contents.ceilings.retain(|known| known.name != ceiling.name);
                contents.ceilings.push(ceiling);
            }
            None => contents.unread += 1,
        }
    }
    contents.skipped.retain(|row| !places.contains_key(&row.id));
    contents
}

/// The report as one JSON value.
pub fn to_json(contents: &Contents) -> Value {
    let families: Vec<Value> = summaries(&contents.rows)
        .iter()
        .map(|summary| {
            let missed: Vec<&str> = summary.missed.iter().map(|miss| &miss.row.id[..]).collect();
            json!({
                "family": summary.family.name,
                "rows": summary.rows.len(),
                "roofline_share": summary.share,
                "cudnn_roofline_share": summary.cudnn_share,
                "ratio": summary.ratio,
                "targets": summary.family.targets(),
                "missed": missed,
            })
        })
        .collect();
    json!({
        "runs": contents.runs.iter().map(Run::to_json).collect::<Vec<_>>(),
        "rows": contents.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "skipped": contents.skipped.iter().map(Skipped::to_json).collect::<Vec<_>>(),
        "ceilings": contents.ceilings.iter().map(Ceiling::to_json).collect::<Vec<_>>(),
        "families": families,
    })
}
