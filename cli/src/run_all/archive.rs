//! `results.tar.gz`: written atomically from the files of a run, and read again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use warpconv::files::{self, Kind};

/// Archives of runs, packed.
const PACKED: Kind = Kind {
    what: "an archive of `run-all`",
    limit: 64 << 20,
    way_out: "run without --resume",
    pipes: false,
};

/// Bytes of an unpacked archive at most. Those of a run have some megabytes.
const MAX_UNPACKED: u64 = 256 << 20;

/// Packs every file below `folder` into `target`, by names in order. The archive appears under its
/// name only when it is whole.
pub fn pack(folder: &Path, target: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    list(folder, Path::new(""), &mut names)?;
    names.sort();
    let partial = target.with_extension("gz.partial");
    let encoder = GzEncoder::new(File::create(&partial)?, Compression::default());
    let mut archive = tar::Builder::new(encoder);
    archive.mode(tar::HeaderMode::Deterministic);
    for name in names {
        // Whole, so that a file that grows meanwhile is cut at the size that its header states.
        let bytes = match fs::read(folder.join(&name)) {
            Ok(bytes) => bytes,
            // The log of a process that has passed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, &name, &bytes[..])?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    fs::rename(partial, target)
}

/// The names of the files below `folder`.
fn list(folder: &Path, below: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(folder, &name, names)?;
        } else if kind.is_file() {
            names.push(name);
        }
    }
    Ok(())
}

/// Reads an archive: the name and the content of each of its files.
///
/// # Errors
/// The system's error, and as [`unpack`].
pub fn read(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    unpack(&files::bytes(path, PACKED)?)
}

/// Unpacks an archive: the name and the content of each of its files.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it unpacks to more than a run writes; another kind if it is
/// no archive, is cut or has other bytes than were written.
pub fn unpack(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    // One byte more than is allowed, so that a longer archive is told from a cut one.
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MAX_UNPACKED + 1));
    let found = match members(&mut archive) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(error),
        found => found,
    };
    let mut rest = archive.into_inner();
    // To the end, where gzip has its checksum.
    let drained = io::copy(&mut rest, &mut io::sink());
    if rest.limit() == 0 {
        return Err(too_large());
    }
    let found = found.and_then(|found| drained.map(|_| found));
    found.map_err(|error| {
        let reason = format!("the archive is cut or damaged ({error}): copy it again");
        io::Error::new(error.kind(), reason)
    })
}

fn members(archive: &mut tar::Archive<impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut total = 0u64;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path()?.to_string_lossy().into_owned();
        total = total.saturating_add(entry.size());
        if total > MAX_UNPACKED {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != entry.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        found.push((name, bytes));
    }
    match found.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no file is in it",
        )),
        false => Ok(found),
    }
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("unpacks to more than {MAX_UNPACKED} bytes, the most that an archive of a run has"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_comes_back_and_a_damaged_one_does_not() {
        let folder = std::env::temp_dir().join(format!("warpconv-archive-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let inside = folder.join("inside");
        fs::create_dir_all(inside.join("logs")).unwrap();
        let noise: Vec<u8> = (0..100_000u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        fs::write(inside.join("rows.jsonl"), &noise).unwrap();
        fs::write(inside.join("logs/a.log"), "one line\n").unwrap();
        let target = folder.join("results.tar.gz");
        pack(&inside, &target).unwrap();
        let expected = vec![
            ("logs/a.log".to_owned(), b"one line\n".to_vec()),
            ("rows.jsonl".to_owned(), noise),
        ];
        assert_eq!(read(&target).unwrap(), expected);
        assert!(!folder.join("results.tar.gz.partial").exists());

        let whole = fs::read(&target).unwrap();
        for cut in [0, 10, whole.len() / 2, whole.len() - 4] {
            fs::write(&target, &whole[..cut]).unwrap();
            assert!(read(&target).is_err(), "{cut} of {}", whole.len());
        }
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&target, &flipped).unwrap();
        assert!(read(&target).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
