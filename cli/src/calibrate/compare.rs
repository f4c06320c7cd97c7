//! Rows of the benchmarks beside the cost model's times of the same launches.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warpconv::Error;
use warpconv::kernels::{Algorithm, KernelId, kernels};
use warpconv::plan::{Bound, Capability, Card, Limits, Operation, Plan, Score, Tuning};
use warpconv::problem::FilterLayout;
use warpconv::problem::notation::{self, Problem};
use warpconv_records::{Line, Row, Run, parse};

use crate::args::CalibrateArgs;
use crate::output::number;

/// Bytes of a line at most; those of rows have some 500.
const MAX_LINE: usize = 64 << 10;

/// Number of reasons that are told apart.
const MAX_REASONS: usize = 16;

/// Characters of a reason or an id at most, in messages.
const MAX_WORDS: usize = 240;

/// A text, cut where it is longer than a line of a message.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A measured row and the model's time of its launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Card that measured.
    pub card: Card,
    /// Id of the row.
    pub id: String,
    /// The problem in benchdnn notation.
    pub problem: String,
    /// Kernel of the row.
    pub kernel: KernelId,
    /// The model's time, in microseconds.
    pub predicted_us: f64,
    /// The measured time, in microseconds.
    pub measured_us: f64,
    /// Longer part of the model's time.
    pub bound: Bound,
}

impl Compared {
    /// Family of the row's kernel.
    pub fn family(&self) -> Algorithm {
        self.kernel.kernel().algorithm
    }

    /// Ratio of the measured to the model's time.
    pub fn ratio(&self) -> f64 {
        self.measured_us / self.predicted_us
    }

    /// Converts the row to JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "problem": self.problem,
            "kernel": self.kernel.kernel().name(),
            "family": self.family().name(),
            "predicted_us": number(Some(self.predicted_us)),
            "measured_us": number(Some(self.measured_us)),
            "ratio": number(Some(self.ratio())),
            "bound": self.bound.to_string(),
        })
    }
}

/// Rows that are not compared, counted by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(BTreeMap<String, u64>);

impl LeftOut {
    fn count(&mut self, reason: &str) {
        let reason = short(reason);
        let reason = match self.0.len() < MAX_REASONS || self.0.contains_key(&reason) {
            true => reason,
            false => "of other reasons".to_owned(),
        };
        *self.0.entry(reason).or_default() += 1;
    }

    /// The reasons, each with its number of rows.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(reason, &rows)| (reason.as_str(), rows))
    }

    /// Converts the counts to JSON.
    pub fn to_json(&self) -> Value {
        let reasons = self.reasons();
        let counts = reasons.map(|(reason, rows)| json!({"reason": reason, "rows": rows}));
        Value::Array(counts.collect())
    }
}

/// Compares the rows of a text. Each belongs to the run before it.
pub fn rows(text: &str, args: &CalibrateArgs, left_out: &mut LeftOut) -> Vec<Compared> {
    let mut run: Option<Run> = None;
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // A parsed line takes many times its bytes.
        if line.len() > MAX_LINE {
            left_out.count("their lines are longer than those of rows");
            continue;
        }
        match parse(line) {
            Some(Line::Run(new)) => run = Some(new),
            Some(Line::Row(row)) => match compare(&row, run.as_ref(), args) {
                Ok(compared) => all.push(compared),
                Err(reason) => left_out.count(&reason),
            },
            Some(Line::Skipped(_) | Line::Ceiling(_)) => (),
            None => match unread(line) {
                // Files also have lines of other kinds.
                Unread::Other => (),
                Unread::Row => left_out.count("of another version of the format, or damaged"),
                // The rows behind it are not those of the run before.
                Unread::Run => run = None,
            },
        }
    }
    all
}

/// Kind of a line that is no record.
enum Unread {
    Run,
    Row,
    Other,
}

/// The kind that an unread line states.
fn unread(line: &str) -> Unread {
    let value = serde_json::from_str::<Value>(line).unwrap_or(Value::Null);
    match value["kind"].as_str() {
        Some("run") => Unread::Run,
        Some("row") | None => Unread::Row,
        Some(_) => Unread::Other,
    }
}

/// Compares a row, or returns the reason why it is left out.
fn compare(row: &Row, run: Option<&Run>, args: &CalibrateArgs) -> Result<Compared, String> {
    let run = run.ok_or("no run is named before them, so their card is unknown")?;
    if let Some(text) = args.exclude.iter().find(|text| row.id.contains(&text[..])) {
        return Err(format!("their id contains {text}, as --exclude says"));
    }
    if run.emulated {
        return Err("they are of the emulator, which has no times".to_owned());
    }
    let measured_us = row.us.ok_or("they have no time")?;
    if row.problem.is_empty() {
        return Err("they are of modules, which have several launches".to_owned());
    }
    if !args.any_build && run.build != Tuning::build() {
        return Err(format!(
            "their build is {}, whose kernels may be others than those of this build, {}; \
             --any-build takes them",
            if run.build.is_empty() {
                "not named"
            } else {
                &run.build
            },
            Tuning::build()
        ));
    }
    let capability = capability(run)?;
    let driver = u32::try_from(run.driver)
        .map_err(|_| format!("{} is the CUDA version of no driver", run.driver))?;
    let launch = Launch::of(row)?;
    let score = launch.score(&row.problem, &capability)?;
    Ok(Compared {
        card: Card::new(&run.device, driver),
        id: row.id.clone(),
        problem: row.problem.clone(),
        kernel: launch.kernel,
        predicted_us: score.us,
        measured_us,
        bound: match score.arithmetic_us >= score.memory_us {
            true => Bound::Compute,
            false => Bound::Memory,
        },
    })
}

/// The capability of the card that measured: that of the run, else by the card's name.
fn capability(run: &Run) -> Result<Capability, String> {
    let name = &run.device;
    let smaller = |name: &str| name.contains("PCIe") || name.contains("NVL");
    match run.capability {
        Some(capability) => Ok(capability),
        None if name.contains("H200") => Ok(Capability::h200()),
        // Of as many SMs, with the same clock.
        None if name.contains("H100") && !smaller(name) => Ok(Capability::h200()),
        None if name.contains("A100") => Ok(Capability::sm80()),
        None if name.contains("T4") => Ok(Capability::sm75()),
        None => Err(format!(
            "they do not say the capability of the card, {name}; this version's benchmarks do"
        )),
    }
}

/// Kernel of a row, with its settings, as the benchmarks name them: `NAME in 2 splits (filters
/// packed once)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Launch {
    kernel: KernelId,
    split_k: u32,
    packed: bool,
}

impl Launch {
    fn of(row: &Row) -> Result<Launch, String> {
        let (name, settings) = match row.kernel.split_once(' ') {
            Some((name, settings)) => (name, settings),
            None => (&row.kernel[..], ""),
        };
        let place = kernels().iter().position(|kernel| kernel.name() == name);
        let kernel = place
            .map(KernelId)
            .ok_or("this build does not have their kernels")?;
        let (split_k, rest) = match settings.strip_prefix("in ") {
            None => (Some(1), settings),
            Some(text) => match text.split_once(" splits") {
                Some((count, rest)) => (count.parse().ok(), rest.trim_start()),
                None => (None, text),
            },
        };
        let packed = rest == "(filters packed once)";
        match split_k {
            Some(split_k) if packed || rest.is_empty() => Ok(Launch {
                kernel,
                split_k,
                packed,
            }),
            _ => Err(format!(
                "{settings:?} behind a kernel's name is no setting of a launch"
            )),
        }
    }

    /// The model's score of the launch.
    fn score(&self, problem: &str, capability: &Capability) -> Result<Score, String> {
        let named = notation::parse(problem).map_err(|error| format!("{problem}: {error}"))?;
        let score = match named.problem {
            Problem::Conv(conv) if self.packed => {
                let packed = conv
                    .to_builder()
                    .filter_layout(FilterLayout::Packed)
                    .build();
                packed.and_then(|conv| self.score_of(&conv, capability))
            }
            Problem::Conv(conv) => self.score_of(&conv, capability),
            Problem::Pool(pool) => self.score_of(&pool, capability),
        };
        let score = score.map_err(|error| format!("{problem}: {error}"))?;
        match score.us > 0.0 && score.us.is_finite() {
            true => Ok(score),
            false => Err(format!("{problem}: the model's time is {} us", score.us)),
        }
    }

    fn score_of<P: Operation>(&self, problem: &P, device: &Capability) -> Result<Score, Error> {
        let limits = Limits {
            kernel: Some(self.kernel),
            split_k: Some(self.split_k),
            ..Limits::default()
        };
        Plan::within(problem, device, &limits).map(|plan| *plan.score())
    }
}
