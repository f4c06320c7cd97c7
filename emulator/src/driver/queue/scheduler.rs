//! State of the scheduler.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use crate::driver::config::Config;
use crate::driver::queue::dag::Dag;
use crate::driver::queue::schedule::Schedule;
use crate::driver::registry::lock;
use crate::driver::state::TaskId;
use crate::random::Random;

/// Time after which the lazy and random schedules regard a host function as waiting.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// The same time for kernels and copies, which wait for others only in programs that rely on
/// behaviour that CUDA does not guarantee.
pub const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// Time without a driver call after which the lazy and random schedules continue without the host.
pub const SILENCE: Duration = Duration::from_millis(500);

/// State of the scheduler.
pub struct State {
    pub dag: Dag,
    pub random: Random,
    pub threads: Threads,
    /// Number of waiting host threads.
    pub waiting: usize,
}

/// The existing threads.
#[derive(Default)]
pub struct Threads {
    pub threads: usize,
    pub idle: usize,
    /// Number of idle threads that were woken and have not yet searched for work.
    pub woken: usize,
    /// Tasks that a lazy or random schedule runs in a thread of the driver.
    pub handed: VecDeque<TaskId>,
    /// True if a watchdog thread continues the work of an inactive host.
    pub watched: bool,
}

/// The scheduler of the process.
pub struct Scheduler {
    pub schedule: Schedule,
    pub state: Mutex<State>,
    /// Signalled when a task is done for which a thread sleeps.
    pub changed: Condvar,
    /// Signalled when there is a task for a thread of the driver.
    pub work: Condvar,
    /// True when the process is ending: no task starts any more.
    pub closing: AtomicBool,
}

/// The scheduler.
pub static SCHEDULER: LazyLock<Scheduler> = LazyLock::new(|| {
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
            threads: Threads::default(),
            waiting: 0,
        }),
        changed: Condvar::new(),
        work: Condvar::new(),
        closing: AtomicBool::new(false),
    }
});

impl Scheduler {
    /// Locks the state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns whether the process is ending.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
