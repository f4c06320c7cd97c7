//! The kernel matrix: every kernel's checks, a process per kernel, several at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::Context;
use super::clock::{Clock, Over};
use super::record::{Outcome, Record};
use super::smoke::{self, Entry, List};
use crate::output::say;

/// Share of the time after which no further kernel is started, so that rows are measured too.
const SHARE: f64 = 0.6;

/// Time between two stored states.
const SAVE: Duration = Duration::from_secs(10);

/// State that the threads share.
struct State<F> {
    queue: VecDeque<Entry>,
    /// By family: the kernel that hung.
    hung: BTreeMap<String, String>,
    canaries: Vec<Record>,
    records: Vec<Record>,
    save: F,
    saved: Instant,
}

/// Runs the kernels that have no result yet, and returns the records of all in the order of the
/// list. `save` stores a state now and then.
pub fn run(
    context: &Context,
    list: &List,
    canaries: &[Record],
    known: Vec<Record>,
    save: impl FnMut(&[Record]) + Send,
) -> Vec<Record> {
    let known: Vec<Record> = known
        .into_iter()
        .filter(|record| record.outcome != Outcome::NotRun)
        .collect();
    let has = |kernel: &str| known.iter().any(|record| record.kernel == kernel);
    let mut queue = order(list, canaries);
    queue.retain(|entry| !has(&entry.kernel));
    let hung = canaries
        .iter()
        .chain(&known)
        .filter(|r| r.outcome.is_hang());
    let state = Mutex::new(State {
        queue,
        hung: hung.map(|r| (r.family.clone(), r.kernel.clone())).collect(),
        canaries: canaries.to_vec(),
        records: known,
        save,
        saved: Instant::now(),
    });
    let device = RwLock::new(());
    thread::scope(|scope| {
        for _ in 0..context.jobs {
            scope.spawn(|| work(context, &state, &device));
        }
    });
    let mut records = state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .records;
    let place = |record: &Record| list.entries.iter().position(|e| e.kernel == record.kernel);
    records.sort_by_key(place);
    records
}

/// One entry per kernel: families in turn, those of the canaries first, in each the order of the
/// list.
fn order(list: &List, canaries: &[Record]) -> VecDeque<Entry> {
    let mut families: Vec<(&str, VecDeque<&Entry>)> = Vec::new();
    let first = canaries.iter().map(|record| record.family.as_str());
    for family in first.chain(list.entries.iter().map(|entry| entry.family.as_str())) {
        if !families.iter().any(|(name, _)| *name == family) {
            families.push((family, VecDeque::new()));
        }
    }
    for entry in &list.entries {
        let family = families.iter_mut().find(|(name, _)| *name == entry.family);
        if let Some((_, kernels)) = family
            && !kernels.iter().any(|other| other.kernel == entry.kernel)
        {
            kernels.push_back(entry);
        }
    }
    let mut queue = VecDeque::new();
    while families.iter().any(|(_, kernels)| !kernels.is_empty()) {
        let heads = families
            .iter_mut()
            .filter_map(|(_, kernels)| kernels.pop_front());
        queue.extend(heads.cloned());
    }
    queue
}

/// Takes kernels until there are none. `device` is held for reading beside others, for writing
/// alone.
fn work<F: FnMut(&[Record])>(context: &Context, state: &Mutex<State<F>>, device: &RwLock<()>) {
    let gate = context.clock.share(SHARE);
    loop {
        let beside = device.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = next(context, state, &gate) else {
            return;
        };
        let mut record = smoke::once(context, &entry.kernel, &entry, None, context.limit);
        drop(beside);
        if record.outcome.is_hang() {
            let _alone = device.write().unwrap_or_else(PoisonError::into_inner);
            let known = lock(state).hung.get(&entry.family).cloned();
            match known {
                Some(kernel) => {
                    record.outcome = Outcome::NotRun;
                    let (family, why) = (&entry.family, &record.message);
                    record.message = format!("{family} hung at {kernel}; {why} beside it");
                }
                None => record = alone(context, &entry, record),
            }
            if record.outcome.is_hang() {
                let mut state = lock(state);
                state
                    .hung
                    .insert(record.family.clone(), record.kernel.clone());
            }
        }
        lock(state).add(record);
    }
}

/// Runs a kernel again that exceeded its time beside others. One that hangs alone too is run as
/// the watchdog's module.
fn alone(context: &Context, entry: &Entry, beside: Record) -> Record {
    let limit = match context.jobs {
        // It was alone.
        1 => return smoke::located(context, beside, entry, None),
        _ => context.limit / 2,
    };
    let mut record = smoke::once(context, &entry.kernel, entry, None, limit);
    match record.outcome {
        Outcome::Ok => {
            let (before, after) = (beside.seconds, record.seconds);
            record.message =
                format!("slow beside others: killed after {before:.0} s, alone {after:.1} s");
            record
        }
        Outcome::NotRun => beside,
        _ => smoke::located(context, record, entry, None),
    }
}

/// The next kernel to run; those that are not to run get their records.
fn next<F: FnMut(&[Record])>(
    context: &Context,
    state: &Mutex<State<F>>,
    gate: &Clock,
) -> Option<Entry> {
    let mut state = lock(state);
    loop {
        let entry = state.queue.pop_front()?;
        if let Some(canary) = state.canary(&entry.kernel) {
            state.records.push(canary);
            continue;
        }
        let why = if !context.takes(&entry.kernel) {
            Some("excluded".to_owned())
        } else if let Some(hung) = state.hung.get(&entry.family) {
            Some(format!("{} hung at {hung}", entry.family))
        } else {
            let whole = context.clock.over().map(Over::reason);
            let share = || "the matrix's share of the minutes is used up".to_owned();
            whole.or_else(|| gate.over().map(|_| share()))
        };
        match why {
            Some(why) => {
                let name = &entry.kernel;
                let record = Record::not_run(name, name, &entry.family, &why);
                state.records.push(record);
            }
            None => return Some(entry),
        }
    }
}

impl<F> State<F> {
    /// The record of a kernel whose canary hung: its other checks would hang too.
    fn canary(&self, kernel: &str) -> Option<Record> {
        let hung = |record: &&Record| record.kernel == kernel && record.outcome.is_hang();
        let canary = self.canaries.iter().find(hung)?;
        Some(Record {
            name: kernel.to_owned(),
            ..canary.clone()
        })
    }
}

impl<F: FnMut(&[Record])> State<F> {
    /// Adds a record, prints it if it failed, and stores the state now and then.
    fn add(&mut self, record: Record) {
        if record.outcome.is_failure() {
            // A closed standard output does not stop the run.
            let _ = say(format_args!("kernel {}: {}", record.kernel, record.words()));
        }
        self.records.push(record);
        if self.saved.elapsed() > SAVE {
            (self.save)(&self.records);
            self.saved = Instant::now();
        }
    }
}

/// A thread that panicked has left the state whole: its changes are single calls.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
