//! The driver's threads: created when there is work, ended after idle time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::driver::contain::contained;
use crate::driver::ordering;
use crate::driver::queue::schedule::Schedule;
use crate::driver::queue::scheduler::{
    LONG_PATIENCE, PATIENCE, SCHEDULER, SILENCE, Scheduler, State,
};
use crate::driver::queue::task::Task;
use crate::driver::state::TaskId;
use crate::driver::status::CUresult;

/// Idle time after which a thread ends.
const IDLE: Duration = Duration::from_millis(1000);
/// Maximum number of threads for tasks that always end (some kernels per device, copies); each host
/// function adds one.
const MOST: usize = 16;

/// Time of the host's last driver call, in milliseconds since the scheduler was created; for lazy
/// and random only.
static LAST_CALL: AtomicU64 = AtomicU64::new(0);

/// Milliseconds since the first call of this function.
fn now() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// Stores the time of a driver call of the host.
pub fn note_call() {
    if SCHEDULER.schedule == Schedule::Eager {
        return;
    }
    LAST_CALL.store(now(), Ordering::Relaxed);
}

/// At exit no task starts any more: data of a host function may already be destroyed.
extern "C" fn close() {
    SCHEDULER.closing.store(true, Ordering::Release);
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> std::ffi::c_int;
}

/// Creates a thread of the driver; returns whether that succeeded.
fn spawn(body: fn()) -> bool {
    static CLOSE_AT_EXIT: Once = Once::new();
    CLOSE_AT_EXIT.call_once(|| {
        // SAFETY: `close` may be called at any time, and the library is never unloaded
        // (`-z nodelete`).
        unsafe { atexit(close) };
    });
    let named = std::thread::Builder::new().name("ptx-emulator".to_owned());
    named.spawn(body).is_ok()
}

impl Scheduler {
    /// Takes the next task for a thread of the driver.
    fn next(&self, state: &mut State) -> Option<Arc<Task>> {
        if self.is_closing() {
            return None;
        }
        if self.schedule == Schedule::Eager {
            let id = state.dag.takeable().next()?;
            return state.dag.take(id);
        }
        while let Some(id) = state.threads.handed.pop_front() {
            if let Some(task) = state.dag.take(id) {
                return Some(task);
            }
        }
        None
    }

    /// Returns whether there is a task for a thread of the driver.
    fn has_work(&self, state: &State) -> bool {
        match self.schedule {
            Schedule::Eager => state.dag.takeable().next().is_some(),
            _ => !state.threads.handed.is_empty(),
        }
    }

    /// Wakes or creates a thread of the driver if there is work.
    pub(super) fn signal(&self, state: &mut State) {
        if self.is_closing() || !self.has_work(state) || state.threads.woken > 0 {
            return;
        }
        let pool = &mut state.threads;
        if pool.idle > 0 {
            pool.idle -= 1;
            pool.woken += 1;
            self.work.notify_one();
        } else if pool.threads < MOST + state.dag.running_host_functions() {
            pool.woken += 1;
            pool.threads += 1;
            if !spawn(serve) {
                // Existing threads will run the task; without any, a waiting thread runs it.
                pool.woken -= 1;
                pool.threads -= 1;
            }
        }
    }

    /// Runs a task that was taken, and marks it as done.
    pub(super) fn run<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        task: &Arc<Task>,
    ) -> MutexGuard<'a, State> {
        drop(state);
        execute(task);
        let mut state = self.lock();
        let finished = state.dag.finish(task);
        if finished.awaited || self.schedule != Schedule::Eager {
            self.changed.notify_all();
        }
        self.signal(&mut state);
        drop(state);
        drop(finished);
        self.lock()
    }

    /// Runs a task in a thread of the driver, and waits until it is done, unless it takes long.
    pub(super) fn hand_over<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        id: TaskId,
    ) -> MutexGuard<'a, State> {
        let before = state.threads.handed.len();
        state.threads.handed.push_back(id);
        self.signal(&mut state);
        if state.threads.threads == 0 {
            // No thread could be created.
            state.threads.handed.truncate(before);
            return match state.dag.take(id) {
                Some(task) => self.run(state, &task),
                None => state,
            };
        }
        let patience = match state.dag.is_host_function(id) {
            true => PATIENCE,
            false => LONG_PATIENCE,
        };
        let until = Instant::now() + patience;
        while state.dag.is_pending(id) && !self.is_closing() {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                break;
            };
            state = self.sleep(state, left);
        }
        state
    }

    /// Sleeps until a change is signalled, or until the time is over.
    pub(super) fn sleep<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Creates the watchdog thread, which continues the work of an inactive host.
    pub(super) fn watch(&self, state: &mut State) {
        if !state.threads.watched && state.dag.len() > 0 && !self.is_closing() {
            state.threads.watched = spawn(keep_going);
        }
    }
}

/// Loop of a driver thread.
fn serve() {
    let scheduler = &*SCHEDULER;
    let mut state = scheduler.lock();
    state.threads.woken -= 1;
    loop {
        while let Some(task) = scheduler.next(&mut state) {
            // This thread may be busy for a long time.
            scheduler.signal(&mut state);
            state = scheduler.run(state, &task);
        }
        state.threads.idle += 1;
        loop {
            let (guard, timeout) = scheduler
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if state.threads.woken > 0 {
                state.threads.woken -= 1;
                break;
            }
            if timeout.timed_out() {
                state.threads.idle -= 1;
                state.threads.threads -= 1;
                return;
            }
        }
    }
}

/// Starts one task after another while the host is inactive, until none is left.
fn keep_going() {
    let scheduler = &*SCHEDULER;
    let mut state = scheduler.lock();
    while state.dag.len() > 0 && !scheduler.is_closing() {
        let silent = now().saturating_sub(LAST_CALL.load(Ordering::Relaxed));
        let stands_still = state.dag.running_device_work() == 0;
        if silent < SILENCE.as_millis() as u64 || !stands_still || state.waiting > 0 {
            drop(state);
            std::thread::sleep(PATIENCE / 4);
            state = scheduler.lock();
            continue;
        }
        let ready: Vec<TaskId> = state.dag.takeable().collect();
        let next = match scheduler.schedule {
            Schedule::Random(_) => state.random.choose(&ready),
            _ => ready.first().copied(),
        };
        state = match next {
            Some(id) => scheduler.hand_over(state, id),
            None => scheduler.sleep(state, PATIENCE),
        };
    }
    state.threads.watched = false;
}

/// Performs a task. An error breaks the context; neither errors nor panics end a thread of the
/// driver.
fn execute(task: &Arc<Task>) {
    ordering::begins(task);
    let done = contained("work of a stream", || task.op.run(&task.context));
    if let Err(code) = done.unwrap_or(Err(CUresult::UNKNOWN)) {
        task.context.fail(code);
    }
    ordering::ends(task);
}
