//! Machine code that was assembled before: a folder of files `sm_90.cubins`, one per architecture,
//! as `cargo xtask cubins` writes them.

use std::path::{Path, PathBuf};

use ptx_archive::{CubinEntry, Cubins};

use super::LOG_TARGET;
use crate::files;
use crate::kernels::KernelId;
use crate::ptx;

/// Variable that names the folder. Without it the folder is `cubins` beside the program's own.
const FOLDER: &str = "WARPCONV_CUBINS";

/// The machine code for a device.
#[derive(Debug)]
pub(super) struct DeviceCubins {
    path: PathBuf,
    /// Major and minor compute capability.
    device: (u32, u32),
    cubins: Cubins,
}

/// An image of machine code.
#[derive(Debug)]
pub(super) struct Cubin {
    pub target: String,
    pub image: Vec<u8>,
}

impl DeviceCubins {
    /// Reads the file for a device of this capability. A folder that has none, and a file that
    /// cannot be read, are logged once per context; without a folder there is nothing to say.
    pub(super) fn open(device: (u32, u32)) -> Option<DeviceCubins> {
        let named = std::env::var_os(FOLDER).filter(|value| !value.is_empty());
        let folder = match named {
            Some(folder) => PathBuf::from(folder),
            None => ptx::beside("cubins").filter(|folder| folder.is_dir())?,
        };
        match read(&folder, device) {
            Ok((path, cubins)) => Some(DeviceCubins {
                path,
                device,
                cubins,
            }),
            Err(why) => {
                log::warn!(target: LOG_TARGET, "{why}: the driver compiles PTX");
                None
            }
        }
    }

    /// The machine code of a kernel; a reason is logged where there is none.
    pub(super) fn get(&self, id: KernelId) -> Option<Cubin> {
        match self.find(id) {
            Ok(cubin) => Some(cubin),
            Err(why) => {
                self.warn(id, &why);
                None
            }
        }
    }

    /// Logs that the driver compiles the kernel's PTX, and why.
    pub(super) fn warn(&self, id: KernelId, why: &str) {
        let (kernel, path) = (id.kernel().name(), self.path.display());
        log::warn!(target: LOG_TARGET, "{kernel}: {why} ({path}): the driver compiles its PTX");
    }

    fn find(&self, id: KernelId) -> Result<Cubin, String> {
        let name = id.kernel().name();
        let mut entries = self.cubins.entries().iter();
        let Some(entry) = entries.find(|entry| entry.id == name) else {
            return Err(String::from("the file has no cubin of it"));
        };
        if !runs_on(&entry.target, self.device) {
            let (major, minor) = self.device;
            return Err(format!(
                "its cubin is for {}, the device has compute capability {major}.{minor}",
                entry.target
            ));
        }
        if Some(entry.text_hash) != ptx::hash(id) {
            return Err(String::from("its cubin was made from other sources"));
        }
        self.unpack(entry)
    }

    fn unpack(&self, entry: &CubinEntry) -> Result<Cubin, String> {
        let image = self.cubins.image(entry);
        // The driver reads as much as the ELF header states, so nothing else may reach it.
        match image.filter(|image| image.starts_with(b"\x7fELF") && image.len() >= 64) {
            Some(image) => Ok(Cubin {
                target: entry.target.clone(),
                image,
            }),
            None => Err(String::from("its cubin is damaged")),
        }
    }
}

/// The file for the device: of its own architecture, else of the nearest older minor one.
fn read(folder: &Path, device: (u32, u32)) -> Result<(PathBuf, Cubins), String> {
    if !folder.is_dir() {
        let shown = folder.display();
        return Err(format!("{FOLDER} is {shown}, which is no folder"));
    }
    let (major, minor) = device;
    let files = (0..=minor)
        .rev()
        .map(|minor| folder.join(format!("sm_{major}{minor}.cubins")));
    let Some(path) = files.into_iter().find(|path| path.exists()) else {
        let folder = folder.display();
        return Err(format!(
            "{folder} has no cubins for compute capability {major}.{minor}"
        ));
    };
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let bytes = files::bytes(&path, files::CUBINS).map_err(|error| failed(&error))?;
    let cubins = Cubins::parse(bytes).map_err(|error| failed(&error))?;
    Ok((path, cubins))
}

/// Returns whether machine code for this target runs on the device: code for `sm_86` runs on minor
/// capabilities from 6 of the same major one, code for `sm_90a` on 9.0 alone.
fn runs_on(target: &str, (major, minor): (u32, u32)) -> bool {
    let Some(number) = target.strip_prefix("sm_") else {
        return false;
    };
    let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let Ok(sm) = digits.parse::<u32>() else {
        return false;
    };
    let exact = digits.len() < number.len();
    sm / 10 == major && (sm % 10 == minor || !exact && sm % 10 < minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_runs_within_its_major_capability() {
        for (target, device, runs) in [
            ("sm_90", (9, 0), true),
            ("sm_90a", (9, 0), true),
            ("sm_90a", (9, 1), false),
            ("sm_80", (8, 0), true),
            ("sm_80", (8, 6), true),
            ("sm_86", (8, 0), false),
            ("sm_80", (9, 0), false),
            ("sm_100", (10, 0), true),
            ("sm_100a", (10, 3), false),
            ("sm_", (9, 0), false),
            ("compute_90", (9, 0), false),
        ] {
            assert_eq!(runs_on(target, device), runs, "{target} {device:?}");
        }
    }
}
