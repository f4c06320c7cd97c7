//! Tests of clocks against reachability in the graph of tasks.

use super::*;

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// All tasks that come before each, found by following every edge.
#[derive(Default)]
struct Oracle {
    before: Vec<BTreeSet<TaskId>>,
    known: BTreeSet<TaskId>,
}

impl Oracle {
    fn submit(&mut self, after: &[TaskId]) -> TaskId {
        let mut before = self.known.clone();
        for &task in after {
            before.insert(task);
            before.extend(&self.before[task as usize - 1]);
        }
        self.before.push(before);
        self.before.len() as TaskId
    }

    fn learn(&mut self, task: TaskId) {
        self.known.insert(task);
        self.known.extend(&self.before[task as usize - 1]);
    }
}

const SITES: [Site; 2] = [
    Site {
        context: 7,
        device: 0,
    },
    Site {
        context: 8,
        device: 1,
    },
];

/// A random program of several streams, events, waits of the host and tasks that end late.
struct Program {
    random: Random,
    clocks: Clocks,
    oracle: Oracle,
    /// Per stream: its site and its last task.
    streams: Vec<(usize, TaskId)>,
    sites: Vec<usize>,
    pending: BTreeSet<TaskId>,
    stamps: Vec<Option<Stamp>>,
    compared: usize,
    unordered: usize,
}

impl Program {
    fn submit(&mut self) {
        let stream = self.random.below(self.streams.len());
        let (site, last) = self.streams[stream];
        let mut after: Vec<TaskId> = vec![last];
        for _ in 0..self.random.below(3) {
            // A wait for an event: any task of another stream.
            after.push(self.random.below(self.sites.len() + 1) as TaskId);
        }
        if self.random.below(8) == 0 {
            after.extend(self.streams.iter().map(|stream| stream.1));
        }
        after.retain(|&task| task != 0);
        let task = self.oracle.submit(&after);
        self.clocks.submit(task, SITES[site], &after);
        self.streams[stream].1 = task;
        self.sites.push(site);
        self.stamps.push(None);
        self.pending.insert(task);
    }

    fn end(&mut self) {
        let ready: Vec<TaskId> = self
            .pending
            .iter()
            .copied()
            .filter(|&task| self.oracle.before[task as usize - 1].is_disjoint(&self.pending))
            .collect();
        let Some(&task) = ready.get(self.random.below(ready.len())) else {
            return;
        };
        let stamp = self.clocks.get(task).expect("a pending task has a stamp");
        for (index, other) in self.stamps.iter().enumerate() {
            let Some(other) = other else { continue };
            let (a, b) = (other.task.min(task), other.task.max(task));
            let expected = self.oracle.before[b as usize - 1].contains(&a);
            let found = self.clocks.are_ordered(other, &stamp);
            assert_eq!(found, expected, "tasks {} and {task}", index + 1);
            self.compared += 1;
            self.unordered += usize::from(!expected);
        }
        self.stamps[task as usize - 1] = Some(stamp);
        self.pending.remove(&task);
        self.clocks.end(task);
    }

    fn learn(&mut self) {
        let ended: Vec<TaskId> = (1..=self.sites.len() as TaskId)
            .filter(|task| !self.pending.contains(task))
            .collect();
        let Some(&task) = ended.get(self.random.below(ended.len())) else {
            return;
        };
        self.clocks.learn(Done::Tasks(&[task]));
        self.oracle.learn(task);
    }

    /// The host waits for all tasks of a context.
    fn learn_context(&mut self) {
        let site = self.random.below(2);
        while let Some(&task) = self
            .pending
            .iter()
            .find(|&&task| self.sites[task as usize - 1] == site)
        {
            let before = self.oracle.before[task as usize - 1].clone();
            if before.is_disjoint(&self.pending) || self.random.below(50) == 0 {
                self.end();
            }
            self.end();
        }
        let last = self.sites.len() as TaskId;
        if self.random.below(2) == 0 {
            self.clocks.learn(Done::Context(SITES[site].context, last));
        } else {
            self.clocks.learn(Done::Device(SITES[site].device, last));
        }
        for task in 1..=last {
            if self.sites[task as usize - 1] == site {
                self.oracle.learn(task);
            }
        }
    }
}

#[test]
fn clocks_agree_with_reachability() {
    let (mut compared, mut unordered) = (0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let streams = 2 + random.below(5);
        let mut program = Program {
            streams: (0..streams).map(|_| (random.below(2), 0)).collect(),
            random,
            clocks: Clocks::default(),
            oracle: Oracle::default(),
            sites: Vec::new(),
            pending: BTreeSet::new(),
            stamps: Vec::new(),
            compared: 0,
            unordered: 0,
        };
        for _ in 0..400 {
            match program.random.below(20) {
                0..9 => program.submit(),
                9..18 => program.end(),
                18 => program.learn(),
                _ if program.random.below(5) == 0 => program.learn_context(),
                _ => {
                    // A stream is destroyed and another created.
                    let stream = program.random.below(streams);
                    program.streams[stream] = (program.random.below(2), 0);
                }
            }
        }
        compared += program.compared;
        unordered += program.unordered;
    }
    // Both results must be frequent, otherwise the test has no force.
    assert!(
        unordered > compared / 20 && unordered < compared / 2,
        "{unordered} of {compared} pairs are unordered"
    );
}

#[test]
fn what_the_host_knows_is_forgotten() {
    let mut clocks = Clocks::default();
    let mut task = 0;
    for _ in 0..10_000 {
        // A separate stream for every task.
        for _ in 0..3 {
            task += 1;
            clocks.submit(task, SITES[0], &[]);
        }
        (task - 2..=task).for_each(|task| clocks.end(task));
        clocks.learn(Done::Tasks(&[task - 2, task - 1, task]));
    }
    let (chains, stamps) = clocks.size();
    assert!(
        chains <= 3 && stamps < 300,
        "{chains} chains, {stamps} stamps"
    );
}

#[test]
fn branches_of_a_graph_take_the_chains_of_its_last_launch() {
    let mut clocks = Clocks::default();
    let (mut task, mut last) = (0, Vec::new());
    for _ in 0..1000 {
        task += 1;
        clocks.submit(task, SITES[0], &last);
        let begin = task;
        let branches: Vec<TaskId> = (1..=8).map(|branch| begin + branch).collect();
        for &branch in &branches {
            clocks.submit(branch, SITES[0], &[begin]);
        }
        task += 9;
        clocks.submit(task, SITES[0], &branches);
        last = vec![task];
        (begin..=task).for_each(|task| clocks.end(task));
    }
    assert_eq!(clocks.size().0, 8);
}

#[test]
fn a_pending_task_keeps_what_it_is_not_ordered_to() {
    let mut clocks = Clocks::default();
    clocks.submit(1, SITES[0], &[]);
    let first = clocks.get(1).expect("a stamp");
    clocks.submit(2, SITES[0], &[]);
    clocks.end(1);
    // The host has synchronised with the first task; the second was submitted before that.
    clocks.learn(Done::Tasks(&[1]));
    assert!(!clocks.is_settled(&first));
    let second = clocks.get(2).expect("a stamp");
    assert!(!clocks.are_ordered(&first, &second));
    clocks.submit(3, SITES[0], &[]);
    let third = clocks.get(3).expect("a stamp");
    assert!(clocks.are_ordered(&first, &third));
    clocks.end(2);
    clocks.end(3);
    assert!(clocks.is_settled(&first));
}

#[test]
fn a_host_function_tells_what_is_before_it() {
    let mut clocks = Clocks::default();
    clocks.submit(1, SITES[0], &[]);
    clocks.submit(2, SITES[0], &[1]);
    clocks.submit(3, SITES[0], &[]);
    let stamps = [1, 2, 3].map(|task| clocks.get(task).expect("a stamp"));
    clocks.end(1);
    clocks.host_function(2);
    clocks.submit(4, SITES[0], &[]);
    let fourth = clocks.get(4).expect("a stamp");
    let ordered = stamps.map(|stamp| clocks.are_ordered(&stamp, &fourth));
    assert_eq!(ordered, [true, false, false]);
}
