//! Programs in process groups of their own, with a time limit, their output in a file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::clock::{Clock, Over};

/// Interval between two looks at a process.
const POLL: Duration = Duration::from_millis(5);

/// Time that a killed process gets to disappear. A process whose GPU does not answer may stay in
/// the driver.
const REAP: Duration = Duration::from_secs(10);

/// Output at most; a program that writes more is killed.
const MAX_OUTPUT: u64 = 16 << 20;

/// A program to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Path or name of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to its environment.
    pub env: Vec<(&'static str, OsString)>,
    /// File of its output and error output.
    pub log: PathBuf,
}

impl Job {
    /// A program with arguments.
    pub fn new<S: AsRef<OsStr>>(program: impl Into<PathBuf>, args: &[S], log: PathBuf) -> Job {
        Job {
            program: program.into(),
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: Vec::new(),
            log,
        }
    }
}

/// End of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended with a code.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was killed at its time limit.
    TimeLimit,
    /// It was killed because the whole run is over.
    Over(Over),
    /// It was killed because it wrote too much.
    Output,
    /// It could not be started or watched.
    Failed(String),
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its end.
    pub end: End,
    /// Seconds from start to end.
    pub seconds: f64,
    /// True if the process was killed and did not disappear.
    pub stuck: bool,
}

/// Runs a program to its end, to its time limit, or to the end of the clock.
pub fn run(job: &Job, limit: Duration, clock: &Clock) -> Ended {
    let started = Instant::now();
    let ended = |end, stuck| Ended {
        end,
        seconds: started.elapsed().as_secs_f64(),
        stuck,
    };
    let mut child = match spawn(job) {
        Ok(child) => child,
        Err(error) => {
            let why = format!("{}: {error}", job.program.display());
            return ended(End::Failed(why), false);
        }
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return ended(end_of(status), false),
            Ok(None) => {}
            Err(error) => {
                let stuck = !kill(&mut child);
                return ended(End::Failed(error.to_string()), stuck);
            }
        }
        let stop = match clock.over() {
            Some(over) => Some(End::Over(over)),
            None if started.elapsed() >= limit => Some(End::TimeLimit),
            None => (size(&job.log) > MAX_OUTPUT).then_some(End::Output),
        };
        if let Some(end) = stop {
            let stuck = !kill(&mut child);
            return ended(end, stuck);
        }
        thread::sleep(POLL);
    }
}

/// Runs a short program and returns its output, trimmed; the reason if it fails.
pub fn output<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    log: &Path,
    limit: Duration,
    clock: &Clock,
) -> Result<String, String> {
    let job = Job::new(program, args, log.to_owned());
    let ended = run(&job, limit, clock);
    let text = tail(log, 64 << 10);
    // The log was only the way to the output.
    let _ = fs::remove_file(log);
    match ended.end {
        End::Exit(0) => Ok(text.trim().to_owned()),
        other => Err(format!("{program}: {}", other.words())),
    }
}

impl End {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            End::Exit(code) => format!("exit code {code}"),
            End::Signal(signal) => super::interrupt::name(*signal),
            End::TimeLimit => "killed at its time limit".to_owned(),
            End::Over(over) => over.reason(),
            End::Output => format!("killed, since it wrote more than {} MiB", MAX_OUTPUT >> 20),
            End::Failed(why) => why.clone(),
        }
    }
}

/// A program that runs beside the others; it is killed when the value is dropped.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    /// Starts the program.
    pub fn start(job: &Job) -> io::Result<Background> {
        spawn(job).map(Background)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

/// The last `most` bytes of a file as text, empty if it cannot be read.
pub fn tail(path: &Path, most: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The last line of a file that is not empty.
pub fn last_line(path: &Path) -> Option<String> {
    let text = tail(path, 4 << 10);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.to_owned())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

fn spawn(job: &Job) -> io::Result<Child> {
    let log = File::create(&job.log)?;
    let mut command = Command::new(&job.program);
    command
        .args(&job.args)
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    #[cfg(unix)]
    {
        // So that a kill reaches what the program has started, and Ctrl-C reaches this one alone.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
    }
    command.spawn()
}

/// Kills a process with its group. Returns whether it disappeared.
fn kill(child: &mut Child) -> bool {
    #[cfg(unix)]
    {
        if let Ok(group) = libc::pid_t::try_from(child.id()) {
            // SAFETY: a call without pointers. The child leads its group and was not waited for,
            // so that the number is still its own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
    let _ = child.kill();
    let started = Instant::now();
    while started.elapsed() < REAP {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        thread::sleep(POLL);
    }
    false
}

fn end_of(status: ExitStatus) -> End {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return End::Signal(signal);
    }
    status
        .code()
        .map_or_else(|| End::Failed(status.to_string()), End::Exit)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn job(script: &str, name: &str) -> Job {
        let log = std::env::temp_dir().join(format!("warpconv-job-{name}-{}", std::process::id()));
        Job::new("sh", &["-c", script], log)
    }

    #[test]
    fn every_end_is_told() {
        let clock = Clock::start(1.0);
        let run = |script: &str, name: &str, limit: f64| {
            let job = job(script, name);
            let ended = super::run(&job, Duration::from_secs_f64(limit), &clock);
            let log = tail(&job.log, 1 << 10);
            fs::remove_file(&job.log).unwrap();
            (ended, log)
        };
        let (ended, log) = run("echo out; echo err >&2; exit 3", "exit", 20.0);
        assert_eq!((ended.end, log.as_str()), (End::Exit(3), "out\nerr\n"));
        let (ended, _) = run("kill -SEGV $$", "signal", 20.0);
        assert_eq!(ended.end, End::Signal(libc::SIGSEGV));
        let (ended, _) = run("while :; do :; done", "loop", 0.1);
        assert_eq!((ended.end, ended.stuck), (End::TimeLimit, false));
        let (ended, _) = run("exec yes", "output", 20.0);
        assert_eq!(ended.end, End::Output);
        let missing = Job::new("/nowhere/at/all", &[""; 0], job("", "missing").log);
        let ended = super::run(&missing, Duration::from_secs(1), &clock);
        assert!(
            matches!(&ended.end, End::Failed(why) if why.contains("/nowhere")),
            "{ended:?}"
        );
        let _ = fs::remove_file(&missing.log);
    }

    #[test]
    fn a_kill_reaches_the_programs_of_the_program() {
        // The grandchild holds the pipe's end, so that it is seen to end.
        let clock = Clock::start(1.0);
        let job = job("sleep 60 & echo $!; wait", "group");
        let ended = run(&job, Duration::from_millis(500), &clock);
        assert_eq!(ended.end, End::TimeLimit);
        let text = tail(&job.log, 100);
        let pid: libc::pid_t = text.trim().parse().expect("its number");
        fs::remove_file(&job.log).unwrap();
        // It may stay a zombie for a moment, until init has waited for it.
        let started = Instant::now();
        let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = || state().is_empty() || state().contains(") Z ");
        while !gone() && started.elapsed() < Duration::from_secs(10) {
            thread::sleep(POLL);
        }
        assert!(gone(), "{}", state());
    }

    #[test]
    fn the_end_of_the_clock_is_no_time_limit() {
        let job = job("sleep 60", "over");
        let ended = run(&job, Duration::from_secs(60), &Clock::start(0.0));
        assert_eq!(ended.end, End::Over(Over::Time));
        fs::remove_file(&job.log).unwrap();
    }
}
