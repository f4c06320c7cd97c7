//! Tests that need a process of their own: a fault ends a context, a setting holds for all tests of
//! a context, counters and free memory are those of the whole device.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use warpconv::device::DeviceKind;

#[path = "../../emulator/tests/common/run_again.rs"]
mod run_again;

use run_again::is_child;
pub use run_again::run_again;

/// Runs the body of a test, given as a closure, in a process of its own. On a GPU, whose memory all
/// processes share, no other test of this process uses the device meanwhile.
pub fn own_process<F: FnOnce()>(test: F) {
    if is_child() {
        return test();
    }
    // `binary::module::test::{{closure}}`
    let path = std::any::type_name::<F>();
    let path = path.strip_suffix("::{{closure}}").unwrap_or(path);
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let alone = (super::gpu().kind() == DeviceKind::Gpu).then(Alone::wait);
    let (out, error) = run_again(name, &[]);
    drop(alone);
    print!("{out}");
    eprint!("{error}");
}

/// Runs the body of the test of that name in a process of its own, beside other tests. What it
/// prints is shown only if it fails.
pub fn child_process(name: &str, test: impl FnOnce()) {
    if is_child() {
        return test();
    }
    run_again(name, &[]);
}

/// Threads that use the device, those among them that wait to have it alone, and whether one has.
struct Users {
    count: usize,
    waiting: usize,
    alone: bool,
}

static USERS: Mutex<Users> = Mutex::new(Users {
    count: 0,
    waiting: 0,
    alone: false,
});
static CHANGED: Condvar = Condvar::new();

fn users() -> MutexGuard<'static, Users> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// This thread, until it ends: the harness runs each test in one of its own.
    static USER: User = User::new();
}

struct User;

impl User {
    fn new() -> User {
        let waiting = CHANGED.wait_while(users(), |users| users.alone);
        waiting.unwrap_or_else(PoisonError::into_inner).count += 1;
        User
    }
}

impl Drop for User {
    fn drop(&mut self) {
        users().count -= 1;
        CHANGED.notify_all();
    }
}

/// Counts this thread among the users of the device.
pub fn use_device() {
    USER.with(|_| ());
}

/// The time in which one thread has the device alone.
struct Alone;

impl Alone {
    /// Waits until no other thread uses the device, except to wait for the same.
    fn wait() -> Alone {
        use_device();
        users().waiting += 1;
        CHANGED.notify_all();
        let busy = |users: &mut Users| users.alone || users.count > users.waiting;
        let waiting = CHANGED.wait_while(users(), busy);
        waiting.unwrap_or_else(PoisonError::into_inner).alone = true;
        Alone
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut users = users();
        users.alone = false;
        users.waiting -= 1;
        drop(users);
        CHANGED.notify_all();
    }
}
