//! Results of each mutant, one JSON object per line.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::build::Placed;
use crate::tests::Outcome;

/// One mutant and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: String,
    pub file: String,
    pub line: u64,
    pub function: String,
    pub original: String,
    pub replacement: String,
    /// `killed`, `timeout`, `survived`, `unreached` or `invalid` (does not compile).
    pub status: String,
    /// The test that noticed.
    pub by: String,
}

impl Record {
    pub fn new(placed: &Placed, outcome: &Outcome) -> Record {
        let (status, by) = match outcome {
            Outcome::Killed(test) => ("killed", test.as_str()),
            Outcome::TimedOut(test) => ("timeout", test.as_str()),
            Outcome::Survived => ("survived", ""),
            Outcome::Unreached => ("unreached", ""),
            Outcome::Invalid => ("invalid", ""),
        };
        Record {
            key: placed.key(),
            file: placed.file.clone(),
            line: placed.mutant.line as u64,
            function: placed.mutant.function.clone(),
            original: placed.original.clone(),
            replacement: placed.mutant.text.clone(),
            status: status.to_owned(),
            by: by.to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "key": self.key, "file": self.file, "line": self.line, "function": self.function,
            "original": self.original, "replacement": self.replacement,
            "status": self.status, "by": self.by,
        })
    }

    fn parse(line: &str) -> Option<Record> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Some(Record {
            key: text("key")?,
            file: text("file")?,
            line: value.get("line")?.as_u64()?,
            function: text("function")?,
            original: text("original")?,
            replacement: text("replacement")?,
            status: text("status")?,
            by: text("by")?,
        })
    }

    /// Original and replacement on one line.
    pub fn change(&self) -> String {
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (from, to) = (line(&self.original), line(&self.replacement));
        match (from.as_str(), to.as_str()) {
            (from, "") => format!("without `{from}`"),
            ("", to) => format!("at once `{to}`"),
            (from, to) => format!("`{from}` → `{to}`"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            file,
            line,
            function,
            status,
            by,
            ..
        } = self;
        write!(
            f,
            "{status} {file}:{line} {function}: {} {by}",
            self.change()
        )
    }
}

/// All that is known.
pub struct Results {
    file: File,
    pub records: HashMap<String, Record>,
}

impl Results {
    pub fn open(path: &Path) -> io::Result<Results> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let records = std::fs::read_to_string(path).unwrap_or_default();
        let records = records.lines().filter_map(Record::parse);
        let records = records.map(|record| (record.key.clone(), record)).collect();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Results { file, records })
    }

    /// Returns whether a mutant need not be tried. Those that survived are tried anew: there may be
    /// new tests.
    pub fn has(&self, placed: &Placed) -> bool {
        let record = self.records.get(&placed.key());
        record.is_some_and(|record| !matches!(record.status.as_str(), "survived" | "unreached"))
    }

    pub fn known(&self, mutants: &[Placed]) -> usize {
        mutants.iter().filter(|placed| self.has(placed)).count()
    }

    pub fn is_invalid(&self, placed: &Placed) -> bool {
        let record = self.records.get(&placed.key());
        record.is_some_and(|record| record.status == "invalid")
    }

    pub fn add(&mut self, record: Record) -> io::Result<()> {
        writeln!(self.file, "{}", record.json())?;
        self.records.insert(record.key.clone(), record);
        Ok(())
    }
}
