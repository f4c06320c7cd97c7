//! Reading files whole, none without an end: every file that the crate or its command line reads
//! comes through here.
//!
//! The size that the system reports is no bound: `/dev/zero` and a pipe have none, and a file may
//! grow while it is read. So each kind of file has a stated maximum, at most one byte more than
//! that is ever read, and what is no regular file is refused before it is opened, since opening a
//! pipe that nobody writes to waits forever. Shape files may also be pipes that are open already,
//! as a shell's `<(...)` and `/dev/stdin` are; these end when their writer does.

use std::fs::{self, File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Kind of file, its maximum size, and advice for a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Kind of file in words, with its article.
    pub what: &'static str,
    /// Largest size in bytes.
    pub limit: u64,
    /// Advice for a larger file.
    pub way_out: &'static str,
    /// True if the file may be a pipe that is already open.
    pub pipes: bool,
}

const fn regular(what: &'static str, limit: u64, way_out: &'static str) -> Kind {
    Kind {
        what,
        limit,
        way_out,
        pipes: false,
    }
}

/// benchdnn's shape files; all of its own together have under 10 MB.
pub const SHAPES: Kind = Kind {
    pipes: true,
    ..regular("a shape file", 16 << 20, "split it")
};
/// `case.json`, `expected.json`, `graph.json`: those of this crate have under 200 KB, and a parsed
/// object takes 80 times its text.
pub const JSON: Kind = regular("a JSON file of a case", 4 << 20, "make several cases of it");
/// `.npy` arrays: 2^26 elements of 8 bytes, and their header.
pub const ARRAY: Kind = regular(
    "an .npy array",
    (512 << 20) + (16 << 10),
    "make a smaller case of it",
);
/// safetensors files; the weights of VGG-16 in f64 have 1.1 GB.
pub const WEIGHTS: Kind = regular(
    "a file of weights",
    4 << 30,
    "store them in a narrower type",
);
/// PNG and JPEG images.
pub const PICTURE: Kind = regular("a picture", 256 << 20, "scale the picture down");
/// Names of classes.
pub const LABELS: Kind = regular("a list of classes", 1 << 20, "give one name per line");
/// Tuning files; entries have some 200 bytes.
pub const TUNING: Kind = regular("a tuning file", 16 << 20, "tune into a new file");
/// Packed PTX modules (`modules.bin`).
pub const PTX: Kind = regular(
    "a PTX module",
    64 << 20,
    "name the folder that the build made",
);
/// Files of machine code (`sm_90.cubins`); those of one architecture have some 20 MB.
pub const CUBINS: Kind = regular(
    "a file of cubins",
    256 << 20,
    "name the folder that `cargo xtask cubins` made",
);
/// Records of the benchmarks, of some 500 bytes each.
pub const ROWS: Kind = regular("a file of rows", 64 << 20, "split it");

/// Reads a file.
///
/// # Errors
/// The system's error; [`ErrorKind::InvalidInput`] if it is no regular file;
/// [`ErrorKind::FileTooLarge`] if it has more bytes than the kind allows.
pub fn bytes(path: &Path, kind: Kind) -> Result<Vec<u8>> {
    bytes_if(path, kind, 0, |_, _| Ok(()))
}

/// Reads a file whose first bytes say whether the rest is worth the memory: `fits` gets up to
/// `head` of them and the size of the file in bytes.
///
/// # Errors
/// As [`bytes`], and what `fits` returns.
pub fn bytes_if(
    path: &Path,
    kind: Kind,
    head: usize,
    fits: impl FnOnce(&[u8], u64) -> Result<()>,
) -> Result<Vec<u8>> {
    let known = fs::metadata(path)?;
    readable(path, &known, kind)?;
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > kind.limit {
        return Err(too_large(kind));
    }
    let mut bytes = Vec::new();
    let mut file = file.take(kind.limit + 1);
    file.by_ref().take(head as u64).read_to_end(&mut bytes)?;
    fits(&bytes, size)?;
    // The system's size is where reading starts to allocate, no more.
    bytes.reserve_exact(
        usize::try_from(size)
            .unwrap_or(0)
            .saturating_sub(bytes.len()),
    );
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > kind.limit {
        return Err(too_large(kind));
    }
    Ok(bytes)
}

/// Reads a file of text.
///
/// # Errors
/// As [`bytes`]; [`ErrorKind::InvalidData`] if it is no UTF-8.
pub fn text(path: &Path, kind: Kind) -> Result<String> {
    String::from_utf8(bytes(path, kind)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(ErrorKind::InvalidData, format!("no UTF-8 at byte {at}"))
    })
}

/// Creates or empties a file of this crate's own beside one that the user named, such as its lock.
///
/// # Errors
/// The system's error; [`ErrorKind::InvalidInput`] if the name is that of no regular file:
/// opening a pipe without a reader blocks, and the target of a link may be any file.
pub fn create_own(path: &Path) -> Result<File> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => Err(Error::new(
            ErrorKind::InvalidInput,
            "is in the way: it is no regular file, and only such a one is replaced; remove it",
        )),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => File::create(path),
    }
}

/// Returns whether a path is a pipe that is open already: one of this process's descriptors.
fn is_open_pipe(path: &Path) -> bool {
    let descriptor = ["/dev/fd/", "/proc/self/fd/", "/dev/stdin"];
    let named = path.to_str().unwrap_or_default();
    descriptor.iter().any(|start| named.starts_with(start))
        && fs::metadata(path).is_ok_and(|metadata| is_pipe(&metadata))
}

fn readable(path: &Path, metadata: &Metadata, kind: Kind) -> Result<()> {
    if metadata.is_file() || kind.pipes && is_open_pipe(path) {
        return Ok(());
    }
    let found = match metadata {
        metadata if metadata.is_dir() => "a folder",
        metadata if is_pipe(metadata) => "a pipe",
        _ => "a device",
    };
    let what = kind.what;
    let or = match kind.pipes {
        true => ", or a pipe that is open already, as <(...) is",
        false => "",
    };
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("is {found}; {what} must be a regular file{or}: copy it to one"),
    ))
}

fn too_large(kind: Kind) -> Error {
    let Kind {
        what,
        limit,
        way_out,
        ..
    } = kind;
    Error::new(
        ErrorKind::FileTooLarge,
        format!("has more than {limit} bytes, the most that {what} may have: {way_out}"),
    )
}

#[cfg(unix)]
fn is_pipe(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_fifo()
}

#[cfg(not(unix))]
fn is_pipe(_: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const SMALL: Kind = regular("a small file", 1000, "make it smaller");

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder =
                std::env::temp_dir().join(format!("warpconv-files-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a scratch folder");
            Scratch(folder)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_may_have_just_as_much_as_its_kind() {
        let scratch = Scratch::new("size");
        let path = scratch.0.join("file");
        fs::write(&path, [b'x'; 1000]).expect("a file");
        assert_eq!(bytes(&path, SMALL).expect("1000 bytes").len(), 1000);
        fs::write(&path, [b'x'; 1001]).expect("a file");
        let error = bytes(&path, SMALL).expect_err("1001 bytes");
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        for part in ["1000", "a small file", "make it smaller"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        fs::write(&path, [0xff]).expect("a file");
        assert!(
            text(&path, SMALL)
                .expect_err("no text")
                .to_string()
                .contains("byte 0")
        );
    }

    /// A sparse file of a terabyte is refused by its size, before a byte is read.
    #[test]
    fn a_huge_file_is_not_read() {
        let scratch = Scratch::new("huge");
        let path = scratch.0.join("file");
        let file = File::create(&path).expect("a file");
        // Not every file system takes so much.
        if file.set_len(1 << 40).is_ok() {
            assert_eq!(
                bytes(&path, WEIGHTS).expect_err("a terabyte").kind(),
                ErrorKind::FileTooLarge
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_no_regular_file_is_refused_unopened() {
        let scratch = Scratch::new("kinds");
        let fifo = scratch.0.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        for kind in [
            SHAPES, JSON, ARRAY, WEIGHTS, PICTURE, LABELS, TUNING, PTX, CUBINS, ROWS,
        ] {
            for (path, found) in [
                (Path::new("/dev/zero"), "a device"),
                (&fifo, "a pipe"),
                (&scratch.0, "a folder"),
            ] {
                let error = bytes(path, kind).expect_err("no regular file");
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                assert!(error.to_string().contains(found), "{error}");
                assert!(error.to_string().contains(kind.what), "{error}");
            }
        }
    }

    /// Files whose size is given as 0, and files that grow faster than they are read.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_size_that_is_no_bound_is_not_believed() {
        use std::io::Write;
        use std::sync::atomic::{AtomicBool, Ordering};

        let status = bytes(
            Path::new("/proc/self/status"),
            Kind {
                limit: 1 << 20,
                ..SMALL
            },
        );
        assert!(!status.expect("a file of size 0").is_empty());
        let scratch = Scratch::new("grows");
        let path = scratch.0.join("file");
        let mut file = File::create(&path).expect("a file");
        file.write_all(b"x").expect("a byte");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut written = 0;
                while !done.load(Ordering::Relaxed) && written < 64 << 20 {
                    file.write_all(&[b'x'; 65536]).expect("a block");
                    written += 65536;
                }
            });
            // Small at first, too large later, and never read beyond the limit while it grows.
            let error = loop {
                match bytes(&path, SMALL) {
                    Ok(read) => assert!(read.len() <= 1000),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
            done.store(true, Ordering::Relaxed);
        });
    }
}
