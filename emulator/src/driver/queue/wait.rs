//! Waits and queries of the host.

use std::collections::BTreeSet;
use std::sync::MutexGuard;
use std::time::Instant;

use crate::driver::ordering;
use crate::driver::queue::schedule::Schedule;
use crate::driver::queue::scheduler::{PATIENCE, SCHEDULER, Scheduler, State};
use crate::driver::registry::lock;
use crate::driver::state::{Context, Op, Stream, TaskId};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::Handle;
use crate::order::Done;

/// Target of a wait: all of its work that was submitted before.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Tasks(&'a [TaskId]),
    Context(Handle),
    /// A device, by ordinal.
    Device(usize),
    All,
}

impl Target<'_> {
    /// Unfinished tasks of the target.
    fn pending(self, state: &State) -> Vec<TaskId> {
        match self {
            Target::Tasks(ids) => {
                let pending = |id: &TaskId| state.dag.is_pending(*id);
                let mut ids: Vec<TaskId> = ids.iter().copied().filter(pending).collect();
                ids.sort_unstable();
                ids
            }
            Target::Context(handle) => state.dag.pending(|task| task.context.handle == handle),
            Target::Device(ordinal) => {
                (state.dag).pending(|task| task.context.device.ordinal == ordinal)
            }
            Target::All => state.dag.pending(|_| true),
        }
    }

    /// Records in the stream order checker that the host has synchronised with the target, up to
    /// task `last`.
    fn known(self, last: TaskId) {
        ordering::host_knows(match self {
            Target::Tasks(ids) => Done::Tasks(ids),
            Target::Context(handle) => Done::Context(handle, last),
            Target::Device(ordinal) => Done::Device(ordinal, last),
            Target::All => Done::All(last),
        });
    }
}

/// Waits until a target is done. `CUDA_ERROR_DEINITIALIZED` if the process ends before.
pub fn wait(target: Target) -> Result {
    let state = SCHEDULER.lock();
    let last = state.dag.last();
    let pending = target.pending(&state);
    drop(SCHEDULER.wait(state, pending)?);
    target.known(last);
    Ok(())
}

/// Waits for the pending stream-ordered frees.
pub fn wait_for_frees() -> Result {
    let state = SCHEDULER.lock();
    let frees = state.dag.pending(|task| matches!(task.op, Op::Release(..)));
    SCHEDULER.wait(state, frees).map(|_| ())
}

/// Waits until all running tasks except host functions are done. Afterwards no task uses memory
/// that could no longer be looked up before the call.
pub fn wait_for_running() -> Result {
    let state = SCHEDULER.lock();
    let running = state.dag.running(|task| !task.op.is_host_function());
    SCHEDULER.wait(state, running).map(|_| ())
}

/// The last tasks of a stream; for a legacy stream also those of the blocking streams. A wait for
/// the stream waits for them, like an operation in it.
pub fn tail(context: &Context, stream: &Stream) -> Vec<TaskId> {
    let _state = SCHEDULER.lock();
    if stream.is_legacy() {
        lock(&context.legacy_order).tail()
    } else {
        vec![stream.last()]
    }
}

/// Checks whether tasks are done: `CUDA_ERROR_NOT_READY` if not. In that case the lazy and random
/// schedules run one task, so that a polling loop ends.
pub fn query(ids: &[TaskId]) -> Result {
    let mut state = SCHEDULER.lock();
    if !ids.iter().any(|&id| state.dag.is_pending(id)) {
        drop(state);
        ordering::host_knows(Done::Tasks(ids));
        return Ok(());
    }
    let ready: Vec<TaskId> = state.dag.takeable().collect();
    let next = match SCHEDULER.schedule {
        Schedule::Eager => None,
        Schedule::Lazy => {
            let needed = state.dag.needed(ids);
            ready.into_iter().find(|id| needed.contains(id))
        }
        Schedule::Random(_) => state.random.choose(&ready),
    };
    if let Some(next) = next {
        drop(SCHEDULER.hand_over(state, next));
    }
    Err(CUresult::NOT_READY)
}

impl Scheduler {
    /// Waits until all of `targets`, in ascending order, are done; meanwhile tasks run as the
    /// schedule requires, possibly in this thread.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut targets: Vec<TaskId>,
    ) -> Result<MutexGuard<'a, State>> {
        let needed = state.dag.needed(&targets);
        state.waiting += 1;
        loop {
            while targets.last().is_some_and(|&id| !state.dag.is_pending(id)) {
                targets.pop();
            }
            let Some(&last) = targets.last() else {
                state.waiting -= 1;
                return Ok(state);
            };
            if self.is_closing() {
                state.waiting -= 1;
                return Err(CUresult::DEINITIALIZED);
            }
            state = match self.schedule {
                Schedule::Eager => self.help(state, &needed, last),
                Schedule::Lazy => {
                    let next = state.dag.takeable().find(|id| needed.contains(id));
                    self.drive(state, next)
                }
                Schedule::Random(_) => {
                    let next = if overdue(&state) {
                        let ready: Vec<TaskId> = state.dag.takeable().collect();
                        state.random.choose(&ready)
                    } else {
                        None
                    };
                    self.drive(state, next)
                }
            };
        }
    }

    /// Runs one of the needed tasks, or sleeps until `last` is done.
    fn help<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        needed: &BTreeSet<TaskId>,
        last: TaskId,
    ) -> MutexGuard<'a, State> {
        let next = (state.dag.takeable())
            .find(|id| needed.contains(id) && !state.dag.is_host_function(*id));
        if let Some(task) = next.and_then(|id| state.dag.take(id)) {
            return self.run(state, &task);
        }
        self.signal(&mut state);
        state.dag.wake_for(last);
        self.sleep(state, PATIENCE)
    }

    /// Runs a task in another thread, or waits for running ones. If only host functions run, and
    /// for a long time, they may wait for a task that is not needed here: then any ready task runs.
    fn drive<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        next: Option<TaskId>,
    ) -> MutexGuard<'a, State> {
        let other = || state.dag.takeable().next().filter(|_| overdue(&state));
        match next.or_else(other) {
            Some(id) => self.hand_over(state, id),
            None => self.sleep(state, PATIENCE),
        }
    }
}

/// Returns whether only host functions run, and for so long that they may be waiting for another
/// task.
fn overdue(state: &State) -> bool {
    state.dag.running_device_work() == 0
        && Instant::now()
            .checked_sub(PATIENCE)
            .is_none_or(|moment| state.dag.all_running_since(moment))
}
