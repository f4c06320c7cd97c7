//! NVTX ranges, taken by a profiler's library that is compiled here. Each case is a process of its
//! own. Skipped where there is no rustc.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use crate::common::{gpu, integers, small_conv};
use warpconv::launch::ConvBuffers;
use warpconv::plan::Plan;
use warpconv::problem::{DType, Layout};

/// Set in the process whose launches are watched.
const WATCHED: &str = "WARPCONV_TEST_WATCHED";

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("warpconv-nvtx-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The profiler's library; `None` where there is no compiler.
fn compiled() -> Option<&'static [u8]> {
    static COMPILED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let compile = || {
        let folder = Folder::new("library");
        let to = folder.0.join("libprofiler.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launch/nvtx/profiler.rs");
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
            .args([&to, &source])
            .output()
            .ok()?;
        assert!(output.status.success(), "{}", text(&output.stderr));
        Some(fs::read(to).unwrap())
    };
    COMPILED.get_or_init(compile).as_deref()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs [`child`] with `library` as the profiler's.
fn watch(folder: &Folder, library: &Path, set: &[(&str, &str)]) -> Output {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nvtx::child", "--nocapture"])
        .env(WATCHED, "1")
        .env("NVTX_INJECTION64_PATH", library)
        .env("WARPCONV_TEST_RANGES", folder.0.join("ranges"))
        .envs(set.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// What the profiler was told, and the labels that the child expects.
fn ranges(folder: &Folder, output: &Output) -> (Vec<String>, Vec<String>) {
    let told = fs::read_to_string(folder.0.join("ranges")).unwrap_or_default();
    let printed = text(&output.stdout);
    let label = |line: &str| line.split_once("LABEL ").map(|(_, label)| label.to_owned());
    (
        told.lines().map(str::to_owned).collect(),
        printed.lines().filter_map(label).collect(),
    )
}

/// Launches two convolutions, the second one twice, and a packing; prints the expected labels.
#[test]
fn child() {
    if env::var_os(WATCHED).is_none() {
        return;
    }
    log::set_logger(&Printer).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let gpu = gpu();
    let small = small_conv();
    let wide = small.to_builder().layout(Layout::Nhwc).build().unwrap();
    for (problem, times) in [(small, 1), (wide, 2)] {
        let plan = Plan::new(&problem, gpu.capability()).unwrap();
        let prepared = gpu.prepare(&plan).unwrap();
        let upload = |len, seed| gpu.stream().clone_htod(&integers(len, seed)).unwrap();
        let x = upload(problem.input().len(), 1);
        let w = upload(problem.filter().len(), 2);
        let bias = upload(problem.output().c(), 3);
        let mut y = gpu.stream().alloc_zeros(problem.output().len()).unwrap();
        for _ in 0..times {
            let buffers = ConvBuffers::new(&x, &w, &mut y).bias(&bias);
            prepared.launch::<f32>(gpu.stream(), buffers).unwrap();
            println!("LABEL {}: {problem}", plan.kernel().name());
        }
        gpu.synchronize().unwrap();
    }
    let half = small_conv().to_builder().dtype(DType::F16).build().unwrap();
    let pack = gpu.prepare_pack_filter(&half).unwrap();
    let w = gpu.stream().alloc_zeros::<half::f16>(half.filter().len());
    let packed = gpu.stream().alloc_zeros(pack.packed().filter().len());
    pack.launch(gpu.stream(), &w.unwrap(), &mut packed.unwrap())
        .unwrap();
    gpu.synchronize().unwrap();
    println!("LABEL pack_filter_f16_1x64x32_sm75: {half}");
}

/// Prints what the library logs.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("LOGGED {}", record.args());
    }

    fn flush(&self) {}
}

#[test]
fn a_profiler_is_told_kernel_and_problem_of_each_launch() {
    let Some(library) = compiled() else {
        return;
    };
    let folder = Folder::new("told");
    let path = folder.0.join("libprofiler.so");
    fs::write(&path, library).unwrap();
    let output = watch(&folder, &path, &[]);
    let (told, labels) = ranges(&folder, &output);
    assert_eq!(labels.len(), 4, "{labels:?}");
    let pairs = labels
        .iter()
        .flat_map(|label| [format!("push {label}"), "pop".into()]);
    let expected: Vec<String> = std::iter::once("version 3".into()).chain(pairs).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_profiler_that_cannot_be_loaded_is_named_once_and_launches_go_on() {
    let Some(library) = compiled() else {
        return;
    };
    let folder = Folder::new("refused");
    let path = folder.0.join("libprofiler.so");
    let warnings = |output: &Output| {
        let lines = text(&output.stdout);
        let lines = lines.lines().filter(|line| line.contains("LOGGED"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let says = |output: &Output, reason: &str| {
        let lines = warnings(output);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let named = format!("NVTX_INJECTION64_PATH names {}", path.display());
        assert!(
            lines[0].contains(&named) && lines[0].contains(reason),
            "{lines:?}"
        );
        assert_eq!(ranges(&folder, output).1.len(), 4);
    };
    says(
        &watch(&folder, &path, &[]),
        "cannot open shared object file",
    );
    fs::write(&path, [b'x'; 4096]).unwrap();
    says(&watch(&folder, &path, &[]), "invalid ELF header");
    fs::write(&path, library).unwrap();
    says(
        &watch(&folder, &path, &[("WARPCONV_TEST_REFUSES", "1")]),
        "returns 0",
    );
    assert_eq!(
        ranges(&folder, &watch(&folder, Path::new(""), &[])).1.len(),
        4
    );
    assert_eq!(warnings(&watch(&folder, Path::new(""), &[])), [""; 0]);
}
