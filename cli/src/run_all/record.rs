//! Results of a run, as they stand in its JSON files.

use serde_json::{Value, json};

use super::interrupt;
use super::process::End;

/// Outcome of a kernel, a canary or a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All well.
    Ok,
    /// A result differs from the reference.
    Wrong,
    /// The driver reported an error.
    CudaError,
    /// A bounded wait of the watchdog's kernels gave up.
    Watchdog,
    /// The process was killed at its time limit.
    Hang,
    /// A signal ended the process.
    Crash,
    /// The process failed in another way.
    Failed,
    /// It was not run.
    NotRun,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 8] = [
        Outcome::Ok,
        Outcome::Wrong,
        Outcome::CudaError,
        Outcome::Watchdog,
        Outcome::Hang,
        Outcome::Crash,
        Outcome::Failed,
        Outcome::NotRun,
    ];

    /// Name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "OK",
            Outcome::Wrong => "WRONG",
            Outcome::CudaError => "CUDA ERROR",
            Outcome::Watchdog => "WATCHDOG",
            Outcome::Hang => "HANG",
            Outcome::Crash => "CRASH",
            Outcome::Failed => "FAILED",
            Outcome::NotRun => "not run",
        }
    }

    /// The outcome of that name.
    pub fn of(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Returns whether it ran and did not pass.
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::NotRun)
    }

    /// Returns whether waits of the kernel did not end.
    pub fn is_hang(self) -> bool {
        matches!(self, Outcome::Hang | Outcome::Watchdog)
    }
}

/// Result of one process: a canary, or all checks of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Name of the canary, or id of the kernel.
    pub name: String,
    /// Id of the kernel.
    pub kernel: String,
    /// Family of the kernel.
    pub family: String,
    /// Outcome of the first check that did not pass, else of all.
    pub outcome: Outcome,
    /// Reason: an error's name, the largest error and its index, why it was not run.
    pub message: String,
    /// Label and problem of the check that did not pass.
    pub check: String,
    /// Checks that passed.
    pub passed: u64,
    /// Seconds of the process.
    pub seconds: f64,
    /// Registers per thread, as the driver reports them.
    pub registers: Option<u64>,
    /// Bytes of local memory per thread, as the driver reports them.
    pub local_bytes: Option<u64>,
    /// Image that was loaded: PTX or cubin.
    pub loaded: String,
    /// Report of the watchdog's kernel, if the kernel hung and there is one.
    pub watchdog: String,
}

impl Record {
    /// A record of something that was not run.
    pub fn not_run(name: &str, kernel: &str, family: &str, why: &str) -> Record {
        Record {
            name: name.to_owned(),
            kernel: kernel.to_owned(),
            family: family.to_owned(),
            outcome: Outcome::NotRun,
            message: why.to_owned(),
            check: String::new(),
            passed: 0,
            seconds: 0.0,
            registers: None,
            local_bytes: None,
            loaded: String::new(),
            watchdog: String::new(),
        }
    }

    /// Converts it to JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name, "kernel": self.kernel, "family": self.family,
            "outcome": self.outcome.name(), "message": self.message, "check": self.check,
            "passed": self.passed, "seconds": self.seconds, "registers": self.registers,
            "local_bytes": self.local_bytes, "loaded": self.loaded, "watchdog": self.watchdog,
        })
    }

    /// Reads it from JSON; `None` if it is no record.
    pub fn of_json(value: &Value) -> Option<Record> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Some(Record {
            name: value["name"].as_str()?.to_owned(),
            kernel: text("kernel"),
            family: text("family"),
            outcome: Outcome::of(value["outcome"].as_str()?)?,
            message: text("message"),
            check: text("check"),
            passed: value["passed"].as_u64().unwrap_or(0),
            seconds: value["seconds"].as_f64().unwrap_or(0.0),
            registers: value["registers"].as_u64(),
            local_bytes: value["local_bytes"].as_u64(),
            loaded: text("loaded"),
            watchdog: text("watchdog"),
        })
    }

    /// The outcome with its reason: `WRONG residual: largest error 4 at 17`.
    pub fn words(&self) -> String {
        let mut text = self.outcome.name().to_owned();
        if !self.check.is_empty() {
            text.push(' ');
            text.push_str(&self.check);
        }
        if !self.message.is_empty() {
            text.push_str(": ");
            text.push_str(&self.message);
        }
        if !self.watchdog.is_empty() {
            text.push_str("; watchdog: ");
            text.push_str(&self.watchdog);
        }
        text
    }
}

/// The outcome of a process from its end and the document that `verify --smoke` left.
pub fn set_outcome(record: &mut Record, end: &End, document: &Value, last_line: Option<String>) {
    let checks = document["checks"].as_array().map_or(&[][..], Vec::as_slice);
    record.passed = checks
        .iter()
        .filter(|check| check["outcome"] == "ok")
        .count() as u64;
    let of = |key: &str| checks.iter().find_map(|check| check[key].as_u64());
    (record.registers, record.local_bytes) = (of("registers"), of("local_bytes"));
    let loaded = checks.iter().find_map(|check| check["loaded"].as_str());
    record.loaded = loaded.unwrap_or_default().to_owned();
    let running = title(&document["running"]);
    let failed = checks.iter().find(|check| check["outcome"] != "ok");
    let earlier = failed.map_or_else(String::new, |check| {
        let (outcome, message) = of_check(check);
        format!(
            "; before it, {} {}: {message}",
            outcome.name(),
            title(check)
        )
    });
    match end {
        End::TimeLimit => {
            record.outcome = Outcome::Hang;
            record.check = running;
            record.message = format!("killed after {:.0} s{earlier}", record.seconds);
        }
        End::Signal(signal) => {
            record.outcome = Outcome::Crash;
            record.check = running;
            record.message = format!("{}{earlier}", interrupt::name(*signal));
        }
        End::Over(over) => {
            record.outcome = Outcome::NotRun;
            record.message = over.reason();
        }
        End::Output | End::Failed(_) => {
            record.outcome = Outcome::Failed;
            record.message = end.words();
        }
        End::Exit(code) => match failed {
            Some(check) => {
                record.check = title(check);
                (record.outcome, record.message) = of_check(check);
            }
            None if *code == 0 && record.passed > 0 => record.outcome = Outcome::Ok,
            None => {
                record.outcome = Outcome::Failed;
                record.check = running;
                let why = last_line.unwrap_or_else(|| "no check was written".to_owned());
                record.message = format!("exit code {code}: {why}");
            }
        },
    }
}

/// Label and problem of a check.
fn title(check: &Value) -> String {
    let texts = ["label", "problem"].map(|key| check[key].as_str().unwrap_or_default());
    let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

/// Outcome and reason of a check that did not pass.
fn of_check(check: &Value) -> (Outcome, String) {
    let message = one_line(check["message"].as_str().unwrap_or_default());
    match check["outcome"].as_str() {
        Some("wrong") => {
            if check["largest_error"].is_null() && check["first_index"].is_null() {
                return (Outcome::Wrong, message);
            }
            let error = &check["largest_error"];
            let error = error
                .as_f64()
                .map_or("not finite".to_owned(), |e| e.to_string());
            let places = ["first_element", "first_index"].map(|key| &check[key]);
            let place = places.into_iter().find(|place| !place.is_null());
            let place = place.map_or(String::new(), |place| format!(", first at {place}"));
            (Outcome::Wrong, format!("largest error {error}{place}"))
        }
        Some("cuda_error") => match check["cuda_error"].as_str() {
            Some(name) if !message.contains(name) => {
                (Outcome::CudaError, format!("{name}: {message}"))
            }
            _ => (Outcome::CudaError, message),
        },
        Some("watchdog") => (Outcome::Watchdog, message),
        other => {
            let outcome = other.unwrap_or("a check without outcome");
            (Outcome::Failed, format!("{outcome}: {message}"))
        }
    }
}

/// Replaces line breaks, and cuts what no table holds.
pub fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" | ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_all::clock::Over;

    fn with_outcome(end: End, document: &Value) -> Record {
        let mut record = Record::not_run("relu", "relu", "relu", "");
        record.seconds = 20.0;
        set_outcome(&mut record, &end, document, Some("last line".to_owned()));
        record
    }

    #[test]
    fn ends_and_documents_make_outcomes() {
        let ok = json!({"label": "plain", "problem": "p", "outcome": "ok", "registers": 40,
            "local_bytes": 0, "loaded": "PTX"});
        let wrong = json!({"label": "relu", "problem": "q", "outcome": "wrong", "message": "m",
            "largest_error": 4.0, "first_element": [0, 1, 2, 3], "first_index": 17});
        let fault = json!({"label": "relu", "problem": "q", "outcome": "cuda_error",
            "cuda_error": "CUDA_ERROR_ILLEGAL_ADDRESS", "message": "sync\n failed"});
        let running = json!({"kernel": "relu", "label": "split-K 2"});

        let record = with_outcome(End::Exit(0), &json!({"checks": [ok]}));
        assert_eq!((record.outcome, record.passed), (Outcome::Ok, 1));
        assert_eq!((record.registers, record.local_bytes), (Some(40), Some(0)));
        assert_eq!(record.loaded, "PTX");

        let record = with_outcome(End::Exit(1), &json!({"checks": [ok, wrong]}));
        assert_eq!(
            record.words(),
            "WRONG relu q: largest error 4, first at [0,1,2,3]"
        );
        let record = with_outcome(End::Exit(3), &json!({"checks": [ok, fault]}));
        assert_eq!(
            record.words(),
            "CUDA ERROR relu q: CUDA_ERROR_ILLEGAL_ADDRESS: sync | failed"
        );
        let record = with_outcome(End::TimeLimit, &json!({"checks": [ok], "running": running}));
        assert_eq!(record.words(), "HANG split-K 2: killed after 20 s");
        let record = with_outcome(
            End::TimeLimit,
            &json!({"checks": [wrong], "running": running}),
        );
        assert!(
            record
                .words()
                .contains("before it, WRONG relu q: largest error 4")
        );
        let record = with_outcome(End::Signal(11), &json!({"running": running}));
        assert_eq!(record.words(), "CRASH split-K 2: SIGSEGV");
        let record = with_outcome(End::Over(Over::Time), &Value::Null);
        assert_eq!(record.words(), "not run: the minutes are used up");
        // A process that checked nothing has not passed.
        let record = with_outcome(End::Exit(0), &json!({"checks": []}));
        assert_eq!(record.words(), "FAILED: exit code 0: last line");
        let record = with_outcome(End::Exit(3), &Value::Null);
        assert_eq!(record.words(), "FAILED: exit code 3: last line");
        assert_eq!(Record::of_json(&record.to_json()), Some(record));
    }
}
