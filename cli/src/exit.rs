//! Reasons why a command ends early, with their exit codes.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Everything that ends a command without success.
#[derive(Debug)]
pub enum Failure {
    /// Checks failed; they have been reported already.
    Checks {
        /// Number of failed checks.
        failed: usize,
    },
    /// Unusable input of the user.
    Input(String),
    /// A file cannot be read or written.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// No device, or an error of the device.
    Device(String),
    /// Standard output is closed.
    OutputClosed,
    /// A signal ended the command, which has written its results.
    Signal(i32),
}

impl Failure {
    /// The exit code: 1 checks, 2 usage or input, 3 device, 128 and the number of a signal.
    pub fn code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            Failure::Checks { .. } => 1,
            Failure::Input(_) | Failure::File { .. } => 2,
            Failure::Device(_) => 3,
            Failure::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// An error of the device or of the plan for it.
    pub fn device(error: impl fmt::Display) -> Failure {
        Failure::Device(error.to_string())
    }

    /// An error of the user's input.
    pub fn input(error: impl fmt::Display) -> Failure {
        Failure::Input(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Checks { failed: 1 } => f.write_str("1 check failed"),
            Failure::Checks { failed } => write!(f, "{failed} checks failed"),
            Failure::Input(message) | Failure::Device(message) => f.write_str(message),
            Failure::File { path, error } => write!(f, "{}: {error}", path.display()),
            Failure::Signal(signal) => write!(f, "stopped by signal {signal}"),
            Failure::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}
