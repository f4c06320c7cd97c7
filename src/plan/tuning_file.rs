//! Tuning files: one line of text per entry, written whole or not at all.
//!
//! ```text
//! warpconv-tuning 2
//! <problem> <card> <driver> <build> <kernel> <split_k> <us|instructions> <amount> <of>
//! factor <card> <driver> <build> <family> <value> <rows>
//! end <lines> <checksum>
//! ```
//! Fields are separated by tabs. The checksum is that of everything before the last line, whose
//! number counts the lines between the first and itself. Format 1 has no factors; a file without
//! any is written in it, so that earlier versions of the crate read it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::factors::{Factor, FactorEntry, FactorKey};
use super::tuning::{Card, Entry, Key, Measure, SEED, Tuning, build, fingerprint};
use crate::files;

/// The word that a tuning file begins with.
const MAGIC: &str = "warpconv-tuning";

/// The format without factors.
const FORMAT_OF_KERNELS: u32 = 1;

/// The latest format, which has factors.
const FORMAT: u32 = 2;

/// First field of a line with a factor.
const FACTOR: &str = "factor";

/// Kernel families by their earlier names, and by those that they have now.
const RENAMED: [(&str, &str); 6] = [
    ("bottleneck_cores", "bottleneck_simt"),
    ("direct_flat", "direct_few_channels"),
    ("grouped_narrow", "small_groups"),
    ("mma_branches", "mma_multi_conv"),
    ("mma_flat", "mma_few_channels"),
    ("mma_narrow", "mma_small_groups"),
];

/// Reason why a tuning file is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// The system cannot read or write the file.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The content of the file is wrong.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// Fault of the content.
        reason: TuningReason,
    },
}

/// Fault in the text of a tuning file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TuningReason {
    /// The text does not begin as a tuning file.
    #[error("no tuning file of warpconv")]
    Foreign,
    /// The file is of a later version of this crate.
    #[error(
        "a tuning file of format {found}; this version reads formats {FORMAT_OF_KERNELS} and \
         {FORMAT}"
    )]
    Format {
        /// Format number of the file.
        found: u32,
    },
    /// The end line is missing or wrong.
    #[error("the tuning file is cut off")]
    CutOff,
    /// A line cannot be read.
    #[error("the tuning file is damaged in line {line}: {what}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// Fault of the line.
        what: &'static str,
    },
    /// A kernel has the name that its family had in an earlier version.
    #[error(
        "line {line} of the tuning file is by an earlier version: kernels {old}_* are now {new}_*; \
         delete the file and run `warpconv tune` again"
    )]
    Renamed {
        /// The line, from 1.
        line: usize,
        /// The family's earlier name.
        old: &'static str,
        /// Present name of the family.
        new: &'static str,
    },
    /// The text is not the one that was written.
    #[error("the tuning file is damaged: its checksum does not match")]
    Checksum,
    /// The file is larger than any tuning file.
    #[error("{bytes} bytes are more than a tuning file has")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
    },
}

impl TuningReason {
    /// Returns whether the file is not a tuning file of this version, and must not be overwritten.
    fn keeps_out(&self) -> bool {
        matches!(
            self,
            TuningReason::Foreign | TuningReason::Format { .. } | TuningReason::TooLarge { .. }
        )
    }
}

impl Tuning {
    /// Default path of the tuning file: what `WARPCONV_TUNING` names (nothing if it is empty), else
    /// `warpconv/tuning.txt` in the user's folder of caches. `None` if there is no such folder.
    pub fn default_path() -> Option<PathBuf> {
        place(|name| std::env::var_os(name))
    }

    /// Reads a file; a missing one has no entries.
    ///
    /// # Errors
    /// [`TuningError`] if it cannot be read, or is damaged or no tuning file. Plans do well
    /// without: the caller says why it is ignored and goes on with [`Tuning::new`].
    pub fn read(path: &Path, card: Card) -> Result<Tuning, TuningError> {
        match read(path) {
            Ok(text) => parse(&text, card).map_err(|reason| content(path, reason)),
            Err(TuningError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Tuning::new(card))
            }
            Err(error) => Err(error),
        }
    }

    /// Adds the card's entries to a file, and replaces its factors there if this has any. What is
    /// of other cards stays, and what is of the card but of another build is removed. Concurrent
    /// readers see the old or the new file, and concurrent writers lose no entry. A damaged file is
    /// replaced.
    ///
    /// # Errors
    /// [`TuningError`] if it cannot be written, and for what is in its place and not a tuning file,
    /// or one of a later version.
    pub fn save(&self, path: &Path) -> Result<(), TuningError> {
        let failed = |at: &Path| {
            let path = at.to_owned();
            move |error| TuningError::File { path, error }
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let beside = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        // The lock is a file of its own: the other one is replaced.
        let lock = beside(".lock");
        let held = files::create_own(&lock).map_err(failed(&lock))?;
        held.lock().map_err(failed(&lock))?;
        let mut all = match Tuning::read(path, self.card().clone()) {
            Ok(there) => there,
            Err(TuningError::Content { reason, .. }) if !reason.keeps_out() => {
                Tuning::new(self.card().clone())
            }
            Err(error) => return Err(error),
        };
        all.merge(self);

        // In the same folder, so that renaming replaces the file in one step. The lock makes the
        // name ours.
        let new = beside(".new");
        let mut file = files::create_own(&new).map_err(failed(&new))?;
        let mut write = || -> io::Result<()> {
            file.write_all(print(&all).as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(path)(error)
        })
    }
}

impl Tuning {
    /// Takes what the other one has of the card and this build, and removes what is of the card but
    /// of another build.
    fn merge(&mut self, newer: &Tuning) {
        let card = newer.card();
        self.entries
            .retain(|key, entry| key.card != *card || entry.build == build());
        let own = newer
            .entries
            .iter()
            .filter(|(key, entry)| key.card == *card && entry.build == build());
        self.entries
            .extend(own.map(|(key, entry)| (key.clone(), entry.clone())));

        let mut own = newer
            .factors
            .iter()
            .filter(|(key, entry)| key.card == *card && entry.build == build())
            .peekable();
        // Factors of one calibration belong together: none of an earlier one stays beside them.
        let replaced = own.peek().is_some();
        self.factors
            .retain(|key, entry| key.card != *card || (entry.build == build() && !replaced));
        self.factors
            .extend(own.map(|(key, entry)| (key.clone(), entry.clone())));
    }
}

/// Folder of files, by the environment's variables.
fn place(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = variable("WARPCONV_TUNING") {
        return (!named.is_empty()).then(|| PathBuf::from(named));
    }
    let folder = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("warpconv").join("tuning.txt"))
}

/// The text of a file. What is no UTF-8 is no tuning file.
fn read(path: &Path) -> Result<String, TuningError> {
    let failed = |error| TuningError::File {
        path: path.to_owned(),
        error,
    };
    let read = files::bytes(path, files::TUNING).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let limit = files::TUNING.limit;
            let bytes = fs::metadata(path).map_or(limit + 1, |metadata| metadata.len());
            content(path, TuningReason::TooLarge { bytes })
        }
        _ => failed(error),
    });
    let text = String::from_utf8(read?);
    text.map_err(|error| {
        let ours = error.as_bytes().starts_with(MAGIC.as_bytes());
        content(
            path,
            if ours {
                TuningReason::Checksum
            } else {
                TuningReason::Foreign
            },
        )
    })
}

fn content(path: &Path, reason: TuningReason) -> TuningError {
    TuningError::Content {
        path: path.to_owned(),
        reason,
    }
}

/// Entries and factors as text.
fn print(tuning: &Tuning) -> String {
    let format = match tuning.factors.is_empty() {
        true => FORMAT_OF_KERNELS,
        false => FORMAT,
    };
    let mut text = format!("{MAGIC} {format}\n");
    for (key, entry) in &tuning.entries {
        text.push_str(&format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            key.problem,
            key.card.name,
            key.card.driver,
            entry.build,
            entry.kernel,
            entry.split_k,
            entry.by.name(),
            entry.amount,
            entry.of
        ));
    }
    for (FactorKey { card, family }, FactorEntry { build, factor }) in &tuning.factors {
        text.push_str(&format!(
            "{FACTOR}\t{}\t{}\t{build}\t{family}\t{}\t{}\n",
            card.name,
            card.driver,
            factor.value(),
            factor.rows()
        ));
    }
    let sum = fingerprint(text.as_bytes(), SEED);
    let lines = tuning.entries.len() + tuning.factors.len();
    text.push_str(&format!("end {lines} {sum:016x}\n"));
    text
}

/// Entries and factors of a text.
fn parse(text: &str, card: Card) -> Result<Tuning, TuningReason> {
    let (format, body, count) = checked(text)?;
    let mut tuning = Tuning::new(card);
    for (index, line) in body.lines().enumerate().skip(1) {
        let damaged = |what| TuningReason::Line {
            line: index + 1,
            what,
        };
        let fields: Vec<&str> = line.split('\t').collect();
        if format >= FORMAT && fields.len() != 9 && fields[0] == FACTOR {
            let (key, entry) = factor(&fields).map_err(damaged)?;
            tuning.factors.insert(key, entry);
            continue;
        }
        let (key, entry) = entry(&fields).map_err(damaged)?;
        let former = |(old, _): &&(&str, &str)| {
            let rest = entry.kernel.strip_prefix(old);
            rest.is_some_and(|rest| rest.starts_with('_'))
        };
        if let Some(&(old, new)) = RENAMED.iter().find(former) {
            let line = index + 1;
            return Err(TuningReason::Renamed { line, old, new });
        }
        tuning.entries.insert(key, entry);
    }
    match count.parse::<usize>() {
        Ok(count) if tuning.entries.len() + tuning.factors.len() == count => Ok(tuning),
        _ => Err(TuningReason::CutOff),
    }
}

/// The format of a text, its lines before the last one, and the number of lines that the last one
/// has. The checksum is right.
fn checked(text: &str) -> Result<(u32, &str, &str), TuningReason> {
    // What a program leaves that was stopped before it wrote.
    if text.is_empty() {
        return Err(TuningReason::CutOff);
    }
    let (first, _) = text.split_once('\n').ok_or(TuningReason::Foreign)?;
    let format = first
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.strip_prefix(' '))
        .and_then(|digits| digits.parse::<u32>().ok())
        .ok_or(TuningReason::Foreign)?;
    if !(FORMAT_OF_KERNELS..=FORMAT).contains(&format) {
        return Err(TuningReason::Format { found: format });
    }
    let body = text.strip_suffix('\n').ok_or(TuningReason::CutOff)?;
    let (_, last) = body.rsplit_once('\n').ok_or(TuningReason::CutOff)?;
    let (count, sum) = last
        .strip_prefix("end ")
        .and_then(|rest| rest.split_once(' '))
        .ok_or(TuningReason::CutOff)?;
    let body = &body[..body.len() - last.len()];
    if sum != format!("{:016x}", fingerprint(body.as_bytes(), SEED)) {
        return Err(TuningReason::Checksum);
    }
    Ok((format, body, count))
}

/// The factor of a line, or what is wrong with it.
fn factor(fields: &[&str]) -> Result<(FactorKey, FactorEntry), &'static str> {
    let [_, card, driver, build, family, value, rows] = fields else {
        return Err("it has not seven fields");
    };
    if family.is_empty() {
        return Err("a field is empty");
    }
    let driver = driver.parse().map_err(|_| "the driver is no number")?;
    let value = value.parse().map_err(|_| "the factor is no number")?;
    let rows = rows.parse().map_err(|_| "the rows are no number")?;
    let key = FactorKey {
        card: Card::new(card, driver),
        family: (*family).to_owned(),
    };
    let entry = FactorEntry {
        build: (*build).to_owned(),
        factor: Factor::new(value, rows).map_err(|_| "the factor is out of bounds")?,
    };
    Ok((key, entry))
}

/// The entry of a line, or what is wrong with it.
fn entry(fields: &[&str]) -> Result<(Key, Entry), &'static str> {
    let &[
        problem,
        card,
        driver,
        build,
        kernel,
        split_k,
        by,
        amount,
        of,
    ] = fields
    else {
        return Err("it has not nine fields");
    };
    let by = [Measure::Time, Measure::Instructions]
        .into_iter()
        .find(|measure| measure.name() == by)
        .ok_or("nothing is known of what was measured")?;
    let amount: f64 = amount.parse().map_err(|_| "the amount is no number")?;
    // Not a comparison the other way round: NaN must not pass.
    if !(amount >= 0.0 && amount.is_finite()) {
        return Err("the amount is none");
    }
    let split_k: u32 = split_k.parse().map_err(|_| "split-K is no number")?;
    if problem.is_empty() || kernel.is_empty() || split_k == 0 {
        return Err("a field is empty");
    }
    let driver = driver.parse().map_err(|_| "the driver is no number")?;
    let key = Key {
        problem: problem.to_owned(),
        card: Card::new(card, driver),
    };
    let entry = Entry {
        build: build.to_owned(),
        kernel: kernel.to_owned(),
        split_k,
        by,
        amount,
        of: of.parse().map_err(|_| "the candidates are no number")?,
    };
    Ok((key, entry))
}

#[cfg(test)]
mod tests;
