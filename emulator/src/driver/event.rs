//! Events, timed by the machine's clock.

use std::ffi::c_uint;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::capture;
use super::current::{healthy, stream};
use super::registry::lock;
use super::state::{Context, Event, EventState, Stream, driver};
use super::status::{CUresult, Result};
use super::types::{Handle, Out, check};
use super::work::{Op, submit};

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
    *lock(&event.state) = EventState::Done(Instant::now());
    Ok(())
}

/// Makes a stream wait for an event. Its work is done already; only captures have something to note.
pub fn wait(_context: &Arc<Context>, stream: &Arc<Stream>, handle: Handle) -> Result {
    let event = driver()?.events.get(handle)?;
    capture::wait(stream, &event)
}

/// The event, in a context without a fault; `CUDA_ERROR_CAPTURED_EVENT` if it stands for captured work.
fn finished(handle: Handle) -> Result<Arc<Event>> {
    healthy()?;
    let event = driver()?.events.get(handle)?;
    driver()?.contexts.get(event.context)?.healthy()?;
    match *lock(&event.state) {
        EventState::Captured(..) => Err(CUresult::CAPTURED_EVENT),
        _ => Ok(event.clone()),
    }
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Result {
    check(!milliseconds.is_null())?;
    let (start, end) = (finished(start)?, finished(end)?);
    let timed = |event: &Event| match *lock(&event.state) {
        EventState::Done(instant) if event.flags & DISABLE_TIMING == 0 => Ok(instant),
        _ => Err(CUresult::INVALID_HANDLE),
    };
    let (from, to) = (timed(&start)?, timed(&end)?);
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    milliseconds.set(((forward - backward) * 1e3) as f32)
}

driver! {
    fn cuEventCreate(out: Out<Handle>, flags: c_uint) {
        // An event for other processes may not be timed.
        check(!out.is_null() && flags & !7 == 0 && (flags & 4 == 0 || flags & DISABLE_TIMING != 0))?;
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
        healthy()?;
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
        finished(handle).map(|_| ())
    }

    fn cuEventSynchronize(handle: Handle) {
        finished(handle).map(|_| ())
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }
}
