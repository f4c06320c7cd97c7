//! SIGINT and SIGTERM, noted so that a run writes its results before it ends.

use std::sync::atomic::{AtomicI32, Ordering};

/// Number of the signal that arrived first; 0 before one does.
static ARRIVED: AtomicI32 = AtomicI32::new(0);

/// The signal that arrived, if one did.
pub fn arrived() -> Option<i32> {
    Some(ARRIVED.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Stores the first signal. An atomic exchange is safe in a signal handler.
#[cfg(unix)]
extern "C" fn note(signal: libc::c_int) {
    let _ = ARRIVED.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
}

/// Notes SIGINT, SIGTERM and SIGHUP from now on instead of ending the process.
#[cfg(unix)]
pub fn install() {
    let handler = note as extern "C" fn(libc::c_int) as *const () as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler has the signature of `signal`, lives as long as the program, and only
        // exchanges an atomic integer.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Does nothing where there are no signals.
#[cfg(not(unix))]
pub fn install() {}

/// Name of a signal: SIGSEGV, or its number.
pub fn name(signal: i32) -> String {
    let known = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        other => return format!("signal {other}"),
    };
    known.to_owned()
}
