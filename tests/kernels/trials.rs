//! Tests whose names are made at run time, one per kernel or limit.

use std::cell::RefCell;

use libtest_mimic::Trial;

use crate::common::process::child_process;

thread_local! {
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The name of the test that this thread runs.
pub fn current() -> String {
    NAME.with_borrow(String::clone)
}

/// A test that passes if the body does not panic.
pub fn test(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.into();
    let test = name.clone();
    Trial::test(name, move || {
        NAME.set(test);
        body();
        Ok(())
    })
}

/// As [`test`], in a process of its own, which alone reads the emulator's counters or may have its
/// context ended by a fault.
pub fn in_child(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.into();
    let child = name.clone();
    test(name, move || child_process(&child, body))
}
