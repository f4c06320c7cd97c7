//! The error of everything that happens between PTX text and a program that can run.

use std::fmt;

/// Reason why a PTX module was refused: the line of the text and what is wrong there.
///
/// The emulator never guesses: an instruction, modifier or directive that it does not implement
/// ends the load with this error, which names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The line of the PTX text, counted from 1; 0 where no line is to blame.
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
