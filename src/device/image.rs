//! Choice of the image that is loaded as a kernel.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use cudarc::driver::sys::CUresult;

use super::cubins::Cubin;
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

/// An image as the driver takes it.
#[derive(Debug)]
pub(super) struct Image {
    pub loaded: Loaded,
    /// A text with its NUL, or an ELF file.
    bytes: Vec<u8>,
}

impl Image {
    /// An image of PTX. The texts of the build have no NUL; the driver refuses an empty text.
    pub(super) fn ptx(text: String) -> Image {
        Image::text(Loaded::Ptx, CString::new(text).unwrap_or_default())
    }

    pub(super) fn cubin(cubin: Cubin) -> Image {
        Image {
            loaded: Loaded::Cubin {
                target: cubin.target,
            },
            bytes: cubin.image,
        }
    }

    fn text(loaded: Loaded, text: CString) -> Image {
        let bytes = text.into_bytes_with_nul();
        Image { loaded, bytes }
    }

    /// The image's first byte. An image ends with a NUL, or is an ELF file that was stored whole.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_cubin(&self) -> bool {
        matches!(self.loaded, Loaded::Cubin { .. })
    }

    /// The PTX version that the text asks for.
    pub(super) fn version(&self) -> String {
        ptx::version(&String::from_utf8_lossy(&self.bytes)).to_owned()
    }
}

/// This build's text of the kernel.
pub(super) fn own(id: KernelId) -> Image {
    Image::ptx(ptx::text(id).unwrap_or_default())
}

/// The text of the folder that the variable names, if it has one for the kernel.
///
/// # Errors
/// [`Error::ModuleLoad`] if the variable names no folder, or the file cannot be read.
pub(super) fn replacement(id: KernelId) -> Result<Option<Image>, Error> {
    let named = std::env::var_os(OVERRIDE).filter(|value| !value.is_empty());
    let Some(folder) = named.as_deref().map(Path::new) else {
        return Ok(None);
    };
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
