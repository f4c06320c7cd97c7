//! nvcc: where it is found, and how it compiles a kernel to PTX that old drivers take.

use super::catalog::Kernel;
use super::{Failure, Module, PINNED_NVCC, Waits, cannot, variable, write};
use ptx_archive::{Archive, Entry};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

/// Options of nvcc besides the architecture and the definitions.
pub(super) const FLAGS: [&str; 4] = ["-ptx", "-O3", "--std=c++17", "-I."];

/// Instructions and qualifiers newer than PTX ISA 6.3, with the version each came in.
const NEWER: [(&str, (u32, u32)); 38] = [
    (".noreturn", (6, 4)),
    ("ldmatrix", (6, 5)),
    ("mma.sync", (6, 5)),
    ("abs.f16", (6, 5)),
    ("cp.async", (7, 0)),
    ("mbarrier", (7, 0)),
    ("redux.sync", (7, 0)),
    (".bf16", (7, 0)),
    (".tf32", (7, 0)),
    (".NaN", (7, 0)),
    (".relu", (7, 0)),
    ("max.f16", (7, 0)),
    ("min.f16", (7, 0)),
    ("tanh.approx", (7, 0)),
    ("mma.sp", (7, 1)),
    ("createpolicy", (7, 4)),
    (".L1::", (7, 4)),
    (".L2::", (7, 4)),
    ("szext", (7, 6)),
    ("cvta.param", (7, 7)),
    ("griddepcontrol", (7, 8)),
    ("barrier.cluster", (7, 8)),
    ("mapa", (7, 8)),
    (".try_wait", (7, 8)),
    ("stmatrix", (7, 8)),
    ("cp.async.bulk", (8, 0)),
    ("wgmma", (8, 0)),
    ("setmaxnreg", (8, 0)),
    ("elect.sync", (8, 0)),
    ("cp.reduce.async", (8, 0)),
    ("fence.proxy.async", (8, 0)),
    ("prefetch.tensormap", (8, 0)),
    ("st.async", (8, 1)),
    ("multimem", (8, 1)),
    ("tensormap.replace", (8, 2)),
    (".b128", (8, 3)),
    ("tensormap.cp_fenceproxy", (8, 3)),
    (".v8", (8, 8)),
];
/// The compiler of this machine, `None` if it has none.
pub fn find_nvcc() -> Result<Option<PathBuf>, Failure> {
    let program = format!("nvcc{}", env::consts::EXE_SUFFIX);
    for name in ["WARPCONV_NVCC", "NVCC"] {
        let Some(value) = variable(name) else {
            continue;
        };
        // Whoever names a compiler wants that one, not the next best.
        return match in_path(&value)
            .or_else(|| Some(PathBuf::from(&value)).filter(|path| path.is_file()))
        {
            Some(path) => Ok(Some(path)),
            None => Err(format!(
                "{name} is {value}, which is no file: unset it or name an nvcc"
            )),
        };
    }
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        let nvcc = variable(name).map(|value| Path::new(&value).join("bin").join(&program));
        if let Some(nvcc) = nvcc.filter(|path| path.is_file()) {
            return Ok(Some(nvcc));
        }
    }
    if let Some(nvcc) = in_path(&program) {
        return Ok(Some(nvcc));
    }
    let nvcc = Path::new("/usr/local/cuda/bin").join(&program);
    if nvcc.is_file() {
        return Ok(Some(nvcc));
    }
    Ok(["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(variable)
        .find_map(|value| in_python(&value, &program)))
}

/// Looks up the bare name of a program as a shell does.
fn in_path(program: &str) -> Option<PathBuf> {
    if program.contains(['/', '\\']) {
        return None;
    }
    let path = variable("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The nvcc that `pip install nvidia-cuda-nvcc` puts into a Python environment.
pub fn in_python(environment: &str, program: &str) -> Option<PathBuf> {
    let libraries = Path::new(environment).join("lib");
    let mut sites = vec![Path::new(environment).join("Lib").join("site-packages")];
    for entry in fs::read_dir(libraries).into_iter().flatten().flatten() {
        sites.push(entry.path().join("site-packages"));
    }
    sites.sort();
    sites
        .into_iter()
        .map(|site| site.join("nvidia/cu13/bin").join(program))
        .find(|path| path.is_file())
}

/// `13.0.88` of `nvcc --version`'s "release 13.0, V13.0.88".
pub(super) fn nvcc_version(nvcc: &Path) -> Result<String, Failure> {
    let output = Command::new(nvcc)
        .arg("--version")
        .output()
        .map_err(|error| cannot("run", nvcc, &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find_map(|word| {
        word.strip_prefix('V')
            .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    version
        .map(str::to_owned)
        .ok_or_else(|| format!("{} --version names no version: is it nvcc?", nvcc.display()))
}

/// Compiles each module whose sources or compiler changed since `work` was written, on all cores.
pub(super) fn compile_all(
    nvcc: &Path,
    kernels: &Path,
    work: &Path,
    modules: &[Module],
) -> Result<Vec<Entry>, Failure> {
    fs::create_dir_all(work).map_err(|error| cannot("create", work, &error))?;
    let version = nvcc_version(nvcc)?;
    let made: Vec<Option<Entry>> = modules
        .iter()
        .map(|module| earlier(work, module, &version))
        .collect();
    let stale: Vec<&Module> = modules
        .iter()
        .zip(&made)
        .filter_map(|(module, made)| made.is_none().then_some(module))
        .collect();
    compile_stale(nvcc, &version, kernels, work, &stale)?;
    let missing = |module: &Module| format!("the module of {} is gone", module.id);
    modules
        .iter()
        .zip(made)
        .map(|(module, made)| {
            made.or_else(|| earlier(work, module, &version))
                .ok_or_else(|| missing(module))
        })
        .collect()
}

/// The module as an earlier run of the same nvcc made it from the same sources.
fn earlier(work: &Path, module: &Module, version: &str) -> Option<Entry> {
    let stamp = fs::read_to_string(work.join(format!("{}.nvcc", module.id))).ok()?;
    let bytes = fs::read(module_path(work, module)).ok()?;
    let entry = Archive::parse(&bytes).ok()?.entries.pop()?;
    (stamp == version && entry.id == module.id && entry.source_hash == module.hash).then_some(entry)
}

fn compile_stale(
    nvcc: &Path,
    version: &str,
    kernels: &Path,
    work: &Path,
    stale: &[&Module],
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let compile_next = || {
        let mut failures = Vec::new();
        while let Some(module) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(failure) = compile(nvcc, version, kernels, work, module) {
                failures.push(failure);
            }
        }
        failures
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut failures: Vec<Failure> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(stale.len()))
            .map(|_| scope.spawn(compile_next))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| vec!["a worker failed".into()])
            })
            .collect()
    });
    // Kernels of one source share its mistakes: the first report says it all.
    let more = failures.len().saturating_sub(1);
    match (failures.is_empty(), more) {
        (true, _) => Ok(()),
        (false, 0) => Err(failures.swap_remove(0)),
        (false, more) => Err(format!(
            "{}\n... and {more} more kernels did not compile",
            failures[0]
        )),
    }
}

fn module_path(work: &Path, module: &Module) -> PathBuf {
    work.join(format!("{}.ptxa", module.id))
}

/// An nvcc with the flags and the definitions of a kernel.
pub(super) fn nvcc_command(nvcc: &Path, kernels: &Path, kernel: &Kernel, waits: Waits) -> Command {
    let mut command = Command::new(nvcc);
    // In the folder and with a relative name, so that no path of this machine can end up in the
    // PTX.
    command
        .current_dir(kernels)
        .args(FLAGS)
        .arg(format!("-arch={}", kernel.arch.nvcc_arch()));
    for (name, value) in kernel.defines().into_iter().chain([waits.define()]) {
        command.arg(format!("-D{name}={value}"));
    }
    command
}

fn compile(
    nvcc: &Path,
    version: &str,
    kernels: &Path,
    work: &Path,
    module: &Module,
) -> Result<(), Failure> {
    let raw = work.join(format!("{}.raw", module.id));
    let source = module.kernel.algorithm.source();
    let output = nvcc_command(nvcc, kernels, &module.kernel, module.waits)
        .arg("-o")
        .arg(&raw)
        .arg(source)
        .output()
        .map_err(|error| cannot("run", nvcc, &error))?;
    if !output.status.success() {
        let other = if version == PINNED_NVCC {
            String::new()
        } else {
            format!(" (the crate is made with {PINNED_NVCC})")
        };
        return Err(format!(
            "nvcc {version}{other} could not compile kernels/{source} as {}; \
            WARPCONV_PREBUILT=1 builds without nvcc:\n{}{}",
            module.id,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let text = fs::read_to_string(&raw).map_err(|error| cannot("read", &raw, &error))?;
    // nvcc makes variables local to the module. The loader looks this one up.
    let variable = ".global .align 8 .u64 warpconv_watchdog;";
    let text = text.replace(variable, &format!(".visible {variable}"));
    let tidied = tidy(&text, module.kernel.ptx_version()).ok_or_else(|| {
        format!(
            "nvcc {version} made no PTX with a .version line of {}",
            module.id
        )
    })?;
    let entry = Entry::new(&module.id, module.hash, &tidied)
        .map_err(|error| format!("cannot pack {}: {error}", module.id))?;
    let archive = Archive {
        entries: vec![entry],
    };
    write(&module_path(work, module), &archive.to_bytes())?;
    fs::remove_file(&raw).map_err(|error| cannot("remove", &raw, &error))?;
    write(
        &work.join(format!("{}.nvcc", module.id)),
        version.as_bytes(),
    )
}

// -------------------------------------------------------------------------------------------------
// PTX

/// Drops comments, debug lines, hints and blanks, and lowers `.version` to the lowest that the
/// module's instructions allow (at least `floor`): an older driver refuses a module only for the
/// number that stands there.
fn tidy(text: &str, floor: &str) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        let body = line.trim_start();
        // A hint about unread bytes of a wide load, which older assemblers warn of.
        let hint = body.starts_with(".pragma \"used_bytes_mask");
        if body.is_empty() || hint || body.starts_with(".loc") || body.starts_with(".file") {
            continue;
        }
        // One tab is enough to see what is inside a body; nvcc aligns operands with tabs and
        // blanks.
        let indent = if body.len() < line.len() { "\t" } else { "" };
        lines.push(format!(
            "{indent}{}",
            body.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
    let at = lines
        .iter()
        .position(|line| line.starts_with(".version "))?;
    let made = parse_version(lines[at].trim_start_matches(".version "))?;
    let mut version = parse_version(floor)?;
    for line in &lines {
        // Names may hold anything; only what comes before the operands counts.
        let instruction = line
            .trim_start()
            .split_inclusive(' ')
            .take(2)
            .collect::<String>();
        for (part, since) in NEWER {
            if since > version && instruction.contains(part) {
                version = since;
            }
        }
    }
    let version = version.min(made);
    lines[at] = format!(".version {}.{}", version.0, version.1);
    lines.push(String::new());
    Some(lines.join("\n"))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
