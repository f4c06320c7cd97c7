//! `.npy` headers that lie.

use crate::hostile::fixture::npy;
use crate::hostile::kinds::golden;

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}")
}

#[test]
fn headers_that_lie() {
    let victim = golden("arrays-headers", "x.npy", "maxpool_2x2_s2");
    for (what, header, word) in [
        ("Fortran's order", header("<f4", "True", "4,"), "Fortran"),
        ("pickled objects", header("|O", "False", "4,"), "|O"),
        ("big-endian numbers", header(">f4", "False", "4,"), ">f4"),
        (
            "2^60 elements",
            header("<f4", "False", "1152921504606846976,"),
            "1152921504606846976",
        ),
        (
            "a product beyond 2^64",
            header("<f4", "False", "4294967296, 4294967296, 4"),
            "4294967296",
        ),
        (
            "an extent beyond 2^64",
            header("<f4", "False", "99999999999999999999,"),
            "99999999999999999999",
        ),
        ("a negative extent", header("<f4", "False", "-4,"), "-4"),
        (
            "an axis of nothing among huge ones",
            header("<f4", "False", "0, 1152921504606846976, 64"),
            "1152921504606846976",
        ),
        (
            "100 axes",
            header("<f4", "False", &"1, ".repeat(100)),
            "100 axes",
        ),
        (
            "more data than elements",
            header("<f4", "False", "3,"),
            "16 bytes",
        ),
        ("a half element", header("<f8", "False", "4,"), "16 bytes"),
        (
            "a key twice",
            header("<f4", "False, 'descr': '<f8'", "4,"),
            "twice",
        ),
        (
            "a type of many letters",
            header(&"x".repeat(9000), "False", "4,"),
            "xxx",
        ),
        (
            "no shape",
            "{'descr': '<f4', 'fortran_order': False}".to_owned(),
            "shape",
        ),
        (
            "60,000 bytes of header",
            header("<f4", "False", &format!("4,{}", " ".repeat(60_000))),
            "60",
        ),
    ] {
        victim.write(npy(&header, &[0; 16]));
        victim.refuses(what, &[word]);
    }
    // The second version of the format, with a header of 4 GB.
    victim.write(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{");
    victim.refuses("a header of 4 GB", &["4294967295"]);
    victim.write(b"\x93NUMPY\x09\x00\x00\x00");
    victim.refuses("an unknown version", &["version 9"]);
    // As bytes these are 120 MB, as the numbers that they stand for 960.
    let many = header("|u1", "False", "120000000,");
    victim.write(npy(&many, &vec![0; 120_000_000]));
    victim.refuses("bytes that become numbers", &["120000000"]);
}
