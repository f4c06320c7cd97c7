//! Archives as they come: whole, cut, damaged, of something else, and of a gigabyte.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// An archive with members of these names and contents.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, *bytes)
            .expect("a member");
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("an archive")
}

/// The message of a command that must fail.
fn refused(scratch: &Scratch, bytes: &[u8]) -> String {
    let file = scratch.write("results.tar.gz", bytes);
    let output = scratch.0.join("tuning.txt");
    let error = command(&global(), &args(&[&file], &output)).expect_err("no results");
    assert_eq!(error.code(), 2, "{error}");
    assert!(!output.exists(), "{error}");
    let error = error.to_string();
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
    error
}

#[test]
fn damaged_archives_are_refused_in_a_sentence() {
    let scratch = Scratch::new("damaged");
    let text = synthetic();
    let whole = archive(&[("rows.jsonl", text.as_bytes())]);
    let file = scratch.write("whole.tar.gz", &whole);
    assert_eq!(read::rows(&file).expect("rows"), text);
    for length in 2..whole.len() {
        let file = scratch.write("cut.tar.gz", &whole[..length]);
        let error = read::rows(&file).expect_err("a cut archive").to_string();
        assert!(error.contains("cut or damaged"), "{length} bytes: {error}");
    }
    // Found, but where the unpacked bytes are the same: a time and a system before the data, and
    // distances within a run of zeros.
    let mut harmless = Vec::new();
    for place in 2..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        let file = scratch.write("damaged.tar.gz", &bytes);
        if let Ok(rows) = read::rows(&file) {
            assert_eq!(rows, text, "byte {place}");
            harmless.push(place);
        }
    }
    assert!(
        harmless.len() <= whole.len() / 30,
        "{harmless:?} of {}",
        whole.len()
    );
    let none = archive(&[("summary.txt", b"nothing ran\n")]);
    assert!(refused(&scratch, &none).contains("no rows.jsonl in the archive"));
    let mut no_tar = GzEncoder::new(Vec::new(), Compression::fast());
    no_tar.write_all(text.as_bytes()).expect("bytes");
    let no_tar = no_tar.finish().expect("bytes");
    assert!(refused(&scratch, &no_tar).contains("cut or damaged"));
    for empty in [
        &b""[..],
        b"\n",
        b"not a row\n",
        &archive(&[("rows.jsonl", b"")]),
    ] {
        let error = refused(&scratch, empty);
        assert!(
            error.contains("results.tar.gz: no row to calibrate with"),
            "{error}"
        );
    }
    assert!(refused(&scratch, b"\xff\xfe").contains("no UTF-8 at byte 0"));
    let missing = args(&[Path::new("/nothing/here")], &scratch.0.join("tuning.txt"));
    let error = command(&global(), &missing)
        .expect_err("no file")
        .to_string();
    assert!(error.starts_with("/nothing/here: "), "{error}");
}

/// A gigabyte of zeros has a megabyte in an archive: beside the rows, and as the rows.
#[test]
fn archives_unpack_to_no_more_than_their_limit() {
    let scratch = Scratch::new("bomb");
    for (name, size, part) in [
        ("logs/noise.log", 1 << 30, "an archive of a run"),
        ("rows.jsonl", 1 << 30, "an archive of a run"),
        ("rows.jsonl", 100 << 20, "rows.jsonl in the archive"),
    ] {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        let zeros = std::io::Read::take(std::io::repeat(0), size);
        archive
            .append_data(&mut header, name, zeros)
            .expect("zeros");
        let bomb = archive
            .into_inner()
            .and_then(GzEncoder::finish)
            .expect("an archive");
        assert!(bomb.len() < 16 << 20, "{}", bomb.len());
        let error = refused(&scratch, &bomb);
        assert!(
            error.contains("more than") && error.contains(part),
            "{error}"
        );
    }
}
