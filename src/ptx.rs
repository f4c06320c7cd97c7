//! The PTX of the catalog's kernels, and what its text says of itself.
//!
//! The modules are embedded in packed form, see [`ptx_archive`]; [`text`] unpacks one in at most a
//! few milliseconds.

use std::ops::Range;
use std::path::PathBuf;

use ptx_archive::Hasher;

use crate::files;
use crate::kernels::{Kernel, KernelId, kernels};

/// A packed module.
#[derive(Debug)]
struct Module {
    /// Bytes of the module's shared variables.
    shared: u32,
    /// Hash of the module's text.
    hash: u64,
    /// Bytes of the packed module in `PACKED`.
    packed: Range<usize>,
}

include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// The modules of a build with `WARPCONV_PTX_FILES`, read at the first use: `modules.bin` in the
/// folder that `WARPCONV_PTX` names, else in `ptx` beside the program's own. A missing file is
/// empty: no module of it has a text.
#[allow(dead_code, reason = "only the table of such a build calls it")]
fn from_folder() -> Vec<u8> {
    let named = std::env::var_os("WARPCONV_PTX").map(PathBuf::from);
    let folder = named.or_else(|| beside("ptx")).unwrap_or_default();
    files::bytes(&folder.join("modules.bin"), files::PTX).unwrap_or_default()
}

/// A folder of that name beside the program's own folder.
pub(crate) fn beside(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join(name))
}

/// Unpacks the module of a kernel as it is handed to the driver; `None` if the catalog has no such
/// kernel, or the modules are those of another build.
pub fn text(id: KernelId) -> Option<String> {
    let module = MODULES.get(id.0)?;
    let text = ptx_archive::unpack(PACKED.get(module.packed.clone())?)?;
    (Hasher::of(&text) == module.hash).then_some(text)
}

/// The hash of a module's text.
pub(crate) fn hash(id: KernelId) -> Option<u64> {
    MODULES.get(id.0).map(|module| module.hash)
}

/// The hashes of all modules' texts, in the order of the catalog.
pub(crate) fn hashes() -> impl Iterator<Item = u64> {
    MODULES.iter().map(|module| module.hash)
}

/// The CUDA version (12000 is 12.0) that introduced a PTX ISA version, as the release notes of the
/// PTX ISA list them: 6.3 came with 10.0, 7.0 with 11.0, 8.0 with 12.0, 9.0 with 13.0, and each
/// minor version of CUDA brought at most one.
pub(crate) fn cuda_version(ptx: &str) -> u32 {
    let (major, minor) = ptx.trim().split_once('.').unwrap_or((ptx, "0"));
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or(0);
    match number(major) {
        0..=6 => 10_000 + number(minor).saturating_sub(3) * 10,
        major => (major + 4) * 1000 + number(minor) * 10,
    }
}

/// The PTX ISA version that the module asks for (its `.version`); a driver older than that refuses
/// it.
pub(crate) fn version(ptx: &str) -> &str {
    ptx.lines()
        .find_map(|line| line.trim().strip_prefix(".version"))
        .map_or("unknown", str::trim)
}

/// Bytes of shared memory that a block of the kernel takes: its module's shared variables and what
/// the launch adds.
pub(crate) fn shared_bytes(id: KernelId) -> u32 {
    let dynamic = kernels().get(id.0).map_or(0, Kernel::dynamic_shared);
    static_shared(id) + dynamic
}

/// The sum of the module's shared variables.
fn static_shared(id: KernelId) -> u32 {
    MODULES.get(id.0).map_or(0, |module| module.shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_named() {
        assert_eq!(
            version("// a comment\n.version 7.0\n.target sm_80\n"),
            "7.0"
        );
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
            assert_eq!(version(&ptx), kernel.ptx_version(), "{}", kernel.name());
        }
        assert_eq!(MODULES.len(), kernels().len());
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
