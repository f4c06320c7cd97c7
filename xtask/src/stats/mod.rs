//! `cargo xtask stats`: counts that are held down, each with a target and a limit in
//! `xtask/limits.txt`.

mod coverage;
mod imports;
mod sources;

use std::fs;

use clap::Args;
use serde_json::Value;

use crate::command::Command;
use crate::{Failure, root, target};

#[derive(Args)]
pub struct Options {
    /// Fail if a count exceeds its limit
    #[arg(long)]
    check: bool,
    /// Count also the files that one convolution passes: builds an example with coverage
    #[arg(long)]
    coverage: bool,
    /// Print where each counted thing stands
    #[arg(long)]
    verbose: bool,
}

/// A count.
struct Measure {
    name: &'static str,
    /// `None` if it cannot be taken, with the reason in `places`.
    value: Option<f64>,
    /// Counted number.
    places: Vec<String>,
}

impl Measure {
    /// The number of places.
    fn count(name: &'static str, places: Vec<String>) -> Measure {
        Measure {
            name,
            value: Some(places.len() as f64),
            places,
        }
    }
}

/// A line of the file of limits.
#[derive(Debug, PartialEq)]
struct Limit {
    name: String,
    target: f64,
    limit: f64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let path = root().join("xtask/limits.txt");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let limits = limits(&text)?;
    let measures = measures(options)?;
    let mut wrong = Vec::new();
    println!(
        "{:26} {:>10} {:>10} {:>10}",
        "measure", "count", "limit", "target"
    );
    for measure in &measures {
        let limit = limits
            .iter()
            .find(|limit| limit.name == measure.name)
            .ok_or_else(|| format!("xtask/limits.txt has no line {}", measure.name))?;
        wrong.extend(report(measure, limit));
        if options.verbose {
            measure
                .places
                .iter()
                .for_each(|place| println!("    {place}"));
        }
    }
    match wrong.is_empty() || !options.check {
        true => Ok(()),
        false => Err(format!(
            "{}; `cargo xtask stats --verbose` shows the places",
            wrong.join("; ")
        )),
    }
}

/// Prints a measure, and returns a sentence if it exceeds its limit.
fn report(measure: &Measure, limit: &Limit) -> Option<String> {
    let Some(value) = measure.value else {
        println!(
            "{:26} not taken: {}",
            measure.name,
            measure.places.join(" ")
        );
        return None;
    };
    let note = match () {
        () if value > limit.limit => "  exceeds its limit",
        () if value < limit.limit && limit.limit > limit.target => "  its limit can be lowered",
        () => "",
    };
    let value_text = (value * 100.0).round() / 100.0;
    println!(
        "{:26} {value_text:>10} {:>10} {:>10}{note}",
        measure.name, limit.limit, limit.target
    );
    (value > limit.limit).then(|| {
        format!(
            "{} is {value_text}, its limit {}",
            measure.name, limit.limit
        )
    })
}

fn limits(text: &str) -> Result<Vec<Limit>, Failure> {
    let wrong = |line: &str| format!("xtask/limits.txt: not a name and two numbers: {line}");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| limit(line).ok_or_else(|| wrong(line)))
        .collect()
}

fn limit(line: &str) -> Option<Limit> {
    let mut words = line.split_whitespace();
    let limit = Limit {
        name: words.next()?.to_owned(),
        target: words.next()?.parse().ok()?,
        limit: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(limit)
}

fn measures(options: &Options) -> Result<Vec<Measure>, Failure> {
    let files = tracked()?;
    let sources = sources::read(&files)?;
    let coverage = match options.coverage {
        true => coverage::files()?,
        false => Measure {
            name: coverage::NAME,
            value: None,
            places: vec![String::from("use --coverage")],
        },
    };
    Ok(vec![
        sources::files_per_algorithm(&sources)?,
        coverage,
        public_items()?,
        imports::library(&sources),
        imports::emulator(&sources),
        test_programs("test_programs", |package| package != "ptx-emulator")?,
        test_programs("test_programs_emulator", |package| {
            package == "ptx-emulator"
        })?,
        sources::clause_comments(&sources),
        sources::long_lines(&sources),
        tree_bytes(&files)?,
    ])
}

/// The files of the repository.
fn tracked() -> Result<Vec<String>, Failure> {
    let list = Command::new("git ls-files -z").output()?;
    let files: Vec<String> = list
        .split('\0')
        .filter(|path| !path.is_empty() && root().join(path).exists())
        .map(str::to_owned)
        .collect();
    match files.is_empty() {
        true => Err(String::from("git lists no files")),
        false => Ok(files),
    }
}

/// The size of the tree without history.
fn tree_bytes(files: &[String]) -> Result<Measure, Failure> {
    let mut sizes = Vec::with_capacity(files.len());
    for path in files {
        let size =
            fs::symlink_metadata(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
        sizes.push((size.len(), path));
    }
    sizes.sort_by(|a, b| b.cmp(a));
    let largest = sizes.iter().take(20);
    Ok(Measure {
        name: "tree_bytes",
        value: Some(sizes.iter().map(|(size, _)| *size as f64).sum()),
        places: largest
            .map(|(size, path)| format!("{size:9} {path}"))
            .collect(),
    })
}

/// Items that `cargo doc` lists for the library: the items of its page of all items, and the
/// methods and constants that their pages list without those of traits.
fn public_items() -> Result<Measure, Failure> {
    Command::new("cargo doc --locked --quiet -p warpconv --no-deps")
        .env("WARPCONV_PREBUILT", "1")
        .output()?;
    let folder = target().join("doc/warpconv");
    let read = |path: &str| {
        let page = folder.join(path);
        fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))
    };
    let mut items = Vec::new();
    for link in listed_items(&read("all.html")?) {
        let members = members(&read(&link)?);
        items.extend(members.iter().map(|member| format!("{link} {member}")));
        items.push(link);
    }
    match items.is_empty() {
        true => Err(String::from("cargo doc lists nothing")),
        false => Ok(Measure::count("public_items", items)),
    }
}

/// The links of rustdoc's page of all items.
fn listed_items(page: &str) -> Vec<String> {
    page.split("<li><a href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|link| link.ends_with(".html"))
        .map(str::to_owned)
        .collect()
}

/// The inherent methods and constants on the page of an item.
fn members(page: &str) -> Vec<String> {
    page.split("<section id=\"")
        .skip(1)
        .filter_map(|rest| {
            let (id, rest) = rest.split_once("\" class=\"")?;
            let class = rest.split('"').next()?;
            matches!(class, "method" | "associatedconstant").then(|| id.to_owned())
        })
        .collect()
}

/// Programs that `cargo test` builds of `tests/` folders.
fn test_programs(name: &'static str, of: impl Fn(&str) -> bool) -> Result<Measure, Failure> {
    let metadata = Command::new("cargo metadata --no-deps --format-version 1 --locked").output()?;
    let metadata =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let places = targets(&metadata, "test")
        .into_iter()
        .filter(|(package, _)| of(package))
        .map(|(package, program)| format!("{package}: {program}"));
    Ok(Measure::count(name, places.collect()))
}

/// Package and name of each target of a kind.
fn targets(metadata: &Value, kind: &str) -> Vec<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            if list(&target["kind"]).iter().any(|one| one == kind) {
                found.push((text(&package["name"]), text(&target["name"])));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_held() {
        let text = "# comment\n\nlong_lines 0 12\n";
        let limits = limits(text).unwrap();
        assert_eq!((limits[0].target, limits[0].limit), (0.0, 12.0));
        let lines = |count: usize| Measure::count("long_lines", vec![String::new(); count]);
        assert_eq!(report(&lines(12), &limits[0]), None);
        assert!(report(&lines(13), &limits[0]).is_some());
        assert!(super::limits("long_lines 0").is_err());
    }

    #[test]
    fn the_file_of_limits_has_no_limit_below_its_target() {
        for limit in limits(include_str!("../../limits.txt")).unwrap() {
            assert!(limit.limit >= limit.target, "{limit:?}");
        }
    }

    #[test]
    fn items_and_programs_are_found_in_what_cargo_writes() {
        let page = "<ul><li><a href=\"plan/struct.Plan.html\">Plan</a></li>\
            <li><a href=\"fn.text.html\">text</a></li></ul>";
        assert_eq!(
            listed_items(page),
            ["plan/struct.Plan.html", "fn.text.html"]
        );
        let page = "<section id=\"method.new\" class=\"method\"><section id=\"method.fmt\" \
            class=\"method trait-impl\">";
        assert_eq!(members(page), ["method.new"]);
        let metadata = serde_json::json!({"packages": [{"name": "a", "targets": [
            {"kind": ["lib"], "name": "a"},
            {"kind": ["test"], "name": "t"},
        ]}]});
        assert_eq!(
            targets(&metadata, "test"),
            [("a".to_owned(), "t".to_owned())]
        );
    }
}
