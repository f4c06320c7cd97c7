//! Where the scheduler tells of what happens, for whoever watches the order of work.
//!
//! The functions of tasks are called in an order that respects `after`: `submitted` by number, `begins` of a task
//! behind `ends` of each one before it.

use super::{Task, TaskId};
use crate::driver::ordering;
use crate::driver::types::{DevicePtr, Handle};

/// What a host thread knows to be done.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// These tasks, and those before them.
    Tasks(&'a [TaskId]),
    /// All tasks of a context up to a number.
    Context(Handle, TaskId),
    /// All tasks of a device up to a number.
    Device(usize, TaskId),
    /// All tasks up to a number.
    All(TaskId),
}

/// A task was submitted, in the thread that submits it. The scheduler is locked.
pub fn submitted(task: &Task) {
    ordering::submitted(task);
}

/// A task begins, in the thread that runs it. For a momentary one the scheduler is locked.
pub fn begins(task: &Task) {
    ordering::begins(task);
}

/// A task has ended, in the thread that ran it. For a momentary one the scheduler is locked.
pub fn ends(task: &Task) {
    ordering::ends(task);
}

/// The calling host thread has learned that tasks are done.
pub fn host_knows(known: Known) {
    ordering::host_knows(known);
}

/// The calling host thread frees memory of a pool without a wait.
pub fn freed_by_host(address: DevicePtr) {
    ordering::freed_by_host(address);
}
