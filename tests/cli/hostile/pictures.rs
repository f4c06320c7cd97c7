//! Pictures that are more than they look, or less.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use crate::hostile::fixture::png;
use crate::hostile::kinds::{classify, squeezenet};

/// The checksum of a chunk of PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

/// A PNG file whose header says another size, with a checksum that matches.
fn sized(mut png: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
    // Behind the signature: 4 bytes of length, `IHDR`, width, height, five bytes more, the
    // checksum.
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 7]));
    picture
        .write_to(&mut bytes, ImageFormat::Jpeg)
        .expect("a picture");
    bytes.into_inner()
}

#[test]
fn bombs_and_damage() {
    let victim = classify("pictures", "a.png", &["--random"]);
    let good = png(8, 8);
    assert_eq!(sized(good.clone(), 8, 8), good, "the checksum");
    for (width, height, word) in [
        (60_000, 60_000, "60000x60000"),
        (65_535, 65_535, "65535x65535"),
        (u32::MAX >> 1, u32::MAX >> 1, ""),
        (100_000, 1, "100000x1"),
        (20_000, 20_000, "400000000 bytes"),
        (0, 8, ""),
        (8, 0, ""),
        (8, 9, ""),
    ] {
        victim.write(sized(good.clone(), width, height));
        victim.refuses(&format!("{width}x{height}"), &[word]);
    }
    let jpeg = jpeg();
    // Its header ends before 600 bytes; the scan is cut thereafter.
    for cut in [2, 20, 200, jpeg.len() / 2] {
        victim.write(&jpeg[..cut]);
        let run = victim.run("a JPEG cut off");
        // What is missing at the end of a scan is grey to most readers.
        assert!(matches!(run.code, Some(0 | 2)), "cut at {cut}: {run:?}");
        assert!(cut > 200 || run.code == Some(2), "cut at {cut}: {run:?}");
    }
    victim.write(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;");
    victim.refuses("a GIF", &["PNG", "JPEG"]);
}

#[test]
fn a_picture_for_a_network_that_takes_it_as_it_is() {
    let victim = squeezenet("pictures-squeezenet", "input_a.png");
    victim.write(png(2000, 3));
    victim.refuses("2000 pixels", &["2000x3", "1024"]);
    victim.write(png(1, 1));
    // Too small for its convolutions: a failure that says so.
    let run = victim.run("one pixel");
    assert_eq!(run.code, Some(1), "{run:?}");
}
