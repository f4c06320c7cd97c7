//! The environment of a run: card, driver, libraries, system. Nothing is changed.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Context;
use super::process::{self, Background, Job};

/// Time of each short program.
const LIMIT: Duration = Duration::from_secs(10);

/// Fields that nvidia-smi samples every second.
const SAMPLED: &str = "timestamp,index,clocks.sm,clocks.mem,temperature.gpu,power.draw,\
    utilization.gpu,memory.used,clocks_throttle_reasons.active";

/// Fields that nvidia-smi prints once.
const CARD: &str = "name,driver_version,vbios_version,pstate,clocks.sm,clocks.mem,clocks.max.sm,\
    clocks.max.mem,temperature.gpu,power.draw,power.limit,memory.total,memory.used,\
    ecc.mode.current,compute_mode,persistence_mode,mig.mode.current";

/// Script that prints the versions of Python packages. They are not imported, since that takes
/// seconds.
const PYTHON: &str = "import importlib.metadata as m\n\
    for name in ('torch', 'nvidia-cudnn-cu13', 'nvidia-cudnn-cu12', 'triton'):\n\
    \x20   try: print(name, m.version(name), m.distribution(name).locate_file(''))\n\
    \x20   except m.PackageNotFoundError: pass\n";

/// Samples clocks, temperature and power into `smi.csv` until it is dropped; the reason if it
/// cannot.
pub fn sampler(context: &Context) -> Result<Background, String> {
    if context.emulated {
        return Err("the emulator has no clocks".to_owned());
    }
    let query = format!("--query-gpu={SAMPLED}");
    let args = [query.as_str(), "--format=csv,nounits", "-l", "1"];
    let job = Job::new("nvidia-smi", &args, context.file("smi.csv"));
    Background::start(&job).map_err(|error| format!("nvidia-smi: {error}"))
}

/// Returns whether the card belongs to one process at a time.
pub fn is_exclusive(context: &Context) -> bool {
    if context.emulated {
        return false;
    }
    let args = ["--query-gpu=compute_mode", "--format=csv,noheader"];
    let log = context.scratch("asked");
    let mode = process::output("nvidia-smi", &args, &log, LIMIT, &context.clock);
    mode.is_ok_and(|mode| mode.contains("Exclusive"))
}

/// Describes the environment, as lines `name: value`.
pub fn describe(context: &Context) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // A String takes everything.
        let _ = writeln!(text, "{name}: {}", value.trim().replace('\n', "\n    "));
    };
    line(
        "warpconv",
        &format!("{}, commit {}", env!("CARGO_PKG_VERSION"), super::commit()),
    );
    line("device", &context.device.to_string());
    line("programs", &context.programs.display().to_string());
    system(context, &mut line);
    let short = |program: &str, args: &[&str]| {
        let log = context.scratch("asked");
        process::output(program, args, &log, LIMIT, &context.clock).unwrap_or_else(|why| why)
    };
    if context.emulated {
        line(
            "card",
            "none: the emulator runs on this machine's processor",
        );
    } else {
        let query = format!("--query-gpu={CARD}");
        line("card", &short("nvidia-smi", &[&query, "--format=csv"]));
        line("card, all", &short("nvidia-smi", &["-q"]));
        line(
            "processes on the card",
            &short("nvidia-smi", &["pmon", "-c", "1"]),
        );
    }
    line("python3", &short("python3", &["--version"]));
    line("Python packages", &short("python3", &["-c", PYTHON]));
    let loader = short(
        "sh",
        &[
            "-c",
            "ldconfig -p | grep -E 'libcuda\\.|cudnn|cublas|nvrtc'",
        ],
    );
    line("libraries of the loader", &loader);
    for name in [
        "compute-sanitizer",
        "ncu",
        "nsys",
        "cuda-gdb",
        "nvcc",
        "ptxas",
    ] {
        let found = tool(name).map_or("not found".to_owned(), |path| path.display().to_string());
        line(name, &found);
    }
    for (name, value) in env::vars() {
        let ours = ["WARPCONV_", "CUDA_", "PTX_EMULATOR_", "NVIDIA_"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            line(&name, &value);
        }
    }
    text
}

/// Describes operating system and processor.
fn system(context: &Context, line: &mut impl FnMut(&str, &str)) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |path: &str, name: &str| {
        let text = read(path);
        let value = text.lines().find(|line| line.starts_with(name));
        let value = value.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    line("kernel", &read("/proc/sys/kernel/osrelease"));
    let log = context.scratch("asked");
    let glibc = process::output(
        "getconf",
        &["GNU_LIBC_VERSION"],
        &log,
        LIMIT,
        &context.clock,
    );
    line("libc", &glibc.unwrap_or_else(|why| why));
    let release = read("/etc/os-release");
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line("system", pretty.unwrap_or("unknown"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = field("/proc/cpuinfo", "model name");
    line("processor", &format!("{model}, {cores} cores"));
    line("memory", &field("/proc/meminfo", "MemTotal"));
    line("NVIDIA kernel module", &read("/proc/driver/nvidia/version"));
}

/// A tool by its name: on PATH, else where NVIDIA's installers put it.
pub fn tool(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&paths).collect();
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        folders.extend(env::var_os(variable).map(|home| PathBuf::from(home).join("bin")));
    }
    folders.push("/usr/local/cuda/bin".into());
    folders.push("/usr/local/cuda/compute-sanitizer".into());
    // Each version in a folder of its own; the last is the newest.
    for parent in ["/opt/nvidia/nsight-compute", "/opt/nvidia/nsight-systems"] {
        let mut versions = children(Path::new(parent));
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    let candidates = folders.into_iter().map(|folder| folder.join(name));
    candidates.into_iter().find(|path| path.is_file())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
