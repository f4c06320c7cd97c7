//! The command line as a user meets it: exit codes, messages, JSON. Everything runs on the emulator.

#![cfg(feature = "cli")]

mod places;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder of its own for a test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder =
            std::env::temp_dir().join(format!("warpconv-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// A copy of a case of `tests/data`.
    fn copy(&self, case: &str) -> PathBuf {
        let (from, to) = (data(case), self.0.join(case));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            // Contents only: the originals may be read-only.
            fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
        }
        to
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn data(path: &str) -> PathBuf {
    places::data().join(path)
}

fn warpconv<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(places::warpconv())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs and expects an exit code; panics of the program would show as 101.
fn expect<S: AsRef<std::ffi::OsStr>>(args: &[S], code: i32) -> (String, String) {
    let output = warpconv(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout:\n{out}\nstderr:\n{err}"
    );
    (out, err)
}

/// `verify` of a path on the emulator.
fn verify(path: &Path, more: &[&str], code: i32) -> (String, String) {
    let mut args = vec!["verify", path.to_str().unwrap(), "--device", "emulator:80"];
    args.extend(more);
    expect(&args, code)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

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
fn wrong_usage_exits_with_two_and_says_why() {
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
            &["verify", ".", "--kernel", "no_such_kernel"],
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
    ] {
        let (_, err) = expect(args, 2);
        assert!(err.contains(word), "{args:?}: no `{word}` in {err}");
    }
}

#[test]
fn a_device_that_is_not_there_exits_with_three() {
    let (_, err) = expect(&["explain", "ic3oc4_ih5kh3", "--device", "gpu:99"], 3);
    assert!(err.contains("driver") || err.contains("99"), "{err}");
}

#[test]
fn cases_pass_in_every_type_and_end_with_the_count() {
    let (out, _) = verify(&data("golden/conv_2x4_even"), &[], 0);
    let last = out.lines().last().unwrap();
    assert!(
        last.ends_with(" passed, 0 failed, 0 skipped") && !last.starts_with("0 "),
        "{last}"
    );
}

#[test]
fn huge_tensors_are_skipped_by_name_however_few_multiplications_they_take() {
    let scratch = Scratch::new("huge");
    let file = scratch.0.join("shapes_huge");
    let problems =
        "ic1ih46340oc1kh1sh46340n\"conv\"\nic1ih46340kh1sh46340n\"pool\"\nic3oc4_ih5kh3ph1\n";
    fs::write(&file, problems).unwrap();
    let (out, _) = verify(&file, &["--dtype", "f32"], 0);
    assert!(
        out.contains("skipped 2: problems of more than 100000000 elements"),
        "{out}"
    );
    assert!(out.contains("--max-elements"), "{out}");
    let (out, _) = verify(&file, &["--dtype", "f32", "--max-elements", "70"], 0);
    assert!(out.contains("skipped 3: "), "{out}");
}

#[test]
fn verify_writes_a_row_for_every_check() {
    let scratch = Scratch::new("rows");
    let file = scratch.0.join("rows.json");
    let more = [
        "--json",
        file.to_str().unwrap(),
        "--dtype",
        "f16",
        "--layout",
        "nhwc",
    ];
    verify(&data("golden/maxpool_3x3_s2_p1"), &more, 0);
    let document = json(&file);
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(document["failed"], 0);
    let passed = rows.iter().filter(|row| row["status"] == "passed").count();
    assert_eq!(document["passed"].as_u64(), Some(passed as u64));
    assert!(passed > 0);
    for row in rows.iter().filter(|row| row["status"] == "passed") {
        assert_eq!(
            (row["dtype"].as_str(), row["layout"].as_str()),
            (Some("f16"), Some("nhwc"))
        );
        assert_eq!(row["max_abs_error"].as_f64(), Some(0.0));
        assert!(row["kernel"].as_str().unwrap().starts_with("max_pool_f16"));
    }
}

#[test]
fn a_failure_is_a_line_with_the_command_that_repeats_it() {
    let scratch = Scratch::new("failure");
    let case = scratch.copy("golden/conv_2x4_even");
    let y = case.join("y.npy");
    let mut bytes = fs::read(&y).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&1e9f32.to_le_bytes());
    fs::write(&y, bytes).unwrap();

    let (out, err) = verify(&case, &["--dtype", "f32", "--layout", "nhwc"], 1);
    assert!(err.contains("failed"), "{err}");
    let failure = out
        .lines()
        .find(|line| line.starts_with("FAILED "))
        .unwrap();
    assert!(
        failure.contains("1 of ") && failure.contains("1e9"),
        "{failure}"
    );
    let command = failure.split("repeat: warpconv ").nth(1).unwrap();
    let args: Vec<&str> = command.split(' ').collect();
    let (again, _) = expect(&args, 1);
    assert!(
        again.lines().any(|line| line == failure),
        "{again}\nhas not\n{failure}"
    );
    assert_eq!(again.lines().last(), Some("0 passed, 1 failed, 0 skipped"));
}

#[test]
fn shapes_run_and_repeat_by_their_line() {
    let scratch = Scratch::new("shapes");
    let file = scratch.0.join("shapes_mine");
    fs::write(&file, "# mine\nic5oc7_ih6kh3ph1n\"a\"\nic8_ih6oh3_kh2sh2\nic3oc4_ih5kh9ph0\nic512oc512_ih56kh3ph1\n").unwrap();
    let (out, _) = verify(&file, &["--dtype", "f32"], 2);
    assert!(out.contains("shapes_mine:4: "), "{out}");
    assert!(out.contains("more than 20000000 multiplications"), "{out}");
    assert!(
        out.lines().last().unwrap().contains("1 failed, 1 skipped"),
        "{out}"
    );
    let line = format!("{}:2", file.display());
    let (out, _) = verify(Path::new(&line), &["--dtype", "bf16"], 0);
    assert!(!out.contains("FAILED"), "{out}");
}

#[test]
fn corrupt_cases_are_named_and_nothing_panics() {
    let scratch = Scratch::new("corrupt");
    let original = fs::read_to_string(data("golden/conv_2x4_even/case.json")).unwrap();
    for (index, json) in [
        "",
        "{",
        "[]",
        "{}",
        "{\"op\": \"conv2d\"}",
        &original.replace("\"conv2d\"", "\"conv9d\""),
        &original.replace("\"groups\": 1", "\"groups\": -1"),
        &original.replace("\"pad\": [", "\"pad\": [1, "),
        &original.replace("\"dtypes\"", "\"types\""),
        &original.replace("\"tol\"", "\"tolerance\""),
    ]
    .iter()
    .enumerate()
    {
        let case = scratch.copy("golden/conv_2x4_even");
        fs::write(case.join("case.json"), json).unwrap();
        let (out, _) = verify(&case, &["--dtype", "f32"], 2);
        assert!(out.contains("FAILED"), "case {index}: {out}");
    }
    for cut in [0, 5, 9, 40, 130] {
        let case = scratch.copy("golden/conv_2x4_even");
        let x = case.join("x.npy");
        let bytes = fs::read(&x).unwrap();
        fs::write(&x, &bytes[..cut]).unwrap();
        let (out, _) = verify(&case, &[], 2);
        assert!(out.contains("x.npy"), "{out}");
    }
    // A graph that asks for what cannot be computed: a failure of its own, not a panic.
    let case = scratch.copy("golden/conv_2x4_even");
    fs::write(
        case.join("case.json"),
        original.replace("\"groups\": 1", "\"groups\": 3"),
    )
    .unwrap();
    let (out, _) = verify(&case, &["--dtype", "f32"], 1);
    assert!(out.contains("channels"), "{out}");
}

#[test]
fn options_that_leave_nothing_are_an_error() {
    let case = data("golden/conv_2x4_even");
    let (_, err) = verify(&case, &["--filter", "no such case"], 2);
    assert!(err.contains("no such case"), "{err}");
    let kernel = warpconv::catalog::kernels()
        .iter()
        .find(|k| k.algorithm.name() == "relu")
        .unwrap()
        .id();
    let (_, err) = verify(&case, &["--kernel", &kernel, "--dtype", "f32"], 2);
    assert!(err.contains("nothing to check"), "{err}");
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
    // 724 million multiplications an image.
    assert_eq!(document["all"]["macs"], 2 * 724_406_816u64);
    assert_eq!(document["processor"]["threads"], 3);
    expect(&["era", "--batch", "0"], 2);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(places::warpconv())
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
