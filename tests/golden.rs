//! ONNX's node tests, PyTorch's results and benchdnn's shapes through the command line, as a user runs them.
#![cfg(feature = "cli")]

use std::process::Command;

/// Runs `warpconv verify` on folders of `tests/data`; fails if a case fails, or if fewer than `least` passed.
fn verify(device: &str, folders: &[&str], least: usize) {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let paths = folders.iter().map(|folder| format!("{data}/{folder}"));
    let output = Command::new(env!("CARGO_BIN_EXE_warpconv"))
        .args(["--quiet", "--device", device, "verify"])
        .args(paths)
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{device}: {}\n{text}{errors}",
        output.status
    );
    let passed = text
        .lines()
        .rev()
        .find_map(|line| line.split_once(" passed, 0 failed, "))
        .and_then(|(passed, _)| passed.trim().parse::<usize>().ok());
    let passed = passed.unwrap_or_else(|| panic!("{device}: no summary\n{text}{errors}"));
    assert!(passed >= least, "{device}: only {passed} passed\n{text}");
}

const CASES: &[&str] = &["golden", "onnx"];

#[test]
fn cases_on_the_device_at_hand() {
    verify("auto", CASES, 1000);
}

#[test]
fn cases_on_an_emulated_sm75() {
    verify("emulator:75", CASES, 1000);
}

#[test]
fn cases_on_an_emulated_sm80() {
    verify("emulator:80", CASES, 1000);
}

#[test]
fn small_shapes_of_benchdnn() {
    verify(
        "auto",
        &[
            "shapes/pool/shapes_2d_small",
            "shapes/conv/shapes_regression_padding",
        ],
        50,
    );
}
