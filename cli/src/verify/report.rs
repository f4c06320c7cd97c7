//! The report of a verification: lines for failures, counts for other outcomes, records for JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use warpconv::kernels::Math;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Layout};
use warpconv_testing::Stats;

use crate::exit::Failure;
use crate::output::{Progress, number, say};
use crate::tuning::warn;

/// Variation of a case: all options to run exactly the same check again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variation {
    /// Storage type of the tensors.
    pub dtype: DType,
    /// Layout of the activations.
    pub layout: Layout,
    /// Layout of the filters, if there are any.
    pub filter_layout: Option<FilterLayout>,
    /// Mode of f32 multiplication, if there are multiplications.
    pub math: Option<Math>,
    /// Name of the kernel that was forced, or that ran.
    pub kernel: Option<String>,
    /// Split-K that was requested.
    pub split_k: Option<u32>,
    /// Cut of a graph into launches, if the case is a graph.
    pub steps: Option<Steps>,
}

/// Cut of a graph into launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Steps {
    /// One launch per layer.
    Layers,
    /// ReLU and residual add in the epilogue of the convolution before them; branches write their
    /// slice of a concat.
    Fused,
    /// As few launches as there are kernels for: a bottleneck in one, an inception module in two.
    Modules,
    /// The same with poolings in launches of their own: an inception module in three.
    InThree,
}

impl Steps {
    /// All cuts.
    pub const ALL: [Steps; 4] = [Steps::Layers, Steps::Fused, Steps::Modules, Steps::InThree];

    /// The name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Steps::Layers => "layers",
            Steps::Fused => "fused",
            Steps::Modules => "modules",
            Steps::InThree => "in-three",
        }
    }
}

/// The name of a filter layout on the command line and in JSON.
pub fn filter_layout_name(layout: FilterLayout) -> &'static str {
    match layout {
        FilterLayout::Kcrs => "kcrs",
        FilterLayout::Krsc => "krsc",
        FilterLayout::Packed => "packed",
    }
}

impl Variation {
    /// The command-line options of the variation.
    fn options(&self) -> String {
        let mut text = format!(
            "--dtype {} --layout {}",
            self.dtype.name(),
            self.layout.name()
        );
        if let Some(layout) = self.filter_layout {
            text.push_str(&format!(" --filter-layout {}", filter_layout_name(layout)));
        }
        if let Some(math) = self.math {
            text.push_str(&format!(" --math {}", math.name()));
        }
        if let Some(steps) = self.steps {
            text.push_str(&format!(" --steps {}", steps.name()));
        }
        if let Some(kernel) = &self.kernel {
            text.push_str(&format!(" --kernel {kernel}"));
        }
        if let Some(split_k) = self.split_k {
            text.push_str(&format!(" --split-k {split_k}"));
        }
        text
    }
}

/// Collects the outcomes.
pub struct Report<'a> {
    progress: &'a Progress,
    /// Options of every command that repeats a check: the device, the batch.
    common: String,
    rows: Vec<Value>,
    keep_rows: bool,
    /// True for a draft: failures are counted, not printed, and warnings are kept.
    draft: bool,
    /// The warnings of a draft.
    warnings: Vec<String>,
    passed: usize,
    failed: usize,
    unreadable: usize,
    skipped: BTreeMap<String, Vec<String>>,
    /// Kernels that did not run a case that others ran: by reason their number, and the cases.
    left_out: BTreeMap<String, (usize, Vec<String>)>,
    host_ops: BTreeSet<&'static str>,
}

impl<'a> Report<'a> {
    /// An empty report. `common` are the options of every repeating command; `keep_rows` keeps the
    /// rows for JSON.
    pub fn new(progress: &'a Progress, common: String, keep_rows: bool) -> Report<'a> {
        Report {
            progress,
            common,
            rows: Vec::new(),
            keep_rows,
            draft: false,
            warnings: Vec::new(),
            passed: 0,
            failed: 0,
            unreadable: 0,
            skipped: BTreeMap::new(),
            left_out: BTreeMap::new(),
            host_ops: BTreeSet::new(),
        }
    }

    /// An empty report of the same kind that prints nothing; [`Report::add`] merges it if nothing
    /// failed.
    pub fn draft(&self) -> Report<'a> {
        Report {
            draft: true,
            ..Report::new(self.progress, self.common.clone(), self.keep_rows)
        }
    }

    /// Returns whether the report is a draft, which prints nothing.
    pub fn is_draft(&self) -> bool {
        self.draft
    }

    /// The progress display of the command.
    pub fn progress(&self) -> &'a Progress {
        self.progress
    }

    /// Merges a draft if nothing in it failed; returns whether it did.
    pub fn add(&mut self, draft: Report<'_>) -> bool {
        if draft.failed > 0 {
            return false;
        }
        draft.warnings.into_iter().for_each(|line| self.warn(line));
        self.rows.extend(draft.rows);
        self.passed += draft.passed;
        for (why, cases) in draft.skipped {
            self.skipped.entry(why).or_default().extend(cases);
        }
        for (why, (kernels, cases)) in draft.left_out {
            let (all, left_out) = self.left_out.entry(why).or_default();
            *all += kernels;
            left_out.extend(cases);
        }
        self.host_ops.extend(draft.host_ops);
        true
    }

    /// Prints a warning; a draft keeps it until it is added.
    pub fn warn(&mut self, line: String) {
        match self.draft {
            true => self.warnings.push(line),
            false => warn(line),
        }
    }

    /// Records a check that passed.
    pub fn pass(&mut self, case: &str, op: &str, variation: &Variation, stats: Stats) {
        self.passed += 1;
        if self.keep_rows {
            self.rows
                .push(row(case, op, variation, "passed", Some(stats), None));
        }
    }

    /// Records a check that failed: prints one line, with the command that repeats it.
    pub fn fail(
        &mut self,
        case: &str,
        op: &str,
        variation: &Variation,
        why: &str,
    ) -> Result<(), Failure> {
        self.failed += 1;
        if self.draft {
            return Ok(());
        }
        if self.keep_rows {
            self.rows
                .push(row(case, op, variation, "failed", None, Some(why)));
        }
        let why = one_line(why);
        let command = format!(
            "warpconv verify {} {}{}",
            shell(case),
            variation.options(),
            self.common
        );
        self.progress.say(format_args!(
            "FAILED {case} ({op}): {why}; repeat: {command}"
        ))
    }

    /// Records a case that could not be read, so that nothing was checked.
    pub fn unreadable(&mut self, case: &str, why: &str) -> Result<(), Failure> {
        self.unreadable += 1;
        self.failed += 1;
        if self.draft {
            return Ok(());
        }
        if self.keep_rows {
            self.rows
                .push(json!({"case": case, "status": "unreadable", "message": why}));
        }
        self.progress
            .say(format_args!("FAILED {case}: {}", one_line(why)))
    }

    /// Records a case, or a type of it, that the crate does not support; once per case and reason.
    pub fn skip(&mut self, case: &str, why: impl Into<String>) {
        let why = why.into();
        let cases = self.skipped.entry(why.clone()).or_default();
        if cases.last().is_some_and(|last| last == case) {
            return;
        }
        cases.push(case.to_owned());
        if self.keep_rows {
            self.rows
                .push(json!({"case": case, "status": "skipped", "message": why}));
        }
    }

    /// Records kernels that do not run one variation of a case that others run: the case is not
    /// skipped, but checked less.
    pub fn leave_out(&mut self, case: &str, kernels: usize, why: String) {
        let (all, cases) = self.left_out.entry(why).or_default();
        *all += kernels;
        if cases.last().is_none_or(|last| last != case) {
            cases.push(case.to_owned());
        }
    }

    /// Prints the details of a check that passed.
    pub fn note(&self, line: &str) -> Result<(), Failure> {
        self.progress.say(line)
    }

    /// Records operations that were computed on the host.
    pub fn on_host(&mut self, ops: &[&'static str]) {
        self.host_ops.extend(ops);
    }

    /// Number of checks so far.
    pub fn checks(&self) -> usize {
        self.passed + self.failed
    }

    /// Returns whether any outcome was recorded.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped.len() == 0
    }

    /// The rows and the counts as JSON.
    pub fn json(&mut self, device: Value) -> Value {
        json!({
            "device": device,
            "rows": std::mem::take(&mut self.rows),
            "passed": self.passed,
            "failed": self.failed,
            "skipped": self.count_skipped(),
            "left_out": self.left_out.values().map(|(kernels, _)| kernels).sum::<usize>(),
        })
    }

    /// Prints the skipped cases and the last line; returns a failure if a check failed.
    pub fn finish(&self, list_skipped: bool) -> Result<(), Failure> {
        if !self.host_ops.is_empty() {
            let ops = self.host_ops.iter().copied().collect::<Vec<_>>().join(", ");
            say(format_args!(
                "layers of graphs that ran on the host, since they have no kernel: {ops}"
            ))?;
        }
        let left_out = self.left_out.iter().map(|(why, (kernels, cases))| {
            let line = format!("left out {kernels} kernels in {} cases: {why}", cases.len());
            (line, cases)
        });
        let skipped = self
            .skipped
            .iter()
            .map(|(why, cases)| (format!("skipped {}: {why}", cases.len()), cases));
        for (line, cases) in left_out.chain(skipped) {
            say(line)?;
            if list_skipped {
                for case in cases {
                    say(format_args!("    {case}"))?;
                }
            }
        }
        say(format_args!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed,
            self.count_skipped()
        ))?;
        match (self.failed, self.unreadable) {
            (0, _) => Ok(()),
            (failed, unreadable) if failed == unreadable => Err(Failure::Input(format!(
                "{unreadable} unreadable cases or problems, no check failed"
            ))),
            (failed, _) => Err(Failure::Checks { failed }),
        }
    }

    fn count_skipped(&self) -> usize {
        self.skipped.values().map(Vec::len).sum()
    }
}

/// Converts one check to JSON.
fn row(
    case: &str,
    op: &str,
    variation: &Variation,
    status: &str,
    stats: Option<Stats>,
    why: Option<&str>,
) -> Value {
    json!({
        "case": case,
        "op": op,
        "dtype": variation.dtype.name(),
        "layout": variation.layout.name(),
        "filter_layout": variation.filter_layout.map(filter_layout_name),
        "steps": variation.steps.map(Steps::name),
        "math": variation.math.map(Math::name),
        "kernel": variation.kernel,
        "splits": variation.split_k,
        "status": status,
        "max_abs_error": number(stats.map(|stats| stats.max_abs)),
        "max_rel_error": number(stats.map(|stats| stats.max_rel)),
        "message": why,
    })
}

/// Replaces line breaks: a report of the emulator has several lines, but a failure is one line.
fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" | ")
}

/// Quotes a path for a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_shell() {
        assert_eq!(shell("a/b.c:3"), "a/b.c:3");
        assert_eq!(shell("it's here"), r"'it'\''s here'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(
            one_line("first\n  second\n\nthird"),
            "first | second | third"
        );
    }

    #[test]
    fn a_variation_names_its_options() {
        let variation = Variation {
            dtype: DType::F16,
            layout: Layout::Nhwc,
            filter_layout: Some(FilterLayout::Krsc),
            math: Some(Math::Strict),
            kernel: Some("direct_f16".into()),
            split_k: Some(2),
            steps: Some(Steps::Fused),
        };
        assert_eq!(
            variation.options(),
            "--dtype f16 --layout nhwc --filter-layout krsc --math strict --steps fused --kernel \
             direct_f16 --split-k 2"
        );
    }
}
