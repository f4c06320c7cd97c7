//! `warpconv counters` and `warpconv tune` as a user meets them: exit codes, messages, JSON.
//! Everything runs on the emulator.

use crate::command::{Scratch, expect, json};
use std::fs;
use std::path::Path;

use serde_json::Value;

#[test]
fn counters_stand_beside_what_the_problem_allows() {
    let scratch = Scratch::new("counted");
    let file = scratch.path("c.json");
    // 16 channels to 128 filters by 1x1 on 128 pixels: one tile of 128 x 128 in steps of 8, none of
    // it padding.
    let (out, _) = expect(
        &[
            "counters",
            "mb2ic16ih8oc128oh8kh1+nhwc+bias",
            "--kernel",
            "conv1x1_f32_nhwc_128x128x8_sm80",
            "--no-machine-code",
            "--json",
            &file,
        ],
        0,
    );
    assert!(out.contains("a prediction, not a measurement"), "{out}");
    assert!(out.contains("registers, occupancy, spills"), "{out}");
    let rows = json(&file)["rows"].clone();
    let row = &rows[0];
    assert_eq!(row["kernel"], "conv1x1_f32_nhwc_128x128x8_sm80");
    let read = 4 * (2 * 16 * 64 + 16 * 128 + 128);
    assert_eq!(row["device_bytes_read"], read);
    assert_eq!(row["least_bytes_read"], read);
    assert_eq!(row["device_bytes_written"], 4 * 2 * 128 * 64);
    assert_eq!(row["macs"], 2 * 64 * 16 * 128);
    assert_eq!(row["fma_f32_macs"], row["macs"]);
    assert_eq!(row["matrix_macs"], 0);
    assert_eq!(row["shared_loads"]["conflicts"], 0);
    assert!(row["machine_code"].is_null());
    assert!(row["predicted"]["us"].as_f64().unwrap() > 0.0);
}

#[test]
fn counters_take_files_lines_and_every_kernel() {
    let scratch = Scratch::new("files");
    let shapes = scratch.path("shapes_few");
    fs::write(
        &shapes,
        "# few\nmb1ic8ih4oc8oh4kh1n\"one\"\nmb64ic512ih56oc512oh56kh3ph1n\"large\"\n\
        mb1ic4ih6oh3kh2sh2n\"pool\"\n",
    )
    .unwrap();
    let file = scratch.path("c.json");
    let arguments = ["counters", "--no-machine-code", "--json", file.as_str()];
    let (out, _) = expect(&[&arguments[..], &[&shapes]].concat(), 0);
    assert!(out.contains("skipped: more than"), "{out}");
    let rows = json(&file)["rows"].clone();
    let names: Vec<&Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["name"])
        .collect();
    assert_eq!(names, ["one", "pool"]);

    let line = format!("{shapes}:2");
    let every = [line.as_str(), "--all", "--device", "emulator:75"];
    expect(&[&arguments[..], &every].concat(), 0);
    let rows = json(&file)["rows"].clone();
    assert!(rows.as_array().unwrap().len() > 1, "{rows}");
    for row in rows.as_array().unwrap() {
        assert!(row["kernel"].as_str().unwrap().ends_with("_sm75"), "{row}");
    }
}

#[test]
fn counters_say_what_they_cannot_do() {
    let problem = "mb1ic8ih4oc8oh4kh1";
    let (_, err) = expect(&["counters", problem, "--device", "gpu"], 2);
    assert!(err.contains("emulator:75"), "{err}");
    let (_, err) = expect(&["counters", "no/such/file"], 2);
    assert!(err.contains("no file of that name"), "{err}");
    let (_, err) = expect(&["counters", problem, "--kernel", "nothing"], 2);
    assert!(err.contains("no kernel is called `nothing`"), "{err}");
    let refusing = [
        "counters",
        problem,
        "--kernel",
        "depthwise_f32_nchw_8x1x3_sm75",
    ];
    let (out, err) = expect(&refusing, 2);
    assert!(out.contains("is for 1 channel per group"), "{out}");
    assert!(
        err.contains("no problem to run: the options skip 1 of 1"),
        "{err}"
    );
    expect(&["counters"], 2);
}

#[test]
fn tune_keeps_winners_that_plans_take() {
    let scratch = Scratch::new("tune");
    let (file, result) = (scratch.path("deep/tuning.txt"), scratch.path("t.json"));
    let problem = "mb1ic16ih8oc40oh8kh3ph1+bias+nhwc+krsc";
    let device = ["--device", "emulator:80", "--tuning", &file];
    let on = |more: &[&str], code| expect(&[more, &device[..]].concat(), code);

    let explain = ["explain", problem, "--json", &result];
    let (out, err) = on(&explain, 0);
    assert!(out.contains("ranked by the model"), "{out}");
    assert!(err.contains("there is no such file"), "{err}");
    assert!(json(&result)["rows"][0]["tuned"].is_null());

    let tune = ["tune", problem, "--by", "instructions", "--json", &result];
    let (out, _) = on(&tune, 0);
    assert!(out.contains(&format!("winners: {file}")), "{out}");
    let row = json(&result)["rows"][0].clone();
    assert_eq!(row["by"], "instructions");
    let candidates = row["candidates"].as_array().unwrap();
    assert!(candidates.len() > 1, "{row}");
    let least = candidates
        .iter()
        .map(|candidate| candidate["amount"].as_f64().unwrap())
        .fold(f64::INFINITY, f64::min);
    assert_eq!(row["amount"].as_f64(), Some(least));

    let (out, err) = on(&explain, 0);
    assert!(
        out.contains("tuned: counted") && err.is_empty(),
        "{out}{err}"
    );
    let plan = json(&result)["rows"][0].clone();
    assert_eq!(plan["kernel"], row["kernel"]);
    assert_eq!(plan["tuned"]["amount"], row["amount"]);

    // On another device, and without the file, there is no measurement.
    let (out, _) = expect(
        &[
            "explain",
            problem,
            "--device",
            "emulator:75",
            "--tuning",
            &file,
        ],
        0,
    );
    assert!(out.contains("ranked by the model"), "{out}");
    let (out, err) = expect(
        &[
            "explain",
            problem,
            "--device",
            "emulator:80",
            "--tuning",
            "none",
        ],
        0,
    );
    assert!(
        out.contains("ranked by the model") && err.is_empty(),
        "{out}{err}"
    );

    // A damaged file is ignored, which is said, and replaced by the next winners; a foreign one is
    // left alone.
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let (out, err) = on(&explain, 0);
    assert!(out.contains("ranked by the model"), "{out}");
    assert!(err.contains("warning") && err.contains("cut off"), "{err}");
    let (_, err) = on(&tune, 0);
    assert!(err.contains("cut off"), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), whole);
    fs::write(&file, "dear diary\n").unwrap();
    let (_, err) = on(&tune, 2);
    assert!(err.contains("no tuning file of warpconv"), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear diary\n");
}

#[test]
fn tune_has_no_times_on_the_emulator() {
    let scratch = Scratch::new("no-times");
    let file = scratch.path("tuning.txt");
    let problem = "mb1ic8ih4oc8oh4kh1";
    let on = ["--device", "emulator", "--tuning", &file];
    let (_, err) = expect(&[&["tune", problem][..], &on].concat(), 2);
    assert!(err.contains("the emulator has no times"), "{err}");
    let dry = ["tune", problem, "--by", "instructions", "--dry-run"];
    let (out, _) = expect(&[&dry[..], &on].concat(), 0);
    assert!(out.contains("best: "), "{out}");
    assert!(!Path::new(&file).exists());
}
