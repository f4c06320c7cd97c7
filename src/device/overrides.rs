//! Texts of a folder that replace those of the build.

use std::ffi::CString;
use std::path::Path;

use cudarc::driver::sys::CUresult;

use super::LOG_TARGET;
use crate::error::Error;
use crate::files;
use crate::kernels::KernelId;

/// Variable that names a folder with PTX texts. Each file `<kernel>.ptx` replaces the text of this
/// build.
pub(super) const OVERRIDE: &str = "WARPCONV_OVERRIDE_PTX";

/// The text of the folder that [`OVERRIDE`] names, if it has one for the kernel.
///
/// # Errors
/// [`Error::ModuleLoad`] if the variable names no folder, or the file cannot be read.
pub(super) fn text(folder: &Path, id: KernelId) -> Result<Option<CString>, Error> {
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
    Ok(Some(text))
}
