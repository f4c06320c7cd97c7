//! Checks the direction of imports by the paths of every file that begin with `crate::`.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order of data flow. None imports a later one. Modules not listed here (`report`,
/// `panics`, `note`, `load_error`) are exempt.
const CHAIN: [&str; 41] = [
    "random",
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
    "driver::status",
    "driver::types",
    "driver::registry",
    "driver::device_profiles",
    "driver::queue::schedule",
    "driver::config",
    "driver::journal",
    "driver::contain",
    "driver::touched",
    "driver::backend",
    "driver::state",
    "driver::release",
    "driver::current",
    "driver::work",
    "driver::queue::task",
    "driver::ordering",
    "driver::queue",
    "driver::guard",
    "driver::capture",
    "driver::submit",
    "driver::resources",
    // The calls of the driver API.
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
        let module = module_of(file, &root);
        let Some(own) = layer(&module) else { continue };
        let text = code(file);
        for path in text.split("crate::").skip(1).flat_map(members) {
            if let Some(later) = layer(path).filter(|&layer| layer > own) {
                wrong.push(format!("{module} imports {}", CHAIN[later]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The driver's files import each other without a circle.
#[test]
fn the_drivers_files_form_no_circle() {
    let imports = imports("driver");
    assert!(imports.len() > 40, "{} files", imports.len());
    assert!(imports["memory"].contains("state") && imports["state"].contains("state::context"));
    assert_without_circle(imports);
}

/// The files of the families of instructions import each other without a circle.
#[test]
fn the_families_of_instructions_form_no_circle() {
    let imports = imports("exec::instructions");
    assert!(imports.len() > 30, "{} files", imports.len());
    assert!(imports["bulk"].contains("isa") && imports["host_simd"].contains("moves"));
    assert_without_circle(imports);
}

/// The imports within a module, per file. The file of a folder imports the files in it, and a block
/// of driver calls imports the frame of calls.
fn imports(parent: &str) -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = source.join(parent.replace("::", "/"));
    let prefix = format!("crate::{parent}::");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let name = |file: &Path| {
        module_of(file, &root)
            .trim_end_matches("mod")
            .trim_end_matches("::")
            .to_owned()
    };
    let modules: BTreeSet<String> = files.iter().map(|file| name(file)).collect();
    for file in &files {
        let (module, text) = (name(file), code(file));
        // Relative paths would go unseen.
        assert!(
            !text.contains("super::"),
            "{module}: paths begin with `crate`"
        );
        let mut found: BTreeSet<String> = (text.split(prefix.as_str()).skip(1))
            .flat_map(members)
            .filter_map(|path| longest_prefix(path, &modules))
            .collect();
        let is_child = |other: &&String| {
            let parent = other.rsplit_once("::").map_or("", |(parent, _)| parent);
            parent == module && **other != module
        };
        found.extend(modules.iter().filter(is_child).cloned());
        if text.contains("\ndriver! {") {
            found.insert("guard".to_owned());
        }
        imports.insert(module, found);
    }
    imports
}

/// Removes the files whose imports are all gone, until none is left.
fn assert_without_circle(mut imports: BTreeMap<String, BTreeSet<String>>) {
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, found| found.iter().any(|other| left.contains(other)));
        if imports.len() == left.len() {
            break;
        }
    }
    assert!(imports.is_empty(), "a circle among {imports:#?}");
}

/// The path of a file's module below `root`; that of a `mod.rs` ends in `mod`.
fn module_of(file: &Path, root: &Path) -> String {
    let inside = file.strip_prefix(root).expect("it was found there");
    inside
        .with_extension("")
        .to_string_lossy()
        .replace('/', "::")
}

/// The paths of a group, `{a, b::c}`, or a single path.
fn members(path: &str) -> Vec<&str> {
    match path.strip_prefix('{') {
        Some(group) => {
            let group = group.split(';').next().unwrap_or_default();
            group.split(',').map(str::trim).collect()
        }
        None => vec![path],
    }
}

/// The longest module at the start of a path.
fn longest_prefix(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut path = path.split(|c| !is_word(c)).next()?.trim_end_matches(':');
    while !modules.contains(path) {
        path = path.rsplit_once("::")?.0;
    }
    Some(path.to_owned())
}

/// The code of a file without comments and tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a source file is readable");
    let code = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let line = |line: &str| format!("{}\n", line.split("//").next().unwrap_or_default());
    code.lines().map(line).collect()
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
