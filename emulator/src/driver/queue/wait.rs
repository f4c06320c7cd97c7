//! Hosts that wait, and hosts that ask.

use std::collections::BTreeSet;
use std::sync::MutexGuard;
use std::time::Instant;

use super::schedule::Schedule;
use super::{PATIENCE, SCHEDULER, Scheduler, State, TaskId};
use crate::driver::ordering;
use crate::driver::registry::lock;
use crate::driver::state::{Context, Stream};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::Handle;
use crate::driver::work::Op;
use crate::order::Done;

/// Condition that a host waits for: all of it that was submitted before.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Tasks(&'a [TaskId]),
    Context(Handle),
    /// By ordinal.
    Device(usize),
    All,
}

impl Target<'_> {
    /// Number of its tasks that are not done.
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

    /// Tells the checker of order that the host knows it to be done, up to task `last`.
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

/// Waits for the frees that streams were told to do.
pub fn wait_for_frees() -> Result {
    let state = SCHEDULER.lock();
    let frees = state.dag.pending(|task| matches!(task.op, Op::Release(..)));
    SCHEDULER.wait(state, frees).map(|_| ())
}

/// Waits until everything is done that runs now, host functions aside: behind this call nothing
/// uses what could no longer be found before it.
pub fn wait_for_running() -> Result {
    let state = SCHEDULER.lock();
    let running = state.dag.running(|task| !task.op.is_host_function());
    SCHEDULER.wait(state, running).map(|_| ())
}

/// The tasks that are the last of a stream; for a legacy stream those of the blocking streams too.
/// A wait for that stream waits for them, as an action in it would.
pub fn tail(context: &Context, stream: &Stream) -> Vec<TaskId> {
    let _state = SCHEDULER.lock();
    if stream.is_legacy() {
        lock(&context.legacy_order).tail()
    } else {
        vec![stream.last()]
    }
}

/// Checks whether tasks are done, as a host asks: `CUDA_ERROR_NOT_READY` if not; then lazy and
/// random schedules let one thing run, so that a loop which asks ends.
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
    /// Waits until all of `targets`, in ascending order, are done, and meanwhile lets run, or runs,
    /// what the schedule wants.
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

    /// Runs one of the tasks that are needed, or sleeps until `last` is done.
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

    /// Has a task run, or waits for those that do. Where nothing runs but host functions, and they
    /// for long, they may wait for something that is not needed here: then anything that is ready
    /// runs.
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

/// Returns whether nothing runs but host functions that have run for so long that they may wait for
/// something else.
fn overdue(state: &State) -> bool {
    state.dag.running_device_work() == 0
        && Instant::now()
            .checked_sub(PATIENCE)
            .is_none_or(|moment| state.dag.all_running_since(moment))
}
