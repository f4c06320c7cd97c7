//! Kinds of images, and the texts of a folder that replace those of the build.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use cudarc::driver::sys::CUresult;

use super::modules::Image;
use crate::error::Error;
use crate::files;
use crate::kernels::KernelId;

/// Variable that names a folder with PTX texts. Each file `<kernel>.ptx` replaces the text of this
/// build.
pub(super) const OVERRIDE: &str = "WARPCONV_OVERRIDE_PTX";

/// Target of the [`log`](::log) records of this module: a warning for each kernel that is not
/// loaded from this build's PTX or machine code though it could be.
pub const LOG_TARGET: &str = "warpconv::device";

/// Image that a kernel was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loaded {
    /// The PTX of this build, compiled by the driver.
    Ptx,
    /// Machine code of this build's PTX, assembled before.
    Cubin {
        /// Architecture that it is assembled for: `sm_80`, `sm_90a`.
        target: String,
    },
    /// PTX of the folder that `WARPCONV_OVERRIDE_PTX` names.
    Override {
        /// The folder as it is named.
        folder: PathBuf,
    },
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loaded::Ptx => f.write_str("PTX, compiled by the driver"),
            Loaded::Cubin { target } => write!(f, "cubin {target}"),
            Loaded::Override { folder } => write!(f, "PTX of {}", folder.display()),
        }
    }
}

/// The text of the folder that [`OVERRIDE`] names, if it has one for the kernel.
///
/// # Errors
/// [`Error::ModuleLoad`] if the variable names no folder, or the file cannot be read.
pub(super) fn replacement(folder: &Path, id: KernelId) -> Result<Option<Image>, Error> {
    let kernel = id.kernel().name();
    let failed = |code: CUresult, reason: String| Error::ModuleLoad {
        kernel: kernel.clone(),
        code: code as u32,
        reason,
    };
    if !folder.is_dir() {
        let reason = format!(
            "{OVERRIDE} is {}, which is no folder: unset it, or name a folder with <kernel>.ptx",
            folder.display()
        );
        return Err(failed(CUresult::CUDA_ERROR_FILE_NOT_FOUND, reason));
    }
    let path = folder.join(format!("{kernel}.ptx"));
    if !path.exists() {
        return Ok(None);
    }
    let unreadable = |reason: String| {
        let reason = format!("{} ({OVERRIDE}): {reason}", path.display());
        failed(CUresult::CUDA_ERROR_INVALID_IMAGE, reason)
    };
    let text = files::text(&path, files::PTX).map_err(|error| unreadable(error.to_string()))?;
    let text = CString::new(text).map_err(|error| {
        let at = error.nul_position();
        unreadable(format!("it is no text: byte {at} is 0"))
    })?;
    log::warn!(target: LOG_TARGET, "{kernel} is taken from {} ({OVERRIDE})", path.display());
    let loaded = Loaded::Override {
        folder: folder.to_owned(),
    };
    Ok(Some(Image::text(loaded, text)))
}
