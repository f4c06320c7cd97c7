//! `calibrate`: factors of rows that were measured, as `explain` then shows them.

use std::fs;

use serde_json::json;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::plan::{Plan, Tuning};
use warpconv::problem::Conv2d;
use warpconv_records::{Row, Run};

use crate::command::{Scratch, expect};

const PROBLEM: &str = "mb1ic64ih14oc64kh3ph1";

/// Rows with a known ratio, as if the emulator's card were a GPU: the emulator itself has no times.
#[test]
fn factors_are_stored_and_explained() {
    let scratch = Scratch::new("calibrate");
    let gpu = Gpu::open(&DeviceChoice::Emulator { sm: 80 }).unwrap();
    let (card, capability) = (gpu.card(), gpu.capability());
    let conv: Conv2d = PROBLEM.parse().unwrap();
    let plan = Plan::new(&conv, capability).unwrap();
    let run = Run {
        device: card.name.clone(),
        driver: u64::from(card.driver),
        capability: Some(*capability),
        build: Tuning::build().to_owned(),
        ..Run::default()
    };
    let mut kernel = plan.kernel().name();
    if plan.score().split_k > 1 {
        kernel.push_str(&format!(" in {} splits", plan.score().split_k));
    }
    let row = Row {
        id: "layers/a".to_owned(),
        problem: PROBLEM.to_owned(),
        kernel,
        floor_us: 1.0,
        us: Some(1.75 * plan.score().us),
        ..Row::default()
    };
    let rows = scratch.path("rows.jsonl");
    fs::write(&rows, format!("{}\n{}\n", run.to_json(), row.to_json())).unwrap();
    let (file, result) = (scratch.path("deep/tuning.txt"), scratch.path("c.json"));

    let (out, _) = expect(&["calibrate", &rows, "--dry-run", "--tuning", "none"], 0);
    assert!(out.contains("not stored (--dry-run)"), "{out}");
    let args = ["calibrate", &rows, "--output", &file, "--json", &result];
    let (out, err) = expect(&args, 0);
    assert!(out.contains(&format!("factors: {file}")), "{out}");
    assert!(out.contains("| 1.750 |") && err.is_empty(), "{out}{err}");
    let document: serde_json::Value = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    let found = &document["cards"][0];
    assert_eq!(found["card"], json!(card.name));
    assert_eq!(
        found["families"][0]["family"],
        json!(plan.kernel().algorithm.name())
    );
    assert_eq!(found["rows"][0]["measured_us"], json!(row.us));
    assert_eq!(found["rows"][0]["predicted_us"], json!(plan.score().us));

    let explain = ["explain", PROBLEM, "--device", "emulator:80", "--tuning"];
    let (out, _) = expect(&[&explain[..], &[&file]].concat(), 0);
    assert!(
        out.contains("factor:  1.750, of 1 measurement on this card"),
        "{out}"
    );
    assert!(out.contains("packing | factor | rank by"), "{out}");
    let (out, _) = expect(&[&explain[..], &["none"]].concat(), 0);
    assert!(!out.contains("factor"), "{out}");
}

#[test]
fn rows_of_the_emulator_are_refused() {
    let scratch = Scratch::new("calibrate-emulator");
    let rows = scratch.path("rows.jsonl");
    let run = Run {
        emulated: true,
        ..Run::default()
    };
    let row = Row::default();
    let row = row
        .to_json()
        .to_string()
        .replace("\"floor_us\":0.0", "\"floor_us\":1.0");
    fs::write(&rows, format!("{}\n{row}\n", run.to_json())).unwrap();
    let file = scratch.path("tuning.txt");
    let (out, err) = expect(&["calibrate", &rows, "--output", &file], 2);
    assert!(
        out.contains("left out: 1 row: they are of the emulator"),
        "{out}"
    );
    assert!(
        err.contains("rows.jsonl: no row to calibrate with"),
        "{err}"
    );
    assert!(!scratch.file("tuning.txt").exists());
}
