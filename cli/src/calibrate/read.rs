//! The rows of a file: JSON lines, or the archive of `run-all` that holds them.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use warpconv::files;

use crate::exit::Failure;

/// Name of the rows in an archive.
const MEMBER: &str = "rows.jsonl";

/// Bytes of an unpacked archive at most; those of a run have some megabytes.
const MAX_UNPACKED: u64 = 256 << 20;

/// First bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads the rows of a file as text.
pub fn rows(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::File {
        path: path.to_owned(),
        error,
    };
    let bytes = files::bytes(path, files::ROWS).map_err(failed)?;
    let rows = match bytes.starts_with(&GZIP) {
        true => unpacked(&bytes).map_err(failed)?,
        false => bytes,
    };
    String::from_utf8(rows).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        failed(io::Error::new(
            ErrorKind::InvalidData,
            format!(
                "neither rows of the benchmarks nor an archive of `run-all`: no UTF-8 at byte {at}"
            ),
        ))
    })
}

/// The rows in an archive.
fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // One byte more than is allowed, so that a longer archive is told from a cut one.
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MAX_UNPACKED + 1));
    let found = match member(&mut archive) {
        Err(error) if error.kind() == ErrorKind::FileTooLarge => return Err(error),
        found => found,
    };
    let mut rest = archive.into_inner();
    // To the end, where gzip has its checksum.
    let drained = io::copy(&mut rest, &mut io::sink());
    if rest.limit() == 0 {
        return Err(too_large("an archive of `run-all`", MAX_UNPACKED));
    }
    let found = found.and_then(|found| drained.map(|_| found));
    found.map_err(damaged)?.ok_or_else(|| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("no {MEMBER} in the archive: it is none of `run-all`, or nothing was measured"),
        )
    })
}

/// The content of the member with the rows, whatever folder it is in.
fn member(archive: &mut tar::Archive<impl Read>) -> io::Result<Option<Vec<u8>>> {
    for entry in archive.entries()? {
        let mut entry = entry?;
        let named = entry.path()?.file_name() == Some(MEMBER.as_ref());
        if !(named && entry.header().entry_type().is_file()) {
            continue;
        }
        let limit = files::ROWS.limit;
        let mut rows = Vec::new();
        entry.by_ref().take(limit + 1).read_to_end(&mut rows)?;
        if rows.len() as u64 > limit {
            return Err(too_large(MEMBER, limit));
        }
        if rows.len() as u64 != entry.size() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        return Ok(Some(rows));
    }
    Ok(None)
}

fn too_large(what: &str, limit: u64) -> io::Error {
    io::Error::new(
        ErrorKind::FileTooLarge,
        format!("unpacks to more than {limit} bytes, the most that {what} may have"),
    )
}

fn damaged(error: io::Error) -> io::Error {
    let reason = format!("the archive is cut or damaged ({error}): copy it again");
    io::Error::new(error.kind(), reason)
}
