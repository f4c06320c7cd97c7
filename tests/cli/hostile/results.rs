//! Results that `calibrate` reads: rows of the benchmarks, and the archive of `run-all`.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use warpconv::plan::{Capability, Plan, Tuning};
use warpconv::problem::Conv2d;
use warpconv_records::{Row, Run};

use crate::command::Scratch;
use crate::hostile::fixture::Victim;
use crate::hostile::kinds::every_replacement;

/// A row that counts.
fn rows() -> String {
    let problem = "mb1ic64ih14oc64kh3ph1";
    let conv: Conv2d = problem.parse().expect("a problem");
    let plan = Plan::new(&conv, &Capability::sm80()).expect("a plan");
    let run = Run {
        device: "NVIDIA A100".to_owned(),
        driver: 12_040,
        capability: Some(Capability::sm80()),
        build: Tuning::build().to_owned(),
        ..Run::default()
    };
    let split_k = plan.score().split_k;
    let row = Row {
        id: "layers/a".to_owned(),
        problem: problem.to_owned(),
        kernel: match split_k {
            1 => plan.kernel().name(),
            _ => format!("{} in {split_k} splits", plan.kernel().name()),
        },
        floor_us: 1.0,
        us: Some(plan.score().us),
        ..Row::default()
    };
    format!("{}\n{}\n", run.to_json(), row.to_json())
}

fn calibrate(name: &str, file: &str) -> Victim {
    let path = format!("@/{file}");
    let args = ["calibrate", &path, "--output", "@/tuning.txt"];
    Victim::new(Scratch::new(name), file, &args)
}

#[test]
fn rows_of_the_benchmarks() {
    let victim = calibrate("results-rows", "rows.jsonl");
    victim.write(rows());
    victim.accepts();
    every_replacement(&victim);
    // Each line is parsed, and none with more memory than its kind of line may take.
    victim.write(format!("[{}", "[],".repeat(16 << 20)));
    victim.refuses("a line of 48 MB", &["no row to calibrate with"]);
    victim.write("{\"kind\":\"row\"}\n".repeat(1 << 18));
    victim.refuses(
        "262,144 rows without content",
        &["no row to calibrate with"],
    );
}

#[test]
fn archives() {
    let victim = calibrate("results-archive", "results.tar.gz");
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let text = rows();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let added = archive.append_data(&mut header, "rows.jsonl", text.as_bytes());
    added.expect("a member");
    let whole = archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("an archive");
    victim.write(&whole);
    victim.accepts();
    every_replacement(&victim);
    let mut zeros = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..512 {
        zeros.write_all(&[0; 1 << 20]).expect("zeros");
    }
    victim.write(zeros.finish().expect("an archive"));
    victim.refuses("half a gigabyte of zeros", &[]);
}
