//! Runs problems of shape files in parallel on the emulator: one problem rarely has enough blocks
//! for all cores.
//!
//! Each thread has its own stream. A failed problem runs again alone, and only that result counts:
//! a fault breaks the context that all threads share, so that correct problems fail too.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use warpconv::device::{DeviceKind, Gpu};

use super::Context;
use super::discover::Source;
use super::report::Report;
use crate::exit::Failure;

/// Maximum number of threads: the system may refuse more.
const MAX_JOBS: usize = 256;

/// Number of problems that run at a time: `wanted`, or one per core, on the emulator; one on a GPU.
pub fn jobs(context: &Context, wanted: Option<usize>) -> usize {
    let is_emulator = |gpu: &Gpu| gpu.kind() == DeviceKind::Emulator;
    if !context.gpu.borrow().as_ref().is_some_and(is_emulator) {
        return 1;
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    wanted.unwrap_or_else(cores).min(MAX_JOBS)
}

/// Number of sources, from the first on, that are problems of shape files.
pub fn shapes(sources: &[Source]) -> usize {
    let is_shape = |source: &&Source| matches!(source, Source::Shape(_));
    sources.iter().take_while(is_shape).count()
}

/// Runs sources in `jobs` threads; the report is the same as for sequential runs.
pub fn run(
    context: &Context,
    mut sources: &[Source],
    jobs: usize,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    while !sources.is_empty() {
        let done = side_by_side(context, sources, jobs, report)?;
        let Some(failed) = sources.get(done) else {
            return Ok(());
        };
        // All threads have ended, so the context can be released.
        context.revive()?;
        context.run_noted(failed, report)?;
        sources = &sources[done + 1..];
    }
    Ok(())
}

/// Runs sources in threads up to the first that fails. Returns the number of sources in the report;
/// later results are dropped.
fn side_by_side(
    context: &Context,
    sources: &[Source],
    jobs: usize,
    report: &mut Report<'_>,
) -> Result<usize, Failure> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, outcomes) = mpsc::channel();
    let gpu = context.gpu().map_err(Failure::Device)?;
    let empty = report.draft();
    // All streams are created before the first thread can break the context.
    let threads = (0..jobs.min(sources.len())).map(|_| beside(context, &gpu));
    let threads = threads.collect::<Result<Vec<Context>, Failure>>()?;
    let work = |send: mpsc::Sender<_>, mine: Context| {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = sources.get(index) else {
                return;
            };
            let mut draft = empty.draft();
            let outcome = mine.run(source, &mut draft).map(|()| draft);
            if mine.is_lost() {
                stop.store(true, Ordering::Relaxed);
            }
            // The receiver outlives the senders.
            drop(send.send((index, outcome)));
        }
    };
    thread::scope(|scope| {
        for mine in threads {
            let (send, work) = (send.clone(), &work);
            scope.spawn(move || work(send, mine));
        }
        drop(send);
        let (mut done, mut late) = (0, BTreeMap::new());
        let (mut has_failed, mut first_failure) = (false, None);
        for (index, outcome) in outcomes {
            match outcome {
                Ok(draft) => {
                    late.insert(index, draft);
                }
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    first_failure.get_or_insert(failure);
                }
            }
            while !has_failed && let Some(draft) = late.remove(&done) {
                has_failed = !report.add(draft);
                if has_failed {
                    stop.store(true, Ordering::Relaxed);
                } else {
                    report.progress().step();
                    done += 1;
                }
            }
        }
        first_failure.map_or(Ok(done), Err)
    })
}

/// Context of a thread: the device with a stream of its own.
fn beside(context: &Context, gpu: &Gpu) -> Result<Context, Failure> {
    let stream = gpu.context().new_stream();
    let stream = stream.map_err(|error| Failure::Device(format!("making a stream: {error}")))?;
    let gpu = gpu.with_stream(stream).map_err(Failure::device)?;
    Ok(Context {
        choice: context.choice,
        gpu: RefCell::new(Some(gpu)),
        capability: context.capability,
        select: context.select.clone(),
        round_robin: RefCell::default(),
    })
}
