//! Running tests: all of them once without a mutant, then those that reach a mutant with it.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::build::{Built, Program};

/// Longer tests are left out: a survivor would wait for every one of them.
const LONGEST: Duration = Duration::from_secs(20);
/// Address space of a test, in KiB: a mutant may ask for any amount of memory.
const MEMORY: &str = "10000000";

/// Programs by libtest-mimic, which takes one name at a time.
const ONE_NAME: [&str; 2] = ["kernels", "programs"];

/// Outcome of a mutant.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The test that failed.
    Killed(String),
    /// The tests that did not end.
    TimedOut(String),
    Survived,
    /// No test reaches it.
    Unreached,
    /// It does not compile.
    Invalid,
}

/// A test and the mutants that it reaches.
pub struct Test {
    program: usize,
    name: String,
    /// Processor time.
    took: Duration,
    reached: HashSet<usize>,
}

/// A program with a mutant and a limit of processor time, which unlike that of the clock does not
/// depend on what else the machine does.
fn command(program: &Program, mutant: &str, limit: Duration) -> Command {
    let mut command = Command::new("sh");
    let seconds = limit.as_secs().max(1);
    let limits =
        format!("ulimit -v {MEMORY}; ulimit -c 0; ulimit -t {seconds}; exec \"$0\" \"$@\"");
    command
        .args(["-c", &limits])
        .arg(&program.path)
        .arg("--test-threads=1")
        .current_dir(&program.folder)
        .env("MUTANT", mutant)
        .env("RUST_BACKTRACE", "0")
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// The processor time of a process and of all of its threads so far.
fn processor_time(child: &Child) -> Option<Duration> {
    /// Ticks per second in `/proc`, which Linux fixes.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // The command's name stands in parentheses and may hold anything; the 14th and 15th field of
    // all are the time outside of and in the kernel.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS))
}

/// End of a program.
struct Ended {
    /// True if it was good; `None` if it had to be killed for its time.
    good: Option<bool>,
    /// The processor time that it took.
    took: Duration,
    /// The test that failed.
    failed: String,
}

/// Waits for a program up to a limit by the clock. It is killed as soon as it says that a test has
/// failed.
fn wait(mut child: Child, limit: Duration) -> Ended {
    let out = child.stdout.take();
    let seen = Arc::new(Mutex::new(String::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (seen, stop) = (seen.clone(), stop.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out?).lines() {
                let line = line.ok()?;
                if line.ends_with("FAILED") && line.starts_with("test ") {
                    let name = line
                        .split_whitespace()
                        .nth(1)
                        .unwrap_or_default()
                        .to_owned();
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = name;
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Some(())
        })
    };
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut took = Duration::ZERO;
    let result = loop {
        took = processor_time(&child).unwrap_or(took);
        match child.try_wait() {
            // SIGXCPU or, at the hard limit, SIGKILL: its processor time is up.
            Ok(Some(status)) if matches!(status.signal(), Some(9 | 24)) => break None,
            Ok(Some(status)) => break Some(status.success()),
            Err(_) => break Some(false),
            Ok(None) => {}
        }
        if stop.load(Ordering::Relaxed) || began.elapsed() > limit {
            let stopped = stop.load(Ordering::Relaxed);
            let _ = child.kill();
            let _ = child.wait();
            break stopped.then_some(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    // A grandchild may hold the pipe open: what it says then is of no interest.
    if result.is_some() || reader.is_finished() {
        let _ = reader.join();
    }
    let failed = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ended {
        good: result,
        took,
        failed,
    }
}

/// The tests of a program, without the modules that are left out.
fn list(program: &Program) -> Result<Vec<String>, Box<dyn Error>> {
    let mut child = command(program, "0", LONGEST)
        .args(["--list", "--format", "terse"])
        .spawn()?;
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    child.wait()?;
    let is_left_out = |name: &str| {
        program
            .left_out
            .iter()
            .any(|module| name.starts_with(module))
    };
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names
        .filter(|name| !is_left_out(name))
        .map(str::to_owned)
        .collect())
}

/// Runs every test once and notes which mutants it reaches.
pub fn baseline(built: &Built, folder: &Path, jobs: usize) -> Result<Vec<Test>, Box<dyn Error>> {
    let _ = std::fs::remove_dir_all(folder);
    let mut all = Vec::new();
    for (index, program) in built.programs.iter().enumerate() {
        all.extend(list(program)?.into_iter().map(|name| (index, name)));
    }
    let next = AtomicUsize::new(0);
    let tests = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((index, name)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let folder = folder.join(format!("{index}-{}", name.replace(':', "_")));
                    if let Some(test) = record(&built.programs[*index], *index, name, &folder) {
                        tests
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(test);
                    }
                }
            });
        }
    });
    let mut tests = tests.into_inner().unwrap_or_else(PoisonError::into_inner);
    tests.retain(|test: &Test| !test.reached.is_empty());
    Ok(tests)
}

fn record(program: &Program, index: usize, name: &str, folder: &Path) -> Option<Test> {
    std::fs::create_dir_all(folder).ok()?;
    let child = command(program, &u32::MAX.to_string(), 3 * LONGEST)
        .args(["--exact", name])
        .env("MUTANTS_REACHED", folder)
        .spawn()
        .ok()?;
    let ended = wait(child, 30 * LONGEST);
    match ended.good {
        Some(true) => {}
        Some(false) => {
            println!("left out, for it fails by itself: {} {name}", program.name);
            return None;
        }
        None => {
            println!("left out, for it takes too long: {} {name}", program.name);
            return None;
        }
    }
    let took = ended.took;
    if took > LONGEST {
        println!("left out, for it takes {took:?}: {} {name}", program.name);
        return None;
    }
    let mut reached = HashSet::new();
    for file in std::fs::read_dir(folder).ok()? {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        reached.extend(text.lines().filter_map(|line| line.parse::<usize>().ok()));
    }
    Some(Test {
        program: index,
        name: name.to_owned(),
        took,
        reached,
    })
}

/// Runs the tests that reach the `index`-th mutant, up to the first that notices.
pub fn try_mutant(built: &Built, tests: &[Test], index: usize) -> Outcome {
    let number = index + 1;
    let mut programs: HashMap<usize, Vec<&Test>> = HashMap::new();
    for test in tests.iter().filter(|test| test.reached.contains(&number)) {
        programs.entry(test.program).or_default().push(test);
    }
    if programs.is_empty() {
        return Outcome::Unreached;
    }
    let mut programs: Vec<(usize, Vec<&Test>)> = programs.into_iter().collect();
    let all = |list: &[&Test]| list.iter().map(|test| test.took).sum::<Duration>();
    programs.sort_by_key(|(_, list)| all(list));
    for (program, list) in programs {
        let program = &built.programs[program];
        let at_once = match ONE_NAME.contains(&program.name.as_str()) {
            true => 1,
            false => list.len(),
        };
        for tests in list.chunks(at_once) {
            let limit = all(tests) * 3 + Duration::from_secs(5);
            let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
            let Ok(child) = command(program, &number.to_string(), limit)
                .arg("--exact")
                .args(&names)
                .spawn()
            else {
                return Outcome::Killed(program.name.clone());
            };
            // What sleeps uses no processor time.
            let ended = wait(child, limit * 10 + Duration::from_secs(60));
            match ended.good {
                Some(true) => {}
                Some(false) => {
                    return Outcome::Killed(format!("{} {}", program.name, ended.failed));
                }
                None => return Outcome::TimedOut(program.name.clone()),
            }
        }
    }
    Outcome::Survived
}
