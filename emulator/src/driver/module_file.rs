//! Module files: regular files only, up to a maximum length.
//!
//! A device such as `/dev/zero` has no end, and a pipe blocks its reader until another process
//! writes.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::driver::status::CUresult;

/// Maximum length of a file, in bytes.
pub(super) const MOST_BYTES: u64 = 256 << 20;

/// Reason why a file was refused: the code, and the text of the log.
pub(super) type Refusal = (CUresult, String);

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// `FILE_NOT_FOUND` where there is no regular file that can be read, `INVALID_IMAGE` where it is
/// too long.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: std::io::Error| {
        let log = format!("{}: {error}", path.display());
        (CUresult::FILE_NOT_FOUND, log)
    };
    // Checked before opening: opening a pipe blocks until another process opens it to write.
    check(path, &std::fs::metadata(path).map_err(unreadable)?, most)?;
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // The length may differ from the number of bytes: files of procfs report 0, other files grow.
    let read = file.take(most + 1).read_to_end(&mut bytes);
    let read = read.map_err(unreadable)? as u64;
    if read > most {
        return Err(too_long(path, most));
    }
    Ok(bytes)
}

fn check(path: &Path, metadata: &Metadata, most: u64) -> Result<(), Refusal> {
    if !metadata.is_file() {
        let log = format!("{}: it is no regular file", path.display());
        return Err((CUresult::FILE_NOT_FOUND, log));
    }
    if metadata.len() > most {
        return Err(too_long(path, most));
    }
    Ok(())
}

fn too_long(path: &Path, most: u64) -> Refusal {
    let log = format!("{}: it has more than {most} bytes", path.display());
    (CUresult::INVALID_IMAGE, log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_the_limit() {
        let path = std::env::temp_dir().join(format!("ptx-emulator-file-{}", std::process::id()));
        std::fs::write(&path, [7; 100]).expect("a file");
        assert_eq!(read(&path, 100), Ok(vec![7; 100]));
        let (code, log) = read(&path, 99).expect_err("a byte too long");
        assert_eq!(code, CUresult::INVALID_IMAGE);
        assert!(log.ends_with("it has more than 99 bytes"), "{log}");
        std::fs::remove_file(&path).expect("removed");
        let (code, log) = read(&path, 100).expect_err("gone");
        assert_eq!(code, CUresult::FILE_NOT_FOUND);
        assert!(log.contains("No such file"), "{log}");
    }

    /// The kernel reports a length of 0.
    #[test]
    fn a_length_of_zero_is_not_believed() {
        let path = Path::new("/proc/self/status");
        assert!(read(path, 1 << 20).is_ok_and(|bytes| !bytes.is_empty()));
        let code = read(path, 8).map_err(|refusal| refusal.0);
        assert_eq!(code, Err(CUresult::INVALID_IMAGE));
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        for path in ["/dev/zero", "/dev/null", "/tmp"] {
            let (code, log) = read(Path::new(path), 100).expect_err(path);
            assert_eq!(code, CUresult::FILE_NOT_FOUND);
            assert_eq!(log, format!("{path}: it is no regular file"));
        }
    }
}
