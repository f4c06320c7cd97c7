//! The machine code in a cubin.

/// The names and contents of the `.text` sections of a 64-bit ELF file; `None` if it has none.
pub fn code(file: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(bytes)?)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        usize::try_from(value).ok()
    };
    if !file.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let table = number(0x28, 8)?;
    let (size, count, names) = (number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let header = |index: usize| table.checked_add(index.checked_mul(size)?);
    let names = number(header(names)?.checked_add(24)?, 8)?;
    let mut sections = Vec::new();
    for index in 0..count {
        let at = header(index)?;
        let name = file.get(names.checked_add(number(at, 4)?)?..)?;
        let name = &name[..name.iter().position(|&byte| byte == 0)?];
        if name.starts_with(b".text") {
            let (offset, length) = (number(at + 24, 8)?, number(at + 32, 8)?);
            sections.push((name, file.get(offset..offset.checked_add(length)?)?));
        }
    }
    (!sections.is_empty()).then_some(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the sections of names and code, and one `.text` section.
    fn file(code: &[u8]) -> Vec<u8> {
        let names = b"\0.text.k\0.names\0";
        let mut file = vec![0; 64];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        file.extend_from_slice(names);
        file.extend_from_slice(code);
        let table = file.len() as u64;
        file[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        for (at, value) in [(0x3a, 64u16), (0x3c, 2), (0x3e, 1)] {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        for (name, offset, length) in [(1u32, 64 + names.len(), code.len()), (9, 64, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend_from_slice(&header);
        }
        file
    }

    #[test]
    fn text_sections_are_found_and_cut_files_refused() {
        let whole = file(b"machine code");
        assert_eq!(
            code(&whole),
            Some(vec![(&b".text.k"[..], &b"machine code"[..])])
        );
        for length in 0..whole.len() {
            // Of the last header the first half is read.
            if let Some(sections) = code(&whole[..length]) {
                assert!(length >= whole.len() - 32, "{length}: {sections:?}");
            }
        }
    }
}
