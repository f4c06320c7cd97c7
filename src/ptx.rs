//! The PTX of the catalog's kernels, and what its text says of itself.

use std::sync::OnceLock;

use crate::files;
use crate::kernels::{Kernel, KernelId, kernels};

include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// The modules of a build with `WARPCONV_PTX_FILES`, read when they are first asked for: from the
/// folder that `WARPCONV_PTX` names, else from `ptx` beside the program's own. One that is missing
/// is empty, which no driver takes.
#[allow(dead_code, reason = "only the table of such a build calls it")]
fn from_folder(ids: &[&str]) -> Vec<&'static str> {
    let beside = || {
        Some(
            std::env::current_exe()
                .ok()?
                .parent()?
                .parent()?
                .join("ptx"),
        )
    };
    let named = std::env::var_os("WARPCONV_PTX").map(std::path::PathBuf::from);
    let folder = named.or_else(beside).unwrap_or_default();
    let read = |id: &&str| files::text(&folder.join(format!("{id}.ptx")), files::PTX);
    ids.iter()
        .map(|id| &*read(id).unwrap_or_default().leak())
        .collect()
}

/// The module of a kernel as it is handed to the driver; `None` if the catalog has no such kernel.
pub fn text(id: KernelId) -> Option<&'static str> {
    PTX.get(id.0).copied()
}

/// The CUDA version (12000 is 12.0) that introduced a PTX ISA version, as the release notes of the
/// PTX ISA list them: 6.3 came with 10.0, 7.0 with 11.0, 8.0 with 12.0, 9.0 with 13.0, and each
/// minor version of CUDA brought at most one.
pub fn cuda_version(ptx: &str) -> u32 {
    let (major, minor) = ptx.trim().split_once('.').unwrap_or((ptx, "0"));
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or(0);
    match number(major) {
        0..=6 => 10_000 + number(minor).saturating_sub(3) * 10,
        major => (major + 4) * 1000 + number(minor) * 10,
    }
}

/// The PTX ISA version that the module asks for (its `.version`); a driver older than that refuses
/// it.
pub fn version(ptx: &str) -> &str {
    ptx.lines()
        .find_map(|line| line.trim().strip_prefix(".version"))
        .map_or("unknown", str::trim)
}

/// Bytes of shared memory that a block of the kernel takes: its module's shared variables and what
/// the launch adds.
pub fn shared_bytes(id: KernelId) -> u32 {
    let dynamic = kernels().get(id.0).map_or(0, Kernel::dynamic_shared);
    static_shared(id) + dynamic
}

/// The sum of the module's shared variables.
fn static_shared(id: KernelId) -> u32 {
    static BYTES: OnceLock<Vec<u32>> = OnceLock::new();
    let all = BYTES.get_or_init(|| PTX.iter().map(|ptx| shared_of(ptx)).collect());
    all.get(id.0).copied().unwrap_or(0)
}

/// Sums `.shared .align A .b8 name[BYTES];` and `.shared .align A .u32 name;`, the forms that nvcc
/// writes, each variable at its alignment.
fn shared_of(ptx: &str) -> u32 {
    let mut bytes = 0u32;
    for line in ptx.lines() {
        let Some(variable) = line.trim().strip_prefix(".shared") else {
            continue;
        };
        let align = after(variable, ".align ").unwrap_or(1).max(1);
        let size = after(variable, "[").unwrap_or_else(|| scalar(variable));
        bytes = bytes.next_multiple_of(align) + size;
    }
    bytes
}

/// Bytes of `.align 4 .u32 name;`.
fn scalar(variable: &str) -> u32 {
    const TYPES: [&str; 4] = [".b", ".f", ".s", ".u"];
    let bits = TYPES.iter().find_map(|prefix| after(variable, prefix));
    bits.unwrap_or(0) / 8
}

/// The number that follows `mark`.
fn after(text: &str, mark: &str) -> Option<u32> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_variables_are_summed() {
        let ptx = "// .shared in a comment counts for nothing\n.version 7.0\n\
            \t.shared .align 16 .b8 _ZZ6kernelE1a[4224];\n\
            .shared .align 4 .b8 b[10];\n.shared .align 8 .b8 c[8];\n";
        assert_eq!(shared_of(ptx), 4224 + 10 + 6 + 8);
        let scalars = "\t.shared .align 1 .u8 flag;\n\t.shared .align 8 .f64 sum;\n.extern .shared .align 16 .b8 rest[];\n";
        assert_eq!(shared_of(scalars), 1 + 7 + 8);
        assert_eq!(version(ptx), "7.0");
        for (ptx, cuda) in [
            ("6.3", 10_000),
            ("6.5", 10_020),
            ("7.0", 11_000),
            ("7.4", 11_040),
            ("8.0", 12_000),
            ("9.0", 13_000),
        ] {
            assert_eq!(cuda_version(ptx), cuda, "{ptx}");
        }
    }

    #[test]
    fn there_is_a_module_for_every_entry_and_it_asks_for_its_tiers_version() {
        for (index, kernel) in kernels().iter().enumerate() {
            let ptx = text(KernelId(index)).unwrap();
            assert!(ptx.contains(&kernel.name()), "{}", kernel.name());
            assert_eq!(version(ptx), kernel.ptx_version(), "{}", kernel.name());
        }
        assert_eq!(text(KernelId(kernels().len())), None);
    }

    #[test]
    fn no_module_declares_more_than_every_device_gives() {
        for (index, kernel) in kernels().iter().enumerate() {
            assert!(
                static_shared(KernelId(index)) <= 48 << 10,
                "{}",
                kernel.name()
            );
        }
    }
}
