//! Order of tasks: vector clocks over chains of tasks.
//!
//! Every task belongs to a chain, in which each task comes after all earlier ones. A clock
//! contains, per chain, the last task up to which all are done. The id of a task is its time, since
//! ids ascend with submission. A task is added to any chain whose last task comes before it, of
//! whichever stream. So there are only as many chains as tasks that may run concurrently.
//!
//! All host threads share one clock: their synchronisation cannot be observed, so a task that one
//! of them has synchronised with counts as done for all. Every task comes after all tasks in the
//! host's clock at its submission.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Id of a task, ascending with submission, from 1.
pub type TaskId = u64;

/// Id of a chain; never reused.
type Chain = u64;

/// Per chain the last task that is known to be done. Ascending by chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(Vec<(Chain, TaskId)>);

impl Clock {
    fn get(&self, chain: Chain) -> TaskId {
        match self.0.binary_search_by_key(&chain, |entry| entry.0) {
            Ok(index) => self.0[index].1,
            Err(_) => 0,
        }
    }

    fn raise(&mut self, chain: Chain, task: TaskId) {
        match self.0.binary_search_by_key(&chain, |entry| entry.0) {
            Ok(index) => self.0[index].1 = self.0[index].1.max(task),
            Err(index) => self.0.insert(index, (chain, task)),
        }
    }

    fn join(&mut self, other: &Clock) {
        if other.0.iter().all(|&(chain, task)| self.get(chain) >= task) {
            return;
        }
        let mine = std::mem::take(&mut self.0);
        let (mut left, mut right) = (
            mine.into_iter().peekable(),
            other.0.iter().copied().peekable(),
        );
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let next = match a.0.cmp(&b.0) {
                std::cmp::Ordering::Less => left.next(),
                std::cmp::Ordering::Greater => right.next(),
                std::cmp::Ordering::Equal => {
                    let task = a.1.max(b.1);
                    right.next();
                    left.next().map(|entry| (entry.0, task))
                }
            };
            self.0.extend(next);
        }
        self.0.extend(left);
        self.0.extend(right);
    }
}

/// A task's position in the order.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Id of the task.
    pub task: TaskId,
    chain: Chain,
    /// Latest predecessors in other chains.
    before: Arc<Clock>,
    /// Version of the host's clock at submission.
    host: u64,
}

impl Stamp {
    fn is_after(&self, chain: Chain, task: TaskId) -> bool {
        if chain == self.chain {
            task <= self.task
        } else {
            self.before.get(chain) >= task
        }
    }
}

/// Context and device of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Handle of the context.
    pub context: usize,
    /// Ordinal of the device.
    pub device: usize,
}

/// Tasks with which a host thread has synchronised; all tasks before them are done too.
#[derive(Clone, Copy, Debug)]
pub enum Done<'a> {
    /// These tasks.
    Tasks(&'a [TaskId]),
    /// All tasks of a context up to an id.
    Context(usize, TaskId),
    /// All tasks of a device up to an id.
    Device(usize, TaskId),
    /// All tasks up to an id.
    All(TaskId),
}

struct Thread {
    site: Site,
    last: TaskId,
}

/// The clocks of a process.
#[derive(Default)]
pub struct Clocks {
    chains: BTreeMap<Chain, Thread>,
    next: Chain,
    host: Clock,
    /// Number of changes of the host's clock.
    changes: u64,
    /// Tasks with which the host has not synchronised.
    stamps: BTreeMap<TaskId, Stamp>,
    /// Tasks that have not ended.
    pending: BTreeSet<TaskId>,
    /// Number of stamps and chains after the last cleanup.
    kept: usize,
}

/// Number of stamps and chains below which cleanup does not pay off.
const FEW: usize = 64;

impl Clocks {
    /// Adds a task that was submitted after the given tasks. An unknown id is that of a task with
    /// which the host has synchronised.
    pub fn submit(&mut self, task: TaskId, site: Site, after: &[TaskId]) -> Stamp {
        let stamp = self.stamp(task, site, after);
        self.stamps.insert(task, stamp.clone());
        self.pending.insert(task);
        if let Some(chain) = self.chains.get_mut(&stamp.chain) {
            chain.last = task;
        }
        self.tidy();
        stamp
    }

    fn stamp(&mut self, task: TaskId, site: Site, after: &[TaskId]) -> Stamp {
        let is_last = |stamp: &&Stamp| {
            let chain = self.chains.get(&stamp.chain);
            chain.is_some_and(|chain| chain.last == stamp.task && chain.site == site)
        };
        let before = after.iter().filter_map(|id| self.stamps.get(id));
        let direct: Vec<&Stamp> = before.collect();
        if let [only] = direct[..]
            && only.host == self.changes
            && is_last(&only)
        {
            // Fast path: one stream continues, and nothing else has changed.
            return Stamp {
                task,
                ..only.clone()
            };
        }
        let mut clock = self.host.clone();
        for stamp in &direct {
            clock.join(&stamp.before);
            clock.raise(stamp.chain, stamp.task);
        }
        clock.0.retain(|(chain, _)| self.chains.contains_key(chain));
        // Any chain is suitable whose last task comes before this one.
        let free = |&(chain, known): &(Chain, TaskId)| {
            let found = self.chains.get(&chain)?;
            (found.site == site && found.last <= known).then_some(chain)
        };
        let direct = direct.iter().find(|&stamp| is_last(stamp));
        let found = direct.map(|stamp| stamp.chain);
        let chain = match found.or_else(|| clock.0.iter().find_map(free)) {
            Some(chain) => chain,
            None => {
                self.next += 1;
                self.chains.insert(self.next, Thread { site, last: task });
                self.next
            }
        };
        Stamp {
            task,
            chain,
            before: Arc::new(clock),
            host: self.changes,
        }
    }

    /// The position of a task that has not ended, or with which the host has not synchronised.
    pub fn get(&self, task: TaskId) -> Option<Stamp> {
        self.stamps.get(&task).cloned()
    }

    /// The position of the host's current operation.
    pub fn host(&self) -> Stamp {
        Stamp {
            task: TaskId::MAX,
            chain: 0,
            before: Arc::new(self.host.clone()),
            host: self.changes,
        }
    }

    /// Records that a task has ended and will not be looked up any more.
    pub fn end(&mut self, task: TaskId) {
        self.pending.remove(&task);
    }

    /// Records that a host function starts: every thread that it signals may rely on the tasks
    /// before it.
    pub fn host_function(&mut self, task: TaskId) {
        if let Some(stamp) = self.stamps.get(&task) {
            let before = stamp.before.clone();
            let (chain, earlier) = (stamp.chain, task.saturating_sub(1));
            self.host.join(&before);
            // In its own chain, all earlier tasks.
            self.host.raise(chain, earlier);
            self.changes += 1;
        }
    }

    /// Records that a host thread has synchronised with tasks.
    pub fn learn(&mut self, done: Done) {
        let changes = self.changes;
        match done {
            Done::Tasks(tasks) => {
                for task in tasks {
                    if let Some(stamp) = self.stamps.get(task) {
                        let stamp = stamp.clone();
                        self.learn_one(&stamp);
                    }
                }
            }
            Done::Context(context, last) => self.learn_all(last, |site| site.context == context),
            Done::Device(device, last) => self.learn_all(last, |site| site.device == device),
            Done::All(last) => self.learn_all(last, |_| true),
        }
        if self.changes == changes {
            return;
        }
        // The earliest tasks are usually done.
        while let Some((task, stamp)) = self.stamps.first_key_value()
            && self.host.get(stamp.chain) >= *task
            && !self.pending.contains(task)
        {
            self.stamps.pop_first();
        }
        if !matches!(done, Done::Tasks(_)) {
            // All stamps have been examined anyway.
            self.kept = 0;
        }
        self.tidy();
    }

    fn learn_all(&mut self, last: TaskId, wanted: impl Fn(Site) -> bool) {
        let stamps: Vec<Stamp> = self
            .stamps
            .range(..=last)
            .map(|(_, stamp)| stamp)
            .filter(|stamp| {
                let chain = self.chains.get(&stamp.chain);
                chain.is_some_and(|chain| wanted(chain.site))
            })
            .cloned()
            .collect();
        // The latest stamp of a chain usually subsumes the others.
        for stamp in stamps.iter().rev() {
            self.learn_one(stamp);
        }
    }

    fn learn_one(&mut self, stamp: &Stamp) {
        if self.host.get(stamp.chain) >= stamp.task {
            return;
        }
        self.host.join(&stamp.before);
        self.host.raise(stamp.chain, stamp.task);
        self.changes += 1;
    }

    /// Returns whether one of two tasks comes before the other.
    pub fn are_ordered(&self, a: &Stamp, b: &Stamp) -> bool {
        let (first, second) = if a.task < b.task { (a, b) } else { (b, a) };
        // A chain that was removed comes before everything that can still be queried.
        second.is_after(first.chain, first.task) || !self.chains.contains_key(&first.chain)
    }

    /// Returns whether a task that has ended comes before everything that can still be queried. May
    /// return false if many tasks are pending, which only costs memory.
    pub fn is_settled(&self, stamp: &Stamp) -> bool {
        if !self.chains.contains_key(&stamp.chain) {
            return true;
        }
        self.pending.len() <= FEW
            && self.host.get(stamp.chain) >= stamp.task
            && self.all_pending_after(stamp.chain, stamp.task)
    }

    fn all_pending_after(&self, chain: Chain, task: TaskId) -> bool {
        self.pending.iter().all(|pending| {
            let stamp = self.stamps.get(pending);
            stamp.is_some_and(|stamp| stamp.is_after(chain, task))
        })
    }

    /// Removes stamps and chains that precede everything, once their number has doubled since the
    /// last cleanup.
    fn tidy(&mut self) {
        if self.stamps.len() + self.chains.len() <= 2 * self.kept + FEW {
            return;
        }
        let (host, pending) = (&self.host, &self.pending);
        self.stamps
            .retain(|task, stamp| pending.contains(task) || host.get(stamp.chain) < *task);
        let gone: Vec<Chain> = self
            .chains
            .iter()
            .filter(|&(&chain, thread)| {
                self.host.get(chain) >= thread.last && self.all_pending_after(chain, thread.last)
            })
            .map(|(&chain, _)| chain)
            .collect();
        for chain in &gone {
            self.chains.remove(chain);
        }
        if !gone.is_empty() {
            let chains = &self.chains;
            self.host.0.retain(|(chain, _)| chains.contains_key(chain));
            self.changes += 1;
        }
        self.kept = self.stamps.len() + self.chains.len();
    }

    /// Number of chains and stamps in memory.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        (self.chains.len(), self.stamps.len())
    }
}

#[cfg(test)]
mod tests;
