//! Counts over the text of Rust and CUDA files.

use std::fs;

use super::Measure;
use crate::{Failure, root};

/// Most columns of a line.
const COLUMNS: usize = 100;

/// Words that open a clause where a doc comment starts with a verb or a noun.
const CLAUSES: [&str; 5] = ["That", "Whether", "What", "How", "Where"];

/// A Rust or CUDA file.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The text before the file's unit tests.
    pub fn code(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod tests");
        &self.text[..end.unwrap_or(self.text.len())]
    }
}

/// The Rust and CUDA files among `files`.
pub fn read(files: &[String]) -> Result<Vec<Source>, Failure> {
    let wanted = |path: &&String| [".rs", ".cu", ".cuh"].iter().any(|end| path.ends_with(end));
    files
        .iter()
        .filter(wanted)
        .map(|path| {
            let text = fs::read_to_string(root().join(path))
                .map_err(|error| format!("{path}: {error}"))?;
            Ok(Source {
                path: path.clone(),
                text,
            })
        })
        .collect()
}

/// Lines over [`COLUMNS`] columns.
pub fn long_lines(sources: &[Source]) -> Measure {
    let lines = sources.iter().flat_map(|source| {
        let long = source
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.chars().count() > COLUMNS);
        long.map(|(at, _)| format!("{}:{}", source.path, at + 1))
    });
    Measure::count("long_lines", lines.collect())
}

/// The share of doc comments that open with one of [`CLAUSES`].
pub fn clause_comments(sources: &[Source]) -> Measure {
    let (mut all, mut clauses) = (0, Vec::new());
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (line, word) in doc_comments(&source.text) {
            all += 1;
            if CLAUSES.contains(&word) {
                clauses.push(format!("{}:{line} {word}", source.path));
            }
        }
    }
    Measure {
        name: "clause_comments_percent",
        value: Some(100.0 * clauses.len() as f64 / f64::max(all as f64, 1.0)),
        places: clauses,
    }
}

/// The line of each doc comment and its first word.
fn doc_comments(text: &str) -> Vec<(usize, &str)> {
    let mut comments = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let doc = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        if let (Some(doc), false) = (doc, inside) {
            let word = doc
                .split(|c: char| !c.is_alphanumeric() && c != '\'')
                .find(|word| !word.is_empty());
            comments.push((at + 1, word.unwrap_or_default()));
        }
        inside = doc.is_some();
    }
    comments
}

/// The most files that name one variant of `Algorithm`, without tests.
pub fn files_per_algorithm(sources: &[Source]) -> Result<Measure, Failure> {
    let variants = sources
        .iter()
        .find_map(|source| variants(source.code(), "pub enum Algorithm {"))
        .ok_or("no file has a `pub enum Algorithm`")?;
    let folders = [
        "src/",
        "cli/src/",
        "bench/src/",
        "nets/src/",
        "records/src/",
        "testing/src/",
        "build.rs",
    ];
    let files: Vec<&Source> = sources
        .iter()
        .filter(|source| folders.iter().any(|folder| source.path.starts_with(folder)))
        .filter(|source| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"))
        .collect();
    let named = |variant: &str| -> Vec<String> {
        let name = format!("Algorithm::{variant}");
        let names = |source: &&&Source| has_word(source.code(), &name);
        files
            .iter()
            .filter(names)
            .map(|source| source.path.clone())
            .collect()
    };
    let mut counts: Vec<(&str, Vec<String>)> = variants
        .into_iter()
        .map(|variant| (variant, named(variant)))
        .collect();
    counts.sort_by_key(|(_, files)| std::cmp::Reverse(files.len()));
    Ok(Measure {
        name: "files_per_algorithm",
        value: counts.first().map(|(_, files)| files.len() as f64),
        places: counts
            .iter()
            .map(|(variant, files)| format!("{} {variant}: {}", files.len(), files.join(" ")))
            .collect(),
    })
}

/// The variants without fields of the enum that `head` opens.
fn variants<'a>(text: &'a str, head: &str) -> Option<Vec<&'a str>> {
    let body = &text[text.find(head)? + head.len()..];
    let body = &body[..body.find("\n}")?];
    let names = body
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','));
    Some(
        names
            .filter(|name| name.chars().all(char::is_alphanumeric))
            .collect(),
    )
}

/// Finds a path as whole words.
pub fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let behind = text[at + word.len()..].chars().next();
        !behind.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn long_lines_are_counted_in_columns() {
        let sources = [source(
            "a.rs",
            &format!("{}\n{}\n", "é".repeat(100), "x".repeat(101)),
        )];
        assert_eq!(long_lines(&sources).places, ["a.rs:2"]);
    }

    #[test]
    fn doc_comments_are_counted_once() {
        let text = "//! Whether it is so.\n//! What else.\n\n/// A noun.\nfn a() {}\n\
            /// `How` it is.\nfn b() {}\n";
        let measure = clause_comments(&[source("a.rs", text)]);
        assert_eq!(measure.places, ["a.rs:1 Whether", "a.rs:6 How"]);
        assert_eq!(measure.value, Some(200.0 / 3.0));
    }

    #[test]
    fn files_that_name_a_variant_are_counted() {
        let sources = [
            source(
                "src/a.rs",
                "pub enum Algorithm {\n    /// One.\n    Mma,\n    Wgmma,\n}\nAlgorithm::Mma",
            ),
            source(
                "src/b.rs",
                "Algorithm::MmaPooled Algorithm::Wgmma\n#[cfg(test)]\nmod tests { Algorithm::Mma }",
            ),
            source("tests/c.rs", "Algorithm::Mma"),
            source("build.rs", "Algorithm::Mma"),
        ];
        let measure = files_per_algorithm(&sources).unwrap();
        assert_eq!(measure.value, Some(2.0));
        assert_eq!(
            measure.places,
            ["2 Mma: src/a.rs build.rs", "1 Wgmma: src/b.rs"]
        );
        assert!(files_per_algorithm(&sources[1..]).is_err());
    }
}
