//! A JSON file that grows by one check at a time and is a complete document after each.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::exit::Failure;

/// The document, and the file that holds it.
pub struct Document {
    path: PathBuf,
    file: File,
    /// Returns whether the file can be written over, unlike a pipe, which gets the end alone.
    rewrites: bool,
    /// Everything up to the last check.
    head: String,
    /// Bytes of the head that the file has.
    written: usize,
    /// Bytes of the file.
    len: usize,
    checks: usize,
}

impl Document {
    /// Creates the file, if one was asked for, so that a wrong path is found at once.
    pub fn create(path: Option<&Path>, device: &Value) -> Result<Option<Document>, Failure> {
        let Some(path) = path else { return Ok(None) };
        let failure = |error| Failure::File {
            path: path.to_owned(),
            error,
        };
        let file = File::create(path).map_err(failure)?;
        let rewrites = file.metadata().map_err(failure)?.is_file();
        let mut document = Document {
            path: path.to_owned(),
            file,
            rewrites,
            head: format!("{{\n  \"device\": {device},\n  \"checks\": ["),
            written: 0,
            len: 0,
            checks: 0,
        };
        document.write(None)?;
        Ok(Some(document))
    }

    /// Adds a check. The file has it from the next [`Document::write`] on.
    pub fn push(&mut self, check: &Value) {
        let comma = if self.checks == 0 { "" } else { "," };
        self.head.push_str(&format!("{comma}\n    {check}"));
        self.checks += 1;
    }

    /// Writes what is new, with the check that is about to run.
    pub fn write(&mut self, running: Option<&Value>) -> Result<(), Failure> {
        match self.rewrites {
            true => self.rewrite(running),
            false => Ok(()),
        }
    }

    /// Writes the end of the document.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.rewrite(None)
    }

    /// Writes the document from the first new byte on, by one call: the few bytes of a check and of
    /// the end arrive together.
    fn rewrite(&mut self, running: Option<&Value>) -> Result<(), Failure> {
        let running = running.map_or(String::new(), |check| format!(",\n  \"running\": {check}"));
        let mut text = format!("{}\n  ]{running}\n}}\n", &self.head[self.written..]);
        // Never shorter than what was there: blanks may follow a document.
        let end = self.written + text.len();
        text.extend(std::iter::repeat_n(' ', self.len.saturating_sub(end)));
        self.put(text.as_bytes()).map_err(|error| Failure::File {
            path: self.path.clone(),
            error,
        })?;
        self.len = self.written + text.len();
        self.written = self.head.len();
        Ok(())
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.rewrites {
            self.file.seek(SeekFrom::Start(self.written as u64))?;
        }
        self.file.write_all(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_file_is_a_document_after_each_write() {
        let path = std::env::temp_dir().join(format!("warpconv-smoke-{}", std::process::id()));
        let read = || -> Value {
            let text = fs::read_to_string(&path).expect("the file is there");
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        };
        let device = json!({ "kind": "emulator" });
        let document = Document::create(Some(&path), &device).expect("a folder for the file");
        let mut document = document.expect("a path was given");
        assert_eq!(read(), json!({ "device": device, "checks": [] }));
        let mut checks = Vec::new();
        for (label, name) in [
            (1, "a long name that is gone afterwards"),
            (2, "b"),
            (3, ""),
        ] {
            let running = json!({ "kernel": name });
            document.write(Some(&running)).expect("the file is written");
            let so_far = json!({ "device": device, "checks": checks, "running": running });
            assert_eq!(read(), so_far);
            checks.push(json!({ "label": label }));
            document.push(&checks[checks.len() - 1]);
            document.write(None).expect("the file is written");
            assert_eq!(read(), json!({ "device": device, "checks": checks }));
        }
        document.finish().expect("the file is written");
        assert_eq!(read(), json!({ "device": device, "checks": checks }));
        fs::remove_file(&path).expect("the file is there");
        assert!(Document::create(None, &device).expect("no file").is_none());
        let nowhere = path.join("below");
        assert!(Document::create(Some(&nowhere), &device).is_err());
    }
}
