//! From text to the packed form.

use std::collections::HashMap;
use std::fmt;

use crate::{HEADER, PLACE, TEXT_LIMIT, unpack};

/// The DEFLATE level; modules are packed once, when they are compiled.
const LEVEL: u8 = 10;

/// A text that cannot be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackError {
    /// It has the byte that marks the place of a number.
    ReservedByte,
    /// It has more than 64 MiB.
    TooLong,
    /// It does not come back from the packed form.
    NotReversible,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PackError::ReservedByte => "the text has a control character of value 1",
            PackError::TooLong => "the text has more than 64 MiB",
            PackError::NotReversible => "the packed text does not unpack to the same text",
        })
    }
}

impl std::error::Error for PackError {}

/// Packs a module. The same text gives the same bytes.
///
/// # Errors
/// [`PackError`]; a text of nvcc has none of its reasons.
pub fn pack(text: &str) -> Result<Vec<u8>, PackError> {
    if text.as_bytes().contains(&PLACE) {
        return Err(PackError::ReservedByte);
    }
    if text.len() > TEXT_LIMIT {
        return Err(PackError::TooLong);
    }
    let mut streams = Streams::default();
    for line in text.split_inclusive('\n') {
        streams.add(line.as_bytes());
    }
    let mut packed = Vec::with_capacity(text.len() / 12 + HEADER);
    for length in [text.len(), streams.templates.len(), streams.uses.len()] {
        // The limit above fits.
        packed.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
    }
    let body = [streams.templates, streams.uses, streams.numbers].concat();
    packed.extend_from_slice(&miniz_oxide::deflate::compress_to_vec(&body, LEVEL));
    match unpack(&packed) {
        Some(back) if back == text => Ok(packed),
        _ => Err(PackError::NotReversible),
    }
}

/// The three parts of a module.
#[derive(Default)]
struct Streams {
    /// Each template once, in the order of first use. A line keeps its line feed, which ends a
    /// template; only the last line of a text may lack it.
    templates: Vec<u8>,
    /// The template of each line, as a variable-length number.
    uses: Vec<u8>,
    /// The numbers of each line, as differences.
    numbers: Vec<u8>,
    index: HashMap<Vec<u8>, usize>,
    /// The numbers of each template's last use.
    last: Vec<Vec<i64>>,
}

impl Streams {
    fn add(&mut self, line: &[u8]) {
        let (template, numbers) = split(line);
        let next = self.index.len();
        let index = *self.index.entry(template).or_insert_with_key(|template| {
            self.templates.extend_from_slice(template);
            next
        });
        if index == next {
            self.last.push(vec![0; numbers.len()]);
        }
        write_number(&mut self.uses, index as u64);
        for (last, number) in self.last[index].iter_mut().zip(numbers) {
            let difference = number - *last;
            // Small differences of either sign become small numbers.
            write_number(
                &mut self.numbers,
                ((difference << 1) ^ (difference >> 63)) as u64,
            );
            *last = number;
        }
    }
}

/// A line as its template and the numbers that were taken out.
fn split(line: &[u8]) -> (Vec<u8>, Vec<i64>) {
    let (mut template, mut numbers) = (Vec::with_capacity(line.len()), Vec::new());
    let mut at = 0;
    while at < line.len() {
        match number(line, at) {
            Some((value, end)) => {
                template.push(PLACE);
                numbers.push(value);
                at = end;
            }
            None => {
                template.push(line[at]);
                at += 1;
            }
        }
    }
    (template, numbers)
}

/// The number that starts at `at` and the position behind it. A number is a register's (`%rd12`), a
/// label's or parameter's (`_12`) or an operand. Digits inside other words (`s32`) and hexadecimal
/// literals are none.
fn number(line: &[u8], at: usize) -> Option<(i64, usize)> {
    let digits = line[at..].iter().take_while(|c| c.is_ascii_digit()).count();
    let end = at + digits;
    let leading_zero = digits > 1 && line[at] == b'0';
    // 15 digits always fit.
    if digits == 0 || digits > 15 || leading_zero {
        return None;
    }
    let word = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'%' | b'$');
    if line.get(end).is_some_and(word) {
        return None;
    }
    let before = &line[..at];
    let letters = before
        .iter()
        .rev()
        .take_while(|c| c.is_ascii_lowercase())
        .count();
    let register = letters > 0 && before[..at - letters].last() == Some(&b'%');
    let operand = before.last().is_some_and(|c| b" [+,{-_<(".contains(c));
    if !register && !operand {
        return None;
    }
    let value = line[at..end]
        .iter()
        .fold(0, |value, c| value * 10 + i64::from(c - b'0'));
    Some((value, end))
}

/// Seven bits per byte, the lowest first; the highest bit says that more follow.
fn write_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 & 127 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(line: &str) -> (String, Vec<i64>) {
        let (template, numbers) = split(line.as_bytes());
        (
            String::from_utf8(template).unwrap().replace('\u{1}', "#"),
            numbers,
        )
    }

    #[test]
    fn numbers_of_registers_labels_and_operands_are_taken_out() {
        for (line, expected, numbers) in [
            (
                "\tadd.s64 %rd546, %rd558, 8;",
                "\tadd.s64 %rd#, %rd#, #;",
                &[546, 558, 8][..],
            ),
            ("$L__BB0_12:", "$L__BB0_#:", &[12]),
            (
                "\tld.param.u32 %r1, [k_f16_v2_param_3+4];",
                "\tld.param.u32 %r#, [k_f16_v2_param_#+#];",
                &[1, 3, 4],
            ),
            (
                "\tmov.b32 %f1, 0f3F800000;",
                "\tmov.b32 %f#, 0f3F800000;",
                &[1],
            ),
            (
                "\tmov.u32 %r2, -2147483648;",
                "\tmov.u32 %r#, -#;",
                &[2, 2_147_483_648],
            ),
            ("\tmov.u32 %r3, 007;", "\tmov.u32 %r#, 007;", &[3]),
            (".reg .b32 %r<2100>;", ".reg .b32 %r<#>;", &[2100]),
            (
                "mov.u64 %rd1, 1234567890123456;",
                "mov.u64 %rd#, 1234567890123456;",
                &[1],
            ),
            (".version 7.0", ".version 7.0", &[]),
            ("mma.m16n8k16 {%r1}, 5", "mma.m16n8k16 {%r#}, #", &[1, 5]),
        ] {
            assert_eq!(
                template(line),
                (expected.to_owned(), numbers.to_vec()),
                "{line}"
            );
        }
    }
}
