//! Makes the PTX that the crate embeds: one packed module per catalog entry, listed in
//! `$OUT_DIR/ptx.rs` in the catalog's order, with their bytes in `$OUT_DIR/modules.bin`. The
//! entries themselves become the table `$OUT_DIR/kernels.rs`.
//!
//! With an nvcc at hand the modules are compiled from `kernels/`; without one, with
//! `WARPCONV_PREBUILT=1` or on docs.rs they come from the archives in `kernels/prebuilt/`. The
//! machine's GPU has no influence. `cargo xtask prebuilt` includes this file and makes the archives
//! with [`make_archives`].

// The catalog and the types that it names have more than a build needs.
#[allow(dead_code)]
#[path = "src/kernels/catalog.rs"]
mod catalog;
#[allow(dead_code)]
#[path = "src/problem/types.rs"]
mod problem;

use catalog::Kernel;
use ptx_archive::{Archive, Entry, Hasher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

/// The release that `kernels/prebuilt` is made with. Another one's output is used, but never stored
/// there.
const PINNED_NVCC: &str = "13.0.88";

/// Counts changes to the flags and to [`tidy`], which shape the PTX as much as its sources do.
const RECIPE: u32 = 3;

/// Options of nvcc besides the architecture and the definitions.
const FLAGS: [&str; 4] = ["-ptx", "-O3", "--std=c++17", "-I."];

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
        "src/kernels/bottleneck/entries.rs",
        "src/kernels/elementwise/entries.rs",
        "src/kernels/mma/entries.rs",
        "src/kernels/multi_conv/entries.rs",
        "src/kernels/pool/entries.rs",
        "src/kernels/simt/entries.rs",
        "src/kernels/wgmma/entries.rs",
        "src/problem/types.rs",
        "kernels",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    let kernels = root.join("kernels");
    let modules = modules(&kernels)?;
    let prebuilt = variable("WARPCONV_PREBUILT").is_some_and(|value| value != "0")
        || variable("DOCS_RS").is_some();
    let nvcc = if prebuilt { None } else { find_nvcc()? };
    let entries = match nvcc {
        Some(nvcc) => compile_all(&nvcc, &kernels, &out.join("modules"), &modules)?,
        None => take_prebuilt(&kernels.join("prebuilt"), &modules)?,
    };
    write_kernels(&out, &modules)?;
    write_table(&out, &entries)
}

/// Compiles all modules with the pinned nvcc and returns the files of `kernels/prebuilt/`: one
/// archive per algorithm and architecture. What `work` holds from an earlier call with the same
/// sources is taken from there. `nvcc` replaces the search
/// for a compiler.
#[allow(dead_code, reason = "xtask calls it")]
pub fn make_archives(
    root: &Path,
    work: &Path,
    nvcc: Option<PathBuf>,
) -> Result<BTreeMap<String, Archive>, Failure> {
    let kernels = root.join("kernels");
    let modules = modules(&kernels)?;
    let found = match nvcc {
        Some(nvcc) => Some(nvcc),
        None => find_nvcc()?,
    };
    let nvcc = found
        .ok_or_else(|| format!("no nvcc found: the prebuilt PTX is made with {PINNED_NVCC}"))?;
    if nvcc_version(&nvcc)? != PINNED_NVCC {
        return Err(format!(
            "{} is not nvcc {PINNED_NVCC}, which the prebuilt PTX is made with",
            nvcc.display()
        ));
    }
    let entries = compile_all(&nvcc, &kernels, work, &modules)?;
    let mut archives: BTreeMap<String, Archive> = BTreeMap::new();
    for (module, entry) in modules.iter().zip(entries) {
        let archive = archives.entry(archive_name(&module.kernel)).or_default();
        archive.entries.push(entry);
    }
    Ok(archives)
}

/// Returns per header of `kernels/` a command that compiles it alone, configured as the first
/// kernel that includes it.
#[allow(dead_code, reason = "xtask calls it")]
pub fn header_commands(root: &Path) -> Result<BTreeMap<String, Command>, Failure> {
    let kernels = root.join("kernels");
    let nvcc = find_nvcc()?.ok_or("no nvcc found: headers are compiled with it")?;
    let mut commands = BTreeMap::new();
    for kernel in catalog::entries() {
        let mut sources = BTreeSet::new();
        let source = kernel.algorithm.source();
        add_source(&kernels, source, &mut sources, &mut Hasher::default())?;
        for header in sources.into_iter().filter(|name| name.ends_with(".cuh")) {
            commands.entry(header).or_insert_with_key(|header| {
                let mut command = nvcc_command(&nvcc, &kernels, &kernel);
                command.args(["-x", "cu", "-o", "/dev/null", header]);
                command
            });
        }
    }
    Ok(commands)
}

/// The file in `kernels/prebuilt/` that holds a kernel's module.
fn archive_name(kernel: &Kernel) -> String {
    format!("{}_{}.ptxa", kernel.algorithm.name(), kernel.arch.name())
}

/// The catalog's modules with the hashes of their sources.
fn modules(kernels: &Path) -> Result<Vec<Module>, Failure> {
    catalog::entries()
        .into_iter()
        .map(|kernel| {
            Ok(Module {
                id: kernel.name(),
                hash: source_hash(kernels, &kernel)?,
                kernel,
            })
        })
        .collect()
}

/// A catalog entry to be made.
struct Module {
    id: String,
    kernel: Kernel,
    hash: u64,
}

/// The value of an environment variable that is set and not empty; the build reruns when it
/// changes.
fn variable(name: &str) -> Option<String> {
    let own = matches!(name, "OUT_DIR" | "CARGO_MANIFEST_DIR" | "DOCS_RS");
    // Not in xtask, which has no OUT_DIR and prints for a reader.
    if !own && env::var_os("OUT_DIR").is_some() {
        println!("cargo::rerun-if-env-changed={name}");
    }
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    format!("cannot {verb} {}: {error}", path.display())
}

/// Writes a file only if its contents change, so that what is newer than it stays newer.
fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    fs::write(path, contents).map_err(|error| cannot("write", path, &error))
}

/// `kernels.rs`: the catalog as a table. An entry's `Debug` form is the expression that makes it.
fn write_kernels(out: &Path, modules: &[Module]) -> Result<(), Failure> {
    let mut table = format!(
        "/// The entries of the catalog.\nmod table {{\n    \
            use crate::kernels::Algorithm::*;\n    use crate::kernels::Arch::*;\n    \
            use crate::kernels::DType::*;\n    use crate::kernels::Kernel;\n    \
            use crate::kernels::Layout::*;\n    use crate::kernels::Math::*;\n\n    \
            pub(super) static KERNELS: [Kernel; {}] = [\n",
        modules.len()
    );
    for module in modules {
        table.push_str(&format!("        {:?},\n", module.kernel));
    }
    table.push_str("    ];\n}\n");
    write(&out.join("kernels.rs"), table.as_bytes())
}

/// `modules.bin` and `ptx.rs`.
fn write_table(out: &Path, entries: &[Entry]) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let mut table = String::from(
        "/// The modules, in the order of the catalog.\nstatic MODULES: &[Module] = &[\n",
    );
    for entry in entries {
        let start = bytes.len();
        bytes.extend_from_slice(&entry.packed);
        table.push_str(&format!(
            "    Module {{ shared: {}, hash: 0x{:016x}, packed: {start}..{} }},\n",
            entry.shared,
            entry.text_hash,
            bytes.len()
        ));
    }
    // Set by scripts/bundle: its many programs share one file of modules, which they read when
    // they start.
    table.push_str(match variable("WARPCONV_PTX_FILES").is_some() {
        true => {
            "];\nstatic PACKED: std::sync::LazyLock<Vec<u8>> =\n    \
                std::sync::LazyLock::new(from_folder);\n"
        }
        false => {
            "];\nstatic PACKED: &[u8] =\n    \
                include_bytes!(concat!(env!(\"OUT_DIR\"), \"/modules.bin\"));\n"
        }
    });
    write(&out.join("modules.bin"), &bytes)?;
    write(&out.join("ptx.rs"), table.as_bytes())
}

// -------------------------------------------------------------------------------------------------
// What a module depends on

/// A hash of all that shapes a kernel's PTX, the same on every machine: recipe, flags, definitions,
/// the source and the headers it includes. Not of the whole folder: one edited header recompiles
/// only the kernels that use it.
fn source_hash(kernels: &Path, kernel: &Kernel) -> Result<u64, Failure> {
    let mut hasher = Hasher::default();
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
    Ok(hasher.finish())
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

// -------------------------------------------------------------------------------------------------
// nvcc

/// The compiler of this machine, `None` if it has none.
fn find_nvcc() -> Result<Option<PathBuf>, Failure> {
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

/// Compiles each module whose sources or compiler changed since `work` was written, on all cores.
fn compile_all(
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
fn nvcc_command(nvcc: &Path, kernels: &Path, kernel: &Kernel) -> Command {
    let mut command = Command::new(nvcc);
    // In the folder and with a relative name, so that no path of this machine can end up in the
    // PTX.
    command
        .current_dir(kernels)
        .args(FLAGS)
        .arg(format!("-arch={}", kernel.arch.nvcc_arch()));
    for (name, value) in kernel.defines() {
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
    let output = nvcc_command(nvcc, kernels, &module.kernel)
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

// -------------------------------------------------------------------------------------------------
// Prebuilt

/// Takes the stored modules if every one was made from the sources that stand here.
fn take_prebuilt(prebuilt: &Path, modules: &[Module]) -> Result<Vec<Entry>, Failure> {
    let remedy = "point WARPCONV_NVCC at an nvcc to compile it, or run `cargo xtask prebuilt` to \
        make the stored PTX again";
    let mut stored: BTreeMap<String, BTreeMap<String, Entry>> = BTreeMap::new();
    let mut entries = Vec::with_capacity(modules.len());
    for module in modules {
        let name = archive_name(&module.kernel);
        if !stored.contains_key(&name) {
            stored.insert(name.clone(), read_archive(&prebuilt.join(&name))?);
        }
        let entry = stored
            .get_mut(&name)
            .and_then(|archive| archive.remove(&module.id));
        let Some(entry) = entry else {
            return Err(format!(
                "no nvcc was asked for or found and kernels/prebuilt/{name} has no module {}: \
                {remedy}",
                module.id
            ));
        };
        if entry.source_hash != module.hash {
            return Err(format!(
                "{} in kernels/prebuilt/{name} is stale, kernels/{} or the catalog has changed \
                since it was made: {remedy}",
                module.id,
                module.kernel.algorithm.source()
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The modules of a file by name; none if there is no such file.
fn read_archive(path: &Path) -> Result<BTreeMap<String, Entry>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(cannot("read", path, &error)),
    };
    let archive = Archive::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(archive
        .entries
        .into_iter()
        .map(|entry| (entry.id.clone(), entry))
        .collect())
}
