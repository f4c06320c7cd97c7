//! Weights: safetensors files, and folders of arrays.

use std::fs;

use crate::hostile::fixture::{Victim, zeros};
use crate::hostile::kinds::{classify, every_replacement, squeezenet_arrays};

/// A safetensors file: the header's length, the header, so many bytes of zeros.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The first tensor that SqueezeNet 1.1 asks for: 64x3x3x3 of f32.
const FIRST: &str =
    r#""features.0.weight": {"dtype": "F32", "shape": [64, 3, 3, 3], "data_offsets": [0, 6912]}"#;

fn victim(name: &str) -> Victim {
    let args = ["--weights", "@/net.safetensors"];
    let victim = classify(name, "net.safetensors", &args);
    victim.write(safetensors(&format!("{{{FIRST}}}"), 6912));
    victim
}

#[test]
fn every_kind_of_file() {
    let victim = victim("weights-kinds");
    victim.refuses("one tensor", &["features.0.bias", "missing"]);
    // A folder is read as one of arrays.
    every_replacement(&victim);
}

#[test]
fn headers_that_lie_about_their_length() {
    let victim = victim("weights-lengths");
    for length in [1 << 60, u64::MAX, 100_000_001, 7000] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([b'{'; 100]);
        victim.write(bytes);
        victim.refuses("a header beyond the file", &[&length.to_string(), "108"]);
    }
    victim.write(safetensors("", 5000));
    victim.refuses("zeros only", &["header"]);
    victim.write([0; 7]);
    victim.refuses("7 bytes", &["7 bytes"]);
    // Nothing but numbers, each of which takes 16 times its text when it is read.
    let header = format!("{{\"a\": [{}0]}}", "0,".repeat(9 << 20));
    victim.write(safetensors(&header, 0));
    victim.refuses("a header of 18 MB", &["header"]);
}

#[test]
fn headers_that_say_what_cannot_be() {
    let victim = victim("weights-headers");
    let tensor = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(
            r#""{name}": {{"dtype": "{dtype}", "shape": [{shape}],
                "data_offsets": [{offsets}]}}"#
        )
    };
    let one = |dtype, shape, offsets| tensor("a", dtype, shape, offsets);
    let two = |first, second| {
        format!(
            "{}, {}",
            tensor("a", "F32", "2", first),
            tensor("b", "F32", "2", second)
        )
    };
    for (what, members, word) in [
        (
            "2^60 elements",
            one("F32", "1152921504606846976", "0, 16"),
            "damaged",
        ),
        (
            "a product beyond 2^64",
            one("F32", "4294967296, 4294967296, 4", "0, 16"),
            "overflow",
        ),
        (
            "offsets beyond the file",
            one("F32", "4", "0, 1600"),
            "damaged",
        ),
        (
            "offsets behind the file",
            one("F32", "4", "1152921504606846976, 1152921504606846992"),
            "invalid offset",
        ),
        (
            "offsets backwards",
            one("F32", "4", "16, 0"),
            "invalid offset",
        ),
        ("negative offsets", one("F32", "4", "-16, 0"), "-16"),
        ("a negative extent", one("F32", "-4", "0, 16"), "-4"),
        (
            "an offset beyond 2^64",
            one("F32", "4", "0, 1e999"),
            "out of range",
        ),
        ("no such type", one("F33", "4", "0, 16"), "F33"),
        (
            "tensors that overlap",
            two("0, 8", "4, 12"),
            "invalid offset",
        ),
        (
            "a hole between tensors",
            two("0, 8", "12, 20"),
            "invalid offset",
        ),
        (
            "bytes of no tensor",
            one("F32", "2", "0, 8"),
            "not fully covered",
        ),
        ("a name twice", format!("{FIRST}, {FIRST}"), "twice"),
        ("no object", "1".to_owned(), "damaged"),
        (
            "1000 lists deep",
            format!("\"a\": {}", "[".repeat(1000)),
            "recursion limit",
        ),
    ] {
        let data = if members.contains("6912") { 6912 } else { 16 };
        victim.write(safetensors(&format!("{{{members}}}"), data));
        victim.refuses(what, &[word, "write it anew"]);
    }
    let mut bytes = safetensors(&format!("{{{FIRST}}}"), 6912);
    bytes[20] = 0xff;
    victim.write(bytes);
    victim.refuses("a name that is no UTF-8", &["UTF-8"]);
}

#[test]
fn tensors_that_are_not_the_networks() {
    let victim = victim("weights-tensors");
    for (dtype, shape, word) in [
        ("I64", "64, 3, 3, 3", "I64"),
        ("F32", "64, 27, 1, 1", "[64, 27, 1, 1]"),
        ("F32", "1728", "[1728]"),
    ] {
        let bytes = if dtype == "I64" { 13_824 } else { 6912 };
        let header = format!(
            r#"{{"features.0.weight": {{"dtype": "{dtype}", "shape": [{shape}],
                "data_offsets": [0, {bytes}]}}}}"#
        );
        victim.write(safetensors(&header, bytes));
        victim.refuses(word, &["features.0.weight", word]);
    }
}

#[test]
fn folders_of_arrays() {
    let args = ["--weights", "@/net"];
    let victim = classify("weights-folder", "net/conv1_w.npy", &args);
    fs::create_dir(victim.scratch.0.join("net")).expect("a folder");
    for (array, shape) in squeezenet_arrays() {
        let file = victim.scratch.0.join(format!("net/{array}.npy"));
        fs::write(file, zeros(&shape)).expect("an array");
    }
    every_replacement(&victim);
    victim.remove();
    victim.refuses("missing", &["missing"]);
    victim.write(zeros(&[64, 3, 3]));
    victim.refuses("another shape", &["[64, 3, 3]"]);
    // Every logit becomes a NaN, which would be the best class of all.
    let mut bytes = zeros(&[64, 3, 3, 3]);
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    victim.write(bytes);
    let run = victim.run("a NaN");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        run.err.contains("NaN") && run.err.contains("/net"),
        "{run:?}"
    );
}
