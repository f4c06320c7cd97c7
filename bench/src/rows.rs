//! Rows chosen by their names, such as those of `benches/first_run.txt`.

use std::cell::Cell;
use std::path::Path;
use std::str::FromStr;

use warpconv::Layout;

use super::graphs::Config;
use super::options::{Kind, Options};

/// The rows of the first run on a GPU, the most important ones first.
pub const FIRST_RUN: &str = include_str!("../../benches/first_run.txt");

/// Name of a point of a group: `layers/googlenet/conv2/n128/bf16/nhwc`. A module's point holds
/// several records, one per form.
#[derive(Clone, Debug, PartialEq)]
pub struct RowName {
    /// The criterion group: `layers/googlenet/conv2`.
    pub group: String,
    /// Batch, type and layout.
    pub config: Config,
}

impl FromStr for RowName {
    type Err = String;

    fn from_str(text: &str) -> Result<RowName, String> {
        let wrong = || format!("`{text}` names no row: GROUP/nBATCH/TYPE/LAYOUT is expected");
        let mut parts = text.rsplitn(4, '/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (layout, kind, batch) = (next(), next(), next());
        let group = next().ok_or_else(wrong)?.to_owned();
        let batch = batch.and_then(|batch| batch.strip_prefix('n')?.parse().ok());
        let config = Config {
            batch: batch.filter(|&batch| batch > 0).ok_or_else(wrong)?,
            kind: named(Kind::ALL, Kind::name, kind).ok_or_else(wrong)?,
            layout: named(&Layout::ALL, Layout::name, layout).ok_or_else(wrong)?,
        };
        Ok(RowName { group, config })
    }
}

/// The value with a name.
fn named<V: Copy>(all: &[V], name: fn(V) -> &'static str, given: Option<&str>) -> Option<V> {
    all.iter().copied().find(|&one| Some(name(one)) == given)
}

/// Parses a file of rows: lines of a program's name, white space and a row's name; `#` starts a
/// comment.
pub fn parse(text: &str) -> Result<Vec<(&str, RowName)>, String> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |why: String| format!("line {}: {why}", number + 1);
        let (program, row) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| wrong(format!("`{line}` is no program with a row")))?;
        rows.push((program, row.trim().parse().map_err(wrong)?));
    }
    Ok(rows)
}

/// The rows that the options choose, and which of them a program has.
#[derive(Debug, Default)]
pub struct Chosen {
    rows: Vec<(RowName, Cell<bool>)>,
    any: bool,
}

impl Chosen {
    /// The rows of the options for the program `bench`.
    pub fn of(bench: &str, options: &Options) -> Result<Chosen, String> {
        let mut rows = Vec::new();
        for row in &options.row {
            rows.push(row.parse()?);
        }
        if let Some(path) = &options.rows {
            let own = file(path)?
                .into_iter()
                .filter(|(program, _)| program == bench);
            rows.extend(own.map(|(_, row)| row));
        }
        Ok(Chosen {
            any: !options.row.is_empty() || options.rows.is_some(),
            rows: rows
                .into_iter()
                .map(|row| (row, Cell::new(false)))
                .collect(),
        })
    }

    /// Returns whether the options choose rows at all.
    pub fn any(&self) -> bool {
        self.any
    }

    /// The chosen points of a group, which counts as found.
    pub fn configs(&self, group: &str) -> Vec<Config> {
        let own = self.rows.iter().filter(|(row, _)| row.group == group);
        own.map(|(row, found)| {
            found.set(true);
            row.config
        })
        .collect()
    }

    /// Returns whether a row of the group is chosen.
    pub fn has(&self, group: &str) -> bool {
        self.rows.iter().any(|(row, _)| row.group == group)
    }

    /// The names of the rows that no group has.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.rows.iter().filter(|(_, found)| !found.get());
        missing
            .map(|(row, _)| format!("{}/{}", row.group, row.config.name()))
            .collect()
    }
}

fn file(path: &Path) -> Result<Vec<(String, RowName)>, String> {
    let text = warpconv::files::text(path, warpconv::files::SHAPES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let rows = parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    let owned = rows.into_iter();
    Ok(owned
        .map(|(program, row)| (program.to_owned(), row))
        .collect())
}

#[cfg(test)]
mod tests;
