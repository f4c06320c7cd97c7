//! NumPy's `.npy` files, as the cases use them: little-endian, C order.

use std::path::Path;

use half::f16;
use warpconv::files;

use super::graph::Tensor;

/// Reads a file; every element becomes an f64, which holds all the types that are read exactly (i8 beyond 2^53 aside).
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
    let data = start + length;
    let header = bytes.get(start..data).ok_or_else(cut)?;
    let header = str::from_utf8(header).map_err(|_| "the header is no text")?;
    if !value(header, "fortran_order")?.starts_with("False") {
        return Err("Fortran order is not read".to_owned());
    }
    let descr = value(header, "descr")?;
    let descr = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split('\'').next())
        .ok_or("`descr` is no text")?;
    let shape = shape(value(header, "shape")?)?;
    let count = shape
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let data = elements(descr, &bytes[data..])?;
    if Some(data.len()) != count {
        return Err(format!("{} elements for a shape of {shape:?}", data.len()));
    }
    Ok(Tensor { shape, data })
}

/// What follows `'key':` in a header, from its first character on.
fn value<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = format!("'{key}':");
    let at = header
        .find(&quoted)
        .ok_or_else(|| format!("the header has no `{key}`"))?;
    Ok(header[at + quoted.len()..].trim_start())
}

/// A shape: `()`, `(3,)`, `(3, 4)`.
fn shape(text: &str) -> Result<Vec<usize>, String> {
    let inside = text
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .map(|(inside, _)| inside);
    let inside = inside.ok_or("`shape` is no tuple")?;
    let extents = inside
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    extents
        .map(|part| part.parse().map_err(|_| format!("`shape` holds `{part}`")))
        .collect()
}

/// The elements of a type.
fn elements(descr: &str, bytes: &[u8]) -> Result<Vec<f64>, String> {
    /// Elements of `N` bytes.
    fn each<const N: usize>(
        bytes: &[u8],
        value: impl Fn([u8; N]) -> f64,
    ) -> Result<Vec<f64>, String> {
        let (elements, rest) = bytes.as_chunks::<N>();
        if !rest.is_empty() {
            return Err(format!(
                "{} bytes are no whole number of elements of {N}",
                bytes.len()
            ));
        }
        Ok(elements.iter().map(|element| value(*element)).collect())
    }
    match descr {
        "<f4" => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        "<f8" => each(bytes, f64::from_le_bytes),
        "<f2" => each(bytes, |b| f64::from(f16::from_le_bytes(b))),
        "<i4" => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        "<i8" => each(bytes, |b| i64::from_le_bytes(b) as f64),
        "|u1" | "|b1" => each(bytes, |[b]| f64::from(b)),
        "|i1" => each(bytes, |b| f64::from(i8::from_le_bytes(b))),
        other => Err(format!("elements of type `{other}` are not read")),
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
                "2 elements",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }",
                "2 elements",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
                "-2",
            ),
            ("{'descr': '<f4', 'fortran_order': False}", "shape"),
        ] {
            let why = parse(&file(header, &[0; 8])).expect_err("a corrupt header");
            assert!(why.contains(word), "{why}");
        }
    }
}
