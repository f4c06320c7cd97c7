//! Writes the table of exported driver functions, and names the shared library `libcuda.so`.
//!
//! `src/driver/exports.txt` lists what the real library exports. A name that a `driver!` block in
//! `src/driver/` implements goes into the table as it is; every other one gets a function that
//! returns `CUDA_ERROR_NOT_SUPPORTED`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/driver");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // cudarc and most other loaders ask for `libcuda.so`; a library already loaded under that
        // name is what they get.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
        // The driver has threads, so its code stays where it is when a client lets go of the
        // library.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // Calls inside the library stay inside it, whatever else in the process exports the same
        // names.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
    let sources = Path::new("src/driver");
    let implemented = implemented(sources)?;
    let exports = fs::read_to_string(sources.join("exports.txt"))?;
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(
        Path::new(&out).join("exports.rs"),
        table(&implemented, &exports),
    )
}

/// Name and module of every function that a `driver!` block defines: `fn cuName(` at the start of a
/// line.
fn implemented(sources: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        let Some(module) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            let Some(rest) = line.trim_start().strip_prefix("fn cu") else {
                continue;
            };
            let Some((name, _)) = rest.split_once('(') else {
                continue;
            };
            if name.starts_with(|c: char| c.is_ascii_uppercase()) {
                found.insert(format!("cu{name}"), module.to_owned());
            }
        }
    }
    Ok(found)
}

fn table(implemented: &BTreeMap<String, String>, exports: &str) -> String {
    let mut rows = BTreeMap::new();
    let mut unsupported = String::from("unsupported! {\n");
    for name in exports.lines().filter(|line| !line.is_empty()) {
        if !implemented.contains_key(name) {
            let _ = writeln!(unsupported, "    {name},");
            rows.insert(name.to_owned(), name.to_owned());
        }
    }
    unsupported.push_str("}\n");
    for (name, module) in implemented {
        rows.insert(name.clone(), format!("super::{module}::{name}"));
    }
    let mut text = unsupported;
    let _ = writeln!(text, "pub static TABLE: &[(&str, Symbol)] = &[");
    for (name, path) in &rows {
        let _ = writeln!(text, "    (\"{name}\", Symbol({path} as *const c_void)),");
    }
    text.push_str("];\n");
    text
}
