//! Work behind the host's back: streams give tasks to a scheduler, threads of the driver or those
//! that wait run them.
//!
//! A task is one thing that a stream was told to do. It names the tasks that come before it: the
//! one before it in its stream, what the legacy stream's rules add, the record that its stream
//! waits for, or a graph's edges. All orders are in these names; a task whose predecessors are done
//! may begin. [`Schedule`] says when it does:
//!
//! - `eager`: at once, in a thread of the driver. A host thread that waits runs what it waits for
//!   itself if nobody has begun it. Kernels of different streams overlap while there are threads
//!   for all of their blocks.
//! - `lazy`: when a host thread waits for it or for something behind it, in order of submission. A
//!   query lets one task run that it asks for, after it has answered.
//! - `random:SEED`: after each submission some tasks run, none or more; who waits or asks lets one
//!   after the other run, until what was waited for is done. All are chosen by the seed, and one
//!   runs at a time.
//!
//! A host function always has a thread of its own, and one that runs longer than [`PATIENCE`] holds
//! nothing else back: it may wait for the submitting thread or for another stream. Where the host
//! neither waits nor calls the driver for [`SILENCE`], lazy and random begin what is left one by
//! one, so that a program which waits by means of its own (a channel, a flag in pinned memory) ends
//! too.
//!
//! Locks: the scheduler's comes before those of events, legacy orders and the checker of order
//! ([`crate::driver::ordering`]); nothing else is locked under it, and no destructor of a task runs
//! there.

mod dag;
pub mod schedule;
mod threads;
mod wait;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use super::config::Config;
use super::registry::lock;
use super::state::{Context, GraphExec, Node, Stream};
use super::status::Result;
use super::work::Op;
pub use dag::LegacyOrder;
use dag::{Dag, Finished};
use schedule::{Random, Schedule};
pub use threads::note_call;
pub use wait::{Target, query, tail, wait, wait_for_frees, wait_for_running};

/// The number of a task, by order of submission. 0 is none, and done.
pub type TaskId = u64;

/// Time that lazy and random schedules give a host function before it counts as waiting.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same for kernels and copies, which wait for others only where a program relies on what CUDA
/// does not promise.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
/// Time without a driver call after which lazy and random schedules continue by themselves.
const SILENCE: Duration = Duration::from_millis(500);
/// More tasks than this make a submitting thread run one itself, if one is ready, so that queues do
/// not grow for ever.
const MANY: usize = 1024;

/// One piece of work in a stream.
pub struct Task {
    pub id: TaskId,
    pub context: Arc<Context>,
    pub stream: Arc<Stream>,
    pub op: Op,
    /// All tasks right before it, those included that were done when it was submitted.
    pub after: Vec<TaskId>,
}

/// State of the scheduler.
struct State {
    dag: Dag,
    random: Random,
    threads: threads::Pool,
    /// Host threads that wait.
    waiting: usize,
}

/// The one scheduler of the process.
struct Scheduler {
    schedule: Schedule,
    state: Mutex<State>,
    /// Something that a thread sleeps for is done.
    changed: Condvar,
    /// There is something to run for a thread of the driver.
    work: Condvar,
    /// The process ends: nothing new begins.
    closing: AtomicBool,
}

static SCHEDULER: LazyLock<Scheduler> = LazyLock::new(|| {
    let schedule = Config::get().map_or(Schedule::Eager, |config| config.schedule);
    let seed = match schedule {
        Schedule::Random(seed) => seed,
        _ => 0,
    };
    Scheduler {
        schedule,
        state: Mutex::new(State {
            dag: Dag::default(),
            random: Random(seed),
            threads: threads::Pool::default(),
            waiting: 0,
        }),
        changed: Condvar::new(),
        work: Condvar::new(),
        closing: AtomicBool::new(false),
    }
});

/// Returns whether ready work begins by itself at once.
pub fn is_eager() -> bool {
    SCHEDULER.schedule == Schedule::Eager
}

/// Returns whether no task is under way or waits.
pub fn is_idle() -> bool {
    SCHEDULER.lock().dag.len() == 0
}

/// Gives a stream a task, behind the tasks in `extra` too. Whoever calls checks that the context is
/// well.
pub fn submit(context: &Arc<Context>, stream: &Arc<Stream>, op: Op, extra: &[TaskId]) -> TaskId {
    let short = op.is_short();
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    let id = state.dag.add(context, stream, op, extra, &mut finished);
    SCHEDULER.submitted(state, id, short);
    id
}

/// Gives a stream a task and waits until it is done.
pub fn submit_and_wait(context: &Arc<Context>, stream: &Arc<Stream>, op: Op) -> Result {
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    let id = state.dag.add(context, stream, op, &[], &mut finished);
    // No thread is told: the caller runs it itself where it can.
    drop(state);
    wait(Target::Tasks(&[id]))?;
    context.healthy()
}

/// Gives a stream a task, and runs it in the calling thread if nothing has to come before it. The
/// host does not learn that it is done.
pub fn submit_and_run(context: &Arc<Context>, stream: &Arc<Stream>, op: Op) {
    let mut finished = Finished::default();
    let mut state = SCHEDULER.lock();
    let id = state.dag.add(context, stream, op, &[], &mut finished);
    match state.dag.take(id) {
        Some(task) => drop(SCHEDULER.run(state, &task)),
        None => SCHEDULER.submitted(state, id, false),
    }
}

/// Gives a stream the nodes of a graph: their edges order them, and the launch as a whole stands in
/// its stream. Two launches of one executable graph do not overlap.
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

/// The nodes that no other comes after.
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
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Lets begin what the schedule wants to begin after a submission.
    fn submitted<'a>(&'a self, mut state: MutexGuard<'a, State>, id: TaskId, short: bool) {
        match self.schedule {
            Schedule::Eager => {
                // What takes less time than waking a thread is done here.
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
