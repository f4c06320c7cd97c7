//! Choice of the image that is loaded as a kernel.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use cudarc::driver::sys::CUresult;

use crate::error::Error;
use crate::files;
use crate::kernels::KernelId;
use crate::ptx;

/// Variable that names a folder with PTX texts. Each file `<kernel>.ptx` replaces the text of this
/// build.
const OVERRIDE: &str = "WARPCONV_OVERRIDE_PTX";

/// Target of the [`log`](::log) records of this module: a warning for each kernel that is not
/// loaded from this build's PTX or machine code though it could be.
pub const LOG_TARGET: &str = "warpconv::device";

/// Image that a kernel was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loaded {
    /// The PTX of this build, compiled by the driver.
    Ptx,
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
            Loaded::Override { folder } => write!(f, "PTX of {}", folder.display()),
        }
    }
}

/// An image as the driver takes it.
#[derive(Debug)]
pub(super) struct Image {
    pub loaded: Loaded,
    /// The text and its NUL.
    pub text: CString,
}

impl Image {
    /// An image of PTX. The texts of the build have no NUL; the driver refuses an empty text.
    pub(super) fn ptx(text: String) -> Image {
        Image {
            loaded: Loaded::Ptx,
            text: CString::new(text).unwrap_or_default(),
        }
    }
}

/// Image of the kernel: the text of the folder that the variable names, else the build's.
///
/// # Errors
/// [`Error::ModuleLoad`] if the variable names no folder, or the file cannot be read.
pub(super) fn image(id: KernelId) -> Result<Image, Error> {
    let named = std::env::var_os(OVERRIDE).filter(|value| !value.is_empty());
    let replaced = match named {
        Some(folder) => replacement(id, Path::new(&folder))?,
        None => None,
    };
    Ok(replaced.unwrap_or_else(|| Image::ptx(ptx::text(id).unwrap_or_default())))
}

/// The folder's text for the kernel, if it has one.
fn replacement(id: KernelId, folder: &Path) -> Result<Option<Image>, Error> {
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
    Ok(Some(Image { loaded, text }))
}
