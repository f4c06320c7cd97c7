//! `warpconv verify --smoke`: the list, its checks, and the records of a broken kernel. Everything
//! runs on the emulator.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use warpconv::kernels::{KernelId, kernels};
use warpconv::ptx;

use crate::command::{Scratch, expect, json, text};

/// ReLU in f32, whose text is short.
const RELU: &str = "relu_f32";

/// The kernel whose name begins so, with its PTX.
fn kernel(start: &str) -> (String, String) {
    let names = kernels().iter().map(|kernel| kernel.name());
    let (index, name) = names
        .enumerate()
        .find(|(_, name)| name.starts_with(start))
        .unwrap();
    (name, ptx::text(KernelId(index)).unwrap())
}

/// Runs the smoke list of one kernel with another text in its place.
fn planted(scratch: &Scratch, name: &str, ptx: &str) -> Output {
    let folder = scratch.file("ptx");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.ptx")), ptx).unwrap();
    let json = scratch.path("smoke.json");
    Command::new(crate::paths::warpconv())
        .args(["verify", "--smoke", "--kernel", name, "--json", &json])
        .args(["--device", "emulator:90"])
        .env("WARPCONV_OVERRIDE_PTX", &folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The checks that a run left.
fn checks(scratch: &Scratch) -> Vec<Value> {
    let document = json(scratch.file("smoke.json"));
    assert_eq!(document["device"]["sm"], 90);
    assert!(document.get("running").is_none(), "{document}");
    document["checks"].as_array().unwrap().clone()
}

#[test]
fn the_list_has_every_kernel_and_runs_none() {
    let scratch = Scratch::new("smoke-list");
    let file = scratch.path("smoke.json");
    let args = ["verify", "--smoke", "--list", "--json", &file];
    let (out, _) = expect(&[&args[..], &["--device", "emulator:90"]].concat(), 0);
    let listed = checks(&scratch);
    let lines = out.lines().skip(1).collect::<Vec<_>>();
    assert_eq!(lines.len(), listed.len());
    for (line, check) in lines.iter().zip(&listed) {
        let fields = ["kernel", "family", "label", "problem"];
        let fields = fields.map(|field| check[field].as_str().unwrap());
        assert_eq!(*line, fields.join("\t"));
        assert!(check.get("outcome").is_none(), "{check}");
    }
    let named: BTreeSet<&str> = listed
        .iter()
        .map(|check| check["kernel"].as_str().unwrap())
        .collect();
    // Compute capability 9.0 runs them all.
    let all: BTreeSet<String> = kernels().iter().map(|kernel| kernel.name()).collect();
    assert_eq!(named, all.iter().map(String::as_str).collect());
}

/// Every kernel with every option that the list has.
#[test]
fn every_check_of_the_list_passes() {
    for device in ["emulator:75", "emulator:90"] {
        let (out, _) = expect(&["verify", "--smoke", "--device", device], 0);
        let last = out.lines().last().unwrap();
        let passed = last.strip_suffix(" ok, 0 failed").unwrap();
        let checks = out.lines().filter(|line| line.starts_with("ok    "));
        assert_eq!(passed, checks.count().to_string(), "{device}");
    }
}

#[test]
fn checks_that_contain_a_text_pass_and_are_recorded() {
    let scratch = Scratch::new("smoke-filter");
    let file = scratch.path("smoke.json");
    let (name, _) = kernel(RELU);
    let args = ["verify", "--smoke", "--filter", RELU, "--json", &file];
    let (out, _) = expect(&[&args[..], &["--device", "emulator:90"]].concat(), 0);
    let checks = checks(&scratch);
    assert!(checks.len() >= 4, "{checks:?}");
    assert_eq!(
        out.lines().last(),
        Some(format!("{} ok, 0 failed", checks.len()).as_str())
    );
    for check in &checks {
        let label = check["label"].as_str().unwrap();
        let line = format!("ok    {name} {label} ");
        assert!(out.lines().any(|one| one.starts_with(&line)), "{out}");
        assert_eq!(check["kernel"], name.as_str());
        assert_eq!(check["family"], "relu");
        assert_eq!(check["outcome"], "ok");
        assert_eq!(check["largest_error"], 0.0);
        assert_eq!(check["loaded"], "PTX, compiled by the driver");
        assert!(check["seconds"].as_f64().unwrap() > 0.0);
        assert!(check["registers"].is_u64() && check["local_bytes"].is_u64());
        assert!(check["cuda_error"].is_null() && check["first_index"].is_null());
    }
}

#[test]
fn a_wrong_kernel_is_named_with_its_first_wrong_element() {
    let scratch = Scratch::new("smoke-wrong");
    let (name, ptx) = kernel(RELU);
    // Ones in place of zeros.
    let wrong = ptx.replace(", 0f00000000, %f", ", 0f3F800000, %f");
    assert_ne!(wrong, ptx);
    let output = planted(&scratch, &name, &wrong);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let out = text(&output.stdout);
    assert!(out.contains(&format!("WRONG {name} plain")), "{out}");
    // All checks ran: a wrong result leaves the device as it was.
    let checks = checks(&scratch);
    let plain = &checks[0];
    assert_eq!(plain["outcome"], "wrong");
    assert_eq!(plain["largest_error"], 1.0);
    let element = plain["first_element"].as_array().unwrap();
    let element: Vec<u64> = element.iter().map(|at| at.as_u64().unwrap()).collect();
    // Of 5 channels, 6 rows and 7 columns.
    let index = ((element[0] * 5 + element[1]) * 6 + element[2]) * 7 + element[3];
    assert_eq!(plain["first_index"], index);
    let message = plain["message"].as_str().unwrap();
    assert!(message.contains("got 1e0, expected 0e0"), "{message}");
    assert!(plain["loaded"].as_str().unwrap().starts_with("PTX of "));
    assert!(checks.iter().all(|check| check["outcome"] == "wrong"));
    assert!(checks.len() >= 4);
}

#[test]
fn a_fault_ends_the_run_with_the_name_of_the_error() {
    let scratch = Scratch::new("smoke-fault");
    let (name, ptx) = kernel(RELU);
    // A store a gigabyte beyond.
    let mut faulting = String::new();
    for line in ptx.lines() {
        match line.trim_start().starts_with("st.global") {
            true => faulting.push_str(&line.replacen(']', "+1073741824]", 1)),
            false => faulting.push_str(line),
        }
        faulting.push('\n');
    }
    let output = planted(&scratch, &name, &faulting);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let out = text(&output.stdout);
    assert!(out.contains(&format!("ERROR {name} plain")), "{out}");
    let checks = checks(&scratch);
    assert_eq!(checks.len(), 1, "nothing runs in a broken context");
    assert_eq!(checks[0]["outcome"], "cuda_error");
    assert_eq!(checks[0]["cuda_error"], "CUDA_ERROR_ILLEGAL_ADDRESS");
    let err = text(&output.stderr);
    assert!(
        err.contains("CUDA_ERROR_ILLEGAL_ADDRESS") && err.contains("were not run"),
        "{err}"
    );
}

#[test]
fn a_text_that_does_not_compile_is_an_error_of_the_driver() {
    let scratch = Scratch::new("smoke-load");
    let (name, ptx) = kernel(RELU);
    let output = planted(&scratch, &name, &ptx.replace("st.global", "st.globule"));
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let checks = checks(&scratch);
    assert!(checks.len() >= 4);
    for check in checks {
        assert_eq!(check["outcome"], "cuda_error");
        assert_eq!(check["cuda_error"], "CUDA_ERROR_INVALID_PTX");
        assert!(check["registers"].is_null() && check["loaded"].is_null());
    }
}

#[test]
fn what_cannot_run_is_said() {
    let smoke = |more: &[&str], device: &str| {
        let (_, err) = expect(
            &[&["verify", "--smoke", "--device", device][..], more].concat(),
            2,
        );
        err
    };
    let err = smoke(&["--kernel", "relu_f32"], "emulator:90");
    assert!(
        err.contains("no kernel is called `relu_f32`; kernels like it: relu_f32_"),
        "{err}"
    );
    let (newest, _) = kernel("wgmma_bf16");
    let err = smoke(&["--kernel", &newest], "emulator:80");
    let line = format!("{newest} does not run on compute capability 8.0");
    assert!(err.contains(&line), "{err}");
    let err = smoke(&["--filter", "no such text"], "emulator:90");
    assert!(err.contains("contains `no such text`"), "{err}");
    let err = smoke(&["a/path"], "emulator:90");
    assert!(err.contains("cannot be used with"), "{err}");
    let err = smoke(&["--split-k", "2"], "emulator:90");
    assert!(err.contains("cannot be used with"), "{err}");
    let (relu, _) = kernel(RELU);
    let two = ["verify", ".", "--kernel", &relu, "--kernel", &newest];
    let (_, err) = expect(&two, 2);
    assert!(
        err.contains("one kernel at a time, except with --smoke"),
        "{err}"
    );
}
