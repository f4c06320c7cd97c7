//! The command line as a user meets it: exit codes, messages, JSON. Everything runs on the
//! emulator; `verify` has `verify.rs`.

use std::process::{Command, Stdio};

use crate::command::{Scratch, expect, json, text};
use serde_json::Value;

#[test]
fn bottleneck_writes_the_rows_that_it_promises() {
    let scratch = Scratch::new("bottleneck");
    let file = scratch.0.join("rows.json");
    let args = ["--device", "emulator:80", "--json", file.to_str().unwrap()];
    let (out, _) = expect(
        &[
            &["bottleneck", "--size", "7", "--dtype", "f32,f16"][..],
            &args,
        ]
        .concat(),
        0,
    );
    assert!(out.starts_with("device: the emulator"), "{out}");
    assert!(
        out.contains("571,536") && out.contains("67,473") && out.contains("8.47 times fewer"),
        "{out}"
    );

    let document = json(&file);
    assert_eq!(document["device"]["kind"], "emulator");
    assert_eq!(document["device"]["sm"], 80);
    assert!(document["device"]["name"].is_string());
    let rows = document["rows"].as_array().unwrap();
    // Three ways of two modules in two types, but for the one that no kernel computes.
    assert_eq!(rows.len(), 11);
    for row in rows {
        let keys: Vec<&str> = row
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "module",
            "variant",
            "dtype",
            "n",
            "h",
            "w",
            "macs",
            "launches",
            "device_bytes",
            "verified",
            "max_rel_error",
            "time_us",
            "predicted_us",
            "speedup",
            "roofline_speedup",
            "layout",
            "model_us",
            "model_speedup",
            "images_in_half_ms",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(row["verified"], true, "{row}");
        assert!(
            row["time_us"].is_null() && row["speedup"].is_null(),
            "the emulator has no times: {row}"
        );
        assert!(row["device_bytes"].as_u64().unwrap() > 0, "{row}");
        assert!(row["max_rel_error"].as_f64().unwrap() < 0.01, "{row}");
    }
    let of = |module: &str, variant: &str| {
        rows.iter()
            .find(|row| {
                row["module"] == module && row["variant"] == variant && row["dtype"] == "f32"
            })
            .unwrap()
    };
    let separate = of("bottleneck252", "separate");
    assert_eq!(separate["launches"], 3);
    assert_eq!(separate["macs"], 67_473 * 49);
    assert!((separate["predicted_us"].as_f64().unwrap() - 808.48).abs() < 0.01);
    assert!((separate["roofline_speedup"].as_f64().unwrap() - 8.47).abs() < 0.01);
    let fused = of("bottleneck252", "fused");
    assert_eq!(fused["macs"], 67_473 * 49);
    assert!((fused["predicted_us"].as_f64().unwrap() - 851.43).abs() < 0.01);
    assert!((fused["roofline_speedup"].as_f64().unwrap() - 8.04).abs() < 0.01);
    let images = fused["images_in_half_ms"].as_f64().unwrap();
    assert!((images - 128.0 * 500.0 / 851.43).abs() < 0.01, "{images}");
    // f32 has a kernel for all of it on compute capability 8.0.
    assert_eq!(
        (&fused["launches"], &fused["layout"]),
        (&1.into(), &"nchw".into())
    );
    assert_eq!(of("inception3a", "separate")["launches"], 7);
    assert_eq!(of("inception3a", "naive")["launches"], 4);
    // Strict f32 has no kernel for several convolutions at once: there is no row, but a reason.
    let missing = document["not_fused"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(
        [
            &missing[0]["module"],
            &missing[0]["variant"],
            &missing[0]["dtype"]
        ],
        ["inception3a", "fused", "f32"]
    );
    let why = missing[0]["why"].as_str().unwrap();
    assert!(
        why.contains("multiplies in tf32, the problem asks for strict"),
        "{why}"
    );
    assert!(
        out.contains("inception3a f16, N = 1, as planned: two launches")
            && out.contains("two launches      2 kernels, "),
        "{out}"
    );
    assert!(
        out.contains("inception3a fused f32: no row") && out.contains(why),
        "{out}"
    );
    assert!(
        !rows.iter().any(|row| row["module"] == "inception3a"
            && row["variant"] == "fused"
            && row["dtype"] == "f32"),
        "{rows:?}"
    );
    let half = |row: &&Value| {
        row["module"] == "inception3a" && row["variant"] == "fused" && row["dtype"] != "f32"
    };
    assert_eq!(rows.iter().find(half).unwrap()["launches"], 2);
}

#[test]
fn explain_names_the_kernel_the_refused_and_the_bound() {
    let scratch = Scratch::new("explain");
    let file = scratch.0.join("plan.json");
    let problem = "mb128ic64ih56oc64oh56kh3ph1+bf16+nhwc";
    let (out, _) = expect(
        &[
            "explain",
            problem,
            "--device",
            "emulator:75",
            "--json",
            file.to_str().unwrap(),
        ],
        0,
    );
    for word in [
        "kernel:",
        "image:   PTX, compiled by the driver; ",
        "tile",
        "shared memory",
        "bound:",
        "prediction",
        "refused",
        "because",
    ] {
        assert!(out.contains(word), "no `{word}` in\n{out}");
    }
    let row = &json(&file)["rows"][0];
    assert_eq!(row["macs"].as_u64(), Some(128 * 56 * 56 * 64 * 64 * 9));
    assert!(row["kernel"].as_str().unwrap().contains("bf16_nhwc"));
    assert_eq!(row["image"]["loaded"], "PTX, compiled by the driver");
    assert_eq!(row["image"]["local_bytes"], 0);
    assert!(row["image"]["registers"].as_u64().unwrap() > 0);
    assert!(
        row["refused"]
            .as_array()
            .unwrap()
            .iter()
            .all(|refused| refused["reason"].is_string())
    );
    // A device of 7.5 has no cp.async, so that tier is refused.
    let args = [
        "explain",
        "ic64ih56oc64oh56kh3ph1",
        "--device",
        "emulator:75",
    ];
    let (out, _) = expect(&args, 0);
    assert!(
        out.contains("needs compute capability 8.0, the device has 7.5"),
        "{out}"
    );
    expect(
        &[
            "explain",
            "ic64_ih112oh56_kh3sh2",
            "--device",
            "emulator:90",
        ],
        0,
    );
}

#[test]
fn explain_shows_the_loaded_kernel() {
    let scratch = Scratch::new("explain-jit");
    let folder = scratch.0.to_str().unwrap();
    // A kernel of which two blocks share an SM, and one on CUDA cores.
    let problem = "mb1ic64ih56oc64oh56kh3ph1+bf16+nhwc";
    let device = ["--device", "emulator:90", "--tuning", "none"];
    let (out, err) = expect(&[&["explain", "--jit", problem], &device[..]].concat(), 0);
    assert_eq!(err, "");
    for words in [
        "driver:  ",
        " of shared memory per block, at most ",
        " threads per block, shared-memory carve-out of 100 %",
        "log:     none: the emulator compiles nothing",
    ] {
        assert!(out.contains(words), "no `{words}` in\n{out}");
    }
    let (out, _) = expect(
        &[&["explain", "--jit", "ic3oc4ih9kh3"], &device[..]].concat(),
        0,
    );
    assert!(out.contains("carve-out left to the driver"), "{out}");

    // A text that is no PTX: said without --jit, a device error with it.
    let kernel = out
        .split("kernel:  ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    std::fs::write(scratch.0.join(format!("{kernel}.ptx")), "no PTX").unwrap();
    for (jit, code) in [(&[][..], 0), (&["--jit"], 3)] {
        let output = Command::new(crate::paths::warpconv())
            .args([&["explain", "ic3oc4ih9kh3"], jit, &device].concat())
            .env("WARPCONV_OVERRIDE_PTX", folder)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        let warning = format!("warning: {kernel} is taken from {folder}/{kernel}.ptx");
        for words in [&*warning, "does not load (CUDA error 200)", "no .version"] {
            assert!(text.contains(words), "no `{words}` in\n{text}");
        }
        assert_eq!(code == 0, text.contains("image:   none: "), "{text}");
    }
}

#[test]
fn wrong_usage_exits_with_two_and_says_why() {
    let cases = crate::paths::data();
    let cases = cases.to_str().expect("a path in UTF-8");
    for (args, word) in [
        (&["--device", "tpu"][..], "tpu"),
        (&["--device", "emulator:86"], "emulator:86"),
        (
            &["explain", "ic3oc4_ih5kh9", "--device", "emulator:80"],
            "kernel",
        ),
        (
            &["explain", "not a problem", "--device", "emulator:80"],
            "not a problem",
        ),
        (&["explain", ""], ""),
        (&["explain", "g3ic4oc6_ih5kh3"], "groups"),
        (&["explain", "ic3oc4_ih99999999999999999999kh3"], "ih"),
        (&["verify"], "PATH"),
        (&["verify", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["verify", ".", "--max-macs", "many"], "many"),
        (
            &["verify", cases, "--kernel", "no_such_kernel"],
            "no_such_kernel",
        ),
        (
            &["bottleneck", "--json", "/nowhere/at/all.json"],
            "/nowhere/at/all.json",
        ),
        (&["bottleneck", "--dtype", "f64"], "f64"),
        (
            &[
                "bottleneck",
                "--size",
                "4000000000",
                "--device",
                "emulator:80",
            ],
            "limit",
        ),
        (&["conquer"], "conquer"),
        (&["verify", cases, "--jobs", "0"], "the least is 1"),
        (
            &["tune", "ic3oc4_ih5kh3", "--samples", "0"],
            "the least is 1",
        ),
        (&["era", "--threads", "99999999"], "1..=1024"),
        (&["counters", "ic3oc4_ih5kh3", "--split-k", "0"], "1..=64"),
        (&["counters", "ic3oc4_ih5kh3", "--split-k", "65"], "1..=64"),
        (
            &["counters", "ic3oc4_ih5kh3", "--batch", "99999999999"],
            "batch",
        ),
        (&["tune", "/", "--by", "instructions"], "a folder"),
        (&["classify", "/", "--random"], "a folder"),
    ] {
        let (_, err) = expect(args, 2);
        assert!(err.contains(word), "{args:?}: no `{word}` in {err}");
    }
}

/// Networks by wrong names and sizes: the message names the network, and each known one once.
#[test]
fn networks_that_do_not_exist_are_named() {
    let nets = |args: &[&str]| {
        let device = ["--device", "emulator:80"];
        let (out, err) = expect(&[&["nets"], args, &device].concat(), 2);
        (out, err)
    };
    let (_, err) = nets(&["no_such_net", "--svg", "none"]);
    assert!(err.contains("`no_such_net`"), "{err}");
    assert_eq!(err.matches("GoogLeNet").count(), 1, "{err}");
    let (_, err) = nets(&["lenet", "--size", "1", "--svg", "none"]);
    assert!(err.contains("LeNet-5 of 1x1 pixels: "), "{err}");
    // Before anything is computed.
    let (out, err) = nets(&["lenet", "--count-only", "--svg", "/nowhere/at/all.svg"]);
    assert!(err.contains("/nowhere/at/all.svg"), "{err}");
    assert!(!out.contains("LeNet"), "{out}");
}

/// Help in a narrow terminal: no line is longer, and no option is lost.
#[test]
fn help_fits_a_narrow_terminal() {
    for command in [
        "bottleneck",
        "verify",
        "explain",
        "counters",
        "tune",
        "nets",
        "classify",
        "era",
    ] {
        let output = Command::new(crate::paths::warpconv())
            .args([command, "--help"])
            .env("COLUMNS", "60")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}");
        let text = String::from_utf8(output.stdout).unwrap();
        // clap does not wrap the line of usage.
        let mut lines = text.lines().filter(|line| !line.starts_with("Usage:"));
        let long = lines.find(|line| line.chars().count() > 60);
        assert_eq!(long, None, "{command}");
        assert!(
            text.contains("--device") && text.contains("--json"),
            "{text}"
        );
    }
}

#[test]
fn a_device_that_is_not_there_exits_with_three() {
    let (_, err) = expect(&["explain", "ic3oc4_ih5kh3", "--device", "gpu:99"], 3);
    assert!(err.contains("driver") || err.contains("99"), "{err}");
}

#[test]
fn era_times_every_layer_and_checks_the_processor() {
    let scratch = Scratch::new("era");
    let file = scratch.0.join("era.json");
    let path = file.to_str().unwrap();
    let options = ["--quiet", "--device", "emulator:80", "--json", path];
    let args = [&["era", "--batch", "2", "--threads", "3"], &options[..]].concat();
    let (out, _) = expect(&args, 0);
    assert!(out.contains("GTX 580"), "{out}");
    assert!(out.contains("predicted"), "there is no GPU: {out}");
    let document = json(&file);
    let layers = document["layers"].as_array().unwrap();
    let names: Vec<&str> = layers
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5",
            "pool5", "fc6", "fc7", "fc8"
        ]
    );
    for row in layers {
        assert!(row["cpu_ms"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["compared"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["gpu_measured"], false);
        assert!(row["failure"].is_null(), "{row}");
    }
    // 724 million multiplications per image.
    assert_eq!(document["all"]["macs"], 2 * 724_406_816u64);
    assert_eq!(document["processor"]["threads"], 3);
    expect(&["era", "--batch", "0"], 2);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(crate::paths::warpconv())
        .args(["explain", "ic3oc4_ih5kh3", "--device", "emulator:80"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(101), "{}", text(&output.stderr));
    assert!(
        !text(&output.stderr).contains("panicked"),
        "{}",
        text(&output.stderr)
    );
}
