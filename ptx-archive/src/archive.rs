//! Several packed modules in one file.

use std::fmt;

use crate::{PackError, pack, shared_bytes, unpack};

/// The first bytes of a file; the zero keeps tools that search text out.
const MAGIC: &[u8] = b"\0ptx-archive 1\n";

/// A file of packed modules.
///
/// The index is one line per module (name, hash of the sources, hash of the text, shared bytes,
/// length of the packed module), then an empty line. The packed modules follow in the same order,
/// each packed by itself, so that a change of one module leaves the bytes of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// The modules, in the order of the file.
    pub entries: Vec<Entry>,
}

/// A packed module with what the index states of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The module's name.
    pub id: String,
    /// A hash of all that shaped the module.
    pub source_hash: u64,
    /// A hash of the module's text.
    pub text_hash: u64,
    /// Bytes of shared memory that the module declares.
    pub shared: u32,
    /// The packed text.
    pub packed: Vec<u8>,
}

impl Entry {
    /// Packs a module.
    ///
    /// # Errors
    /// Those of [`pack`](fn@pack).
    pub fn new(id: &str, source_hash: u64, text: &str) -> Result<Entry, PackError> {
        Ok(Entry {
            id: id.to_owned(),
            source_hash,
            text_hash: Hasher::of(text),
            shared: shared_bytes(text),
            packed: pack(text)?,
        })
    }

    /// The module's text; `None` if it is not the text that was packed.
    pub fn text(&self) -> Option<String> {
        unpack(&self.packed).filter(|text| Hasher::of(text) == self.text_hash)
    }
}

/// Bytes that are no archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveError;

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is no archive of PTX modules, or is cut short")
    }
}

impl std::error::Error for ArchiveError {}

impl Archive {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for entry in &self.entries {
            let line = format!(
                "{} {:016x} {:016x} {} {}\n",
                entry.id,
                entry.source_hash,
                entry.text_hash,
                entry.shared,
                entry.packed.len()
            );
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes.push(b'\n');
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.packed);
        }
        bytes
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// [`ArchiveError`] if they are not those of [`Archive::to_bytes`].
    pub fn parse(bytes: &[u8]) -> Result<Archive, ArchiveError> {
        Archive::read(bytes).ok_or(ArchiveError)
    }

    fn read(bytes: &[u8]) -> Option<Archive> {
        let bytes = bytes.strip_prefix(MAGIC)?;
        let end = match bytes.first()? {
            b'\n' => 0,
            _ => 1 + bytes.windows(2).position(|pair| pair == b"\n\n")?,
        };
        let index = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut rest = &bytes[end + 1..];
        let mut entries = Vec::new();
        for line in index.lines() {
            let mut words = line.split(' ');
            let id = words.next()?.to_owned();
            let source_hash = u64::from_str_radix(words.next()?, 16).ok()?;
            let text_hash = u64::from_str_radix(words.next()?, 16).ok()?;
            let shared = words.next()?.parse().ok()?;
            let length = words.next()?.parse().ok()?;
            let (packed, behind) = rest.split_at_checked(length)?;
            rest = behind;
            entries.push(Entry {
                id,
                source_hash,
                text_hash,
                shared,
                packed: packed.to_vec(),
            });
        }
        rest.is_empty().then_some(Archive { entries })
    }
}

/// FNV-1a of texts and images. It finds files that went stale by accident; it does not protect
/// against forgery.
#[derive(Debug, Clone, Copy)]
pub struct Hasher(u64);

impl Hasher {
    /// The hash of one text.
    pub fn of(text: &str) -> u64 {
        let mut hasher = Hasher::default();
        hasher.add(text);
        hasher.finish()
    }

    /// The hash of an image: all its bytes.
    pub(crate) fn of_bytes(image: &[u8]) -> u64 {
        let mut hasher = Hasher::default();
        image.iter().for_each(|&byte| hasher.add_byte(byte));
        hasher.finish()
    }

    /// Adds a text without its carriage returns, and an end mark so that neighbours do not run
    /// together.
    pub fn add(&mut self, text: &str) {
        for byte in text.bytes().filter(|&byte| byte != b'\r').chain([0]) {
            self.add_byte(byte);
        }
    }

    fn add_byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// The hash of what was added.
    pub fn finish(self) -> u64 {
        self.0
    }
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher(0xcbf2_9ce4_8422_2325)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        let entry = |id: &str, text: &str| Entry::new(id, 7, text).unwrap();
        Archive {
            entries: vec![
                entry("one", ".shared .align 4 .b8 a[12];\n"),
                entry("two", "add.s32 %r1, %r2, %r3;\n"),
            ],
        }
    }

    #[test]
    fn archives_come_back() {
        for archive in [archive(), Archive::default()] {
            assert_eq!(Archive::parse(&archive.to_bytes()), Ok(archive));
        }
        assert_eq!(archive().entries[0].shared, 12);
        assert_eq!(
            archive().entries[1].text().unwrap(),
            "add.s32 %r1, %r2, %r3;\n"
        );
    }

    #[test]
    fn cut_and_other_files_are_refused() {
        let bytes = archive().to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(
                Archive::parse(&bytes[..length]),
                Err(ArchiveError),
                "{length}"
            );
        }
        assert_eq!(Archive::parse(b"\x7fELF"), Err(ArchiveError));
    }

    #[test]
    fn a_text_that_was_not_packed_is_refused() {
        let mut entry = archive().entries.remove(0);
        entry.text_hash ^= 1;
        assert_eq!(entry.text(), None);
    }
}
