//! The order of the library's modules, and names that are retired.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of the data flow: none imports one that comes after it. `error` and
/// `files` stand outside.
const CHAIN: [&str; 8] = [
    "problem", "kernels", "ptx", "plan", "device", "launch", "graph", "ops",
];

/// Every Rust file below a folder of the repository.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of a file that are neither comments nor its unit tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate();
    lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

/// The modules that a line names by `crate::`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The place of a module in the chain.
fn place(module: &str) -> Option<usize> {
    CHAIN.iter().position(|&name| name == module)
}

/// The imports of `text`, a file of `module`, that go up the chain.
fn upward<'a>(module: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let Some(own) = place(module) else {
        return Vec::new();
    };
    code(text)
        .flat_map(|(at, line)| imports(line).map(move |name| (at, name)))
        .filter(|(_, name)| place(name).is_some_and(|other| other > own))
        .collect()
}

#[test]
fn no_module_imports_a_later_one() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for path in files {
        let inside = path.strip_prefix(&source).expect("a file of src");
        let first = inside.components().next().expect("a name");
        let module = first.as_os_str().to_str().expect("UTF-8");
        let module = module.trim_end_matches(".rs").to_owned();
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable file");
        for (line, name) in upward(&module, &text) {
            wrong.push(format!("src/{}:{line} imports {name}", inside.display()));
        }
        seen.push(module);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for module in CHAIN {
        assert!(
            seen.iter().any(|s| s == module),
            "src has no module {module}"
        );
    }
}

#[test]
fn upward_imports_are_found() {
    let text = "use crate::problem::Conv2d; // crate::launch\nuse crate::launch::{Element};\n\
                fn f(x: crate::error::Error) {}\n#[cfg(test)]\nmod tests {\nuse crate::ops;\n}";
    assert_eq!(upward("plan", text), [(2, "launch")]);
    assert_eq!(upward("launch", text), []);
    assert_eq!(upward("error", text), []);
}

/// A name that is retired in the files whose path begins with a prefix.
struct Retired<'a> {
    name: &'a str,
    paths: Vec<&'a str>,
}

/// The list: per line a name and the prefixes of the paths where it is retired.
fn retired(list: &str) -> Vec<Retired<'_>> {
    let lines = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a name");
            let paths: Vec<&str> = words.collect();
            assert!(!paths.is_empty(), "{name} is retired nowhere");
            Retired { name, paths }
        })
        .collect()
}

/// The first line of a text that has the name as a whole word.
fn line_with(text: &str, name: &str) -> Option<usize> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines().position(|line| {
        line.match_indices(name).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + name.len()..].chars().next();
            !before.is_some_and(word) && !after.is_some_and(word)
        })
    })
}

/// The files of the repository in which names can be retired: sources and documents.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "prebuilt", "data"].contains(&name) {
                sources(&path, found);
            }
        } else if [".rs", ".cu", ".cuh", ".md", ".toml"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
}

#[test]
fn retired_names_stay_retired() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("tests/retired_names.txt")).expect("the list");
    let retired = retired(&list);
    assert!(retired.len() > 50, "{} names", retired.len());
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut found = Vec::new();
    for path in files {
        let inside = path.strip_prefix(root).expect("a file of the repository");
        let inside = inside.to_str().expect("UTF-8").replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap_or_default();
        for Retired { name, paths } in &retired {
            if paths.iter().any(|prefix| inside.starts_with(prefix))
                && let Some(line) = line_with(&text, name)
            {
                found.push(format!("{inside}:{}: {name}", line + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn names_are_found_as_whole_words() {
    assert_eq!(line_with("a\nlorem_of lorem", "lorem"), Some(1));
    assert_eq!(line_with("a\nlorem_of unlorem", "lorem"), None);
    let list = "# comment\nLorem src/ cli/\n";
    let all = retired(list);
    assert_eq!((all.len(), all[0].name), (1, "Lorem"));
    assert_eq!(all[0].paths, ["src/", "cli/"]);
}

/// A line of device code that breaks a rule of `kernels/`.
fn device_faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut code = false;
    for (at, line) in text.lines().enumerate() {
        let statement = line.split("//").next().unwrap_or_default().trim();
        let words = statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut fault = |what: &str| faults.push(format!("{path}:{}: {what}", at + 1));
        if line.chars().count() > 100 {
            fault("longer than 100 columns");
        }
        if statement.starts_with("#include") && code {
            fault("an include below code");
        }
        code |= !statement.is_empty() && !statement.starts_with('#');
        if words.clone().any(|word| word.starts_with("CONFIG_")) && path != "config.cuh" {
            fault("a definition of the catalog is read by config.cuh alone");
        }
        let conditional = ["#if", "#el", "#end"]
            .iter()
            .any(|start| statement.starts_with(start));
        // The entry point, the function specifier, and the operand lists of wgmma.
        let macros = ["config.cuh", "types.cuh", "ptx/wgmma.cuh"];
        // The variables of the watchdog, which other modules must not have: no template defines a
        // variable with C linkage.
        let watchdog = ["#if CONFIG_WATCHDOG", "#endif"].contains(&statement);
        let conditional = conditional && !(path == "config.cuh" && watchdog);
        if conditional || (statement.starts_with("#define") && !macros.contains(&path)) {
            fault("the preprocessor decides nothing: use if constexpr or a template");
        }
        let instruction = words.clone().any(|word| word == "asm") && !statement.contains("(\"\"");
        if instruction && !path.starts_with("ptx/") && path != "types.cuh" {
            fault("an instruction stands in kernels/ptx");
        }
    }
    faults
}

#[test]
fn device_code_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.retain(|path| {
        path.extension()
            .is_some_and(|end| end == "cu" || end == "cuh")
    });
    assert!(files.len() > 60, "{} files", files.len());
    let mut faults = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&root).expect("a file of kernels");
        let inside = inside.to_str().expect("UTF-8").replace('\\', "/");
        let text = fs::read_to_string(&path).expect("a readable file");
        faults.extend(device_faults(&inside, &text));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The types that device code defines, template specialisations left out.
fn device_types(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
    let code = lines.join(" ");
    let mut types = Vec::new();
    for statement in code.split_inclusive([';', '{', '}']) {
        let (statement, end) = statement.split_at(statement.len() - 1);
        let statement = statement.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(alias) = statement.strip_prefix("typedef ") {
            let alias = alias.split('[').next().unwrap_or_default().trim_end();
            let start = alias.rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
            types.push(alias[start..].to_owned());
        }
        let kinds = ["struct ", "union ", "enum class "];
        let after = |kind| Some(&statement[statement.find(kind)? + str::len(kind)..]);
        let Some(mut name) = kinds.into_iter().find_map(after) else {
            continue;
        };
        if name.starts_with("alignas(") {
            name = name.rsplit(')').next().unwrap_or_default().trim_start();
        }
        let length = name.find(|c| !is_name(c)).unwrap_or(name.len());
        let (name, rest) = name.split_at(length);
        if end == "{" && !rest.starts_with('<') {
            types.push(name.to_owned());
        }
    }
    types
}

#[test]
fn a_type_of_device_code_is_defined_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files {
        let inside = path.strip_prefix(&root).expect("a file of kernels");
        let inside = inside.to_str().expect("UTF-8").replace('\\', "/");
        if !inside.ends_with(".cu") && !inside.ends_with(".cuh") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable file");
        let types: BTreeSet<String> = device_types(&text).into_iter().collect();
        for name in types {
            defined.entry(name).or_default().push(inside.clone());
        }
    }
    assert!(defined.len() > 100, "{} types", defined.len());
    defined.retain(|_, files| files.len() > 1);
    assert!(
        defined.is_empty(),
        "docs/kernels.md, Device code: {defined:?}"
    );
}

#[test]
fn types_of_device_code_are_found() {
    let text = "struct Storage;\ntemplate <int N>\nstruct alignas(N * sizeof(int)) Lorem {\n\
                struct Storage<1> {\n typedef float type;\n// struct Dolor {\n\
                typedef Select<A, B<1>, C>::kind\n    Never;\ntypedef float Ipsum[2][3];\n\
                enum class Sit { A };\nunion alignas(16) Amet {\n";
    let found = device_types(text);
    assert_eq!(found, ["Lorem", "type", "Never", "Ipsum", "Sit", "Amet"]);
}

#[test]
fn faults_of_device_code_are_found() {
    let lines = |path: &str, text: &str| device_faults(path, text).len();
    assert_eq!(
        lines("mma/mma.cu", "// a\n#include \"types.cuh\"\nint a;\n"),
        0
    );
    assert_eq!(lines("mma/mma.cu", "int a;\n#include \"types.cuh\"\n"), 1);
    assert_eq!(lines("mma/mma.cu", "#if TILE_M > 1\n#endif\n"), 2);
    assert_eq!(lines("mma/mma.cu", "#define Tile PlainTile\n"), 1);
    assert_eq!(lines("mma/mma.cu", "int a = CONFIG_TILE_M;\n"), 1);
    assert_eq!(
        lines("config.cuh", "constexpr int TILE_M = CONFIG_TILE_M;\n"),
        0
    );
    assert_eq!(lines("config.cuh", "#if CONFIG_WATCHDOG\n#endif\n"), 0);
    assert_eq!(lines("config.cuh", "#if CONFIG_SM > 80\n#endif\n"), 1);
    assert_eq!(lines("mma/mma.cu", "asm volatile(\"ret;\");\n"), 1);
    assert_eq!(lines("ptx/mma.cuh", "asm volatile(\"ret;\");\n"), 0);
    assert_eq!(lines("mma/mma.cu", &"x".repeat(101)), 1);
}
