//! Synthetic results: factors that are known by construction come back, and what is no result is
//! refused in a sentence.

use std::fs;
use std::path::{Path, PathBuf};

use warpconv::kernels::Algorithm;
use warpconv::plan::{Capability, Limits, Plan};
use warpconv::problem::notation::{self, Problem};
use warpconv::problem::{Conv2d, FilterLayout};
use warpconv_records::{Row, Run};

use super::*;

mod archives;

const DRIVER: u32 = 12_080;

/// Problems whose kernels are of three families.
const PROBLEMS: [&str; 6] = [
    "mb32ic256ih28oc256kh3ph1+bf16+nhwc+packed",
    "mb32ic128ih28oc512kh1ph0+bf16+nhwc+packed",
    "mb8ic64ih56oc64kh3ph1",
    "mb8ic128ih28oc128kh3ph1",
    "mb8ic64ih112oh56kh3sh2ph1",
    "mb32ic256ih28oh14kh2sh2ph0",
];

/// A folder of its own for a test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("warpconv-calibrate-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Scratch(folder)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn card() -> Card {
    Card::new("NVIDIA H200", DRIVER)
}

fn run() -> Run {
    Run {
        bench: "layers".to_owned(),
        device: "NVIDIA H200".to_owned(),
        driver: u64::from(DRIVER),
        capability: Some(Capability::h200()),
        build: Tuning::build().to_owned(),
        ..Run::default()
    }
}

/// The planned launch of a problem: its kernel, as the benchmarks name it, its family and its time.
fn planned(problem: &str) -> (String, Algorithm, f64) {
    let device = Capability::h200();
    let (kernel, score) = match notation::parse(problem).expect("a problem").problem {
        Problem::Conv(conv) => {
            let plan = Plan::new(&conv, &device).expect("a plan");
            (plan.kernel(), *plan.score())
        }
        Problem::Pool(pool) => {
            let plan = Plan::new(&pool, &device).expect("a plan");
            (plan.kernel(), *plan.score())
        }
    };
    let mut name = kernel.name();
    if score.split_k > 1 {
        name.push_str(&format!(" in {} splits", score.split_k));
    }
    (name, kernel.algorithm, score.us)
}

/// A row of a problem that took `factor` times the model's time.
fn row(id: &str, problem: &str, factor: f64) -> Row {
    let (kernel, _, us) = planned(problem);
    Row {
        id: id.to_owned(),
        problem: problem.to_owned(),
        family: "of the benchmarks".to_owned(),
        batch: 8,
        kernel,
        floor_us: 1.0,
        us: Some(factor * us),
        ..Row::default()
    }
}

/// The factor of a family in the synthetic results.
fn known(family: Algorithm) -> f64 {
    match family {
        Algorithm::Wgmma => 1.5,
        Algorithm::Direct | Algorithm::Pointwise => 0.8,
        Algorithm::MaxPool => 2.5,
        other => panic!("no factor is known of {other:?}"),
    }
}

/// Rows whose ratios scatter about the known factors, with these as their geometric means.
fn synthetic() -> String {
    let mut text = format!("{}\n", run().to_json());
    for (index, problem) in PROBLEMS.iter().enumerate() {
        let (_, family, _) = planned(problem);
        let scatter = if index % 2 == 0 { 1.25 } else { 1.0 / 1.25 };
        let row = row(&format!("layers/{index}"), problem, known(family) * scatter);
        text.push_str(&format!("{}\n", row.to_json()));
    }
    text
}

fn args(files: &[&Path], output: &Path) -> CalibrateArgs {
    CalibrateArgs {
        files: files.iter().map(|&path| path.to_owned()).collect(),
        output: Some(output.to_owned()),
        exclude: Vec::new(),
        any_build: false,
        dry_run: false,
    }
}

fn global() -> Global {
    Global {
        device: warpconv::device::DeviceChoice::Auto,
        json: None,
        quiet: true,
        tuning: None,
    }
}

/// Compares rows whose options are the usual ones.
fn compared(text: &str) -> (Vec<Compared>, LeftOut) {
    let mut left_out = LeftOut::default();
    let args = args(&[], Path::new("unused"));
    let rows = compare::rows(text, &args, &mut left_out);
    (rows, left_out)
}

/// The one reason why the rows of a text are left out.
fn reason(text: &str) -> String {
    let (rows, left_out) = compared(text);
    assert!(rows.is_empty(), "{rows:?}");
    let reasons: Vec<_> = left_out.reasons().collect();
    assert!(matches!(reasons[..], [(_, 1)]), "{reasons:?}");
    reasons[0].0.to_owned()
}

fn lines(run: &Run, row: &Row) -> String {
    format!("{}\n{}\n", run.to_json(), row.to_json())
}

#[test]
fn known_factors_come_back() {
    let scratch = Scratch::new("known");
    let text = synthetic();
    let packed = archives::archive(&[
        ("results/environment.txt", b"card: NVIDIA H200\n"),
        ("results/rows.jsonl", text.as_bytes()),
        ("results/summary.txt", b"all well\n"),
    ]);
    let rows = scratch.write("rows.jsonl", &text);
    let packed = scratch.write("results.tar.gz", packed);
    for file in [&rows, &packed] {
        let output = scratch.0.join("tuning.txt");
        let _ = fs::remove_file(&output);
        command(&global(), &args(&[file], &output)).expect("a calibration");
        let tuning = Tuning::read(&output, card()).expect("a tuning file");
        let mut product = 1.0;
        let mut families: Vec<Algorithm> = PROBLEMS.iter().map(|p| planned(p).1).collect();
        families.sort();
        families.dedup();
        assert_eq!(families.len(), 3, "{families:?}");
        for &family in &families {
            let factor = tuning.factor(family).expect("a factor");
            // The scatter cancels but for the rounding of logarithm and exponential.
            let error = (factor.value() / known(family) - 1.0).abs();
            assert!(error <= 1e-12, "{family:?}: {factor}");
            assert_eq!(factor.rows(), 2);
            product *= known(family);
        }
        let others = tuning.factor(Algorithm::Softmax).expect("a factor");
        let error = (others.value() / product.cbrt() - 1.0).abs();
        assert!(error <= 1e-12, "{others}");
        assert_eq!(others.rows(), 6);
        // Neither another card nor another driver has any.
        let other = Tuning::read(&output, Card::new("NVIDIA H200", DRIVER + 10));
        assert_eq!(other.expect("a tuning file").factor(Algorithm::Wgmma), None);
    }
}

#[test]
fn a_plan_changes_its_choice() {
    let problem: Conv2d = PROBLEMS[0].parse().expect("a problem");
    let device = Capability::h200();
    let before = Plan::new(&problem, &device).expect("a plan");
    let scratch = Scratch::new("choice");
    let (slow, other) = (row("a", PROBLEMS[0], 15.0), row("b", PROBLEMS[2], 1.0));
    assert_ne!(planned(PROBLEMS[2]).1, before.kernel().algorithm);
    let text = format!("{}{}\n", lines(&run(), &slow), other.to_json());
    let (file, output) = (
        scratch.write("rows.jsonl", text),
        scratch.0.join("tuning.txt"),
    );

    let dry = CalibrateArgs {
        dry_run: true,
        output: None,
        ..args(&[&file], &output)
    };
    command(&global(), &dry).expect("a comparison");
    assert!(!output.exists());

    command(&global(), &args(&[&file], &output)).expect("a calibration");
    let tuning = Tuning::read(&output, card()).expect("a tuning file");
    let after = Plan::tuned(&problem, &device, &Limits::default(), &tuning).expect("a plan");
    let own = |plan: &Plan<Conv2d>| plan.kernel().algorithm;
    // Other families have sqrt(15 * 1), so that the ratio is that root.
    let best_other = before
        .accepted()
        .find(|c| c.id.kernel().algorithm != own(&before));
    let best_other = best_other.expect("a kernel of another family");
    let us = best_other.evaluation.expect("a score").us;
    assert!(
        us < before.score().us * 15f64.sqrt(),
        "the model's times are too far apart"
    );
    assert_eq!(after.kernel_id(), best_other.id);
    assert!(
        after
            .to_string()
            .contains("\nfactor   3.873, of 2 measurements"),
        "{after}"
    );
}

#[test]
fn the_table_has_sums_means_and_bounds() {
    let (rows, left_out) = compared(&synthetic());
    assert_eq!(left_out, LeftOut::default());
    let calibration = Calibration::of(&rows);
    let family = calibration
        .families
        .iter()
        .find(|f| f.algorithm == Algorithm::Wgmma);
    let family = family.expect("the family");
    let us: Vec<f64> = PROBLEMS[..2].iter().map(|p| planned(p).2).collect();
    let measured = 1.5 * (us[0] * 1.25 + us[1] / 1.25);
    assert!((family.predicted_us - us[0] - us[1]).abs() <= 1e-9);
    assert!((family.measured_us - measured).abs() <= 1e-9 * measured);
    assert!((family.least - 1.2).abs() <= 1e-12 && (family.most - 1.875).abs() <= 1e-12);
    // A pooling multiplies nothing to speak of.
    let pools = calibration
        .families
        .iter()
        .find(|f| f.algorithm == Algorithm::MaxPool);
    assert_eq!(pools.expect("the family").bounds(), "memory");
    // 3x3 of 256 channels in f32 on CUDA cores.
    let direct = rows
        .iter()
        .find(|row| row.id == "layers/3")
        .expect("the row");
    assert_eq!(direct.bound.to_string(), "arithmetic");
}

#[test]
fn of_several_rows_with_one_id_the_last_counts() {
    let (first, last) = (row("a", PROBLEMS[0], 9.0), row("a", PROBLEMS[0], 2.0));
    let text = format!("{}{}\n", lines(&run(), &first), last.to_json());
    let cards = families::by_card(compared(&text).0);
    let calibration = Calibration::of(&cards[&card()]);
    assert_eq!(calibration.families[0].rows, 1);
    assert!((calibration.others - 2.0).abs() <= 1e-12);
}

#[test]
fn settings_of_a_launch_are_those_of_the_row() {
    // In a layout that the kernels do not read, which the benchmarks pack beforehand.
    let problem = "mb1ic512ih7oc512kh3ph1+bf16+nhwc";
    let conv: Conv2d = problem.parse().expect("a problem");
    let packed = conv
        .to_builder()
        .filter_layout(FilterLayout::Packed)
        .build();
    let packed = packed.expect("a problem");
    let device = Capability::h200();
    let plan = Plan::new(&packed, &device).expect("a plan");
    let limits = Limits {
        kernel: Some(plan.kernel_id()),
        split_k: Some(2),
        ..Limits::default()
    };
    let plan = Plan::within(&packed, &device, &limits).expect("a plan with two splits");
    let mut row = row("a", problem, 1.0);
    row.kernel = format!("{} in 2 splits (filters packed once)", plan.kernel().name());
    let (rows, _) = compared(&lines(&run(), &row));
    assert_eq!(rows[0].predicted_us, plan.score().us);
    assert_eq!(rows[0].kernel, plan.kernel_id());
    row.kernel = format!("{} upside down", plan.kernel().name());
    assert!(reason(&lines(&run(), &row)).contains("\"upside down\""));
    row.kernel = format!("{} in many splits", plan.kernel().name());
    assert!(reason(&lines(&run(), &row)).contains("no setting"));
}

#[test]
fn cards_are_known_by_their_capability_or_name() {
    let row = row("a", PROBLEMS[0], 1.0);
    let of = |device: &str| Run {
        device: device.to_owned(),
        capability: None,
        ..run()
    };
    for device in ["NVIDIA H200", "NVIDIA H100 80GB HBM3"] {
        let (rows, _) = compared(&lines(&of(device), &row));
        assert_eq!(rows[0].card, Card::new(device, DRIVER));
        assert!((rows[0].ratio() - 1.0).abs() <= 1e-12);
    }
    for device in ["NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA L40S"] {
        let reason = reason(&lines(&of(device), &row));
        assert!(
            reason.contains("capability") && reason.contains(device),
            "{reason}"
        );
    }
    // Kernels of 9.0a run on no other card.
    let reason = reason(&lines(&of("NVIDIA A100-SXM4-80GB"), &row));
    assert!(reason.contains("compute capability"), "{reason}");
    // Half the SMs take twice the time, or nearly so.
    let mut half = Capability::h200();
    half.sm_count = 66;
    let run = Run {
        capability: Some(half),
        ..run()
    };
    let (rows, _) = compared(&lines(&run, &row));
    let ratio = rows[0].ratio();
    assert!(ratio < 0.6, "{ratio}");
}

#[test]
fn rows_that_say_nothing_are_counted_with_their_reason() {
    let good = row("a", PROBLEMS[0], 1.0);
    let emulated = Run {
        emulated: true,
        ..run()
    };
    let older = Run {
        build: "0.0.9+0123456789abcdef".to_owned(),
        ..run()
    };
    let unnamed = Run {
        build: String::new(),
        ..run()
    };
    let changed = |change: &dyn Fn(&mut Row)| {
        let mut row = good.clone();
        change(&mut row);
        lines(&run(), &row)
    };
    for (text, part) in [
        (good.to_json().to_string(), "no run is named before"),
        (lines(&emulated, &good), "emulator"),
        (
            lines(&older, &good),
            "0.0.9+0123456789abcdef, whose kernels",
        ),
        (lines(&unnamed, &good), "not named"),
        (changed(&|row| row.us = None), "no time"),
        (changed(&|row| row.problem.clear()), "modules"),
        (
            changed(&|row| row.kernel = "direct_f64".to_owned()),
            "does not have their kernels",
        ),
        (
            changed(&|row| row.kernel.clear()),
            "does not have their kernels",
        ),
        (changed(&|row| row.problem = "ic3oc".to_owned()), "ic3oc"),
        (
            changed(&|row| row.problem = PROBLEMS[2].to_owned()),
            "stores",
        ),
        (
            changed(&|row| row.problem = "mb0ic256ih28oc256kh3ph1+bf16+nhwc".to_owned()),
            "0 us",
        ),
        (
            "{\"kind\":\"row\",\"format\":99}".to_owned(),
            "another version",
        ),
        ("{\"kind\":\"row\",\"for".to_owned(), "damaged"),
        ("[".repeat(100_000), "longer"),
    ] {
        let reason = reason(&text);
        assert!(reason.contains(part), "{part}: {reason}");
    }
    // Rows behind a run of another version are not those of the run before it.
    let run_line = run().to_json().to_string();
    let later = run_line.replace("\"format\":1", "\"format\":2");
    assert_ne!(run_line, later);
    let text = format!("{run_line}\n{later}\n{}\n", good.to_json());
    assert!(reason(&text).contains("no run"), "{text}");
    // Lines of other kinds are no rows.
    let (rows, left_out) = compared("{\"kind\":\"ceiling\",\"format\":1}\n\n");
    assert!(rows.is_empty() && left_out == LeftOut::default());

    // The options take some and leave others.
    let mut left_out = LeftOut::default();
    let mut options = args(&[], Path::new("unused"));
    options.any_build = true;
    assert_eq!(
        compare::rows(&lines(&older, &good), &options, &mut left_out).len(),
        1
    );
    options.exclude = vec!["x".to_owned(), "a".to_owned()];
    assert_eq!(
        compare::rows(&lines(&older, &good), &options, &mut left_out).len(),
        0
    );
    let reasons: Vec<_> = left_out.reasons().collect();
    assert_eq!(reasons, [("their id contains a, as --exclude says", 1)]);
}

/// However many problems cannot be read, the reasons are few and short.
#[test]
fn reasons_have_an_end() {
    let mut text = run().to_json().to_string();
    for index in 0..500 {
        let mut row = row(&index.to_string(), PROBLEMS[4], 1.0);
        row.problem = format!("{index}{}", "x".repeat(1000));
        text.push_str(&format!("\n{}", row.to_json()));
    }
    let (_, left_out) = compared(&text);
    let reasons: Vec<_> = left_out.reasons().collect();
    assert!(reasons.len() <= 17 && reasons.iter().all(|(text, _)| text.len() < 300));
    assert_eq!(reasons.iter().map(|(_, rows)| rows).sum::<u64>(), 500);
}

#[test]
fn a_ratio_beyond_the_bounds_is_an_error_with_its_values() {
    let scratch = Scratch::new("bounds");
    let output = scratch.0.join("tuning.txt");
    let us = planned(PROBLEMS[0]).2;
    for factor in [25.0, 0.04] {
        let slow = row("layers/odd/n1", PROBLEMS[0], factor);
        let good = row("layers/good", PROBLEMS[1], 1.0);
        let text = format!("{}{}\n", lines(&run(), &slow), good.to_json());
        let file = scratch.write("rows.jsonl", text);
        let error = command(&global(), &args(&[&file], &output)).expect_err("out of bounds");
        let error = error.to_string();
        for part in [
            "layers/odd/n1",
            &format!("{us:.3} predicted"),
            "0.05 and 20",
            "--exclude",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(
            error.contains(&format!("a ratio of {factor:.3}")),
            "{error}"
        );
        assert!(
            !error.contains("layers/good") && !output.exists(),
            "{error}"
        );

        let mut without = args(&[&file], &output);
        without.exclude = vec!["/odd/".to_owned()];
        command(&global(), &without).expect("a calibration");
        fs::remove_file(&output).expect("the tuning file");
    }
}
