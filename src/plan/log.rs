//! Records of plans, for loggers of the `log` facade.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::refusal_groups::grouped;
use super::{Operation, Plan};

/// The target of the records.
pub const LOG_TARGET: &str = "warpconv::plan";

/// The number of records after which problems may be recorded again: it bounds the memory of a
/// process that plans without end.
const MAX_REMEMBERED: usize = 1 << 14;

/// The records that were made, so that each is made once per process.
static RECORDED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Returns whether a record is new.
fn is_new(record: &str) -> bool {
    let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    let recorded = recorded.get_or_insert_default();
    if recorded.len() >= MAX_REMEMBERED {
        recorded.clear();
    }
    recorded.insert(record.to_owned())
}

/// The refusals in a record: the reasons that most kernels share.
const MAX_REASONS: usize = 4;

impl<P: Operation> Plan<P> {
    /// Emits a record of the plan at debug level, once per problem, device and choice.
    pub(super) fn log(&self) {
        let record = self.record();
        if is_new(&record) {
            log::debug!(target: LOG_TARGET, "{record}");
        }
    }

    /// The record: problem, kernel, tile, split-K, estimate, the next best kernel and the main
    /// refusals.
    fn record(&self) -> String {
        let (kernel, score) = (self.kernel(), self.score());
        let (major, minor) = self.capability().version();
        let mut text = format!(
            "{} on {major}.{minor}: {}, tile {}x{}x{}, split-K {}, {} blocks, {} bytes of \
             workspace, \
             estimate {:.2} us (arithmetic {:.2}, memory {:.2}, packing {:.2})",
            self.problem().describe(),
            kernel.name(),
            kernel.tile_m,
            kernel.tile_n,
            kernel.tile_k,
            score.split_k,
            self.grid(),
            score.workspace,
            score.us,
            score.arithmetic_us,
            score.memory_us,
            score.pack_us,
        );
        if let Some(factor) = self.factor() {
            let _ = write!(text, ", factor {factor}");
        }
        if let Some(tuned) = self.tuned_kernel() {
            let _ = write!(text, ", tuned: {tuned}");
        }
        let next = self.accepted().find(|other| other.id != self.kernel_id());
        if let Some((other, Ok(score))) = next.map(|other| (other, other.evaluation)) {
            let _ = write!(
                text,
                "\n  next: {}, {:.2} us",
                other.kernel().name(),
                score.us
            );
        }
        let refused = self.refused();
        let refused = refused.filter_map(|c| Some((c.kernel().name(), c.evaluation.err()?)));
        let groups = grouped(refused);
        for group in groups.iter().take(MAX_REASONS) {
            let _ = write!(text, "\n  refused: {group}");
        }
        if let Some(rest) = groups
            .len()
            .checked_sub(MAX_REASONS)
            .filter(|&rest| rest > 0)
        {
            let _ = write!(text, "\n  refused: for {rest} other reasons");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Capability, Plan};
    use crate::problem::Conv2d;

    #[test]
    fn a_record_names_choice_and_refusals() {
        let problem: Conv2d = "mb1ic512ih7oc512kh3ph1+bf16+nhwc+packed".parse().unwrap();
        let plan = Plan::new(&problem, &Capability::sm80()).unwrap();
        let record = plan.record();
        let (kernel, split_k) = (plan.kernel().name(), plan.split_k());
        assert!(
            record.contains(&format!("on 8.0: {kernel}, tile ")),
            "{record}"
        );
        assert!(
            record.contains(&format!(", split-K {split_k}, ")),
            "{record}"
        );
        assert!(split_k > 1, "{record}");
        let us = format!("estimate {:.2} us", plan.score().us);
        assert!(
            record.contains(&us) && record.contains("\n  next: "),
            "{record}"
        );
        let refused = "kernels refuse: stores f32, the problem is in bf16";
        assert!(record.contains(refused), "{record}");
        assert!(record.lines().count() <= 3 + MAX_REASONS, "{record}");
    }

    #[test]
    fn a_record_is_made_once() {
        assert!(is_new("a record of this test"));
        assert!(!is_new("a record of this test"));
        assert!(is_new("another record of this test"));
    }
}
