//! Asynchronous work: streams pass tasks to a scheduler, and threads of the driver or waiting host
//! threads run them.
//!
//! A task is one operation of a stream. It lists the tasks before it: the previous one of its
//! stream, those that the legacy stream's rules add, the record of an event that its stream waits
//! for, or a graph's edges. These lists define the whole order; a task may start when its
//! predecessors are done. [`Schedule`] defines when it does:
//!
//! - `eager`: at once, in a thread of the driver. A waiting host thread runs the task itself if it
//!   has not started. Kernels of different streams overlap while there are threads for all of their
//!   blocks.
//! - `lazy`: when a host thread waits for it or for a later task, in order of submission. A query
//!   runs one task that it needs, after it has returned its result.
//! - `random:SEED`: after each submission zero or more tasks run; waits and queries run one task
//!   after another, a wait until its target is done. The seed determines all choices, and one task
//!   runs at a time.
//!
//! A host function always has its own thread. One that runs longer than [`PATIENCE`] delays no
//! other task: it may wait for the submitting thread or for another stream. If the host neither
//! waits nor calls the driver for [`SILENCE`], the lazy and random schedules start the remaining
//! tasks one by one. So a program that synchronises by other means (a channel, a flag in pinned
//! memory) ends too.
//!
//! Lock order: the scheduler's lock comes before those of events, legacy orders and the stream
//! order checker ([`crate::driver::ordering`]). No other lock is acquired under it, and no
//! destructor of a task runs under it.

mod dag;
pub mod schedule;
mod scheduler;
pub mod task;
mod threads;
mod wait;

use std::sync::{Arc, MutexGuard};

use crate::driver::registry::lock;
use crate::driver::state::transfer::Transfer;
use crate::driver::state::{Context, GraphExec, Node, Op, Stream, TaskId};
use crate::driver::status::Result;
use dag::Finished;
use schedule::Schedule;
use scheduler::{SCHEDULER, Scheduler, State};
pub use threads::note_call;
pub use wait::{Target, query, tail, wait, wait_for_frees, wait_for_running};

/// Number of unfinished tasks above which a submitting thread runs a ready task itself, to bound
/// the queues.
const MANY: usize = 1024;

/// Submits a task to a stream, after the tasks in `extra` too. The caller has checked the context
/// for errors.
pub fn submit(context: &Arc<Context>, stream: &Arc<Stream>, op: Op, extra: &[TaskId]) -> TaskId {
    let short = op.is_short();
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    let id = state.dag.add(context, stream, op, extra, &mut finished);
    SCHEDULER.submitted(state, id, short);
    id
}

/// Submits a task to a stream and waits until it is done.
pub fn submit_and_wait(context: &Arc<Context>, stream: &Arc<Stream>, op: Op) -> Result {
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    let id = state.dag.add(context, stream, op, &[], &mut finished);
    // No driver thread is woken: the calling thread runs the task itself if possible.
    drop(state);
    wait(Target::Tasks(&[id]))?;
    context.healthy()
}

/// Submits a copy to a stream and runs it in the calling thread, if ready tasks start at once and
/// no task is unfinished; returns the copy otherwise. The call does not synchronise the host with
/// the task.
///
/// The test and the submission are one step: a task that another thread submitted between them
/// could come first, and the copy would then use the caller's memory after the call.
pub fn run_if_idle(
    context: &Arc<Context>,
    stream: &Arc<Stream>,
    transfer: Transfer,
) -> Option<Transfer> {
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    if SCHEDULER.schedule != Schedule::Eager || state.dag.len() > 0 {
        return Some(transfer);
    }
    let op = Op::Transfer(transfer);
    let id = state.dag.add(context, stream, op, &[], &mut finished);
    if let Some(task) = state.dag.take(id) {
        drop(SCHEDULER.run(state, &task));
    }
    None
}

/// Submits the nodes of a graph to a stream: their edges order them, and the launch as a whole is
/// one operation of its stream. Two launches of one executable graph do not overlap.
pub fn submit_graph(
    context: &Arc<Context>,
    stream: &Arc<Stream>,
    exec: &GraphExec,
    ops: Vec<Op>,
) -> TaskId {
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    let dag = &mut state.dag;
    let mut last = lock(&exec.last);
    let begin = dag.add(context, stream, Op::Empty, &[*last], &mut finished);
    let mut ids: Vec<TaskId> = Vec::with_capacity(ops.len());
    for (op, node) in ops.into_iter().zip(&exec.nodes) {
        let mut after: Vec<TaskId> = node.after.iter().map(|&index| ids[index]).collect();
        if after.is_empty() {
            after.push(begin);
        }
        ids.push(dag.insert(context, stream, op, after, &mut finished));
    }
    let leaves = leaves(&exec.nodes);
    let ends: Vec<TaskId> = leaves.into_iter().map(|index| ids[index]).collect();
    let end = dag.add(context, stream, Op::Empty, &ends, &mut finished);
    *last = end;
    drop(last);
    SCHEDULER.submitted(state, end, false);
    end
}

/// The nodes without successors.
fn leaves(nodes: &[Node]) -> Vec<usize> {
    let mut is_leaf = vec![true; nodes.len()];
    for node in nodes {
        for &before in &node.after {
            is_leaf[before] = false;
        }
    }
    (0..nodes.len()).filter(|&index| is_leaf[index]).collect()
}

impl Scheduler {
    /// Starts the tasks that the schedule starts after a submission.
    fn submitted<'a>(&'a self, mut state: MutexGuard<'a, State>, id: TaskId, short: bool) {
        match self.schedule {
            Schedule::Eager => {
                // A task shorter than waking a thread runs in this thread.
                if short && let Some(task) = state.dag.take(id) {
                    drop(self.run(state, &task));
                    return;
                }
                self.signal(&mut state);
                if state.dag.len() > MANY {
                    let next = state
                        .dag
                        .takeable()
                        .find(|&id| !state.dag.is_host_function(id));
                    if let Some(task) = next.and_then(|id| state.dag.take(id)) {
                        drop(self.run(state, &task));
                    }
                }
            }
            Schedule::Lazy => self.watch(&mut state),
            Schedule::Random(_) => {
                self.watch(&mut state);
                while state.random.coin() {
                    let ready: Vec<TaskId> = (state.dag.takeable())
                        .filter(|&id| !state.dag.is_host_function(id))
                        .collect();
                    if state.dag.running_device_work() > 0 {
                        break;
                    }
                    let Some(chosen) = state.random.choose(&ready) else {
                        break;
                    };
                    state = self.hand_over(state, chosen);
                }
            }
        }
    }
}
