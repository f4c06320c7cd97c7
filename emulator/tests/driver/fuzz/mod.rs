//! Damaged programs: whatever the text and the launch, the outcome is an error at loading, a clean
//! run, or a report. A panic, an abort, a run that does not end and memory without bound are none
//! of these.
//!
//! The programs of `pass/`, `fail/` and some compiled kernels are changed at random (see `mutate`),
//! loaded and launched on a small device with low limits. The same seed gives the same texts:
//!
//! ```text
//! PTX_FUZZ_TEXTS    how many texts (default 2000)
//! PTX_FUZZ_SEED     the first text's number (default 0); a failure names the number of its text
//! PTX_FUZZ_LAUNCHES how many hostile launches (default 3000)
//! ```
//!
//! Built with overflow checks (`--config 'profile.dev.package.ptx-emulator.overflow-checks=true'`),
//! it finds arithmetic that wraps, too.

mod launches;
mod mutate;
mod run;

use crate::limited;
use mutate::{Random, Source};
use std::time::{Duration, Instant};

/// A setting of the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is \"{text}\"; it may be a number"))
    })
}

/// No text may keep the processor longer, from parsing on: hundreds of times what a text takes by
/// itself.
const LONGEST: Duration = Duration::from_secs(20);
/// No text may take longer by the clock on the wall, which runs on while a busy machine has no time
/// for the test.
const LONGEST_WAIT: Duration = Duration::from_secs(200);

/// Bytes that one text may take at a time, with all that the test itself holds. Zeroed pages count,
/// touched or not.
const MOST: usize = 1 << 30;

#[test]
fn damaged_programs_are_refused_or_reported() {
    own_process!();
    let sources = Source::all();
    let (texts, first) = (setting("PTX_FUZZ_TEXTS", 2000), setting("PTX_FUZZ_SEED", 0));
    let mut counts = run::Counts::default();
    for number in first..first + texts {
        limited::begin(number);
        let mut random = Random::new(number);
        let source = &sources[random.below(sources.len())];
        let text = mutate::mutate(source, &sources, &mut random);
        let (start, begun) = (Instant::now(), limited::processor_time());
        let outcome = run::run(&text, source, &mut random);
        let (taken, busy) = (
            start.elapsed(),
            limited::processor_time().saturating_sub(begun),
        );
        let (held, path) = (limited::peak(), &source.name);
        let fail = |why: &str| -> ! {
            let kept = std::env::temp_dir().join(format!("ptx_fuzz_{number}.ptx"));
            let _ = std::fs::write(&kept, &text);
            panic!(
                "text {number}, from {path}, kept as {}: {why}",
                kept.display()
            );
        };
        match outcome {
            Err(panic) => fail(&format!("a panic: {panic}")),
            Ok(found) => {
                if let Some(bug) = found.internal {
                    fail(&bug);
                }
                counts.add(&found.count);
            }
        }
        if busy > LONGEST || taken > LONGEST_WAIT {
            fail(&format!("took {taken:?}, {busy:?} of the processor"));
        }
        if held > MOST {
            fail(&format!("held {held} bytes at a time"));
        }
    }
    println!("{texts} texts: {counts:?}");
    if texts < 500 {
        // One text, tried again.
        return;
    }
    // The check is meaningful only with programs that run, fail to load and are reported.
    assert!(counts.refused > texts / 20, "{counts:?}");
    assert!(counts.clean > texts / 50, "{counts:?}");
    assert!(counts.faults > texts / 50, "{counts:?}");
}
