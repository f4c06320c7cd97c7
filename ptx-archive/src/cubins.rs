//! Machine code of modules in one file.

use std::fmt;
use std::ops::Range;

use crate::{Hasher, TEXT_LIMIT};

/// The first bytes of a file; the zero keeps tools that search text out.
const MAGIC: &[u8] = b"\0warpconv-cubins 1\n";

/// The DEFLATE level; images are packed once, when they are assembled.
const LEVEL: u8 = 10;

/// A file of machine code: one image (an ELF file) per module, all for one architecture.
///
/// The index is one line per module (name, target, hash of the PTX, hash of the image, length of
/// the packed image), then an empty line. The images follow in the same order, each packed by
/// DEFLATE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cubins {
    /// The bytes of the file.
    bytes: Vec<u8>,
    entries: Vec<CubinEntry>,
}

/// A line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CubinEntry {
    /// The module's name.
    pub id: String,
    /// The architecture that it was assembled for: `sm_80`, `sm_90a`.
    pub target: String,
    /// [`Hasher::of`] the PTX that it was assembled from.
    pub text_hash: u64,
    /// Hash of the image.
    image_hash: u64,
    /// Place of the packed image in the file.
    packed: Range<usize>,
}

/// An image to be stored.
#[derive(Debug, Clone)]
pub struct Cubin {
    /// The module's name.
    pub id: String,
    /// The architecture that it was assembled for.
    pub target: String,
    /// [`Hasher::of`] the PTX that it was assembled from.
    pub text_hash: u64,
    /// The ELF file.
    pub image: Vec<u8>,
}

/// Bytes that are no file of machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CubinsError;

impl fmt::Display for CubinsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is no archive of cubins, or is cut short")
    }
}

impl std::error::Error for CubinsError {}

impl Cubins {
    /// The bytes of a file with these images.
    pub fn pack(images: &[Cubin]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut packed = Vec::new();
        for cubin in images {
            let before = packed.len();
            packed.extend(miniz_oxide::deflate::compress_to_vec(&cubin.image, LEVEL));
            let line = format!(
                "{} {} {:016x} {:016x} {}\n",
                cubin.id,
                cubin.target,
                cubin.text_hash,
                Hasher::of_bytes(&cubin.image),
                packed.len() - before
            );
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes.push(b'\n');
        bytes.append(&mut packed);
        bytes
    }

    /// Reads the index of a file.
    ///
    /// # Errors
    /// [`CubinsError`] if the bytes are not those of [`Cubins::pack`].
    pub fn parse(bytes: Vec<u8>) -> Result<Cubins, CubinsError> {
        let entries = index(&bytes).ok_or(CubinsError)?;
        Ok(Cubins { bytes, entries })
    }

    /// The index.
    pub fn entries(&self) -> &[CubinEntry] {
        &self.entries
    }

    /// Unpacks an image; `None` if it is not the image that was packed.
    pub fn image(&self, entry: &CubinEntry) -> Option<Vec<u8>> {
        let packed = self.bytes.get(entry.packed.clone())?;
        let image = miniz_oxide::inflate::decompress_to_vec_with_limit(packed, TEXT_LIMIT).ok()?;
        (Hasher::of_bytes(&image) == entry.image_hash).then_some(image)
    }
}

fn index(bytes: &[u8]) -> Option<Vec<CubinEntry>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let end = match rest.first()? {
        b'\n' => 0,
        _ => 1 + rest.windows(2).position(|pair| pair == b"\n\n")?,
    };
    let mut at = MAGIC.len() + end + 1;
    let mut entries = Vec::new();
    for line in std::str::from_utf8(&rest[..end]).ok()?.lines() {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        let target = words.next()?.to_owned();
        let text_hash = u64::from_str_radix(words.next()?, 16).ok()?;
        let image_hash = u64::from_str_radix(words.next()?, 16).ok()?;
        let length: usize = words.next()?.parse().ok()?;
        let packed = at..at.checked_add(length)?;
        at = packed.end;
        entries.push(CubinEntry {
            id,
            target,
            text_hash,
            image_hash,
            packed,
        });
    }
    (at == bytes.len()).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<Cubin> {
        let cubin = |id: &str, image: &[u8]| Cubin {
            id: id.to_owned(),
            target: "sm_90a".to_owned(),
            text_hash: Hasher::of(id),
            image: image.to_vec(),
        };
        vec![
            cubin("one", b"\x7fELF one\n\n"),
            cubin("two", &[7; 100_000]),
        ]
    }

    #[test]
    fn images_come_back() {
        let cubins = Cubins::parse(Cubins::pack(&images())).unwrap();
        assert_eq!(cubins.entries().len(), 2);
        for (entry, cubin) in cubins.entries().iter().zip(images()) {
            assert_eq!(entry.id, cubin.id);
            assert_eq!(entry.target, "sm_90a");
            assert_eq!(entry.text_hash, Hasher::of(&cubin.id));
            assert_eq!(cubins.image(entry), Some(cubin.image));
        }
        assert_eq!(Cubins::parse(Cubins::pack(&[])).unwrap().entries(), []);
    }

    #[test]
    fn cut_and_other_files_are_refused() {
        let bytes = Cubins::pack(&images());
        for length in 0..bytes.len() {
            let cut = bytes[..length].to_vec();
            assert_eq!(Cubins::parse(cut), Err(CubinsError), "{length}");
        }
        assert_eq!(Cubins::parse(b"\x7fELF".to_vec()), Err(CubinsError));
    }

    #[test]
    fn an_image_that_was_not_packed_is_refused() {
        let bytes = Cubins::pack(&images());
        let whole = Cubins::parse(bytes.clone()).unwrap();
        let first = whole.entries()[0].packed.clone();
        let mut refused = 0;
        for at in first.clone() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let cubins = Cubins::parse(changed).unwrap();
            match cubins.image(&cubins.entries()[0]) {
                None => refused += 1,
                // A bit behind the end of the stream.
                Some(image) => assert_eq!(image, images()[0].image, "{at}"),
            }
            assert!(cubins.image(&cubins.entries()[1]).is_some());
        }
        assert!(refused + 1 >= first.len(), "{refused} of {}", first.len());
    }
}
