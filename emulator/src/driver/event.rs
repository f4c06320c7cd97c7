//! Events, timed by the host's clock when their stream reaches them.

use std::ffi::c_uint;
use std::sync::{Arc, Mutex};

use crate::driver::capture;
use crate::driver::current::{healthy, healthy_if_current, stream};
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::state::{Context, Event, EventState, Op, Stream, TaskId, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::submit;
use crate::driver::types::{Handle, Out, check};

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;

/// Records an event in a stream of the context.
pub fn record(context: &Arc<Context>, stream: &Arc<Stream>, handle: Handle) -> Result {
    let event = driver()?.events.get(handle)?;
    if event.context != context.handle {
        return Err(CUresult::INVALID_HANDLE);
    }
    if capture::record(stream, &event)? {
        return Ok(());
    }
    queue::submit(context, stream, Op::Record(event), &[]);
    Ok(())
}

/// Makes a stream wait for an event: for its last record before this call. An event that was never
/// recorded causes no wait.
pub fn wait(context: &Arc<Context>, stream: &Arc<Stream>, handle: Handle) -> Result {
    let event = driver()?.events.get(handle)?;
    capture::wait(stream, &event)?;
    let recorded = match *lock(&event.state) {
        EventState::Recorded { task, .. } => task,
        _ => return Ok(()),
    };
    queue::submit(context, stream, Op::Wait, &[recorded]);
    Ok(())
}

/// The event and the task of its record, in a context without a fault; `CUDA_ERROR_CAPTURED_EVENT`
/// if it was recorded during capture.
fn known(handle: Handle) -> Result<(Arc<Event>, TaskId)> {
    healthy_if_current()?;
    let event = driver()?.events.get(handle)?;
    driver()?.contexts.get(event.context)?.healthy()?;
    let task = match *lock(&event.state) {
        EventState::Captured(..) => return Err(CUresult::CAPTURED_EVENT),
        EventState::Recorded { task, .. } => task,
        EventState::Never => 0,
    };
    Ok((event, task))
}

/// The error of the event's context, if it has one.
fn after(event: &Event) -> Result {
    driver()?.contexts.get(event.context)?.healthy()
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Result {
    check(!milliseconds.is_null())?;
    let timed = |handle| {
        let (event, task) = known(handle)?;
        if event.flags & DISABLE_TIMING != 0 {
            return Err(CUresult::INVALID_HANDLE);
        }
        queue::query(&[task])?;
        match *lock(&event.state) {
            EventState::Recorded { reached, .. } => reached.ok_or(CUresult::NOT_READY),
            _ => Err(CUresult::INVALID_HANDLE),
        }
    };
    // Errors of the arguments take precedence over unfinished events.
    let (from, to) = match (timed(start), timed(end)) {
        (Err(CUresult::NOT_READY), Err(code)) | (Err(code), _) | (_, Err(code)) => {
            return Err(code);
        }
        (Ok(from), Ok(to)) => (from, to),
    };
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    milliseconds.set(((forward - backward) * 1e3) as f32)
}

driver! {
    fn cuEventCreate(out: Out<Handle>, flags: c_uint) {
        // An interprocess event must have timing disabled.
        let is_timed_for_processes = flags & 4 != 0 && flags & DISABLE_TIMING == 0;
        check(!out.is_null() && flags & !7 == 0 && !is_timed_for_processes)?;
        let context = healthy()?;
        let made = driver()?.events.insert(|handle| Event {
            handle,
            context: context.handle,
            flags,
            state: Mutex::default(),
        });
        out.set(made.handle)
    }

    fn cuEventDestroy_v2(handle: Handle) {
        healthy_if_current()?;
        driver()?.events.remove(handle).map(|_| ())
    }

    fn cuEventRecord(event: Handle, handle: Handle) {
        let (context, stream) = stream(handle)?;
        record(&context, &stream, event)
    }

    fn cuEventRecordWithFlags(handle: Handle, stream_handle: Handle, flags: c_uint) {
        check(flags & !1 == 0)?;
        let (context, stream) = stream(stream_handle)?;
        if flags & 1 != 0 && capture::is_capturing(&stream) {
            // CU_EVENT_RECORD_EXTERNAL: the record itself is a node of the graph.
            let event = driver()?.events.get(handle)?;
            return submit(&context, &stream, Op::Record(event));
        }
        record(&context, &stream, handle)
    }

    fn cuEventQuery(handle: Handle) {
        let (event, task) = known(handle)?;
        queue::query(&[task])?;
        after(&event)
    }

    fn cuEventSynchronize(handle: Handle) {
        let (event, task) = known(handle)?;
        queue::wait(queue::Target::Tasks(&[task]))?;
        after(&event)
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }
}
