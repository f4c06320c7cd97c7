//! From the packed form to text.

use std::ops::Range;

use crate::{HEADER, PLACE, TEXT_LIMIT};

/// The text of a packed module; `None` if the bytes are none.
pub fn unpack(packed: &[u8]) -> Option<String> {
    let (header, compressed) = packed.split_at_checked(HEADER)?;
    let length =
        |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?) as usize);
    let (text, templates, uses) = (length(0)?, length(4)?, length(8)?);
    if text > TEXT_LIMIT {
        return None;
    }
    // Each template, use and number is at least one byte of the text.
    let limit = text.checked_mul(4)?;
    let body = miniz_oxide::inflate::decompress_to_vec_with_limit(compressed, limit).ok()?;
    let (templates, rest) = body.split_at_checked(templates)?;
    let (uses, numbers) = rest.split_at_checked(uses)?;
    let mut lines = Lines::new(templates);
    let mut numbers = Numbers(numbers);
    let mut out = Vec::with_capacity(text);
    for index in Numbers(uses) {
        lines.write(usize::try_from(index).ok()?, &mut numbers, &mut out)?;
        if out.len() > text {
            return None;
        }
    }
    (out.len() == text).then_some(())?;
    String::from_utf8(out).ok()
}

/// The templates of a module.
struct Lines<'a> {
    /// All templates, cut behind each place of a number and each line feed.
    pieces: Vec<&'a [u8]>,
    /// The number that was last written behind each piece.
    last: Vec<i64>,
    /// The pieces of each template. Its last piece has no number behind it.
    templates: Vec<Range<usize>>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Lines<'a> {
        let (mut pieces, mut templates) = (Vec::new(), Vec::new());
        let mut first = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            pieces.extend(line.split(|&byte| byte == PLACE));
            templates.push(first..pieces.len());
            first = pieces.len();
        }
        Lines {
            last: vec![0; pieces.len()],
            pieces,
            templates,
        }
    }

    /// Writes one line.
    fn write(&mut self, index: usize, numbers: &mut Numbers<'_>, out: &mut Vec<u8>) -> Option<()> {
        let range = self.templates.get(index)?.clone();
        let (end, places) = self.pieces[range.clone()].split_last()?;
        for (piece, last) in places.iter().zip(&mut self.last[range]) {
            out.extend_from_slice(piece);
            let coded = numbers.next()?;
            let difference = (coded >> 1) as i64 ^ -((coded & 1) as i64);
            *last = last.checked_add(difference)?;
            write_decimal(out, u64::try_from(*last).ok()?);
        }
        out.extend_from_slice(end);
        Some(())
    }
}

/// Variable-length numbers, see `write_number`.
struct Numbers<'a>(&'a [u8]);

impl Iterator for Numbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
            shift += 7;
            if shift > 56 {
                return None;
            }
        }
    }
}

fn write_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack;

    const TEXT: &str = ".version 7.0\n\tadd.s32 %r1, %r2, 8;\n\tadd.s32 %r30, %r4, 8;\n\
        \tadd.s32 %r9, %r1, 16;\n\n$L__BB0_12:\n\tmov.f32 %f1, 0f3F800000;\n}";

    #[test]
    fn texts_come_back() {
        let long = format!("{}\n", TEXT.repeat(2000));
        for text in [TEXT, "", "\n", "no line feed", "%r1", "1", &long] {
            assert_eq!(unpack(&pack(text).unwrap()).as_deref(), Some(text));
        }
        assert!(pack(&long).unwrap().len() * 40 < long.len());
    }

    #[test]
    fn broken_bytes_give_no_text_and_no_panic() {
        let packed = pack(TEXT).unwrap();
        for length in 0..packed.len() {
            assert_eq!(unpack(&packed[..length]), None, "{length} bytes");
        }
        for at in 0..packed.len() {
            for flip in [1, 0x80, 0xff] {
                let mut broken = packed.clone();
                broken[at] ^= flip;
                let _ = unpack(&broken);
            }
        }
    }

    #[test]
    fn a_stated_length_bounds_the_text() {
        let mut packed = pack(&TEXT.repeat(100)).unwrap();
        packed[..4].copy_from_slice(&100u32.to_le_bytes());
        assert_eq!(unpack(&packed), None);
    }
}
