//! Machine code of a kernel, where ptxas and nvdisasm are installed: registers, spills, and the
//! instruction mix of the main loop. `scripts/sass` does the same for whole folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use warpconv::kernels::{Arch, KernelId};
use warpconv::ptx;

/// The machine code of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `sm_80`, `sm_90a`.
    pub arch: String,
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of spill stores and spill loads.
    pub spill_bytes: u32,
    /// Bytes of stack frame.
    pub stack_bytes: u32,
    /// The main loop's opcodes without modifiers, each with its count, the most frequent first.
    /// Empty where nvdisasm is missing or there is no loop.
    pub main_loop: Vec<(String, u32)>,
}

impl Machine {
    /// Number of instructions in the main loop.
    pub fn loop_length(&self) -> u32 {
        self.main_loop.iter().map(|(_, count)| count).sum()
    }
}

/// Paths of ptxas and, if it is installed, nvdisasm.
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: Option<PathBuf>,
}

impl Tools {
    /// Finds the tools beside the nvcc that the build would use; `None` without ptxas.
    pub fn find() -> Option<Tools> {
        let folders = folders();
        let find = |tool: &str| {
            let mut paths = folders.iter().map(|folder| folder.join(tool));
            paths.find(|path| path.is_file())
        };
        Some(Tools {
            ptxas: find("ptxas")?,
            nvdisasm: find("nvdisasm"),
        })
    }

    /// Assembles the kernel for a device of this capability.
    ///
    /// # Errors
    /// One sentence with the reason why the tools or the system failed.
    pub fn examine(&self, kernel: KernelId, capability: (u32, u32)) -> Result<Machine, String> {
        let text = ptx::text(kernel).ok_or("the catalog has no such kernel")?;
        let specific = if kernel.kernel().arch == Arch::Sm90a {
            "a"
        } else {
            ""
        };
        let arch = format!("sm_{}{}{specific}", capability.0, capability.1);
        let scratch = Scratch::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let (source, cubin) = (scratch.0.join("kernel.ptx"), scratch.0.join("kernel.cubin"));
        fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
        let log = run(Command::new(&self.ptxas)
            .arg("-v")
            .arg(format!("-arch={arch}"))
            .arg("-o")
            .args([&cubin, &source]))?
        .1;
        let mut machine = assembled(&log);
        machine.arch = arch;
        if let Some(nvdisasm) = &self.nvdisasm {
            let listing = run(Command::new(nvdisasm).arg("-c").arg(&cubin))?.0;
            machine.main_loop = mix(&main_loop(&listing));
        }
        Ok(machine)
    }
}

/// A temporary folder, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let folder = env::temp_dir().join(format!("warpconv-counters-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failure is ignored: the folder is in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool that must succeed; returns standard output and standard error.
fn run(command: &mut Command) -> Result<(String, String), String> {
    let tool = Path::new(command.get_program()).display().to_string();
    let output = command
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{tool} failed: {}", errors.trim()));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), errors))
}

/// Folders that may contain the tools: those in which build.rs looks for nvcc.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let on_path = |tool: &Path| {
        let path = env::var_os("PATH")?;
        env::split_paths(&path)
            .map(|folder| folder.join(tool))
            .find(|file| file.is_file())
    };
    for name in ["WARPCONV_NVCC", "NVCC"] {
        if let Some(named) = env::var_os(name).map(PathBuf::from) {
            let nvcc = if named.components().count() == 1 {
                on_path(&named).unwrap_or(named)
            } else {
                named
            };
            folders.extend(nvcc.parent().map(Path::to_owned));
        }
    }
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        folders.extend(env::var_os(name).map(|home| PathBuf::from(home).join("bin")));
    }
    folders.extend(on_path(Path::new("nvcc")).and_then(|nvcc| Some(nvcc.parent()?.to_owned())));
    folders.push(PathBuf::from("/usr/local/cuda/bin"));
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        let Some(prefix) = env::var_os(name).map(PathBuf::from) else {
            continue;
        };
        let pythons = fs::read_dir(prefix.join("lib")).into_iter().flatten();
        folders.extend(
            pythons
                .flatten()
                .map(|python| python.path().join("site-packages/nvidia/cu13/bin")),
        );
    }
    folders
}

/// Parses the figures that `ptxas -v` reports.
fn assembled(log: &str) -> Machine {
    Machine {
        registers: sum_before(log, " registers"),
        spill_bytes: sum_before(log, " bytes spill"),
        stack_bytes: sum_before(log, " bytes stack frame"),
        ..Machine::default()
    }
}

/// The sum of the numbers that directly precede `text` in the log.
fn sum_before(log: &str, text: &str) -> u32 {
    let number = |(at, _): (usize, &str)| {
        let before = &log[..at];
        let digits = before.rfind(|c: char| !c.is_ascii_digit());
        before[digits.map_or(0, |last| last + 1)..]
            .parse::<u32>()
            .ok()
    };
    log.match_indices(text).filter_map(number).sum()
}

/// Counts of opcodes, the most frequent first.
fn mix(body: &[&str]) -> Vec<(String, u32)> {
    let mut counts = BTreeMap::new();
    for line in body {
        *counts.entry(opcode(line).to_owned()).or_insert(0) += 1;
    }
    let mut counts: Vec<(String, u32)> = counts.into_iter().collect();
    // The sort is stable: opcodes with equal counts stay in alphabetical order.
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts
}

/// The opcode of an instruction without predicate and modifiers: `@!P0 LDS.128 R4, [R2]` is `LDS`.
fn opcode(instruction: &str) -> &str {
    let mut words = instruction.split_whitespace();
    let first = words.next().unwrap_or("");
    let whole = if first.starts_with('@') {
        words.next().unwrap_or("")
    } else {
        first
    };
    whole.split('.').next().unwrap_or(whole)
}

/// Weight of an instruction in the choice of the main loop: matrix operations first, then
/// multiply-adds.
fn weight(instruction: &str) -> (u32, u32) {
    match opcode(instruction) {
        "HGMMA" | "HMMA" => (1, 0),
        "FFMA" | "FFMA2" => (0, 1),
        _ => (0, 0),
    }
}

/// The innermost loop with the most matrix operations, else with the most multiply-adds, else with
/// the most instructions. A loop extends from the target of a backward branch to the branch. Loops
/// that only wait do not count as inner loops.
fn main_loop(listing: &str) -> Vec<&str> {
    let mut instructions = Vec::new();
    let mut labels = BTreeMap::new();
    for line in listing.lines() {
        let line = line.trim();
        if let Some(label) = line
            .strip_suffix(':')
            .filter(|name| name.starts_with(".L_"))
        {
            labels.insert(label, instructions.len());
        } else if let Some(text) = instruction(line) {
            instructions.push(text);
        }
    }
    let mut loops = Vec::new();
    for (end, text) in instructions.iter().enumerate() {
        let target = text.find("BRA").and_then(|bra| {
            let rest = &text[bra..];
            let name = &rest[rest.find(".L_")?..];
            let after = name[1..].find(|c: char| !(c.is_alphanumeric() || c == '_'));
            Some(&name[..after.map_or(name.len(), |after| after + 1)])
        });
        if let Some(&start) = target.and_then(|name| labels.get(name))
            && start <= end
        {
            loops.push((start, end + 1));
        }
    }
    let sum = |&(start, end): &(usize, usize)| {
        let of = |pick: fn((u32, u32)) -> u32| {
            instructions[start..end]
                .iter()
                .map(|text| pick(weight(text)))
                .sum::<u32>()
        };
        (of(|w| w.0), of(|w| w.1))
    };
    let inside = |a: &(usize, usize), b: &(usize, usize)| a != b && a.0 <= b.0 && b.1 <= a.1;
    let main = loops
        .iter()
        .filter(|a| !loops.iter().any(|b| inside(a, b) && sum(b) > (0, 0)))
        .max_by_key(|a| (sum(a), a.1 - a.0));
    main.map_or(Vec::new(), |&(start, end)| {
        instructions[start..end].to_vec()
    })
}

/// The instruction in a line of nvdisasm's output: `/*0a10*/   @P0 BRA ... ;`.
fn instruction(line: &str) -> Option<&str> {
    let (address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let hex = address.len() >= 4 && address.bytes().all(|b| b.is_ascii_hexdigit());
    let end = rest.find(';')?;
    hex.then(|| rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptxas_is_read() {
        let log = "ptxas info    : 0 bytes gmem\nptxas info    : Function properties for k\n    8 \
            bytes stack frame, \
            4 bytes spill stores, 12 bytes spill loads\nptxas info    : Used 128 registers, used 1 \
            barriers, 33280 bytes smem";
        let machine = assembled(log);
        assert_eq!(
            (machine.registers, machine.spill_bytes, machine.stack_bytes),
            (128, 16, 8)
        );
        assert_eq!(assembled(""), Machine::default());
    }

    /// A main loop that contains a waiting loop, and a copy loop with more instructions.
    const LISTING: &str = "
.L_x_0:
        /*0000*/                   LDG.E R2, [R4.64] ;
        /*0010*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0020*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0030*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0040*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0050*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0060*/              @P0 BRA `(.L_x_0) ;
.L_x_1:
        /*0070*/                   HMMA.16816.F32.BF16 R4, R8, R10, R4 ;
.L_x_2:
        /*0080*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [UR4], R9 ;
        /*0090*/             @!P1 BRA `(.L_x_2) ;
        /*00a0*/                   LDSM.16.M88.4 R8, [R3] ;
        /*00b0*/                   HMMA.16816.F32.BF16 R12, R8, R10, R12 ;
        /*00c0*/           @!UP0 BRA `(.L_x_1) ;
.L_x_3:
        /*00d0*/                   EXIT ;
        /*00e0*/                   BRA `(.L_x_4) ;
.L_x_4:
";

    #[test]
    fn the_main_loop_has_the_matrix_operations() {
        let body = main_loop(LISTING);
        assert_eq!(body.len(), 6);
        assert_eq!(
            mix(&body),
            [("BRA", 2), ("HMMA", 2), ("LDSM", 1), ("SYNCS", 1)]
                .map(|(name, count)| (name.to_owned(), count))
        );
    }

    #[test]
    fn without_arithmetic_the_longest_inner_loop_is_taken() {
        let plain = LISTING.replace("HMMA", "IMAD");
        assert_eq!(main_loop(&plain).len(), 7);
        assert_eq!(main_loop("no listing at all"), Vec::<&str>::new());
    }

    #[test]
    fn opcodes_lose_predicate_and_modifiers() {
        assert_eq!(opcode("@!UP0 LDS.128 R4, [R2]"), "LDS");
        assert_eq!(opcode("EXIT"), "EXIT");
        assert_eq!(opcode(""), "");
    }
}
