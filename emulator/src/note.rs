//! Lines on standard error.
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// True if fault reports are suppressed on standard error, as set by the client.
pub static SILENT: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard error unless reports are silenced.
pub fn report(line: &str) {
    if !SILENT.load(Ordering::Relaxed) {
        say(line);
    }
}

/// Writes a line to standard error. `eprintln!` would panic if it is closed.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
