//! Accesses of the running task, and the setting of the stream order checker.
//!
//! Kernels record the bytes that they access once a program has created a stream, or uses more than
//! one default stream: before that, no tasks can run concurrently.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::driver::config::{Config, OrderCheck};
use crate::order::Access;

/// True if tasks may run concurrently.
static FINE: AtomicBool = AtomicBool::new(false);

/// The id of the only stream with tasks so far; 0 before the first task.
static ONLY_STREAM: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Accesses of the task that runs in this thread.
    static TOUCHED: RefCell<Vec<Access>> = const { RefCell::new(Vec::new()) };
}

/// Returns whether kernels record the bytes that they access.
pub fn is_fine() -> bool {
    FINE.load(Ordering::Relaxed) && !is_off()
}

/// The setting of `PTX_EMULATOR_ORDER`.
pub fn setting() -> OrderCheck {
    static SETTING: LazyLock<OrderCheck> =
        LazyLock::new(|| Config::get().map_or(OrderCheck::Error, |config| config.order));
    *SETTING
}

/// Returns whether the checker is off.
pub fn is_off() -> bool {
    setting() == OrderCheck::Off
}

/// Records that a stream was created.
pub fn stream_created() {
    FINE.store(true, Ordering::Relaxed);
}

/// Records that a task was submitted to a stream, by the stream's id.
pub fn used_stream(id: u64) {
    if !is_fine() {
        let before = ONLY_STREAM.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
        if before.is_err_and(|only| only != id) {
            FINE.store(true, Ordering::Relaxed);
        }
    }
}

/// Records accesses of the task that runs in this thread.
pub fn touched(accesses: Vec<Access>) {
    // During thread exit the storage no longer exists.
    let _ = TOUCHED.try_with(|touched| touched.borrow_mut().extend(accesses));
}

/// Takes the accesses of the task that ran in this thread.
pub fn take() -> Vec<Access> {
    TOUCHED.try_with(RefCell::take).unwrap_or_default()
}
