//! The tasks that are not done, and which waits for which.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::{Task, TaskId};
use crate::driver::ordering;
use crate::driver::registry::lock;
use crate::driver::state::{Context, Device, Event, EventState, Stream};
use crate::driver::work::Op;
use crate::memory::SLOTS;

/// Order of a context's legacy stream and its blocking ones.
///
/// CUDA driver API, "Stream synchronization behavior": "When an action is taken in the legacy
/// stream such as a kernel launch or cudaStreamWaitEvent(), the legacy stream first waits on all
/// blocking streams, the action is queued in the legacy stream, and then all blocking streams wait
/// on the legacy stream."
#[derive(Default)]
pub struct LegacyOrder {
    /// The legacy stream's last task.
    last: TaskId,
    /// The last task of each blocking stream that got one since, by the stream's number.
    since: HashMap<u64, TaskId>,
}

impl LegacyOrder {
    /// The last tasks of the legacy stream and of those that it waits for.
    pub fn tail(&self) -> Vec<TaskId> {
        self.since.values().copied().chain([self.last]).collect()
    }
}

/// Progress of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Blocked,
    Ready,
    Running(Instant),
}

/// A task that is not done.
struct Entry {
    task: Arc<Task>,
    /// Number of earlier tasks that are not done.
    missing: usize,
    /// The tasks right after it.
    next: Vec<TaskId>,
    phase: Phase,
    /// A thread sleeps until it is done.
    awaited: bool,
}

/// Every task that is not done. A task's number is higher than those of the tasks before it.
#[derive(Default)]
pub struct Dag {
    entries: BTreeMap<TaskId, Entry>,
    ready: BTreeSet<TaskId>,
    /// The load of each device, by ordinal.
    loads: BTreeMap<usize, Load>,
    last: TaskId,
    running: usize,
    running_host: usize,
}

/// Outcome of finishing a task.
#[derive(Default)]
pub struct Finished {
    /// Tasks to drop, which runs destructors: not while the scheduler is locked.
    pub tasks: Vec<Arc<Task>>,
    /// True if a thread sleeps for one of them.
    pub awaited: bool,
}

/// The kernels that run on a device. They overlap as far as there are threads for their blocks, as
/// those of a GPU do as far as there are multiprocessors.
#[derive(Clone, Copy, Default)]
struct Load {
    kernels: usize,
    /// Threads that run their blocks.
    workers: usize,
}

/// The device of a kernel, and how many threads it keeps busy there.
fn demand(task: &Task) -> Option<(&Device, usize)> {
    let Op::Launch(launch) = &task.op else {
        return None;
    };
    let device = &*task.context.device;
    Some((device, launch.workers(device.backend.workers())))
}

impl Dag {
    /// The number of the task submitted last.
    pub fn last(&self) -> TaskId {
        self.last
    }

    /// Number of tasks that are not done.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether a task is not done.
    pub fn is_pending(&self, id: TaskId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Number of running tasks other than host functions.
    pub fn running_device_work(&self) -> usize {
        self.running - self.running_host
    }

    /// Number of running host functions.
    pub fn running_host_functions(&self) -> usize {
        self.running_host
    }

    /// Adds a task behind what its stream's rules and `extra` name.
    pub fn add(
        &mut self,
        context: &Arc<Context>,
        stream: &Arc<Stream>,
        op: Op,
        extra: &[TaskId],
        finished: &mut Finished,
    ) -> TaskId {
        let mut after = extra.to_vec();
        after.push(stream.last());
        let id = self.last + 1;
        if stream.is_blocking() {
            let mut order = lock(&context.legacy_order);
            if stream.is_legacy() {
                after.extend(order.since.drain().map(|(_, task)| task));
                order.last = id;
            } else {
                after.push(order.last);
                order.since.insert(stream.id, id);
            }
        }
        stream.set_last(id);
        self.insert(context, stream, op, after, finished)
    }

    /// Adds a task whose place in its stream others decide: it comes after exactly those named.
    pub fn insert(
        &mut self,
        context: &Arc<Context>,
        stream: &Arc<Stream>,
        op: Op,
        mut after: Vec<TaskId>,
        finished: &mut Finished,
    ) -> TaskId {
        self.last += 1;
        let id = self.last;
        after.sort_unstable();
        after.dedup();
        after.retain(|&task| task != 0);
        if let Op::Record(event) = &op {
            *lock(&event.state) = EventState::Recorded {
                task: id,
                reached: None,
            };
        }
        let task = Arc::new(Task {
            id,
            context: context.clone(),
            stream: stream.clone(),
            op,
            after,
        });
        ordering::submitted(&task);
        let mut missing = 0;
        for before in &task.after {
            if let Some(entry) = self.entries.get_mut(before) {
                entry.next.push(id);
                missing += 1;
            }
        }
        if missing == 0 && task.op.is_momentary() {
            settle(&task);
            finished.tasks.push(task);
            return id;
        }
        let phase = if missing == 0 {
            self.ready.insert(id);
            Phase::Ready
        } else {
            Phase::Blocked
        };
        let entry = Entry {
            task,
            missing,
            next: Vec::new(),
            phase,
            awaited: false,
        };
        self.entries.insert(id, entry);
        id
    }

    /// Returns whether a task may begin now.
    pub fn is_takeable(&self, id: TaskId) -> bool {
        self.ready.contains(&id) && self.has_room(id)
    }

    /// Returns whether a ready task has the threads it needs. A kernel does not while those that
    /// run leave too few, or too few for a kernel submitted before it that is ready too: else small
    /// kernels could hold back a large one for ever.
    fn has_room(&self, id: TaskId) -> bool {
        let Some((device, _)) = self.demand(id) else {
            return true;
        };
        let load = self.loads.get(&device.ordinal).copied();
        let Some(load) = load.filter(|load| load.kernels > 0) else {
            return true;
        };
        load.kernels < SLOTS
            && self.ready.range(..=id).all(|&earlier| {
                self.demand(earlier).is_none_or(|(other, workers)| {
                    other.ordinal != device.ordinal
                        || load.workers + workers <= device.backend.workers()
                })
            })
    }

    fn demand(&self, id: TaskId) -> Option<(&Device, usize)> {
        demand(&self.entries.get(&id)?.task)
    }

    /// Returns whether a task that is not done is a host function.
    pub fn is_host_function(&self, id: TaskId) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.task.op.is_host_function())
    }

    /// The tasks that may begin now, the earliest first.
    pub fn takeable(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.ready
            .iter()
            .copied()
            .filter(|&id| self.is_takeable(id))
    }

    /// Marks a task as running; its caller runs it and calls [`Dag::finish`].
    pub fn take(&mut self, id: TaskId) -> Option<Arc<Task>> {
        if !self.is_takeable(id) {
            return None;
        }
        let entry = self.entries.get_mut(&id)?;
        self.ready.remove(&id);
        entry.phase = Phase::Running(Instant::now());
        if let Some((device, workers)) = demand(&entry.task) {
            let load = self.loads.entry(device.ordinal).or_default();
            load.kernels += 1;
            load.workers += workers;
        }
        self.running += 1;
        self.running_host += usize::from(entry.task.op.is_host_function());
        Some(entry.task.clone())
    }

    /// Notes that a task is done, and with it every momentary one that waited for it alone.
    pub fn finish(&mut self, task: &Arc<Task>) -> Finished {
        if let Some((device, workers)) = demand(task)
            && let Some(load) = self.loads.get_mut(&device.ordinal)
        {
            load.kernels -= 1;
            load.workers -= workers;
        }
        self.running -= 1;
        self.running_host -= usize::from(task.op.is_host_function());
        let mut finished = Finished::default();
        let mut open = vec![task.id];
        while let Some(entry) = open.pop().and_then(|id| self.entries.remove(&id)) {
            finished.awaited |= entry.awaited;
            for next in entry.next {
                let Some(follower) = self.entries.get_mut(&next) else {
                    continue;
                };
                follower.missing -= 1;
                if follower.missing > 0 {
                    continue;
                }
                if follower.task.op.is_momentary() {
                    settle(&follower.task);
                    open.push(next);
                } else {
                    follower.phase = Phase::Ready;
                    self.ready.insert(next);
                }
            }
            finished.tasks.push(entry.task);
        }
        finished
    }

    /// Those of `targets` and the tasks before them that are not done.
    pub fn needed(&self, targets: &[TaskId]) -> BTreeSet<TaskId> {
        let mut needed = BTreeSet::new();
        let mut open = targets.to_vec();
        while let Some(id) = open.pop() {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            if needed.insert(id) {
                open.extend(&entry.task.after);
            }
        }
        needed
    }

    /// Asks that whoever finishes a task wakes those who sleep.
    pub fn wake_for(&mut self, id: TaskId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.awaited = true;
        }
    }

    /// The tasks that are not done and pass.
    pub fn pending(&self, test: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.entries
            .iter()
            .filter(|(_, entry)| test(&entry.task))
            .map(|(&id, _)| id)
            .collect()
    }

    /// The tasks that run and pass.
    pub fn running(&self, test: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Running(_)) && test(&entry.task))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Returns whether all that runs began before `moment`.
    pub fn all_running_since(&self, moment: Instant) -> bool {
        self.entries
            .values()
            .all(|entry| !matches!(entry.phase, Phase::Running(began) if began > moment))
    }
}

/// Does what a momentary task does: nothing, or telling an event that it was reached.
fn settle(task: &Arc<Task>) {
    ordering::begins(task);
    if let Op::Record(event) = &task.op {
        reach(event, task.id);
    }
    ordering::ends(task);
}

/// Notes the time of a record, unless the event was recorded anew since.
fn reach(event: &Event, id: TaskId) {
    if let EventState::Recorded { task, reached } = &mut *lock(&event.state)
        && *task == id
    {
        *reached = Some(Instant::now());
    }
}
