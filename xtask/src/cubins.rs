//! `cargo xtask cubins`: machine code of the stored PTX, one file per architecture, for machines
//! on which nothing is to be compiled.

mod elf;
mod lines;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use ptx_archive::{Cubin, Cubins, Entry};

use crate::{Failure, build, prebuilt, ptx, root, work};

#[derive(Args)]
pub struct Options {
    /// Architecture as in sm_90; may be given several times
    #[arg(long, value_name = "NN", required = true)]
    sm: Vec<u32>,
    /// Folder for the files sm_NN.cubins
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// Leave out source lines, for which nvcc compiles each kernel again
    #[arg(long)]
    no_lines: bool,
    /// Parts of names; none means all modules that run on the architecture
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// The programs of the toolkit, and a folder for what they write.
struct Tools {
    ptxas: PathBuf,
    /// Per module the command that compiles it with source lines, until that is run; `None` without
    /// lines.
    nvcc: Option<Mutex<BTreeMap<String, Command>>>,
    scratch: PathBuf,
}

/// Machine code of a module for an architecture, and why it has no source lines.
struct Assembled {
    sm: u32,
    cubin: Cubin,
    no_lines: Option<String>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let tools = tools(options)?;
    for folder in [&options.output, &tools.scratch] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let made = assemble_all(&tools, &ptx::entries(&options.names)?, &options.sm)?;
    for &sm in &options.sm {
        let of_sm: Vec<&Assembled> = made.iter().filter(|made| made.sm == sm).collect();
        write(&options.output.join(format!("sm_{sm}.cubins")), sm, &of_sm)?;
    }
    if tools.nvcc.is_some() {
        for Assembled {
            sm,
            cubin,
            no_lines,
        } in &made
        {
            if let Some(why) = no_lines {
                println!("no source lines: {} for sm_{sm}: {why}", cubin.id);
            }
        }
    }
    Ok(())
}

/// Finds ptxas, and nvcc if lines are to be kept.
fn tools(options: &Options) -> Result<Tools, Failure> {
    let nvcc = build::find_nvcc()?;
    let beside = nvcc
        .as_ref()
        .and_then(|nvcc| Some(nvcc.parent()?.join("ptxas")));
    let ptxas = beside.filter(|ptxas| ptxas.is_file()).ok_or(
        "no ptxas beside an nvcc: point WARPCONV_NVCC at an nvcc, or name its toolkit by CUDA_HOME \
         or PATH",
    )?;
    let lines = nvcc.filter(|_| !options.no_lines);
    Ok(Tools {
        ptxas,
        nvcc: lines.map(|nvcc| Mutex::new(build::line_commands(&root(), &nvcc))),
        scratch: work().join("cubins"),
    })
}

/// Writes the file of an architecture.
fn write(path: &Path, sm: u32, made: &[&Assembled]) -> Result<(), Failure> {
    if made.is_empty() {
        return Err(format!("no module runs on sm_{sm}: name another one"));
    }
    let cubins: Vec<Cubin> = made.iter().map(|made| made.cubin.clone()).collect();
    let bytes = Cubins::pack(&cubins);
    fs::write(path, &bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let unpacked: usize = cubins.iter().map(|cubin| cubin.image.len()).sum();
    println!(
        "{}: {} cubins, {} with source lines, {} KiB packed to {} KiB",
        path.display(),
        cubins.len(),
        made.iter().filter(|made| made.no_lines.is_none()).count(),
        unpacked >> 10,
        bytes.len() >> 10
    );
    Ok(())
}

/// Assembles each module for the architectures that run it, on all cores; in the order of the
/// modules.
fn assemble_all(tools: &Tools, entries: &[Entry], sms: &[u32]) -> Result<Vec<Assembled>, Failure> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let assemble_next = || {
        let mut failures = 0;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(index) else {
                return failures;
            };
            match assemble(tools, entry, sms) {
                Ok(assembled) => {
                    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                    made.insert(index, assembled);
                }
                Err(failure) => {
                    eprintln!("{}: {failure}", entry.id);
                    failures += 1;
                }
            }
        }
    };
    match prebuilt::on_all_cores(&assemble_next) {
        0 => {
            let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(made.into_values().flatten().collect())
        }
        failures => Err(format!("{failures} modules do not assemble")),
    }
}

/// The machine code of a module for each architecture that runs it.
///
/// It is that of the stored PTX. Source lines come from another compilation, which is taken if its
/// machine code is the same.
fn assemble(tools: &Tools, entry: &Entry, sms: &[u32]) -> Result<Vec<Assembled>, Failure> {
    let text = entry.text().ok_or("the stored module is damaged")?;
    let own = prebuilt::target(&text);
    let targets = sms.iter().filter_map(|&sm| Some((sm, target(&own, sm)?)));
    let targets: Vec<(u32, String)> = targets.collect();
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let lined = compile(tools, &entry.id, &text);
    let mut made = Vec::new();
    for (sm, target) in targets {
        let stored = ptxas(tools, &entry.id, &text, &target)?;
        let compared = lined.clone().and_then(|lined| {
            let image = ptxas(tools, &entry.id, &lined, &target)?;
            match elf::code(&stored).is_some_and(|code| elf::code(&image) == Some(code)) {
                true => Ok(image),
                false => Err(String::from(
                    "its machine code differs from the stored module's",
                )),
            }
        });
        let (image, no_lines) = match compared {
            Ok(image) => (image, None),
            Err(why) => (stored, Some(why)),
        };
        let cubin = Cubin {
            id: entry.id.clone(),
            target,
            text_hash: entry.text_hash,
            image,
        };
        made.push(Assembled {
            sm,
            cubin,
            no_lines,
        });
    }
    Ok(made)
}

/// Compiles a module with source lines, into PTX of the same version as the stored one.
fn compile(tools: &Tools, id: &str, stored: &str) -> Result<String, Failure> {
    let commands = tools.nvcc.as_ref().ok_or("not asked for")?;
    let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
    let command = commands.remove(id);
    drop(commands);
    let mut command = command.ok_or("the catalog has no such kernel")?;
    let raw = tools.scratch.join(format!("{id}.raw"));
    run_quietly(command.arg("-o").arg(&raw))?;
    let text = fs::read_to_string(&raw).map_err(|error| format!("{}: {error}", raw.display()))?;
    let _ = fs::remove_file(&raw);
    lines::tidy(&text, stored, &root().join("kernels"))
}

/// Assembles a text.
fn ptxas(tools: &Tools, id: &str, text: &str, target: &str) -> Result<Vec<u8>, Failure> {
    let file = |extension: &str| tools.scratch.join(format!("{id}.{target}.{extension}"));
    let (module, cubin) = (file("ptx"), file("cubin"));
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    fs::write(&module, text).map_err(|error| failed(&module, error))?;
    let mut command = Command::new(&tools.ptxas);
    command.arg(format!("-arch={target}"));
    if text.contains("\n.file") {
        command.arg("-lineinfo");
    }
    run_quietly(command.arg("-o").arg(&cubin).arg(&module))?;
    let image = fs::read(&cubin).map_err(|error| failed(&cubin, error))?;
    for path in [module, cubin] {
        let _ = fs::remove_file(path);
    }
    Ok(image)
}

/// Runs a command, of which only errors are shown.
fn run_quietly(command: &mut Command) -> Result<(), Failure> {
    let program = Path::new(command.get_program()).display().to_string();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Err(format!(
                "{program}: {}",
                String::from_utf8_lossy(&said).trim()
            ))
        }
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}

/// The target of machine code for `sm`, for a module of target `own`; `None` if it does not run
/// there.
fn target(own: &str, sm: u32) -> Option<String> {
    let number = own.strip_prefix("sm_")?;
    let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let least: u32 = digits.parse().ok()?;
    match digits.len() < number.len() {
        true => (sm == least).then(|| own.to_owned()),
        false => (sm >= least).then(|| format!("sm_{sm}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_assembled_for_what_runs_them() {
        for (own, sm, expected) in [
            ("sm_75", 90, Some("sm_90")),
            ("sm_80", 80, Some("sm_80")),
            ("sm_80", 75, None),
            ("sm_90a", 90, Some("sm_90a")),
            ("sm_90a", 100, None),
            ("", 90, None),
        ] {
            assert_eq!(target(own, sm).as_deref(), expected, "{own} {sm}");
        }
    }
}
