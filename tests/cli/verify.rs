//! `warpconv verify` as a user meets it: what runs, what is left out and said, how failures repeat.
//! Everything runs on the emulator.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{Scratch, data, expect, json, verify};

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
    fs::write(
        &file,
        "# mine\nic5oc7_ih6kh3ph1n\"a\"\nic8_ih6oh3_kh2sh2\nic3oc4_ih5kh9ph0\n\
        ic512oc512_ih56kh3ph1\n",
    )
    .unwrap();
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

/// Rows and warnings of a run of some problems with so many at a time, of which larger ones run
/// into a limit of instructions, which breaks the context that all of them share.
fn rows_with_faults(file: &Path, jobs: &str) -> (Vec<serde_json::Value>, Vec<String>) {
    let written = file.with_extension(jobs);
    let options = ["--math", "strict", "--dtype", "f32", "--layout", "nchw"];
    let output = Command::new(crate::paths::warpconv())
        .args(["verify", "--device", "emulator:80", "--jobs", jobs])
        .args(options)
        .args([Path::new("--json"), &written, file])
        .env("PTX_EMULATOR_INSTRUCTIONS", "4000")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let mut rows = json(&written)["rows"].as_array().unwrap().clone();
    for row in &mut rows {
        // Allocations are counted on.
        row["message"] = (!row["message"].is_null()).into();
    }
    let written = String::from_utf8_lossy(&output.stderr);
    let warnings = written.lines().filter(|line| line.contains("warning: "));
    (rows, warnings.map(str::to_owned).collect())
}

#[test]
fn problems_side_by_side_give_what_one_after_the_other_gives() {
    let scratch = Scratch::new("jobs");
    let file = scratch.0.join("shapes_mixed");
    let problems = "ic16ih4oc16oh4kh1ph0\nic64ic64ih6oc32oh6kh3ph1\nic8ic8ih4oc8oh4kh1ph0\n\
        nonsense\n\
        ic128ih3oc16oh3kh3ph1\nic16ih2oc16oh2kh1ph0\nic16ih3oc16oh3kh1ph0\n";
    fs::write(&file, problems).unwrap();
    let (one, warnings) = rows_with_faults(&file, "1");
    let count = |status: &str| one.iter().filter(|row| row["status"] == status).count();
    // Sound problems before, between and behind those that break the context.
    assert!(count("passed") > 20 && count("failed") > 5, "{one:?}");
    assert_eq!(count("unreadable"), 1);
    // One of a problem that breaks the context, one of a sound problem.
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(rows_with_faults(&file, "3"), (one, warnings));
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
    let kernel = warpconv::kernels::kernels()
        .iter()
        .find(|k| k.algorithm.name() == "relu")
        .unwrap()
        .name();
    let (_, err) = verify(&case, &["--kernel", &kernel, "--dtype", "f32"], 2);
    assert!(err.contains("nothing to check"), "{err}");
}

/// The kernels that a run of `verify` forced, by the file that it wrote.
fn kernels(file: &Path) -> BTreeSet<String> {
    let document = json(file);
    let rows = document["rows"].as_array().unwrap();
    let named = rows.iter().filter_map(|row| row["kernel"].as_str());
    named.map(str::to_owned).collect()
}

#[test]
fn every_kernel_runs_what_the_default_leaves_out_and_says() {
    let scratch = Scratch::new("every");
    let file = scratch.0.join("rows.json");
    let more = [
        &["--json", file.to_str().unwrap(), "--split-k", "1"][..],
        &["--dtype", "bf16", "--layout", "nhwc"],
        &["--filter-layout", "krsc"],
    ]
    .concat();
    let case = data("golden/conv_5x5_p2_inception");
    let (out, _) = verify(&case, &more, 0);
    let (some, left_out) = (kernels(&file), json(&file)["left_out"].as_u64());
    let reasons: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("left out ") && line.contains("--every-kernel"))
        .collect();
    // The family's others, and those whose tiles pad the case beyond `--max-macs`.
    assert_eq!(reasons.len(), 2, "{out}");
    assert!(
        reasons.iter().any(|line| line.contains("--max-macs")),
        "{out}"
    );

    let (out, _) = verify(&case, &[&more[..], &["--every-kernel"]].concat(), 0);
    let all = kernels(&file);
    assert!(
        !some.is_empty() && some.is_subset(&all) && some.len() < all.len(),
        "{some:?} of {all:?}"
    );
    assert_eq!(left_out, Some((all.len() - some.len()) as u64));
    assert!(!out.contains("left out "), "{out}");
    assert!(out.ends_with(&format!("{} passed, 0 failed, 0 skipped\n", all.len())));
}

#[test]
fn graphs_that_cannot_be_cut_as_asked_are_counted() {
    let case = data("golden/fire_module");
    let (out, _) = verify(&case, &["--steps", "in-three"], 0);
    assert!(
        out.contains("skipped 1: graphs that cannot be cut this way")
            && out.contains("(--steps in-three)"),
        "{out}"
    );
    assert!(out.ends_with("0 passed, 0 failed, 1 skipped\n"), "{out}");
}
