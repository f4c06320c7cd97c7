//! Submission of work by calls, and their waits.

use std::sync::Arc;

use crate::driver::capture;
use crate::driver::queue;
use crate::driver::state::{Context, Op, Stream};
use crate::driver::status::Result;

/// Adds work as a node if the stream is being captured; returns whether it did. Otherwise the
/// caller submits the work.
pub fn noted(context: &Arc<Context>, stream: &Arc<Stream>, op: &Op) -> Result<bool> {
    context.healthy()?;
    capture::note(context, stream, op)
}

/// Submits work to a stream, or adds it as a node if the stream is being captured.
pub fn submit(context: &Arc<Context>, stream: &Arc<Stream>, op: Op) -> Result {
    if !noted(context, stream, &op)? {
        queue::submit(context, stream, op.prepare()?, &[]);
    }
    Ok(())
}

/// Waits until a stream's work is done; for the legacy stream also that of the blocking streams.
pub fn wait_for_stream(context: &Arc<Context>, stream: &Arc<Stream>) -> Result {
    queue::wait(queue::Target::Tasks(&queue::tail(context, stream)))?;
    context.healthy()
}

/// Queries whether a stream's work is done: `CUDA_ERROR_NOT_READY` if not.
pub fn query_stream(context: &Arc<Context>, stream: &Arc<Stream>) -> Result {
    queue::query(&queue::tail(context, stream))?;
    context.healthy()
}

/// Waits for all work of a device, as calls that free memory do.
pub fn wait_for_device(context: &Arc<Context>) -> Result {
    queue::wait(queue::Target::Device(context.device.ordinal))?;
    context.healthy()
}

/// Waits for all work of the process, as calls that free memory of all devices do.
pub fn wait_for_everything(context: &Arc<Context>) -> Result {
    queue::wait(queue::Target::All)?;
    context.healthy()
}
