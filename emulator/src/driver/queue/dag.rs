//! The unfinished tasks and their dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::driver::ordering;
use crate::driver::queue::task::Task;
use crate::driver::registry::lock;
use crate::driver::state::{Context, Device, Event, EventState, Op, Stream, TaskId};
use crate::memory::SLOTS;

/// Progress of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Blocked,
    Ready,
    Running(Instant),
}

/// An unfinished task.
struct Entry {
    task: Arc<Task>,
    /// Number of unfinished tasks before it.
    missing: usize,
    /// The direct successors.
    next: Vec<TaskId>,
    phase: Phase,
    /// True if a thread sleeps until it is done.
    awaited: bool,
}

/// All unfinished tasks. A task's id is larger than those of the tasks before it.
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
    /// Tasks to drop, which runs destructors: not permitted while the scheduler is locked.
    pub tasks: Vec<Arc<Task>>,
    /// True if a thread sleeps until one of them is done.
    pub awaited: bool,
}

/// The running kernels of a device. They overlap as long as there are threads for their blocks, as
/// on a GPU as long as there are free SMs.
#[derive(Clone, Copy, Default)]
struct Load {
    kernels: usize,
    /// Number of threads that run their blocks.
    workers: usize,
}

/// The device of a kernel, and the number of threads that it can use there.
fn demand(task: &Task) -> Option<(&Device, usize)> {
    let Op::Launch(launch) = &task.op else {
        return None;
    };
    let device = &*task.context.device;
    Some((device, launch.workers(device.backend.workers())))
}

impl Dag {
    /// The id of the last submitted task.
    pub fn last(&self) -> TaskId {
        self.last
    }

    /// Number of unfinished tasks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether a task is unfinished.
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

    /// Adds a task after those required by its stream's rules and those in `extra`.
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

    /// Adds a task whose order does not depend on its stream: it follows exactly the given tasks.
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

    /// Returns whether a task may start now.
    pub fn is_takeable(&self, id: TaskId) -> bool {
        self.ready.contains(&id) && self.has_room(id)
    }

    /// Returns whether enough threads are free for a ready task. A kernel waits while running
    /// kernels leave too few, or too few for an earlier ready kernel: otherwise small kernels could
    /// delay a large one for ever.
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

    /// Returns whether an unfinished task is a host function.
    pub fn is_host_function(&self, id: TaskId) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.task.op.is_host_function())
    }

    /// The tasks that may start now, the earliest first.
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

    /// Marks a task as done, and with it every momentary task that waited for it alone.
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

    /// The unfinished tasks among `targets` and their predecessors.
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

    /// Requests that sleeping threads are woken when a task is done.
    pub fn wake_for(&mut self, id: TaskId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.awaited = true;
        }
    }

    /// The unfinished tasks that satisfy `test`.
    pub fn pending(&self, test: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.entries
            .iter()
            .filter(|(_, entry)| test(&entry.task))
            .map(|(&id, _)| id)
            .collect()
    }

    /// The running tasks that satisfy `test`.
    pub fn running(&self, test: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        self.entries
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::Running(_)) && test(&entry.task))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Returns whether all running tasks started before `moment`.
    pub fn all_running_since(&self, moment: Instant) -> bool {
        self.entries
            .values()
            .all(|entry| !matches!(entry.phase, Phase::Running(began) if began > moment))
    }
}

/// Performs a momentary task: nothing, or marking an event as reached.
fn settle(task: &Arc<Task>) {
    ordering::begins(task);
    if let Op::Record(event) = &task.op {
        reach(event, task.id);
    }
    ordering::ends(task);
}

/// Stores the time of a record, unless the event was recorded again since.
fn reach(event: &Event, id: TaskId) {
    if let EventState::Recorded { task, reached } = &mut *lock(&event.state)
        && *task == id
    {
        *reached = Some(Instant::now());
    }
}
