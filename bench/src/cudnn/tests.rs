//! The search for cuDNN against a library that is compiled here: it has cuDNN's functions and its
//! name, and reports whether cuBLAS and NVRTC were loaded before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{FUNCTIONS, VARIABLE, find};

/// The variable that makes this program search, in a process of its own.
const SEARCH: &str = "WARPCONV_TEST_SEARCH";

/// Compiles a shared library with a name of its own.
fn compile(source: &str, file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = file.with_extension("rs");
    fs::write(&text, source).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
            "--crate-name",
            "fake",
            "-o",
        ])
        .arg(file)
        .arg("-C")
        .arg(format!("link-arg=-Wl,-soname,{name}"))
        .arg(&text)
        .status()
        .unwrap();
    assert!(status.success(), "{} was not compiled", file.display());
}

/// A cuDNN whose version is 9.10.2 if cuBLAS and NVRTC are loaded when the function is called, else
/// 9.0.0.
fn fake_cudnn(file: &Path) {
    let mut source = String::from(
        "unsafe extern \"C\" { fn dlopen(name: *const u8, flags: i32) -> *mut u8; }\n\
         fn is_loaded(name: &'static [u8]) -> bool {\n\
         // RTLD_LAZY | RTLD_NOLOAD\n\
         !unsafe { dlopen(name.as_ptr(), 1 | 4) }.is_null()\n\
         }\n\
         #[unsafe(no_mangle)]\n\
         extern \"C\" fn cudnnGetVersion() -> usize {\n\
         let both = is_loaded(b\"libcublasLt.so.12\\0\") && is_loaded(b\"libnvrtc.so.12\\0\");\n\
         if both { 91002 } else { 90000 }\n\
         }\n",
    );
    for function in FUNCTIONS {
        if function != "cudnnGetVersion" {
            source.push_str(&format!(
                "#[unsafe(no_mangle)] extern \"C\" fn {function}() -> i32 {{ 1 }}\n"
            ));
        }
    }
    compile(&source, file);
}

/// Not a test of its own: prints what the search finds, for the process that the other test starts.
#[test]
fn search() {
    if std::env::var_os(SEARCH).is_some() {
        match find() {
            Ok(found) => println!("found {found}."),
            Err(why) => println!("not found: {why}."),
        }
    }
}

/// Searches in a process of its own, with these variables; returns its line.
fn searched(root: &Path, variables: &[(&str, &Path)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "cudnn::tests::search", "--nocapture"]);
    for variable in ["CONDA_PREFIX", "VIRTUAL_ENV", "LD_LIBRARY_PATH", VARIABLE] {
        command.env_remove(variable);
    }
    command.env(SEARCH, "1").env("PATH", root).env("HOME", root);
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("found"));
    let line = line.unwrap_or_else(|| panic!("no line of the search: {text}"));
    line[line.find("not found").or(line.find("found")).unwrap()..].to_owned()
}

#[test]
fn a_library_of_an_environment_is_loaded_with_its_dependencies() {
    let root: PathBuf = std::env::temp_dir().join(format!("warpconv-{}-cudnn", std::process::id()));
    let _absent = fs::remove_dir_all(&root);
    let nvidia = root.join("venv/lib/python3.12/site-packages/nvidia");
    let file = nvidia.join("cudnn/lib/libcudnn.so.9");
    fake_cudnn(&file);
    let nothing = "#[unsafe(no_mangle)] extern \"C\" fn warpconv_nothing() {}";
    compile(nothing, &nvidia.join("cublas/lib/libcublasLt.so.12"));
    compile(nothing, &nvidia.join("cuda_nvrtc/lib/libnvrtc.so.12"));
    let venv = root.join("venv");
    let found = format!("found cuDNN 9.10.2 of {}.", file.display());

    // On a machine that has a cuDNN of its own, that one comes first.
    let without = searched(&root, &[]);
    if without.starts_with("not found") {
        assert!(
            without.contains("set WARPCONV_CUDNN to its file or folder"),
            "{without}"
        );
        assert!(
            without.contains("/usr/lib"),
            "it names the places: {without}"
        );
        assert_eq!(searched(&root, &[("VIRTUAL_ENV", &venv)]), found);
    }
    // A folder of packages, and the file itself.
    let site = venv.join("lib/python3.12/site-packages");
    assert_eq!(searched(&root, &[(VARIABLE, &site)]), found);
    assert_eq!(searched(&root, &[(VARIABLE, &file)]), found);

    let nowhere = searched(&root, &[(VARIABLE, &root.join("nowhere"))]);
    assert!(
        nowhere.contains("WARPCONV_CUDNN names no cuDNN: there is no "),
        "{nowhere}"
    );
    // A file that is no library, and a library that lacks cuDNN's functions.
    let text = nvidia.join("cudnn/lib/libcudnn.so.rs");
    let no_library = searched(&root, &[(VARIABLE, &text)]);
    let refused = "WARPCONV_CUDNN names no cuDNN: ";
    assert!(
        no_library.contains(refused) && !no_library.contains("there is no"),
        "{no_library}"
    );
    let empty = root.join("empty/libcudnn.so.9");
    compile(nothing, &empty);
    let lacking = searched(&root, &[(VARIABLE, &empty)]);
    assert!(
        lacking.contains("the cuDNN that is here has no cudnn"),
        "{lacking}"
    );
    // Another library that the loader prefers, since its name has no version.
    let other = root.join("other");
    compile(nothing, &other.join("libcudnn.so"));
    let variables: [(&str, &Path); 2] = [(VARIABLE, &file), ("LD_LIBRARY_PATH", &other)];
    let mixed = searched(&root, &variables);
    assert!(
        mixed.contains("the loader has another libcudnn.so"),
        "{mixed}"
    );
    fs::remove_dir_all(&root).unwrap();
}
