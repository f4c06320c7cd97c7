//! Search for the fastest candidate of a problem, independent of the measured quantity.

use warpconv::Error;
use warpconv::kernels::KernelId;
use warpconv::plan::{Capability, Limits, Measure, Operation, Plan, TunedKernel};

/// Split-K values that are tried.
const SPLITS: [u32; 13] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32];

/// Result of a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Microseconds or instructions: smaller is better.
    pub amount: f64,
    /// A fingerprint of the result. Operands are integers, so that all kernels must agree bitwise.
    pub result: u64,
}

/// Runs and measures plans.
pub trait Measuring<P> {
    /// Quantity that is compared.
    fn by(&self) -> Measure;

    /// Runs a plan. `best` is the least amount so far: a plan far beyond it may be measured
    /// roughly.
    ///
    /// # Errors
    /// One sentence with the reason why there is no result.
    fn measure(&mut self, plan: &Plan<P>, best: Option<f64>) -> Result<Measured, String>;

    /// Returns whether measuring can continue after an error.
    fn usable(&self) -> bool {
        true
    }
}

/// A candidate and its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The kernel of the candidate.
    pub kernel: KernelId,
    /// Number of partial sums per output tile.
    pub split_k: u32,
    /// Measurements, or the reason why there are none.
    pub outcome: Result<Measured, String>,
}

/// Outcome of a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The candidates: first the plan's choice without measurements, then those that were measured,
    /// the best first, then those that failed.
    pub tried: Vec<Tried>,
    /// The best of them; `None` if none ran, or if their results disagree.
    pub tuned_kernel: Option<TunedKernel>,
    /// The candidates whose results differ from the first's.
    pub disagree: Vec<(KernelId, u32)>,
    /// True if the device was lost during the search.
    pub lost: bool,
}

/// The candidates of a problem: the plan's choice first, then the other kernels in the order of
/// their ranks, each with every split-K that it accepts.
///
/// # Errors
/// As [`Plan::new`] if no kernel accepts.
pub fn candidates<P: Operation>(
    problem: &P,
    capability: &Capability,
    limits: &Limits,
) -> Result<Vec<Plan<P>>, Error> {
    let best = Plan::within(problem, capability, limits)?;
    let first = (best.kernel_id(), best.score().split_k);
    let kernels: Vec<KernelId> = best.accepted().map(|candidate| candidate.id).collect();
    let mut all = vec![best];
    for kernel in kernels {
        for split_k in SPLITS {
            if (kernel, split_k) == first {
                continue;
            }
            let named = Limits {
                kernel: Some(kernel),
                split_k: Some(split_k),
                ..*limits
            };
            // Most kernels accept few of these values.
            all.extend(Plan::within(problem, capability, &named));
        }
    }
    Ok(all)
}

/// Measures every candidate.
pub fn search<P: Operation>(
    plans: &[Plan<P>],
    measuring: &mut impl Measuring<P>,
    mut step: impl FnMut(&Plan<P>),
) -> Search {
    let mut tried: Vec<Tried> = Vec::new();
    let (mut best, mut lost) = (None::<f64>, false);
    for plan in plans {
        step(plan);
        let outcome = match lost {
            true => Err("the device was lost".to_owned()),
            false => measuring.measure(plan, best).and_then(sane),
        };
        if let Ok(measured) = &outcome {
            best = Some(best.map_or(measured.amount, |best| best.min(measured.amount)));
        }
        lost = lost || (outcome.is_err() && !measuring.usable());
        tried.push(Tried {
            kernel: plan.kernel_id(),
            split_k: plan.score().split_k,
            outcome,
        });
    }
    best_of(tried, lost, measuring.by())
}

/// Converts an invalid amount into an error, so that it cannot be the best.
fn sane(measured: Measured) -> Result<Measured, String> {
    if measured.amount >= 0.0 && measured.amount.is_finite() {
        Ok(measured)
    } else {
        Err(format!("{} is no amount", measured.amount))
    }
}

/// Compares results and finds the best.
fn best_of(mut tried: Vec<Tried>, lost: bool, by: Measure) -> Search {
    let result = tried
        .iter()
        .find_map(|tried| Some(tried.outcome.as_ref().ok()?.result));
    let disagree: Vec<(KernelId, u32)> = tried
        .iter()
        .filter(|tried| matches!(&tried.outcome, Ok(m) if Some(m.result) != result))
        .map(|tried| (tried.kernel, tried.split_k))
        .collect();
    let amount = |tried: &Tried| match &tried.outcome {
        Ok(measured) => measured.amount,
        Err(_) => f64::INFINITY,
    };
    if let Some((_, others)) = tried.split_first_mut() {
        // The sort is stable: of equal candidates the one with the better rank comes first.
        others.sort_by(|a, b| amount(a).total_cmp(&amount(b)));
    }
    let measured = tried.iter().filter(|tried| tried.outcome.is_ok());
    let of = measured.clone().count() as u32;
    let least = measured.min_by(|a, b| amount(a).total_cmp(&amount(b)));
    let tuned_kernel = least.map(|tried| TunedKernel {
        kernel: tried.kernel,
        split_k: tried.split_k,
        by,
        amount: amount(tried),
        of,
    });
    Search {
        tuned_kernel: tuned_kernel.filter(|_| disagree.is_empty()),
        tried,
        disagree,
        lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpconv::problem::Conv2d;

    /// Returns amounts from a table, in the order of the candidates.
    struct Table {
        amounts: Vec<Result<Measured, String>>,
        next: usize,
        usable: bool,
        bests: Vec<Option<f64>>,
    }

    impl Table {
        fn of(amounts: Vec<Result<Measured, String>>) -> Table {
            Table {
                amounts,
                next: 0,
                usable: true,
                bests: Vec::new(),
            }
        }
    }

    impl Measuring<Conv2d> for Table {
        fn by(&self) -> Measure {
            Measure::Time
        }

        fn measure(&mut self, _: &Plan<Conv2d>, best: Option<f64>) -> Result<Measured, String> {
            self.bests.push(best);
            self.next += 1;
            self.amounts[self.next - 1].clone()
        }

        fn usable(&self) -> bool {
            self.usable
        }
    }

    fn ok(amount: f64) -> Result<Measured, String> {
        Ok(Measured { amount, result: 7 })
    }

    fn plans() -> Vec<Plan<Conv2d>> {
        let conv: Conv2d = "mb1ic64ih14oc64kh3ph1".parse().expect("a problem");
        let mut plans = candidates(&conv, &Capability::h200(), &Limits::default())
            .expect("kernels that accept");
        assert!(plans.len() >= 4, "{}", plans.len());
        plans.truncate(4);
        plans
    }

    #[test]
    fn every_kernel_that_accepts_is_a_candidate_once() {
        let conv: Conv2d = "mb1ic512ih7oc512kh3ph1+bf16+nhwc+krsc"
            .parse()
            .expect("a problem");
        let device = Capability::h200();
        let all = candidates(&conv, &device, &Limits::default()).expect("kernels that accept");
        let mut seen = std::collections::BTreeSet::new();
        for plan in &all {
            assert!(seen.insert((plan.kernel_id(), plan.score().split_k)));
        }
        for accepted in all[0].accepted() {
            assert!(seen.iter().any(|(kernel, _)| *kernel == accepted.id));
        }
        let best = Plan::new(&conv, &device).expect("a plan");
        assert_eq!(
            (all[0].kernel_id(), all[0].score().split_k),
            (best.kernel_id(), best.score().split_k)
        );
    }

    #[test]
    fn the_least_wins_and_the_plans_own_choice_stays_first() {
        let plans = plans();
        let mut table = Table::of(vec![ok(5.0), ok(9.0), ok(3.0), Err("no".into())]);
        let mut steps = 0;
        let found = search(&plans, &mut table, |_| steps += 1);
        assert_eq!(steps, 4);
        assert_eq!(table.bests, [None, Some(5.0), Some(5.0), Some(3.0)]);
        let tuned_kernel = found.tuned_kernel.expect("a winner");
        assert_eq!(
            (tuned_kernel.kernel, tuned_kernel.split_k),
            (plans[2].kernel_id(), plans[2].score().split_k)
        );
        assert_eq!(
            (tuned_kernel.amount, tuned_kernel.of, tuned_kernel.by),
            (3.0, 3, Measure::Time)
        );
        let order: Vec<_> = found.tried.iter().map(|t| (t.kernel, t.split_k)).collect();
        let wanted = [0, 2, 1, 3].map(|i: usize| (plans[i].kernel_id(), plans[i].score().split_k));
        assert_eq!(order, wanted);
        assert!(!found.lost && found.disagree.is_empty());
    }

    #[test]
    fn what_is_no_amount_never_wins() {
        let mut table = Table::of(vec![ok(f64::NAN), ok(-1.0), ok(4.0), ok(f64::INFINITY)]);
        let found = search(&plans(), &mut table, |_| ());
        assert_eq!(found.tuned_kernel.map(|w| (w.amount, w.of)), Some((4.0, 1)));
        let none = (0..4).map(|_| Err("no".into())).collect();
        assert_eq!(
            search(&plans(), &mut Table::of(none), |_| ()).tuned_kernel,
            None
        );
    }

    #[test]
    fn kernels_that_disagree_have_no_winner() {
        let plans = plans();
        let other = Ok(Measured {
            amount: 1.0,
            result: 8,
        });
        let mut table = Table::of(vec![ok(5.0), other, ok(3.0), ok(4.0)]);
        let found = search(&plans, &mut table, |_| ());
        assert_eq!(found.tuned_kernel, None);
        assert_eq!(
            found.disagree,
            [(plans[1].kernel_id(), plans[1].score().split_k)]
        );
    }

    #[test]
    fn nothing_runs_on_a_device_that_is_lost() {
        let mut table = Table::of(vec![ok(5.0), Err("fault".into()), ok(1.0), ok(1.0)]);
        table.usable = false;
        let found = search(&plans(), &mut table, |_| ());
        assert_eq!((table.next, found.lost), (2, true));
        assert_eq!(found.tuned_kernel.map(|w| w.amount), Some(5.0));
        assert_eq!(
            found.tried[3].outcome,
            Err("the device was lost".to_owned())
        );
    }
}
