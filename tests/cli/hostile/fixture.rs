//! Folders in which all is well but one file, and what every refusal has in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::limited::{self, Run};
use crate::command::{Scratch, data};

/// Processor time at most.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Resident memory at most, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// Bytes of complaint at most: a sentence, and the names in it.
const MAX_TEXT: usize = 4096;

/// A command, and the file of it that is replaced.
pub struct Victim {
    /// The folder of everything.
    pub scratch: Scratch,
    /// The file.
    pub file: PathBuf,
    /// The command's arguments.
    pub args: Vec<String>,
    /// The exit code when the file cannot be used: 2 but for tuning files, without which plans are
    /// made too.
    pub code: i32,
}

impl Victim {
    /// A command on `file`, a path below the scratch folder, which `args` name as `@`.
    pub fn new(scratch: Scratch, file: &str, args: &[&str]) -> Victim {
        let folder = scratch.0.to_str().expect("a name in UTF-8");
        let args = args.iter().map(|arg| arg.replace('@', folder)).collect();
        let file = scratch.0.join(file);
        Victim {
            scratch,
            file,
            args,
            code: 2,
        }
    }

    /// Replaces the file by bytes.
    pub fn write(&self, bytes: impl AsRef<[u8]>) {
        self.remove();
        fs::write(&self.file, bytes).expect("a file");
    }

    /// Takes the file away.
    pub fn remove(&self) {
        let removed = match self.file.symlink_metadata() {
            Ok(there) if there.is_dir() => fs::remove_dir(&self.file),
            Ok(_) => fs::remove_file(&self.file),
            Err(_) => Ok(()),
        };
        removed.expect("the file goes");
    }

    /// Runs the command, which must stay within its bounds whatever it says.
    pub fn run(&self, what: &str) -> Run {
        let run = limited::run(&self.scratch.0, &self.args);
        let said = format!("{} {what}: {run:?}", self.file.display());
        assert!(run.code.is_some_and(|code| code != 101), "{said}");
        assert!(!run.err.contains("panicked"), "{said}");
        assert!(run.computed < MAX_TIME, "{said}");
        assert!(run.peak < MAX_MEMORY, "{said}");
        assert!(run.err.len() < MAX_TEXT, "{said}");
        run
    }

    /// Runs the command, which must refuse the file by its name and with these words.
    pub fn refuses(&self, what: &str, words: &[&str]) {
        let run = self.run(what);
        assert_eq!(run.code, Some(self.code), "{what}: {run:?}");
        assert!(self.code == 0 || run.out.len() < 4 * MAX_TEXT, "{run:?}");
        // `verify` lists what it cannot read among its results and goes on with other cases.
        let line = |line: &&str| line.starts_with("warpconv: ") || line.starts_with("FAILED ");
        let lines: Vec<&str> = run
            .err
            .lines()
            .chain(run.out.lines())
            .filter(line)
            .collect();
        let names = self.file.file_name().and_then(|name| name.to_str());
        let named = |line: &&&str| {
            names.is_some_and(|name| line.contains(name))
                && words.iter().all(|word| line.contains(word))
        };
        assert!(
            lines.iter().any(|line| named(&line)),
            "{what}: no line with {names:?} and {words:?} in {run:?}"
        );
    }

    /// Runs the command on the file as it is, which must do.
    pub fn accepts(&self) {
        let run = self.run("as it should be");
        assert_eq!(run.code, Some(0), "{run:?}");
    }
}

/// A copy of a folder of `tests/data`, flat.
pub fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(data(from)).expect("stored data") {
        let entry = entry.expect("an entry");
        let bytes = fs::read(entry.path()).expect("a file");
        fs::write(to.join(entry.file_name()), bytes).expect("a copy");
    }
}

/// An `.npy` file of version 1 with a header as written.
pub fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// An `.npy` file of f32 zeros.
pub fn zeros(shape: &[usize]) -> Vec<u8> {
    let inside: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({inside}), }}");
    npy(&header, &vec![0; 4 * shape.iter().product::<usize>()])
}

/// A PNG file of one grey.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(width, height)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .expect("a picture");
    bytes.into_inner()
}
