//! The rows of a file: JSON lines, or the archive of `run-all` that holds them.

use std::io::{self, ErrorKind};
use std::path::Path;

use warpconv::files;

use crate::exit::Failure;
use crate::run_all::archive;

/// Name of the rows in an archive.
const MEMBER: &str = "rows.jsonl";

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

/// The rows in an archive, whatever folder they are in.
fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let members = archive::unpack(bytes)?.into_iter();
    let mut rows = members.filter(|(name, _)| Path::new(name).ends_with(MEMBER));
    let (_, rows) = rows.next().ok_or_else(|| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("no {MEMBER} in the archive: it is none of `run-all`, or nothing was measured"),
        )
    })?;
    let limit = files::ROWS.limit;
    if rows.len() as u64 > limit {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("{MEMBER} in the archive has more than {limit} bytes"),
        ));
    }
    Ok(rows)
}
