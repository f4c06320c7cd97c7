//! `cargo xtask prebuilt`: the PTX that a build without nvcc embeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Args;
use ptx_archive::{Archive, Entry};

use crate::command::Command;
use crate::{Failure, build, ptx, root, work};

/// The packages of the pinned compiler on PyPI.
const PACKAGES: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
];

#[derive(Args)]
#[group(multiple = false)]
pub struct Options {
    /// Compile all modules anew and compare with kernels/prebuilt; change nothing
    #[arg(long)]
    check: bool,
    /// First install the pinned nvcc from PyPI into this virtual environment
    #[arg(long, value_name = "VENV")]
    install: Option<PathBuf>,
    /// Assemble every stored module with an older ptxas, each for its own target
    #[arg(long, value_name = "PATH")]
    old_ptxas: Option<PathBuf>,
    /// Compile the kernels that wait for mbarriers with bounded waits and write their PTX into this
    /// folder, for WARPCONV_OVERRIDE_PTX
    #[arg(long, value_name = "FOLDER")]
    watchdog: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    if let Some(ptxas) = &options.old_ptxas {
        return assemble_all(ptxas);
    }
    if let Some(folder) = &options.watchdog {
        return write_watchdog(folder);
    }
    if options.check {
        return check();
    }
    let nvcc = options.install.as_deref().map(install).transpose()?;
    write(&build::make_archives(
        &root(),
        &work().join("modules"),
        nvcc.clone(),
    )?)?;
    let bytes = watchdog_samples(&work().join("watchdog"), nvcc)?.to_bytes();
    let path = root().join(SAMPLES);
    fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The watchdog modules that tests run without nvcc.
const SAMPLES: &str = "tests/data/watchdog.ptxa";

/// Their kernels: a pipeline filled by TMA, by cp.async and through registers, and the chain of
/// pipelines of a bottleneck.
const SAMPLED: [&str; 4] = [
    "wgmma_bf16_nhwc_64x128x64_sm90a",
    "wgmma_gather_f16_nhwc_64x128x64_v16_sm90a",
    "wgmma_gather_f16_nhwc_64x128x64_v2_sm90a",
    "bottleneck_wgmma_f16_nhwc_4x8x64_v16_s2_sm90a",
];

fn watchdog_samples(work: &Path, nvcc: Option<PathBuf>) -> Result<Archive, Failure> {
    let sampled = |id: &str| SAMPLED.contains(&id);
    let entries = build::make_watchdog_modules(&root(), work, nvcc, sampled)?;
    match entries.len() == SAMPLED.len() {
        true => Ok(Archive { entries }),
        false => Err(format!("the catalog lacks one of {}", SAMPLED.join(", "))),
    }
}

fn folder() -> PathBuf {
    root().join("kernels/prebuilt")
}

/// Replaces kernels/prebuilt.
fn write(archives: &BTreeMap<String, Archive>) -> Result<(), Failure> {
    let changes = changes(archives)?;
    let folder = folder();
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(cannot)?;
    }
    fs::create_dir_all(&folder).map_err(cannot)?;
    let mut bytes = 0;
    for (name, archive) in archives {
        let file = archive.to_bytes();
        bytes += file.len();
        fs::write(folder.join(name), file).map_err(cannot)?;
    }
    changes.iter().for_each(|change| println!("{change}"));
    let modules: usize = archives.values().map(|archive| archive.entries.len()).sum();
    println!(
        "{modules} modules in {} files, {} KiB, {} changes",
        archives.len(),
        bytes >> 10,
        changes.len()
    );
    Ok(())
}

/// Writes `KERNEL.ptx` of each watchdog module.
fn write_watchdog(folder: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", folder.display());
    let entries = build::make_watchdog_modules(&root(), &work().join("watchdog"), None, |_| true)?;
    fs::create_dir_all(folder).map_err(cannot)?;
    for entry in &entries {
        let text = entry
            .text()
            .ok_or_else(|| format!("{} does not unpack", entry.id))?;
        fs::write(folder.join(format!("{}.ptx", entry.id)), text).map_err(cannot)?;
    }
    println!(
        "{} modules with bounded waits in {}",
        entries.len(),
        folder.display()
    );
    Ok(())
}

/// Compares without taking anything from an earlier run.
fn check() -> Result<(), Failure> {
    let work = work().join("check");
    if work.exists() {
        fs::remove_dir_all(&work)
            .map_err(|error| format!("cannot remove {}: {error}", work.display()))?;
    }
    let archives = build::make_archives(&root(), &work, None)?;
    let samples = watchdog_samples(&work.join("watchdog"), None)?;
    let stored = fs::read(root().join(SAMPLES)).unwrap_or_default();
    if stored != samples.to_bytes() {
        return Err(format!(
            "{SAMPLES} is not what nvcc makes of kernels/; make it again with\n    \
                cargo xtask prebuilt"
        ));
    }
    let changes = changes(&archives)?;
    let stored: BTreeMap<String, Archive> = ptx::archives()?.into_iter().collect();
    if changes.is_empty() && stored == archives {
        let modules: usize = archives.values().map(|archive| archive.entries.len()).sum();
        println!("{modules} stored modules equal what the pinned nvcc makes");
        return check_headers();
    }
    changes.iter().for_each(|change| println!("{change}"));
    Err(String::from(
        "kernels/prebuilt is not what nvcc makes of kernels/; make it again with\n    \
            cargo xtask prebuilt",
    ))
}

/// Compiles each header of kernels/ alone: none depends on what is included before it.
fn check_headers() -> Result<(), Failure> {
    let commands: Vec<_> = build::header_commands(&root())?.into_iter().collect();
    let headers = commands.len();
    let commands = Mutex::new(commands);
    let next = || commands.lock().ok()?.pop();
    let compile_next = || {
        let mut refused = 0;
        while let Some((header, mut command)) = next() {
            let output = command.output();
            let success = output.as_ref().is_ok_and(|output| output.status.success());
            if !success {
                let errors = output.map_or_else(|error| error.to_string().into(), |o| o.stderr);
                eprintln!("kernels/{header}:\n{}", String::from_utf8_lossy(&errors));
                refused += 1;
            }
        }
        refused
    };
    match on_all_cores(&compile_next) {
        0 => {
            println!("{headers} headers of kernels/ compile alone");
            Ok(())
        }
        refused => Err(format!(
            "{refused} headers of kernels/ do not compile alone"
        )),
    }
}

/// The sum of what `work` returns on each core.
pub fn on_all_cores(work: &(impl Fn() -> usize + Sync)) -> usize {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(1))
            .sum()
    })
}

/// Differences between the stored modules and `archives`, one line each.
fn changes(archives: &BTreeMap<String, Archive>) -> Result<Vec<String>, Failure> {
    // A folder that is damaged or missing is replaced as a whole.
    let stored = ptx::archives().unwrap_or_default();
    let old: BTreeMap<&str, &Entry> = by_name(stored.iter().map(|(_, archive)| archive));
    let new: BTreeMap<&str, &Entry> = by_name(archives.values());
    let mut changes = Vec::new();
    for (id, entry) in &new {
        match old.get(id) {
            None => changes.push(format!("added    {id}")),
            Some(old) if old.text_hash != entry.text_hash => changes.push(format!("changed  {id}")),
            Some(old) if old.source_hash != entry.source_hash => {
                changes.push(format!("same PTX of other sources: {id}"));
            }
            Some(old) if old != entry => changes.push(format!("packed differently: {id}")),
            Some(_) => {}
        }
    }
    let removed = old.keys().filter(|id| !new.contains_key(*id));
    changes.extend(removed.map(|id| format!("removed  {id}")));
    Ok(changes)
}

fn by_name<'a>(archives: impl Iterator<Item = &'a Archive>) -> BTreeMap<&'a str, &'a Entry> {
    let entries = archives.flat_map(|archive| &archive.entries);
    entries.map(|entry| (&*entry.id, entry)).collect()
}

/// Installs the pinned nvcc and returns its path.
fn install(environment: &Path) -> Result<PathBuf, Failure> {
    let pip = environment.join("bin/pip");
    if !root().join(&pip).is_file() {
        Command::new("python3 -m venv").arg(environment).run()?;
    }
    Command::new("")
        .program(&pip)
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES)
        .run()?;
    let environment = root().join(environment);
    build::in_python(&environment.to_string_lossy(), "nvcc")
        .ok_or_else(|| format!("no nvcc in {}", environment.display()))
}

/// Modules that an older assembler takes, a driver of its age takes.
fn assemble_all(ptxas: &Path) -> Result<(), Failure> {
    let folder = ptx::fresh_folder(&[])?;
    let entries = ptx::entries(&[])?;
    let next = AtomicUsize::new(0);
    let assemble_next = || {
        let mut refused = 0;
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let module = folder.join(format!("{}.ptx", entry.id));
            let target = target(&entry.text().unwrap_or_default());
            let command = Command::new("")
                .program(ptxas)
                .arg(format!("-arch={target}"))
                .args(["-o", "/dev/null"])
                .arg(&module);
            if let Err(failure) = command.output() {
                eprintln!("{}: {failure}", entry.id);
                refused += 1;
            }
        }
        refused
    };
    match on_all_cores(&assemble_next) {
        0 => {
            println!(
                "{} modules assemble with {}",
                entries.len(),
                ptxas.display()
            );
            Ok(())
        }
        refused => Err(format!("{} refuses {refused} modules", ptxas.display())),
    }
}

/// `sm_80` of `.target sm_80`.
pub fn target(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(".target "));
    let name = line.unwrap_or_default();
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    name[..end.unwrap_or(name.len())].to_owned()
}
