//! The error of all steps from PTX text to a program that can run.

use std::fmt;

/// Reason why a PTX module was refused, with the line of the text.
///
/// The emulator never guesses: an unsupported instruction, modifier or directive ends the load with
/// this error, which names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The line of the PTX text, counted from 1; 0 if there is no such line.
    pub line: u32,
    /// Description of the fault, in one sentence without a full stop.
    pub message: String,
}

impl LoadError {
    /// An error at `line`.
    pub fn new(line: u32, message: impl Into<String>) -> LoadError {
        LoadError {
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "PTX: {}", self.message)
        } else {
            write!(f, "PTX line {}: {}", self.line, self.message)
        }
    }
}

impl std::error::Error for LoadError {}
