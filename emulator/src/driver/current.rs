//! The contexts of a thread, and the streams of handles in them.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::driver::state::{Context, Stream, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::Handle;

thread_local! {
    /// The contexts pushed on this thread; the last is current.
    static STACK: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` on this thread's stack of contexts; an empty one while the thread ends.
pub fn with_stack<T>(work: impl FnOnce(&mut Vec<Arc<Context>>) -> T) -> T {
    let mut work = Some(work);
    let done = STACK.try_with(|stack| work.take().map(|work| work(&mut stack.borrow_mut())));
    match (done, work) {
        (Ok(Some(value)), _) => value,
        (_, Some(work)) => work(&mut Vec::new()),
        _ => unreachable!("the work runs exactly once"),
    }
}

/// The thread's current context, broken or not; `CUDA_ERROR_INVALID_CONTEXT` if there is none.
/// `CUDA_ERROR_NOT_PERMITTED` in a host function: "The host function must not make any CUDA API
/// calls. Attempting to use a CUDA API may result in CUDA_ERROR_NOT_PERMITTED".
pub fn current() -> Result<Arc<Context>> {
    driver()?;
    if in_host_function() {
        return Err(CUresult::NOT_PERMITTED);
    }
    let context = with_stack(|stack| stack.last().cloned()).ok_or(CUresult::INVALID_CONTEXT)?;
    context.alive()?;
    Ok(context)
}

/// The thread's current context, or its sticky error.
pub fn healthy() -> Result<Arc<Context>> {
    let context = current()?;
    context.healthy()?;
    Ok(context)
}

/// For calls on an event, which has its own context: none needs to be current. A current one must
/// be without a fault.
pub fn healthy_if_current() -> Result {
    match healthy() {
        Err(CUresult::INVALID_CONTEXT) => Ok(()),
        other => other.map(drop),
    }
}

/// The stream of a handle in the current context, and the stream's own context.
pub fn stream(handle: Handle) -> Result<(Arc<Context>, Arc<Stream>)> {
    let context = healthy()?;
    match handle {
        0 | 1 => {
            let stream = context.legacy_stream.clone();
            Ok((context, stream))
        }
        2 => {
            let stream = context.per_thread_stream();
            Ok((context, stream))
        }
        _ => {
            let stream = driver()?.streams.get(handle)?;
            let owner = if stream.context == context.handle {
                context
            } else {
                driver()?.contexts.get(stream.context)?
            };
            owner.healthy()?;
            Ok((owner, stream))
        }
    }
}

thread_local! {
    /// True while this thread runs a host function.
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs a host function, whose driver calls return
/// `CUDA_ERROR_NOT_PERMITTED`.
fn in_host_function() -> bool {
    IN_HOST_FUNCTION.get()
}

/// Calls a host function; its driver calls are refused.
pub fn call_host(function: impl FnOnce()) {
    let before = IN_HOST_FUNCTION.replace(true);
    function();
    IN_HOST_FUNCTION.set(before);
}
