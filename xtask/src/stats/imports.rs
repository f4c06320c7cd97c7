//! Imports against the direction of data flow.

use super::Measure;
use super::sources::Source;

/// The library's modules in the order of data flow. `error` and `files` stand outside.
const LIBRARY: [&str; 8] = [
    "problem", "kernels", "ptx", "plan", "device", "launch", "graph", "ops",
];

/// The emulator's modules in the order of data flow: `exec` calls the checks of `sanitizer`.
/// `report` and the modules of types and limits that every stage has stand outside.
const EMULATOR: [&str; 8] = [
    "ir",
    "ptx",
    "lower",
    "sanitizer",
    "exec::machine",
    "exec::memory",
    "exec::instructions",
    "driver",
];

pub fn library(sources: &[Source]) -> Measure {
    Measure::count("upward_imports_library", upward(sources, "src/", &LIBRARY))
}

pub fn emulator(sources: &[Source]) -> Measure {
    Measure::count(
        "upward_imports_emulator",
        upward(sources, "emulator/src/", &EMULATOR),
    )
}

/// The places in the files under `folder` that name a later module of `chain`.
fn upward(sources: &[Source], folder: &str, chain: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        let Some(inside) = source.path.strip_prefix(folder) else {
            continue;
        };
        let module = inside.trim_end_matches(".rs").replace('/', "::");
        let module = module.trim_end_matches("::mod");
        let own = chain.iter().position(|name| starts_with_path(module, name));
        let Some(own) = own.filter(|_| !inside.ends_with("tests.rs")) else {
            continue;
        };
        let code = without_comments(source.code());
        for (at, path) in paths(&code, module) {
            let later = chain[own + 1..]
                .iter()
                .find(|name| starts_with_path(&path, name));
            if let Some(later) = later {
                let line = code[..at].matches('\n').count() + 1;
                places.push(format!("{}:{line} names {later}", source.path));
            }
        }
    }
    places
}

/// The code with its lines, without what stands behind `//`.
fn without_comments(code: &str) -> String {
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Each path that begins with `crate::` or `super::`, with its position, from the crate's root.
fn paths(code: &str, module: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        found.extend(tree(&code[at + 7..]).into_iter().map(|path| (at, path)));
    }
    for (at, _) in code.match_indices("super::") {
        // The first of a chain has the others behind it.
        if code[..at].ends_with("super::") {
            continue;
        }
        let (mut rest, mut parent) = (&code[at..], module);
        while let Some(behind) = rest.strip_prefix("super::") {
            parent = parent.rsplit_once("::").map_or("", |(parent, _)| parent);
            rest = behind;
        }
        let full = |path: String| {
            (
                at,
                format!("{parent}::{path}")
                    .trim_start_matches(':')
                    .to_owned(),
            )
        };
        found.extend(tree(rest).into_iter().map(full));
    }
    found
}

/// The paths of a tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn tree(text: &str) -> Vec<String> {
    let name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c: char| !name(c)).unwrap_or(text.len());
    let head = &text[..end];
    let Some(group) = text[end..]
        .strip_prefix('{')
        .filter(|_| end == 0 || head.ends_with("::"))
    else {
        return vec![head.to_owned()];
    };
    let branches = group_members(group);
    let inner = branches
        .into_iter()
        .flat_map(|branch| tree(branch.trim_start()));
    inner.map(|path| format!("{head}{path}")).collect()
}

/// The parts of a group up to its closing brace, cut at its own commas.
fn group_members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            '}' if depth == 0 => {
                members.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}

/// Compares whole segments: `plan::limits` starts with `plan`, `planner` does not.
fn starts_with_path(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_modules_are_found() {
        let source = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let sources = [
            source(
                "src/plan/limits.rs",
                "use crate::problem::Conv2d; // crate::launch\nuse crate::launch::Element;\n",
            ),
            source(
                "src/launch.rs",
                "use crate::plan::Plan;\n#[cfg(test)]\nmod tests { use crate::ops; }\n",
            ),
            source("src/planner.rs", "use crate::ops;"),
            source(
                "emulator/src/exec/machine/warp.rs",
                "use crate::exec::instructions::int;\n",
            ),
        ];
        assert_eq!(
            library(&sources).places,
            ["src/plan/limits.rs:2 names launch"]
        );
        assert_eq!(
            emulator(&sources).places,
            ["emulator/src/exec/machine/warp.rs:1 names exec::instructions"]
        );
    }

    #[test]
    fn groups_and_parents_are_followed() {
        let code =
            "use crate::{plan, launch::{Element, check::of}};\nfn f(x: super::super::ops::Op) {}";
        let mut found: Vec<String> = paths(code, "kernels::simt")
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        found.sort();
        assert_eq!(
            found,
            ["launch::Element", "launch::check::of", "ops::Op", "plan"]
        );
    }
}
