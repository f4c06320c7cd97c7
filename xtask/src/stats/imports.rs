//! Imports against the direction of data flow.

use super::Measure;
use super::sources::Source;

/// The library's modules in the order of data flow. `error` and `files` stand outside.
const LIBRARY: [&str; 8] = [
    "problem", "kernels", "ptx", "plan", "device", "launch", "graph", "ops",
];

/// The emulator's modules in the order of data flow. `report` and the modules of limits and types
/// that every stage has stand outside.
const EMULATOR: [&str; 8] = [
    "ptx",
    "ir",
    "lower",
    "exec::machine",
    "exec::memory",
    "exec::instructions",
    "sanitizer",
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

/// The places in the files under `folder` that name a later module of `chain` by `crate::`.
fn upward(sources: &[Source], folder: &str, chain: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        let Some(inside) = source.path.strip_prefix(folder) else {
            continue;
        };
        let module = inside.trim_end_matches(".rs").replace('/', "::");
        let own = chain
            .iter()
            .position(|name| starts_with_path(&module, name));
        let Some(own) = own.filter(|_| !inside.ends_with("tests.rs")) else {
            continue;
        };
        for (at, line) in source.code().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for rest in code.split("crate::").skip(1) {
                if let Some(later) = chain[own + 1..]
                    .iter()
                    .find(|name| starts_with_path(rest, name))
                {
                    places.push(format!("{}:{} names {later}", source.path, at + 1));
                }
            }
        }
    }
    places
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
}
