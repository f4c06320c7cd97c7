//! Makes the PTX that the crate embeds: one module a catalog entry, listed in `$OUT_DIR/ptx.rs` in
//! the catalog's order.
//!
//! With an nvcc at hand the modules are compiled from `kernels/`; without one, with
//! `WARPCONV_PREBUILT=1` or on docs.rs they come from `kernels/prebuilt/`. It never asks the
//! machine for its GPU. `scripts/prebuilt` runs this same program to make `kernels/prebuilt/`, so
//! it uses nothing but `std`; and that program is one file, hence a little over 500 lines.

// The catalog and the types that it names have more than a build needs.
#[allow(dead_code)]
#[path = "src/kernels/catalog.rs"]
mod catalog;
#[allow(dead_code)]
#[path = "src/problem/types.rs"]
mod problem;

use catalog::Kernel;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

/// The release that `kernels/prebuilt` is made with. Another one's output is used, but never stored
/// there.
const PINNED_NVCC: &str = "13.0.88";

/// Counts changes to the flags and to [`tidy`], which shape the PTX as much as its sources do.
const RECIPE: u32 = 2;

/// What nvcc is given besides the architecture and the definitions.
const FLAGS: [&str; 3] = ["-ptx", "-O3", "--std=c++17"];

/// Instructions and qualifiers newer than PTX ISA 6.3, with the version each came in.
const NEWER: [(&str, (u32, u32)); 37] = [
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
    ("st.async", (8, 1)),
    ("multimem", (8, 1)),
    ("tensormap.replace", (8, 2)),
    (".b128", (8, 3)),
    ("tensormap.cp_fenceproxy", (8, 3)),
    (".v8", (8, 8)),
];

/// One sentence that says why there is no PTX.
type Failure = String;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if env::var_os("CARGO").is_none() {
                eprintln!("error: {failure}");
                return ExitCode::FAILURE;
            }
            // cargo fails the build for this and shows nothing else.
            for line in failure.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::SUCCESS
        }
    }
}

fn run() -> Result<(), Failure> {
    let root = PathBuf::from(
        variable("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set: build with cargo")?,
    );
    let out = PathBuf::from(variable("OUT_DIR").ok_or("OUT_DIR is not set: build with cargo")?);
    for path in [
        "build.rs",
        "src/kernels/catalog.rs",
        "src/kernels/catalog",
        "src/problem/types.rs",
        "kernels",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    let kernels = root.join("kernels");
    let mut modules = Vec::new();
    for kernel in catalog::kernels() {
        modules.push(Module {
            id: kernel.name(),
            kernel,
            hash: source_hash(&kernels, kernel)?,
        });
    }
    let ptx = out.join("ptx");
    fs::create_dir_all(&ptx).map_err(|error| cannot("create", &ptx, &error))?;
    // Set by scripts/prebuilt, which must not take what is stored for what nvcc makes.
    let pinned_only = variable("WARPCONV_PINNED").is_some();
    match find_nvcc()? {
        None if pinned_only => {
            return Err(format!(
                "no nvcc found: the prebuilt PTX is made with {PINNED_NVCC}"
            ));
        }
        Some(nvcc) if pinned_only && nvcc_version(&nvcc)? != PINNED_NVCC => {
            return Err(format!(
                "{} is not nvcc {PINNED_NVCC}, which the prebuilt PTX is made with",
                nvcc.display()
            ));
        }
        Some(nvcc) => compile_all(&nvcc, &kernels, &ptx, &modules)?,
        None => take_prebuilt(&kernels.join("prebuilt"), &ptx, &modules)?,
    }
    write_table(&out, &modules)
}

/// A catalog entry to be made.
struct Module {
    id: String,
    kernel: &'static Kernel,
    hash: u64,
}

/// The value of an environment variable that is set and not empty; the build reruns when it
/// changes.
fn variable(name: &str) -> Option<String> {
    if !matches!(name, "OUT_DIR" | "CARGO_MANIFEST_DIR" | "DOCS_RS") {
        println!("cargo::rerun-if-env-changed={name}");
    }
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    format!("cannot {verb} {}: {error}", path.display())
}

/// Writes a file only if its contents change, so that what is newer than it stays newer.
fn write(path: &Path, contents: &str) -> Result<(), Failure> {
    if fs::read_to_string(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    fs::write(path, contents).map_err(|error| cannot("write", path, &error))
}

/// `ptx.rs`, and the manifest that `scripts/prebuilt` stores beside the modules.
fn write_table(out: &Path, modules: &[Module]) -> Result<(), Failure> {
    // Set by scripts/bundle: its many programs share one folder of modules, which they read when
    // they start.
    let files = variable("WARPCONV_PTX_FILES").is_some();
    let doc = "/// The PTX of each kernel, in the order of the catalog.\n";
    let (head, tail) = if files {
        (
            "pub static PTX: std::sync::LazyLock<Vec<&str>> = std::sync::LazyLock::new(|| from_folder(&[\n",
            "]));\n",
        )
    } else {
        ("pub static PTX: &[&str] = &[\n", "];\n")
    };
    let mut table = format!("{doc}{head}");
    let mut manifest = format!("nvcc {PINNED_NVCC}\n");
    for module in modules {
        table.push_str(&match files {
            true => format!("    \"{}\",\n", module.id),
            false => format!(
                "    include_str!(concat!(env!(\"OUT_DIR\"), \"/ptx/{}.ptx\")),\n",
                module.id
            ),
        });
        manifest.push_str(&format!("{} {:016x}\n", module.id, module.hash));
    }
    table.push_str(tail);
    write(&out.join("MANIFEST"), &manifest)?;
    write(&out.join("ptx.rs"), &table)
}

// ---------------------------------------------------------------------------------------------------------------------
// What a module depends on

/// FNV-1a. It finds files that went stale by accident; nobody gains from forging it.
struct Hasher(u64);

impl Hasher {
    fn new() -> Hasher {
        Hasher(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a text without its carriage returns, and an end mark so that neighbours do not run
    /// together.
    fn add(&mut self, text: &str) {
        for byte in text.bytes().filter(|&byte| byte != b'\r').chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// A hash of all that shapes a kernel's PTX, the same on every machine: recipe, flags, definitions,
/// the source and the headers it includes. Not of the whole folder: one edited header recompiles
/// only the kernels that use it.
fn source_hash(kernels: &Path, kernel: &Kernel) -> Result<u64, Failure> {
    let mut hasher = Hasher::new();
    hasher.add(&format!(
        "{RECIPE} {} {} {}",
        FLAGS.join(" "),
        kernel.arch.nvcc_arch(),
        kernel.ptx_version()
    ));
    for (name, value) in kernel.defines() {
        hasher.add(&format!("{name}={value}"));
    }
    let mut seen = BTreeSet::new();
    add_source(kernels, kernel.algorithm.source(), &mut seen, &mut hasher)?;
    Ok(hasher.0)
}

fn add_source(
    kernels: &Path,
    name: &str,
    seen: &mut BTreeSet<String>,
    hasher: &mut Hasher,
) -> Result<(), Failure> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let path = kernels.join(name);
    let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
    hasher.add(name);
    hasher.add(&text);
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix("#include") else {
            continue;
        };
        // <...> is nvcc's own: its release is what pins it.
        if let Some(header) = rest
            .trim_start()
            .strip_prefix('"')
            .and_then(|rest| rest.split('"').next())
        {
            add_source(kernels, header, seen, hasher)?;
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------------
// nvcc

/// The compiler to use, or `None` for the prebuilt PTX.
fn find_nvcc() -> Result<Option<PathBuf>, Failure> {
    let prebuilt = variable("WARPCONV_PREBUILT").is_some_and(|value| value != "0");
    if prebuilt || variable("DOCS_RS").is_some() {
        return Ok(None);
    }
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
fn in_python(environment: &str, program: &str) -> Option<PathBuf> {
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
fn nvcc_version(nvcc: &Path) -> Result<String, Failure> {
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

/// Compiles each module whose sources or compiler changed, on all cores.
fn compile_all(nvcc: &Path, kernels: &Path, ptx: &Path, modules: &[Module]) -> Result<(), Failure> {
    let version = nvcc_version(nvcc)?;
    let stale: Vec<&Module> = modules
        .iter()
        .filter(|module| {
            let stamp = fs::read_to_string(ptx.join(format!("{}.stamp", module.id)));
            !(stamp.is_ok_and(|stamp| stamp == self::stamp(module, &version))
                && module_path(ptx, module).is_file())
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(module) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(failure) = compile(nvcc, &version, kernels, ptx, module) {
                failures.push(failure);
            }
        }
        failures
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut failures: Vec<Failure> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(stale.len()))
            .map(|_| scope.spawn(work))
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

fn module_path(ptx: &Path, module: &Module) -> PathBuf {
    ptx.join(format!("{}.ptx", module.id))
}

fn stamp(module: &Module, version: &str) -> String {
    format!("{:016x} {version}\n", module.hash)
}

fn compile(
    nvcc: &Path,
    version: &str,
    kernels: &Path,
    ptx: &Path,
    module: &Module,
) -> Result<(), Failure> {
    let raw = ptx.join(format!("{}.raw", module.id));
    let source = module.kernel.algorithm.source();
    let mut command = Command::new(nvcc);
    // In the folder and with a relative name, so that no path of this machine can end up in the
    // PTX.
    command
        .current_dir(kernels)
        .args(FLAGS)
        .arg(format!("-arch={}", module.kernel.arch.nvcc_arch()));
    for (name, value) in module.kernel.defines() {
        command.arg(format!("-D{name}={value}"));
    }
    let output = command
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
            "nvcc {version}{other} could not compile kernels/{source} as {}; WARPCONV_PREBUILT=1 builds without nvcc:\n{}{}",
            module.id,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let text = fs::read_to_string(&raw).map_err(|error| cannot("read", &raw, &error))?;
    let tidied = tidy(&text, module.kernel.ptx_version()).ok_or_else(|| {
        format!(
            "nvcc {version} made no PTX with a .version line of {}",
            module.id
        )
    })?;
    write(&module_path(ptx, module), &tidied)?;
    fs::remove_file(&raw).map_err(|error| cannot("remove", &raw, &error))?;
    write(
        &ptx.join(format!("{}.stamp", module.id)),
        &stamp(module, version),
    )
}

// ---------------------------------------------------------------------------------------------------------------------
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

// ---------------------------------------------------------------------------------------------------------------------
// Prebuilt

/// Takes the stored modules if every one was made from the sources that stand here.
fn take_prebuilt(prebuilt: &Path, ptx: &Path, modules: &[Module]) -> Result<(), Failure> {
    let manifest = fs::read_to_string(prebuilt.join("MANIFEST")).unwrap_or_default();
    let entry = |module: &Module| {
        manifest
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(id, _)| *id == module.id)
            .map(|(_, hash)| hash.trim())
    };
    let remedy = "point WARPCONV_NVCC at an nvcc to compile it, or run scripts/prebuilt to make the stored PTX again";
    for module in modules {
        let Some(hash) = entry(module) else {
            return Err(format!(
                "no nvcc was asked for or found and kernels/prebuilt has no {}.ptx: {remedy}",
                module.id
            ));
        };
        if hash != format!("{:016x}", module.hash) {
            return Err(format!(
                "kernels/prebuilt/{}.ptx is stale, kernels/{} or the catalog has changed since it was made: {remedy}",
                module.id,
                module.kernel.algorithm.source()
            ));
        }
        let path = prebuilt.join(format!("{}.ptx", module.id));
        let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
        write(&module_path(ptx, module), &text)?;
        // What nvcc left in this folder is gone: it must compile again if asked to.
        let stamp = ptx.join(format!("{}.stamp", module.id));
        if stamp.exists() {
            fs::remove_file(&stamp).map_err(|error| cannot("remove", &stamp, &error))?;
        }
    }
    Ok(())
}
