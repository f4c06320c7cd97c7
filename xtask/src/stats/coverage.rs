//! The library's files with a function that one convolution executes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Measure;
use crate::command::Command;
use crate::{Failure, root, work};

pub const NAME: &str = "files_of_a_convolution";

/// The example that is run.
const EXAMPLE: &str = "01_convolution";

/// Builds and runs the example with coverage. Without LLVM's tools of this compiler the count is
/// not taken.
pub fn files() -> Result<Measure, Failure> {
    let Some((profdata, cov)) = tools()? else {
        return Ok(Measure {
            name: NAME,
            value: None,
            places: vec![String::from(
                "no llvm-cov; `rustup component add llvm-tools` installs it",
            )],
        });
    };
    let folder = work().join("coverage");
    let raw = folder.join("profraw");
    if raw.exists() {
        fs::remove_dir_all(&raw)
            .map_err(|error| format!("cannot remove {}: {error}", raw.display()))?;
    }
    // The root package alone, in a folder of its own, whose products have other flags.
    Command::new("cargo run --locked --quiet -p warpconv --example")
        .arg(EXAMPLE)
        .env("WARPCONV_PREBUILT", "1")
        .env("RUSTFLAGS", "-C instrument-coverage")
        .env("CARGO_TARGET_DIR", &folder)
        .env("LLVM_PROFILE_FILE", raw.join("%p-%m.profraw"))
        .run()?;
    let merged = folder.join("merged.profdata");
    Command::new("")
        .program(&profdata)
        .args(["merge", "--sparse", "--output"])
        .arg(&merged)
        .arg(&raw)
        .run()?;
    let json = Command::new("")
        .program(&cov)
        .args(["export", "--summary-only", "--instr-profile"])
        .arg(&merged)
        .arg(folder.join("debug/examples").join(EXAMPLE))
        .output()?;
    let json = serde_json::from_str(&json).map_err(|error| format!("llvm-cov: {error}"))?;
    let files = executed(&json, &root().join("src"));
    match files.is_empty() {
        true => Err(String::from(
            "llvm-cov reports no executed file of the library",
        )),
        false => Ok(Measure::count(NAME, files)),
    }
}

/// `llvm-profdata` and `llvm-cov` of the compiler's own LLVM: only they read its format for sure.
fn tools() -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    let library = Command::new("rustc --print target-libdir").output()?;
    let folder = Path::new(library.trim()).with_file_name("bin");
    let tool = |name: &str| {
        let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        path.is_file().then_some(path)
    };
    Ok(tool("llvm-profdata").zip(tool("llvm-cov")))
}

/// The files below `folder` with an executed function.
fn executed(export: &Value, folder: &Path) -> Vec<String> {
    let files = export["data"][0]["files"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    files
        .iter()
        .filter(|file| file["summary"]["functions"]["covered"].as_u64() > Some(0))
        .filter_map(|file| {
            let path = Path::new(file["filename"].as_str()?);
            let inside = path
                .strip_prefix(folder)
                .or_else(|_| path.strip_prefix("src"))
                .ok()?;
            Some(format!(
                "{} of {} functions: src/{}",
                file["summary"]["functions"]["covered"],
                file["summary"]["functions"]["count"],
                inside.display()
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executed_files_of_the_library_are_counted() {
        let file = |name: &str, covered: u64| {
            let functions = serde_json::json!({"covered": covered, "count": 9});
            serde_json::json!({"filename": name, "summary": {"functions": functions}})
        };
        let export = serde_json::json!({"data": [{"files": [
            file("/w/src/plan/mod.rs", 3),
            file("/w/src/lib.rs", 0),
            file("/w/emulator/src/lib.rs", 3),
        ]}]});
        assert_eq!(
            executed(&export, Path::new("/w/src")),
            ["3 of 9 functions: src/plan/mod.rs"]
        );
    }
}
