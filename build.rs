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

#[path = "build/nvcc.rs"]
mod nvcc;

use catalog::Kernel;
use nvcc::{FLAGS, compile_all, nvcc_command, nvcc_version};
#[allow(unused_imports, reason = "xtask calls it")]
pub use nvcc::{find_nvcc, in_python};
use ptx_archive::{Archive, Entry, Hasher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

/// The release that `kernels/prebuilt` is made with. Another one's output is used, but never stored
/// there.
const PINNED_NVCC: &str = "13.0.88";

/// Counts changes to the flags and to `nvcc::tidy`, which shape the PTX as much as its sources do.
const RECIPE: u32 = 3;

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
    let is_set = |name| variable(name).is_some_and(|value| value != "0");
    let waits = match is_set("WARPCONV_WATCHDOG") {
        true => Waits::Bounded,
        false => Waits::Endless,
    };
    let modules = modules(&kernels, waits)?;
    let prebuilt = is_set("WARPCONV_PREBUILT") || variable("DOCS_RS").is_some();
    let nvcc = if prebuilt { None } else { find_nvcc()? };
    let entries = match (nvcc, waits) {
        (Some(nvcc), _) => compile_all(&nvcc, &kernels, &out.join(waits.folder()), &modules)?,
        (None, Waits::Endless) => take_prebuilt(&kernels.join("prebuilt"), &modules)?,
        (None, Waits::Bounded) => {
            return Err(String::from(
                "WARPCONV_WATCHDOG=1 compiles the kernels with bounded waits, of which there is no \
                prebuilt PTX: unset WARPCONV_PREBUILT and point WARPCONV_NVCC at an nvcc, or unset \
                WARPCONV_WATCHDOG",
            ));
        }
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
    let modules = modules(&kernels, Waits::Endless)?;
    let entries = compile_all(&pinned_nvcc(nvcc)?, &kernels, work, &modules)?;
    let mut archives: BTreeMap<String, Archive> = BTreeMap::new();
    for (module, entry) in modules.iter().zip(entries) {
        let archive = archives.entry(archive_name(&module.kernel)).or_default();
        archive.entries.push(entry);
    }
    Ok(archives)
}

/// Compiles modules with bounded waits, with the pinned nvcc, as [`make_archives`] does: those of
/// the kernels that have waits and that `takes` is true of.
#[allow(dead_code, reason = "xtask calls it")]
pub fn make_watchdog_modules(
    root: &Path,
    work: &Path,
    nvcc: Option<PathBuf>,
    takes: impl Fn(&str) -> bool,
) -> Result<Vec<Entry>, Failure> {
    let kernels = root.join("kernels");
    let mut modules = modules(&kernels, Waits::Bounded)?;
    modules.retain(|module| module.includes_waits && takes(&module.id));
    compile_all(&pinned_nvcc(nvcc)?, &kernels, work, &modules)
}

/// The pinned nvcc: `named`, or the one that is found.
fn pinned_nvcc(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let found = match named {
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
    Ok(nvcc)
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
                let mut command = nvcc_command(&nvcc, &kernels, &kernel, Waits::Endless);
                command.args(["-x", "cu", "-o", "/dev/null", header]);
                command
            });
        }
    }
    Ok(commands)
}

/// Returns per kernel a command that compiles it to PTX with source lines; its output is to be
/// named.
#[allow(dead_code, reason = "xtask calls it")]
pub fn line_commands(root: &Path, nvcc: &Path) -> BTreeMap<String, Command> {
    let kernels = root.join("kernels");
    let line_command = |kernel: Kernel| {
        let mut command = nvcc_command(nvcc, &kernels, &kernel, Waits::Endless);
        command.args(["-lineinfo", kernel.algorithm.source()]);
        (kernel.name(), command)
    };
    catalog::entries().into_iter().map(line_command).collect()
}

/// The file in `kernels/prebuilt/` that holds a kernel's module.
fn archive_name(kernel: &Kernel) -> String {
    format!("{}_{}.ptxa", kernel.algorithm.name(), kernel.arch.name())
}

/// The catalog's modules with the hashes of their sources.
fn modules(kernels: &Path, waits: Waits) -> Result<Vec<Module>, Failure> {
    catalog::entries()
        .into_iter()
        .map(|kernel| {
            let mut sources = BTreeSet::new();
            Ok(Module {
                id: kernel.name(),
                hash: source_hash(kernels, &kernel, waits, &mut sources)?,
                includes_waits: sources.contains(WATCHDOG_HEADER),
                waits,
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
    /// True if its sources have waits for mbarriers.
    includes_waits: bool,
    waits: Waits,
}

/// The header that every wait for an mbarrier is in.
const WATCHDOG_HEADER: &str = "common/watchdog.cuh";

/// How long a kernel waits for an mbarrier.
#[derive(Clone, Copy)]
enum Waits {
    Endless,
    /// In the modules of the watchdog, which report a wait that does not end.
    Bounded,
}

impl Waits {
    /// The definition for nvcc.
    fn define(self) -> (&'static str, String) {
        let value = match self {
            Waits::Endless => "0",
            Waits::Bounded => "1",
        };
        ("CONFIG_WATCHDOG", value.to_owned())
    }

    /// The folder of compiled modules within `OUT_DIR`.
    fn folder(self) -> &'static str {
        match self {
            Waits::Endless => "modules",
            Waits::Bounded => "watchdog",
        }
    }
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
///
/// `sources` becomes the files that are included.
fn source_hash(
    kernels: &Path,
    kernel: &Kernel,
    waits: Waits,
    sources: &mut BTreeSet<String>,
) -> Result<u64, Failure> {
    let mut hasher = Hasher::default();
    hasher.add(&format!(
        "{RECIPE} {} {} {}",
        FLAGS.join(" "),
        kernel.arch.nvcc_arch(),
        kernel.ptx_version()
    ));
    for (name, value) in kernel.defines().into_iter().chain([waits.define()]) {
        hasher.add(&format!("{name}={value}"));
    }
    add_source(kernels, kernel.algorithm.source(), sources, &mut hasher)?;
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
