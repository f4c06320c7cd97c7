//! The command line in a process that is watched: how long it computes, how much memory it takes,
//! and that it ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::text;

/// After so long it hangs, on however busy a machine.
const HANGS: Duration = Duration::from_secs(60);

/// Outcome of a run.
#[derive(Debug)]
pub struct Run {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Text on standard output.
    pub out: String,
    /// Text on standard error.
    pub err: String,
    /// Processor time, of all threads.
    pub computed: Duration,
    /// Resident memory at most, in bytes.
    pub peak: u64,
}

/// Runs it with the arguments; its output goes through files in `folder`, since a pipe would have
/// to be emptied meanwhile.
pub fn run<S: AsRef<OsStr>>(folder: &Path, args: &[S]) -> Run {
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    let file = |path: &Path| File::create(path).expect("a file for the output");
    #[expect(
        clippy::zombie_processes,
        reason = "wait4 waits for it and gives its usage"
    )]
    let child = Command::new(crate::paths::warpconv())
        .args(args)
        .args(["--quiet", "--device", "emulator:80"])
        .env("WARPCONV_TUNING", "")
        .stdin(Stdio::null())
        .stdout(file(&out))
        .stderr(file(&err))
        .spawn()
        .expect("the command line starts");
    let (status, usage) = wait(child.id().cast_signed());
    let read = |path: &Path| text(&fs::read(path).expect("the output"));
    let time = |t: libc::timeval| {
        let micros = t.tv_sec * 1_000_000 + t.tv_usec;
        Duration::from_micros(micros.cast_unsigned())
    };
    Run {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        out: read(&out),
        err: read(&err),
        computed: time(usage.ru_utime) + time(usage.ru_stime),
        peak: usage.ru_maxrss.cast_unsigned() << 10,
    }
}

/// Waits for a child, which is killed where it hangs.
fn wait(pid: libc::pid_t) -> (libc::c_int, libc::rusage) {
    let started = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: a structure of numbers, for which zeros are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to variables of this function; the child is ours and was not
        // waited for.
        let waited = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
        if waited == pid {
            return (status, usage);
        }
        assert_eq!(waited, 0, "wait4: {}", std::io::Error::last_os_error());
        if started.elapsed() > HANGS {
            // SAFETY: the child is ours and was not waited for, so that its number is still its
            // own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
