//! The mutated tree and its build.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::points::{Kind, Mutant, find};
use crate::results::{Record, Results};
use crate::rewrite::{Numbered, rewrite, switches};
use crate::tests::Outcome;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A mutant of a file.
#[derive(Clone, Debug)]
pub struct Placed {
    /// From the repository's root.
    pub file: String,
    pub original: String,
    pub mutant: Mutant,
    /// Index among the function's equal mutants.
    pub turn: usize,
}

impl Placed {
    /// Name in the results: independent of what stands elsewhere in the file.
    pub fn key(&self) -> String {
        let Mutant { function, text, .. } = &self.mutant;
        format!(
            "{}|{function}|{}|{text}|{}",
            self.file, self.original, self.turn
        )
    }
}

/// Makes a file quicker to compile: thousands of switches are slow to optimise, the more so once
/// for each level of the processor's instructions. The tests need no more than the first degree of
/// optimisation and this machine's level; an emulator without mutants is built once, and better
/// optimised the tests are faster.
fn lighten(file: &str, bytes: Vec<u8>, emulator: bool) -> Vec<u8> {
    let replace = |pairs: &[(&str, &str)]| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let replaced = pairs
            .iter()
            .fold(text, |text, (from, to)| text.replace(from, to));
        replaced.into_bytes()
    };
    match file {
        "Cargo.toml" if emulator => replace(&[(
            "[profile.dev.package.ptx-emulator]\nopt-level = 3",
            "[profile.dev.package.ptx-emulator]\ndebug = false\nopt-level = 1",
        )]),
        #[cfg(target_arch = "x86_64")]
        "emulator/src/exec/mod.rs" if is_x86_feature_detected!("avx2") => replace(&[
            (
                "work_on::<host_simd::Baseline>",
                "work_on::<host_simd::Avx2>",
            ),
            ("work_on::<host_simd::Avx512>", "work_on::<host_simd::Avx2>"),
        ]),
        _ => bytes,
    }
}

/// A copy of the repository to be mutated.
pub struct Tree {
    root: PathBuf,
    copy: PathBuf,
    pub target: PathBuf,
}

/// Writes a file unless it holds the same already, so that cargo need not build it again.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, bytes)?)
}

impl Tree {
    /// The copy of a repository.
    pub fn of(root: &Path) -> Tree {
        Tree {
            root: root.to_owned(),
            copy: root.join("target/mutate/tree"),
            target: root.join("target/mutate/target"),
        }
    }

    fn files(&self, dir: &str) -> Result<Vec<String>> {
        let list = Command::new("git")
            .args(["ls-files", "-co", "--exclude-standard", dir])
            .current_dir(&self.root)
            .output()?;
        Ok(String::from_utf8(list.stdout)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Copies what git knows and what it would add, but the files that are rewritten: written
    /// twice, they would look changed to cargo.
    fn fill(&self, rewritten: &BTreeSet<&str>, emulator: bool) -> Result<()> {
        for file in self.files(".")? {
            if !rewritten.contains(file.as_str())
                && let Ok(bytes) = std::fs::read(self.root.join(&file))
            {
                write(&self.copy.join(&file), &lighten(&file, bytes, emulator))?;
            }
        }
        Ok(())
    }
}

/// The mutants to try, in the order in which they are tried, and how many there are at all.
pub struct Chosen {
    pub mutants: Vec<Placed>,
    pub all: usize,
}

/// A number that depends on the seed and a mutant only.
fn rank(seed: u64, key: &str) -> u64 {
    // FNV-1a, then mixed: neighbours must not lie together.
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^= hash >> 31;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ hash >> 29
}

/// All mutants of the folders, of which a sample is taken.
pub fn choose(tree: &Tree, dirs: &[String], sample: usize, seed: u64) -> Result<Chosen> {
    let mut mutants = Vec::new();
    for dir in dirs {
        for file in tree.files(dir)? {
            // Files of tests only are no part of the program.
            if file.ends_with("tests.rs") || !file.ends_with(".rs") {
                continue;
            }
            let source = std::fs::read_to_string(tree.root.join(&file))?;
            let mut turns: HashMap<String, usize> = HashMap::new();
            for mutant in find(&source).map_err(|error| format!("{file}: {error}"))? {
                let mut placed = Placed {
                    original: source[mutant.range.clone()].to_owned(),
                    file: file.clone(),
                    mutant,
                    turn: 0,
                };
                let turn = turns.entry(placed.key()).or_default();
                placed.turn = *turn;
                *turn += 1;
                mutants.push(placed);
            }
        }
    }
    let all = mutants.len();
    let planted = planted(tree, dirs)?;
    mutants.sort_by_cached_key(|placed| rank(seed, &placed.key()));
    mutants.truncate(sample);
    mutants.splice(..0, planted);
    Ok(Chosen { mutants, all })
}

/// The faults of `planted.tsv`, which every sample has: file, a text that contains the original,
/// the original, its replacement.
fn planted(tree: &Tree, dirs: &[String]) -> Result<Vec<Placed>> {
    let list = std::fs::read_to_string(tree.root.join("scripts/mutate/planted.tsv"))?;
    let mut planted = Vec::new();
    for line in list.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[file, around, original, text] = &fields[..] else {
            return Err(format!("planted.tsv: {line}").into());
        };
        if !dirs.iter().any(|dir| file.starts_with(dir)) {
            continue;
        }
        let source = std::fs::read_to_string(tree.root.join(file))?;
        let found = source.find(around).zip(around.find(original));
        let (at, skip) = found.ok_or_else(|| format!("planted.tsv: not in {file}: {around}"))?;
        let start = at + skip;
        planted.push(Placed {
            file: file.to_owned(),
            original: original.to_owned(),
            mutant: Mutant {
                kind: Kind::Expression,
                range: start..start + original.len(),
                text: text.to_owned(),
                line: source[..start].matches('\n').count() + 1,
                function: "planted".to_owned(),
            },
            turn: 0,
        });
    }
    Ok(planted)
}

/// A test program.
pub struct Program {
    pub path: PathBuf,
    pub name: String,
    /// Working folder: its package's folder.
    pub folder: PathBuf,
    /// Modules whose tests are left out, as `module::`.
    pub left_out: Vec<String>,
}

/// A build with mutants: number `i + 1` is the `i`-th.
pub struct Built {
    pub mutants: Vec<Placed>,
    pub programs: Vec<Program>,
}

/// Builds the tests, and those named in `also`, with as many of the mutants as the compiler takes.
pub fn build(
    tree: &Tree,
    mutants: Vec<Placed>,
    also: &[String],
    results: &mut Results,
) -> Result<Built> {
    let mut mutants: Vec<Placed> = mutants;
    mutants.retain(|placed| !results.is_invalid(placed));
    let emulator = mutants
        .iter()
        .any(|placed| placed.file.starts_with("emulator/"));
    let library = mutants
        .iter()
        .any(|placed| !placed.file.starts_with("emulator/"));
    // Before any is found not to compile, so that all of their files are rewritten.
    let files: BTreeSet<String> = mutants.iter().map(|placed| placed.file.clone()).collect();
    let mut rewritten: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let roots = [("emulator/src", emulator), ("src", library)];
    let roots: Vec<&str> = roots
        .iter()
        .filter(|root| root.1)
        .map(|root| root.0)
        .collect();
    let files_of_roots: Vec<String> = roots.iter().map(|root| format!("{root}/lib.rs")).collect();
    rewritten.extend(files_of_roots.iter().map(String::as_str));
    tree.fill(&rewritten, emulator)?;
    for round in 1..=20 {
        let texts = write_mutants(tree, &mutants, &roots)?;
        let messages = tests(tree, emulator, library, also)?;
        let bad = culprits(&messages, &texts);
        if bad.is_empty() {
            if messages.iter().any(is_error) {
                return Err(describe(&messages).into());
            }
            let programs = programs(&messages, also);
            if programs.is_empty() {
                return Err("cargo built no tests".into());
            }
            return Ok(Built { mutants, programs });
        }
        println!("round {round}: {} mutants do not compile", bad.len());
        let mut number = 0;
        let mut kept = Vec::new();
        for placed in mutants {
            number += 1;
            if bad.contains(&number) {
                results.add(Record::new(&placed, &Outcome::Invalid))?;
            } else {
                kept.push(placed);
            }
        }
        mutants = kept;
    }
    Err("the mutated tree does not compile".into())
}

/// Writes the mutated files, and the switches into the crates in `roots`, which have mutants; the
/// files' texts by path.
fn write_mutants(
    tree: &Tree,
    mutants: &[Placed],
    roots: &[&str],
) -> Result<BTreeMap<String, String>> {
    let count = mutants.len() as u32 + 1;
    let mut by_file: BTreeMap<&str, Vec<Numbered<'_>>> = BTreeMap::new();
    for (i, placed) in mutants.iter().enumerate() {
        by_file.entry(&placed.file).or_default().push(Numbered {
            number: i as u32 + 1,
            mutant: &placed.mutant,
        });
    }
    let mut texts = BTreeMap::new();
    for (file, list) in by_file {
        let source = std::fs::read_to_string(tree.root.join(file))?;
        let text = rewrite(&source, list);
        write(
            &tree.copy.join(file),
            &lighten(file, text.clone().into_bytes(), true),
        )?;
        texts.insert(file.to_owned(), text);
    }
    for crate_root in roots {
        let library = std::fs::read_to_string(tree.root.join(crate_root).join("lib.rs"))?;
        let with = format!("{library}\nmod mutants;\n");
        write(&tree.copy.join(crate_root).join("lib.rs"), with.as_bytes())?;
        let text = switches(count);
        write(
            &tree.copy.join(crate_root).join("mutants.rs"),
            text.as_bytes(),
        )?;
    }
    Ok(texts)
}

/// Runs cargo; its messages.
fn cargo(tree: &Tree, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = Command::new("cargo")
        .args(arguments)
        .arg("--message-format=json")
        .current_dir(&tree.copy)
        .env("CARGO_TARGET_DIR", &tree.target)
        .env("CARGO_INCREMENTAL", "0")
        .env("WARPCONV_PREBUILT", "1")
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

fn is_error(message: &Value) -> bool {
    message["message"]["level"] == "error"
}

fn describe(messages: &[Value]) -> String {
    let errors = messages.iter().filter(|message| is_error(message));
    errors
        .filter_map(|message| message["message"]["rendered"].as_str())
        .collect()
}

/// The mutants that errors come from: those around the error's place, else those inside of it, else
/// the nearest one.
fn culprits(messages: &[Value], texts: &BTreeMap<String, String>) -> BTreeSet<usize> {
    let mut bad = BTreeSet::new();
    for message in messages.iter().filter(|message| is_error(message)) {
        let mut found = BTreeSet::new();
        let mut nearest = None;
        for span in message["message"]["spans"].as_array().into_iter().flatten() {
            let name = span["file_name"].as_str().unwrap_or_default();
            let Some((_, text)) = texts.iter().find(|(file, _)| name.ends_with(file.as_str()))
            else {
                continue;
            };
            let at = |name: &str| span[name].as_u64().unwrap_or(0) as usize;
            let (start, end) = (at("byte_start"), at("byte_end"));
            let places = places(text);
            let around = places.iter().filter(|p| p.start <= start && end <= p.end);
            found.extend(around.min_by_key(|p| p.end - p.start).map(|p| p.number));
            let inside = places.iter().filter(|p| start <= p.start && p.end <= end);
            if found.is_empty() {
                found.extend(inside.map(|p| p.number));
            }
            let distance = |p: &&Place| p.start.abs_diff(start).min(p.end.abs_diff(end));
            nearest = nearest.or(places.iter().min_by_key(distance).map(|p| p.number));
        }
        if found.is_empty() {
            found.extend(nearest);
        }
        bad.extend(found);
    }
    bad
}

struct Place {
    number: usize,
    start: usize,
    end: usize,
}

/// Positions of the mutants' texts, by the comments around them.
fn places(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for (start, _) in text.match_indices("/*<") {
        let number = text[start + 3..]
            .split("*/")
            .next()
            .and_then(|n| n.parse().ok());
        if let Some(number) = number
            && let Some(length) = text[start..].find(&format!("/*>{number}*/"))
        {
            let end = start + length;
            places.push(Place { number, start, end });
        }
    }
    places
}

/// Programs of the emulator's tests. `driver` goes through the shared library, which is mutated
/// like the rest.
const EMULATOR_TESTS: [&str; 3] = ["driver", "instructions", "programs"];

/// Modules of `driver` that take long and are left out unless they are named.
const LONG_MODULES: [&str; 4] = ["fuzz", "limits", "ordering", "streams"];

/// Tests of the library that reach `src/launch` and `src/plan` and do not take minutes.
const LIBRARY_TESTS: [&str; 3] = ["kernels", "launch", "planning"];

/// Builds the test programs; cargo's messages.
fn tests(tree: &Tree, emulator: bool, library: bool, also: &[String]) -> Result<Vec<Value>> {
    let mut arguments = vec!["test", "--no-run", "--lib"];
    let mut packages: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    let also = also.iter().map(String::as_str);
    if emulator {
        let names = EMULATOR_TESTS.into_iter().chain(also.clone()).collect();
        packages.push(("ptx-emulator", "emulator/tests", names));
    }
    if library {
        let names = LIBRARY_TESTS.into_iter().chain(also).collect();
        packages.push(("warpconv", "tests", names));
    }
    for (package, folder, names) in packages {
        arguments.extend(["-p", package]);
        for name in names {
            let tests = tree.copy.join(folder);
            if tests.join(format!("{name}.rs")).exists()
                || tests.join(name).join("main.rs").exists()
            {
                arguments.extend(["--test", name]);
            }
        }
    }
    cargo(tree, &arguments)
}

/// Modules of a program that are left out, unless they are named in `also`.
fn left_out(program: &str, also: &[String]) -> Vec<String> {
    if program != "driver" {
        return Vec::new();
    }
    LONG_MODULES
        .iter()
        .filter(|module| !also.iter().any(|name| name == *module))
        .map(|module| format!("{module}::"))
        .collect()
}

/// The test programs that cargo's messages name.
fn programs(messages: &[Value], also: &[String]) -> Vec<Program> {
    let mut programs = Vec::new();
    for message in messages
        .iter()
        .filter(|message| message["profile"]["test"] == true)
    {
        let (path, manifest) = (&message["executable"], &message["manifest_path"]);
        let (Some(path), Some(manifest)) = (path.as_str(), manifest.as_str()) else {
            continue;
        };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        programs.push(Program {
            path: path.into(),
            name: name.to_owned(),
            left_out: left_out(name, also),
            folder: Path::new(manifest)
                .parent()
                .map(Path::to_owned)
                .unwrap_or_default(),
        });
    }
    programs
}
