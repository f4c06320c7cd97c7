//! NumPy's `.npy` files, as the cases use them: little-endian, C order.

use std::path::Path;

use half::f16;
use warpconv::files;

use super::Tensor;

/// Maximum length of a header in bytes: NumPy's own limit for untrusted files.
const MAX_HEADER: usize = 10_000;
/// Maximum number of axes: one more than any layer has, and the most that an error prints.
const MAX_AXES: usize = 8;
/// Maximum number of elements: 512 MB as f64.
const MAX_ELEMENTS: usize = 1 << 26;

/// Reads a file; every element becomes an f64, which holds all accepted types exactly except i8
/// (64-bit) integers beyond 2^53.
pub fn read(path: &Path) -> Result<Tensor, String> {
    let bytes =
        files::bytes(path, files::ARRAY).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&bytes).map_err(|why| format!("{}: {why}", path.display()))
}

/// Reads the bytes of a file.
fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    if bytes.get(..6) != Some(b"\x93NUMPY") {
        return Err("no .npy file: it does not begin with \\x93NUMPY".to_owned());
    }
    let cut = || "the file ends in its header".to_owned();
    let byte = |at: usize| bytes.get(at).copied().map(usize::from).ok_or_else(cut);
    let (start, length) = match byte(6)? {
        1 => (10, byte(8)? | byte(9)? << 8),
        2 | 3 => (
            12,
            byte(8)? | byte(9)? << 8 | byte(10)? << 16 | byte(11)? << 24,
        ),
        version => return Err(format!("version {version} of the format is unknown")),
    };
    if length > MAX_HEADER {
        return Err(format!(
            "a header of {length} bytes, the most is {MAX_HEADER}: save the array with NumPy"
        ));
    }
    let data = start + length;
    let header = bytes.get(start..data).ok_or_else(cut)?;
    let header = str::from_utf8(header).map_err(|_| "the header is no text")?;
    if !value(header, "fortran_order")?.starts_with("False") {
        return Err(
            "Fortran order is not read: save numpy.ascontiguousarray of the array".to_owned(),
        );
    }
    let descr = value(header, "descr")?;
    let descr = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split('\'').next())
        .ok_or("`descr` is no text")?;
    let shape = shape(value(header, "shape")?)?;
    let count = shape
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent))
        .filter(|count| *count <= MAX_ELEMENTS)
        .ok_or_else(|| {
            format!(
                "shape {shape:?} has more than {MAX_ELEMENTS} elements: make a smaller case of it"
            )
        })?;
    let data = elements(descr, &shape, count, &bytes[data..])?;
    Ok(Tensor { shape, data })
}

/// Text after `'key':` in a header, from its first character on.
fn value<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = format!("'{key}':");
    let mut parts = header.split(&quoted).skip(1);
    match (parts.next(), parts.next()) {
        (Some(_), Some(_)) => Err(format!("the header has `{key}` twice")),
        (Some(value), None) => Ok(value.trim_start()),
        (None, _) => Err(format!("the header has no `{key}`")),
    }
}

/// Parses a shape: `()`, `(3,)`, `(3, 4)`.
fn shape(text: &str) -> Result<Vec<usize>, String> {
    let inside = text
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .map(|(inside, _)| inside);
    let inside = inside.ok_or("`shape` is no tuple")?;
    let extents: Vec<&str> = inside
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    if extents.len() > MAX_AXES {
        return Err(format!(
            "`shape` has {} axes, the most is {MAX_AXES}",
            extents.len()
        ));
    }
    let extent = |part: &&str| {
        let wrong = |_| format!("`shape` holds {:?}, no extent", start(part));
        part.parse().map_err(wrong)
    };
    extents.iter().map(extent).collect()
}

/// The prefix of a text that an error prints.
fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Decodes the `count` elements of type `descr` of an array of shape `shape`.
fn elements(descr: &str, shape: &[usize], count: usize, bytes: &[u8]) -> Result<Vec<f64>, String> {
    let data = Elements {
        shape,
        count,
        bytes,
    };
    match descr {
        "<f4" => data.each(|b| f64::from(f32::from_le_bytes(b))),
        "<f8" => data.each(f64::from_le_bytes),
        "<f2" => data.each(|b| f64::from(f16::from_le_bytes(b))),
        "<i4" => data.each(|b| f64::from(i32::from_le_bytes(b))),
        "<i8" => data.each(|b| i64::from_le_bytes(b) as f64),
        "|u1" | "|b1" => data.each(|[b]| f64::from(b)),
        "|i1" => data.each(|b| f64::from(i8::from_le_bytes(b))),
        other => Err(format!(
            "elements of type {:?} are not read: save them as f2, f4, f8, i1, i4, i8, u1 or b1, \
             little-endian",
            start(other)
        )),
    }
}

/// The bytes after a header, and the expected number of elements.
struct Elements<'a> {
    shape: &'a [usize],
    count: usize,
    bytes: &'a [u8],
}

impl Elements<'_> {
    /// Converts elements of `N` bytes each to numbers.
    fn each<const N: usize>(&self, value: impl Fn([u8; N]) -> f64) -> Result<Vec<f64>, String> {
        let (elements, rest) = self.bytes.as_chunks::<N>();
        if elements.len() != self.count || !rest.is_empty() {
            return Err(format!(
                "{} bytes of data, shape {:?} takes {} of {N} bytes each: save the array anew",
                self.bytes.len(),
                self.shape,
                self.count
            ));
        }
        Ok(elements.iter().map(|element| value(*element)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_the_types_of_the_cases() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
        let data: Vec<u8> = [1.5f32, f32::NAN]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let tensor = parse(&file(header, &data)).expect("a tensor");
        assert_eq!(tensor.shape, [2, 1]);
        assert_eq!(tensor.data[0], 1.5);
        assert!(tensor.data[1].is_nan());
        let scalar = parse(&file(
            "{'descr': '|u1', 'fortran_order': False, 'shape': (), }",
            &[7],
        ))
        .expect("a scalar");
        assert_eq!((scalar.shape.len(), scalar.data[0]), (0, 7.0));
    }

    #[test]
    fn corrupt_files_are_refused_in_words() {
        let good = file(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
            &[0; 8],
        );
        assert!(parse(&good).is_ok());
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        for (header, word) in [
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }",
                "Fortran",
            ),
            (
                "{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }",
                "<c8",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
                "8 bytes of data",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }",
                "more than 67108864",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
                "-2",
            ),
            ("{'descr': '<f4', 'fortran_order': False}", "shape"),
            (
                "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (2,), }",
                "`descr` twice",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }",
                "9 axes",
            ),
        ] {
            let why = parse(&file(header, &[0; 8])).expect_err("a corrupt header");
            assert!(why.contains(word), "{why}");
        }
    }
}
