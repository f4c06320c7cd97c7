//! ONNX's node tests, PyTorch's results and benchdnn's shapes through the command line, as a user
//! runs them.

use std::process::Command;

/// The exit code of the command line where there is no such device.
const NO_DEVICE: i32 = 3;

/// Runs `warpconv verify` on folders of `tests/data`; fails if a case fails, or if fewer than
/// `least` passed.
fn verify(device: &str, folders: &[&str], options: &[&str], least: usize) {
    let data = crate::paths::data();
    let paths = folders.iter().map(|folder| data.join(folder));
    let output = Command::new(crate::paths::warpconv())
        .args(["--quiet", "--device", device, "verify"])
        .args(paths)
        .args(options)
        .output()
        .expect("the binary runs");
    if device == "gpu" && output.status.code() == Some(NO_DEVICE) {
        return;
    }
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
fn cases_on_a_gpu_if_there_is_one() {
    verify("gpu", CASES, &[], 5000);
}

#[test]
fn cases_on_an_emulated_sm75() {
    verify("emulator:75", CASES, &[], 5000);
}

#[test]
fn cases_on_an_emulated_sm80() {
    verify("emulator:80", CASES, &[], 5000);
}

/// The two inception modules by two launches and by three, in tf32, f16 and bf16 and both layouts.
#[test]
fn inception_modules_by_few_launches() {
    for device in ["emulator:80", "emulator:90"] {
        for steps in ["modules", "in-three"] {
            let options = ["--filter", "inception_", "--steps", steps];
            verify(device, &["golden"], &options, 2 * 3 * 2);
        }
    }
}

#[test]
fn small_shapes_of_benchdnn() {
    let shapes = [
        "shapes/pool/shapes_2d_small",
        "shapes/conv/shapes_regression_padding",
        "shapes/conv/shapes_basic",
    ];
    verify(
        "auto",
        &shapes,
        &["--dtype", "bf16", "--max-macs", "300K"],
        200,
    );
}
