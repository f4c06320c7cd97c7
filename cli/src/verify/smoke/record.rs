//! Records of the checks.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use warpconv::Error;
use warpconv::device::Gpu;
use warpconv_testing::smoke::{LoadedImage, SmokeCase, SmokeError};
use warpconv_testing::{Mismatch, RunError, Stats};

use super::document::Document;
use super::names;
use crate::device;
use crate::exit::Failure;
use crate::output::{number, say};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The result is right.
    Ok,
    /// The result is wrong, incomplete, or not where it belongs.
    Wrong,
    /// The driver refused a call, or reports a fault.
    CudaError,
    /// A wait of the watchdog's build did not end.
    Watchdog,
    /// The library refused the problem or the launch.
    Refused,
}

impl Outcome {
    /// Returns whether the device failed, not the result.
    fn is_of_device(self) -> bool {
        matches!(self, Outcome::CudaError | Outcome::Watchdog)
    }

    /// Name in the JSON file.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Wrong => "wrong",
            Outcome::CudaError => "cuda_error",
            Outcome::Watchdog => "watchdog",
            Outcome::Refused => "refused",
        }
    }
}

/// Finished check.
pub struct Check {
    kernel: String,
    family: &'static str,
    label: String,
    problem: String,
    pub outcome: Outcome,
    message: String,
    largest_error: Option<f64>,
    /// Index of the first wrong element: in NCHW order, or in the buffer that should not have
    /// changed.
    first_index: Option<usize>,
    /// Image, channel, row and column of the first wrong element.
    first_element: Option<[usize; 4]>,
    pub cuda_error: Option<String>,
    seconds: f64,
    image: Option<LoadedImage>,
}

impl Check {
    /// The record of a case's result.
    pub fn new(
        gpu: &Gpu,
        case: &SmokeCase,
        image: Option<LoadedImage>,
        result: Result<Stats, SmokeError>,
        elapsed: Duration,
    ) -> Check {
        let (kernel, family) = names(case);
        let mut check = Check {
            kernel,
            family,
            label: case.label.clone(),
            problem: case.problem.to_string(),
            outcome: Outcome::Ok,
            message: String::new(),
            largest_error: None,
            first_index: None,
            first_element: None,
            cuda_error: None,
            seconds: elapsed.as_secs_f64(),
            image,
        };
        match result {
            Ok(stats) => check.largest_error = Some(stats.max_abs),
            Err(error) => {
                check.message = error.to_string();
                match &error {
                    SmokeError::Refused(error) => check.failed(gpu, error),
                    SmokeError::Run(error) => check.ran(gpu, error),
                    SmokeError::Wrong(mismatch) => check.wrong(mismatch),
                    _ => check.outcome = Outcome::Wrong,
                }
            }
        }
        check
    }

    /// Takes over a wrong result.
    fn wrong(&mut self, mismatch: &Mismatch) {
        self.outcome = Outcome::Wrong;
        if let Mismatch::Elements {
            index,
            place,
            largest,
            ..
        } = mismatch
        {
            self.first_index = Some(*place);
            self.first_element = Some(*index);
            self.largest_error = Some(*largest);
        }
    }

    /// Takes over a failed run.
    fn ran(&mut self, gpu: &Gpu, error: &RunError) {
        self.outcome = Outcome::Wrong;
        match error {
            RunError::Device(error) => self.failed(gpu, error),
            RunError::Node { error, .. } => self.ran(gpu, error),
            RunError::Gap { index, .. }
            | RunError::Unwritten { index, .. }
            | RunError::Counter { index, .. }
            | RunError::Input { index, .. } => self.first_index = Some(*index),
            _ => {}
        }
    }

    /// Takes over an error of the library or the driver.
    fn failed(&mut self, gpu: &Gpu, error: &Error) {
        const OUT_OF_MEMORY: u32 = 2;
        let code = match error {
            Error::Driver { code, .. }
            | Error::ModuleLoad { code, .. }
            | Error::TensorMap { code, .. } => *code,
            Error::OutOfMemory { .. } => OUT_OF_MEMORY,
            Error::Watchdog { .. } => {
                self.outcome = Outcome::Watchdog;
                return;
            }
            _ => {
                self.outcome = Outcome::Refused;
                return;
            }
        };
        self.outcome = Outcome::CudaError;
        let name = gpu.error_name(code);
        self.cuda_error = Some(name.unwrap_or_else(|| format!("CUDA error {code}")));
    }

    fn to_json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "family": self.family,
            "label": self.label,
            "problem": self.problem,
            "outcome": self.outcome.name(),
            "message": self.message,
            "largest_error": number(self.largest_error),
            "first_index": self.first_index,
            "first_element": self.first_element,
            "cuda_error": self.cuda_error,
            "seconds": self.seconds,
            "loaded": self.image.as_ref().map(|image| image.loaded.to_string()),
            "registers": self.image.as_ref().map(|image| image.attributes.registers),
            "local_bytes": self.image.as_ref().map(|image| image.attributes.local_bytes),
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Wrong => "WRONG",
            Outcome::CudaError | Outcome::Watchdog | Outcome::Refused => "ERROR",
        };
        let (kernel, label, seconds) = (&self.kernel, &self.label, self.seconds);
        write!(f, "{word:5} {kernel} {label} {seconds:.3} s")?;
        if self.outcome != Outcome::Ok {
            write!(f, "\n      {}", self.problem)?;
            if let Some(name) = &self.cuda_error {
                write!(f, "\n      {name}")?;
            }
            for line in self.message.lines() {
                write!(f, "\n      {line}")?;
            }
        }
        Ok(())
    }
}

/// The records of a run, and the file that holds them after each.
pub struct Records {
    document: Option<Document>,
    count: usize,
    failed: usize,
    /// Checks that the device failed.
    broken: usize,
}

impl Records {
    /// No records yet.
    pub fn new(path: Option<&Path>, gpu: &Gpu) -> Result<Records, Failure> {
        Ok(Records {
            document: Document::create(path, &device::to_json(gpu))?,
            count: 0,
            failed: 0,
            broken: 0,
        })
    }

    /// Adds a case that is listed, not run.
    pub fn list(&mut self, case: &SmokeCase) {
        let (kernel, family) = names(case);
        if let Some(document) = &mut self.document {
            document.push(&json!({
                "kernel": kernel,
                "family": family,
                "label": case.label,
                "problem": case.problem.to_string(),
            }));
        }
    }

    /// Notes that a case is about to run: what a process that hangs or dies leaves.
    pub fn start(&mut self, case: &SmokeCase) -> Result<(), Failure> {
        let Some(document) = &mut self.document else {
            return Ok(());
        };
        let (kernel, _) = names(case);
        document.write(Some(&json!({ "kernel": kernel, "label": case.label })))
    }

    /// Adds a finished check.
    pub fn finish(&mut self, check: &Check) -> Result<(), Failure> {
        self.count += 1;
        self.failed += usize::from(check.outcome != Outcome::Ok);
        self.broken += usize::from(check.outcome.is_of_device());
        match &mut self.document {
            Some(document) => {
                document.push(&check.to_json());
                document.write(None)
            }
            None => Ok(()),
        }
    }

    /// Number of finished checks.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Writes the end of the file.
    pub fn close(&mut self) -> Result<(), Failure> {
        self.document.take().map_or(Ok(()), Document::finish)
    }

    /// The end of the command.
    pub fn outcome(&self) -> Result<(), Failure> {
        let (failed, broken) = (self.failed, self.broken);
        say(format_args!("{} ok, {failed} failed", self.count - failed))?;
        match (failed, broken) {
            (0, _) => Ok(()),
            (_, 0) => Err(Failure::Checks { failed }),
            _ => Err(Failure::Device(format!(
                "{failed} checks failed, {broken} of them by an error of the device"
            ))),
        }
    }
}
