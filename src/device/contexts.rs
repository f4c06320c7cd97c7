//! State that the crate keeps per [`CudaContext`], for as long as that lives: its kernels, and its
//! count of streams above zero.

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::{CudaContext, result};

use super::driver_error;
use super::module::Modules;
use crate::error::Error;

/// The contexts in use. What is gone is cleared away when the next one comes.
static CONTEXTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    /// Not to keep the context alive: a device that has faulted works again once its context is
    /// gone.
    context: Weak<CudaContext>,
    modules: Arc<Modules>,
}

/// The context's kernels. On the first call for this context, it begins to track the uses of its
/// buffers for good.
///
/// # Errors
/// [`Error::Driver`] or [`Error::OutOfMemory`] if the driver makes no stream, or cannot wait for
/// the context's work.
pub(super) fn modules(context: &Arc<CudaContext>) -> Result<Arc<Modules>, Error> {
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    contexts.retain(|entry| entry.context.strong_count() > 0);
    let known = contexts
        .iter()
        .find(|entry| ptr::eq(entry.context.as_ptr(), Arc::as_ptr(context)));
    if let Some(entry) = known {
        return Ok(entry.modules.clone());
    }
    track_for_good(context)?;
    let modules = Arc::new(Modules::new());
    contexts.push(Entry {
        context: Arc::downgrade(context),
        modules: modules.clone(),
    });
    Ok(modules)
}

/// Makes cudarc count one stream more in this context than there are.
///
/// cudarc orders the uses of a slice in several streams by events, but only while it counts streams
/// of its own: dropping the last one ends that, though the stream's work goes on, and per-thread
/// streams do not count. With one more, it does so as long as the context lives. What was queued
/// before is waited for (`CudaContext::new_stream` does, if it is the first).
fn track_for_good(context: &Arc<CudaContext>) -> Result<(), Error> {
    let failed = |e| driver_error("making a stream", e);
    let stream = context.new_stream().map_err(failed)?;
    let Ok(stream) = Arc::try_unwrap(stream) else {
        // Nobody else can have it; if so, it counts for as long as they hold it.
        return Ok(());
    };
    // Dropping it would count it off.
    let stream = ManuallyDrop::new(stream);
    // SAFETY: the stream is this function's own, was given no work, and is not used again.
    let destroyed = unsafe { result::stream::destroy(stream.cu_stream()) };
    // SAFETY: the value is never dropped nor used again, so its share of the context is moved out
    // of it, once.
    drop(unsafe { ptr::read(stream.context()) });
    destroyed.map_err(|e| driver_error("destroying a stream", e))
}
