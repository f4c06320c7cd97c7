//! Factors in plans: none without a calibration, and another choice where one is large.

use super::*;
use crate::plan::{Capability, Limits, Measure, Operation, Plan, Score, TunedKernel};
use crate::problem::{Conv2d, Pool2d};

fn card() -> Card {
    Card::new("NVIDIA H200", 12040)
}

fn factor(value: f64) -> Factor {
    Factor::new(value, 3).unwrap()
}

fn problem() -> Conv2d {
    "mb32ic256ih28oc256kh3ph1+bf16+nhwc+packed".parse().unwrap()
}

fn tuned<P: Operation>(problem: &P, tuning: &Tuning) -> Plan<P> {
    Plan::tuned(problem, &Capability::h200(), &Limits::default(), tuning).unwrap()
}

/// Factors that do not count: of other cards, drivers and builds.
fn foreign() -> Tuning {
    let mut all = Tuning::new(card());
    let others = [
        Card::new("NVIDIA H200", 12050),
        Card::new("NVIDIA H100", 12040),
    ];
    for other in others {
        let mut tuning = Tuning::new(other);
        tuning.calibrate(&[(Algorithm::Wgmma, factor(9.0))], factor(0.5));
        all.factors.extend(tuning.factors);
    }
    let mut older = Tuning::new(card());
    older.calibrate(&[(Algorithm::Wgmma, factor(9.0))], factor(0.5));
    for entry in older.factors.values_mut() {
        entry.build = "0.0.1+0123456789abcdef".to_owned();
    }
    all.factors.extend(older.factors);
    assert_eq!(all.factors.len(), 6);
    all
}

#[test]
fn without_factors_nothing_changes() {
    let pool: Pool2d = "mb8ic64ih112oh56kh3sh2ph1".parse().unwrap();
    for tuning in [Tuning::new(card()), foreign()] {
        assert_eq!(tuning.factor(Algorithm::Wgmma), None);
        for text in [
            "mb32ic256ih28oc256kh3ph1+bf16+nhwc+packed",
            "mb1ic64ih56oc64kh3ph1",
            "mb4ic32ih28oc64kh1ph0+f16+nhwc",
            "g32mb4ic32ih28oc32kh3ph1",
        ] {
            let problem: Conv2d = text.parse().unwrap();
            let plan = tuned(&problem, &tuning);
            let plain = Plan::new(&problem, &Capability::h200()).unwrap();
            assert_eq!(plan, plain, "{text}");
            assert_eq!(plan.to_string(), plain.to_string());
            assert!(plan.factor().is_none() && !plan.to_string().contains("factor"));
        }
        let plain = Plan::new(&pool, &Capability::h200()).unwrap();
        assert_eq!(tuned(&pool, &tuning), plain);
    }
}

#[test]
fn estimates_are_multiplied_by_the_factor_of_their_family() {
    let mut tuning = foreign();
    tuning.calibrate(&[(Algorithm::Wgmma, factor(1.5))], factor(0.75));
    let problem = problem();
    let plain = Plan::new(&problem, &Capability::h200()).unwrap();
    let plan = tuned(&problem, &tuning);
    let mut seen = [0, 0];
    for before in plain.accepted() {
        let after = plan.accepted().find(|after| after.id == before.id).unwrap();
        let own = before.kernel().algorithm == Algorithm::Wgmma;
        seen[usize::from(own)] += 1;
        let value = if own { 1.5 } else { 0.75 };
        let (before, score) = (before.evaluation.unwrap(), after.evaluation.unwrap());
        // The same product in f64, and nothing else changed.
        assert_eq!(score.us, before.us * value);
        assert_eq!(
            score,
            Score {
                us: score.us,
                ..before
            }
        );
        assert_eq!(after.factor.map(|factor| factor.value()), Some(value));
        let text = format!("(factor {value:.3}, of 3 measurements)");
        assert!(after.to_string().ends_with(&text), "{after}");
    }
    assert!(seen.iter().all(|&kernels| kernels > 0), "{seen:?}");
    let plain: Vec<_> = plain.refused().map(|c| (c.id, c.evaluation)).collect();
    let refused: Vec<_> = plan.refused().map(|c| (c.id, c.evaluation)).collect();
    assert_eq!(refused, plain);
}

#[test]
fn a_large_factor_changes_the_choice() {
    let problem = problem();
    let plain = Plan::new(&problem, &Capability::h200()).unwrap();
    let family = plain.kernel().algorithm;
    let mut tuning = Tuning::new(card());
    tuning.calibrate(&[(family, factor(Factor::MAX))], factor(1.0));
    let plan = tuned(&problem, &tuning);
    assert_ne!(plan.kernel().algorithm, family, "{plan}");
    let best_other = plain.accepted().find(|c| c.kernel().algorithm != family);
    assert_eq!(Some(plan.kernel_id()), best_other.map(|c| c.id));
    assert_eq!(plan.factor(), Some(factor(1.0)));
    let line = "\nfactor   1.000, of 3 measurements\n";
    assert!(plan.to_string().contains(line), "{plan}");

    // A kernel that the limits name stays, and its estimate has the factor.
    let limits = Limits {
        kernel: Some(plain.kernel_id()),
        ..Limits::default()
    };
    let named = Plan::tuned(&problem, &Capability::h200(), &limits, &tuning).unwrap();
    assert_eq!(named.kernel_id(), plain.kernel_id());
    assert_eq!(named.score().us, plain.score().us * Factor::MAX);

    // A kernel that was measured for the problem comes before any estimate.
    let winner = TunedKernel {
        kernel: plain.kernel_id(),
        split_k: plain.split_k(),
        by: Measure::Time,
        amount: 1.0,
        of: 2,
    };
    tuning.insert(&problem.to_string(), winner);
    let plan = tuned(&problem, &tuning);
    assert_eq!(plan.tuned_kernel(), Some(winner));
    assert_eq!(plan.factor(), Some(factor(Factor::MAX)));
}

#[test]
fn a_factor_is_a_number_within_bounds() {
    for value in [Factor::MIN, 1.0, Factor::MAX] {
        assert_eq!(factor(value).value(), value);
    }
    for value in [
        0.0,
        -1.0,
        0.0499,
        20.001,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let error = Factor::new(value, 1).unwrap_err();
        let text =
            format!("a factor of {value} for the cost model; it must lie between 0.05 and 20");
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(
        Factor::new(2.0, 1).unwrap().to_string(),
        "2.000, of 1 measurement"
    );
}

#[test]
fn a_calibration_replaces_the_earlier_one() {
    let mut tuning = foreign();
    tuning.calibrate(&[(Algorithm::Mma, factor(2.0))], factor(3.0));
    tuning.calibrate(&[(Algorithm::MaxPool, factor(4.0))], factor(5.0));
    let value = |family| tuning.factor(family).map(|factor| factor.value());
    assert_eq!(value(Algorithm::Mma), Some(5.0));
    assert_eq!(value(Algorithm::MaxPool), Some(4.0));
    // Two of this card, and those of the two others.
    assert_eq!(tuning.factors.len(), 2 + 4);
}
