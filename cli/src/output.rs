//! Output of a command: lines, tables, progress and JSON.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::exit::Failure;

/// Prints a line on standard output.
pub fn say(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::File {
                path: PathBuf::from("standard output"),
                error,
            },
        })
}

/// Alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table with a heading row, in Markdown.
pub fn table(headings: &[(&str, Align)], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    // Never wrapped: in a narrow terminal lines are cut or scroll, but numbers stay whole and pipes
    // stay parseable.
    table.set_content_arrangement(ContentArrangement::Disabled);
    let align = |index: usize| match headings.get(index) {
        Some((_, Align::Right)) => CellAlignment::Right,
        _ => CellAlignment::Left,
    };
    let cells = |row: Vec<String>| -> Vec<Cell> {
        row.into_iter()
            .enumerate()
            .map(|(i, text)| Cell::new(text).set_alignment(align(i)))
            .collect()
    };
    table.set_header(cells(
        headings.iter().map(|(name, _)| name.to_string()).collect(),
    ));
    for row in rows {
        table.add_row(cells(row));
    }
    table
}

/// A number with its noun: 1 block, 2 blocks, 2 launches.
pub fn several(number: u64, thing: &str) -> String {
    let end = match (number, thing.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {thing}{end}", grouped(number))
}

/// Formats a number with thousands separators: 571,536.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats bytes in a readable unit: 405.8 MB (powers of ten, as for device bandwidths).
pub fn bytes(number: u64) -> String {
    match number {
        0..=9_999 => format!("{number} B"),
        10_000..=999_999 => format!("{:.1} KB", number as f64 / 1e3),
        1_000_000..=9_999_999_999 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.1} GB", number as f64 / 1e9),
    }
}

/// A progress bar on standard error; hidden if that is not a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar of `steps` steps.
    pub fn new(steps: usize, quiet: bool) -> Progress {
        let hidden = quiet || !io::stderr().is_terminal();
        let target = if hidden {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:12} {pos}/{len} {elapsed} {wide_msg}")
        {
            bar.set_style(style);
        }
        if !hidden {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Progress(bar)
    }

    /// Shows the current step.
    pub fn doing(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// Advances by one step.
    pub fn step(&self) {
        self.0.inc(1);
    }

    /// Prints a line without disturbing the bar.
    pub fn say(&self, line: impl std::fmt::Display) -> Result<(), Failure> {
        self.0.suspend(|| say(line))
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Converts a number to JSON; values that are not finite become null.
pub fn number(value: Option<f64>) -> Value {
    value
        .filter(|v| v.is_finite())
        .map_or(Value::Null, |v| json!(v))
}

/// Opens the JSON file before the work starts, so that a wrong path is found at once.
pub struct JsonFile {
    path: PathBuf,
    file: File,
}

impl JsonFile {
    /// Creates the file if one was asked for.
    pub fn create(path: Option<&Path>) -> Result<Option<JsonFile>, Failure> {
        let Some(path) = path else { return Ok(None) };
        match File::create(path) {
            Ok(file) => Ok(Some(JsonFile {
                path: path.to_owned(),
                file,
            })),
            Err(error) => Err(Failure::File {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// Writes the document and closes the file.
    pub fn write(self, document: &Value) -> Result<(), Failure> {
        let mut out = BufWriter::new(self.file);
        serde_json::to_writer_pretty(&mut out, document)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
            .and_then(|()| out.flush())
            .map_err(|error| Failure::File {
                path: self.path,
                error,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(571_536), "571,536");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn bytes_choose_their_unit() {
        assert_eq!(bytes(9_999), "9999 B");
        assert_eq!(bytes(405_762_336), "405.8 MB");
    }

    #[test]
    fn json_has_no_infinity() {
        assert_eq!(number(Some(f64::NAN)), Value::Null);
        assert_eq!(number(None), Value::Null);
        assert_eq!(number(Some(1.5)), json!(1.5));
    }
}
