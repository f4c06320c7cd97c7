//! Checks the direction of imports by the `use` lines of every file.
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order of data flow. None imports a later one. Modules not listed here (`report`,
/// `panics`, `note`, `load_error`) are exempt.
const CHAIN: [&str; 19] = [
    "tensor_map",
    "ir",
    "order",
    "memory",
    "ptx",
    "lower",
    "counters",
    "module",
    "device_config",
    "launch_config",
    "sanitizer",
    "exec::machine",
    "exec::memory",
    "exec::instructions",
    "exec",
    "launch",
    "device",
    "client",
    "driver",
];

#[test]
fn no_module_imports_a_later_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a source file is readable");
        let inside = file.strip_prefix(&root).expect("it was found there");
        let module = inside
            .with_extension("")
            .to_string_lossy()
            .replace('/', "::");
        let Some(own) = layer(&module) else { continue };
        let code = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
        let lines = code
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        for path in lines.flat_map(|line| line.split("crate::").skip(1)) {
            if let Some(later) = layer(path).filter(|&layer| layer > own) {
                wrong.push(format!("{module} imports {}", CHAIN[later]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_longest_name_counts() {
    assert_eq!(
        layer("exec::machine::warp::Warp").map(|i| CHAIN[i]),
        Some("exec::machine")
    );
    assert_eq!(layer("exec::run").map(|i| CHAIN[i]), Some("exec"));
    assert_eq!(layer("exec").map(|i| CHAIN[i]), Some("exec"));
    assert_eq!(layer("executor"), None);
}

/// Index in the chain of the module at the start of a path.
fn layer(path: &str) -> Option<usize> {
    let begins = |name: &str| {
        path.strip_prefix(name)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    (0..CHAIN.len())
        .filter(|&i| begins(CHAIN[i]))
        .max_by_key(|&i| CHAIN[i].len())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("the sources are there")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("layers.rs")
        {
            files.push(path);
        }
    }
}
