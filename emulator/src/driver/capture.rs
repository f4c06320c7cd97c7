//! Stream capture: work queued in a capturing stream becomes nodes of a graph.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::driver::registry::lock;
use crate::driver::state::{
    Capture, Context, Event, EventState, Graph, Mode, Node, Op, Stream, StreamCapture, driver,
};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{Handle, Out, check};

thread_local! {
    /// Mode set by `cuThreadExchangeStreamCaptureMode`.
    static THREAD_MODE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Adds the work as a node if the stream is capturing; returns whether it was.
pub fn note(context: &Arc<Context>, stream: &Arc<Stream>, op: &Op) -> Result<bool> {
    if let Some(part) = lock(&stream.capture).as_mut() {
        if !part.capture.is_valid() {
            return Err(CUresult::STREAM_CAPTURE_INVALIDATED);
        }
        let mut nodes = lock(&part.capture.nodes);
        nodes.push(Node::new(op.clone(), std::mem::take(&mut part.after)));
        part.after = vec![nodes.len() - 1];
        return Ok(true);
    }
    if stream.is_legacy() {
        forbid_legacy(context)?;
    }
    Ok(false)
}

/// Returns whether a stream is capturing.
pub fn is_capturing(stream: &Stream) -> bool {
    lock(&stream.capture).is_some()
}

/// The captures in progress.
fn active() -> Result<Vec<Arc<Capture>>> {
    let mut captures = lock(&driver()?.captures);
    captures.retain(|capture| capture.strong_count() > 0);
    Ok(captures.iter().filter_map(Weak::upgrade).collect())
}

/// Refuses work in the legacy stream while a blocking stream of the context is captured, which it
/// would wait for.
fn forbid_legacy(context: &Arc<Context>) -> Result {
    for capture in active()?
        .iter()
        .filter(|capture| capture.context == context.handle)
    {
        let blocking = lock(&capture.streams)
            .iter()
            .filter_map(Weak::upgrade)
            .any(|stream| stream.flags & Stream::NON_BLOCKING == 0 && is_capturing(&stream));
        if blocking {
            capture.invalidate();
            return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
        }
    }
    Ok(())
}

/// Refuses calls that may wait or change the device during a capture that is not relaxed: in every
/// thread if it is global, else in its own.
pub fn forbid_unsafe_call() -> Result {
    let relaxed = THREAD_MODE.get() == 2;
    let here = std::thread::current().id();
    for capture in active()? {
        let forbidden = match capture.mode {
            Mode::Global => !relaxed && (THREAD_MODE.get() == 0 || capture.thread == here),
            Mode::ThreadLocal => !relaxed && capture.thread == here,
            Mode::Relaxed => false,
        };
        if forbidden {
            capture.invalidate();
            return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
        }
    }
    Ok(())
}

/// Refuses to wait for a context while any of its streams is captured.
pub fn forbid_in_context(context: &Context) -> Result {
    for capture in active()? {
        if capture.context == context.handle {
            capture.invalidate();
            return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
        }
    }
    Ok(())
}

/// Refuses to wait for a stream while it is captured; the capture becomes invalid.
pub fn forbid_on_stream(stream: &Stream) -> Result {
    match lock(&stream.capture).as_ref() {
        Some(part) => {
            part.capture.invalidate();
            Err(CUresult::STREAM_CAPTURE_UNSUPPORTED)
        }
        None => Ok(()),
    }
}

/// Records an event in a capturing stream; returns whether it was capturing.
pub fn record(stream: &Stream, event: &Event) -> Result<bool> {
    let guard = lock(&stream.capture);
    let Some(part) = guard.as_ref() else {
        return Ok(false);
    };
    if !part.capture.is_valid() {
        return Err(CUresult::STREAM_CAPTURE_INVALIDATED);
    }
    *lock(&event.state) = EventState::Captured(part.capture.clone(), part.after.clone());
    Ok(true)
}

/// Makes a capturing stream wait for an event; an event of a capture adds the stream to that
/// capture.
pub fn wait(stream: &Arc<Stream>, event: &Event) -> Result {
    let state = lock(&event.state).clone();
    let mut guard = lock(&stream.capture);
    match (guard.as_mut(), state) {
        (None, EventState::Captured(capture, after)) => {
            if stream.is_legacy() {
                capture.invalidate();
                return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
            }
            if !capture.is_valid() {
                return Err(CUresult::STREAM_CAPTURE_INVALIDATED);
            }
            lock(&capture.streams).push(Arc::downgrade(stream));
            *guard = Some(StreamCapture { capture, after });
            Ok(())
        }
        (None, _) => Ok(()),
        (Some(part), EventState::Captured(capture, after)) => {
            if !Arc::ptr_eq(&part.capture, &capture) {
                part.capture.invalidate();
                return Err(CUresult::STREAM_CAPTURE_MERGE);
            }
            part.after.extend(after);
            part.after.sort_unstable();
            part.after.dedup();
            Ok(())
        }
        // Waiting for an event that was never recorded has no effect, captured or not.
        (Some(_), EventState::Never) => Ok(()),
        (Some(part), EventState::Recorded { .. }) => {
            part.capture.invalidate();
            Err(CUresult::STREAM_CAPTURE_ISOLATION)
        }
    }
}

/// Returns whether all work of the capture's other streams precedes the nodes on which the origin's
/// next node would depend.
fn joined(capture: &Capture, origin: &Stream, origin_after: &[usize]) -> bool {
    let nodes = lock(&capture.nodes);
    let mut before: HashSet<usize> = HashSet::new();
    let mut open = origin_after.to_vec();
    while let Some(node) = open.pop() {
        if before.insert(node) {
            open.extend(&nodes[node].after);
        }
    }
    drop(nodes);
    let streams: Vec<_> = lock(&capture.streams)
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    streams
        .iter()
        .filter(|stream| !std::ptr::eq(&***stream, origin))
        .all(|stream| {
            let part = lock(&stream.capture);
            part.as_ref()
                .is_none_or(|part| part.after.iter().all(|node| before.contains(node)))
        })
}

fn end(stream: &Arc<Stream>, out: Out<Handle>) -> Result {
    check(!out.is_null())?;
    out.set(0)?;
    let (capture, after) = match lock(&stream.capture).as_ref() {
        Some(part) => (part.capture.clone(), part.after.clone()),
        None => return Err(CUresult::ILLEGAL_STATE),
    };
    if capture.origin != stream.handle {
        capture.invalidate();
        return Err(CUresult::STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
        return Err(CUresult::STREAM_CAPTURE_WRONG_THREAD);
    }
    let joined = joined(&capture, stream, &after);
    for taking_part in lock(&capture.streams)
        .drain(..)
        .filter_map(|stream| stream.upgrade())
    {
        *lock(&taking_part.capture) = None;
    }
    let driver = driver()?;
    lock(&driver.captures).retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&capture)));
    if !capture.is_valid() {
        return Err(CUresult::STREAM_CAPTURE_INVALIDATED);
    }
    capture.invalidate();
    if !joined {
        return Err(CUresult::STREAM_CAPTURE_UNJOINED);
    }
    let nodes = std::mem::take(&mut *lock(&capture.nodes));
    let graph = driver.graphs.insert(|handle| Graph {
        handle,
        nodes: Mutex::new(nodes),
    });
    out.set(graph.handle)
}

/// The stream's `CUstreamCaptureStatus` and the id of its capture.
fn status(stream: &Stream) -> (u32, u64) {
    match lock(&stream.capture).as_ref() {
        None => (0, 0),
        Some(part) if part.capture.is_valid() => (1, part.capture.id),
        Some(part) => (2, part.capture.id),
    }
}

driver! {
    fn cuStreamBeginCapture_v2(handle: Handle, mode: u32) {
        let mode = match mode {
            0 => Mode::Global,
            1 => Mode::ThreadLocal,
            2 => Mode::Relaxed,
            _ => return Err(CUresult::INVALID_VALUE),
        };
        let (context, stream) = crate::driver::current::stream(handle)?;
        if stream.is_legacy() {
            return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
        }
        let mut part = lock(&stream.capture);
        if part.is_some() {
            return Err(CUresult::ILLEGAL_STATE);
        }
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let capture = Arc::new(Capture {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            mode,
            thread: std::thread::current().id(),
            origin: stream.handle,
            context: context.handle,
            invalid: AtomicBool::new(false),
            nodes: Mutex::default(),
            streams: Mutex::new(vec![Arc::downgrade(&stream)]),
        });
        lock(&driver()?.captures).push(Arc::downgrade(&capture));
        *part = Some(StreamCapture { capture, after: Vec::new() });
        Ok(())
    }

    fn cuStreamEndCapture(handle: Handle, graph: Out<Handle>) {
        let (_, stream) = crate::driver::current::stream(handle)?;
        end(&stream, graph)
    }

    fn cuStreamIsCapturing(handle: Handle, out: Out<u32>) {
        let (context, stream) = crate::driver::current::stream(handle)?;
        if stream.is_legacy() {
            forbid_legacy(&context)?;
        }
        out.set(status(&stream).0)
    }

    fn cuStreamGetCaptureInfo(handle: Handle, out: Out<u32>, id: Out<u64>) {
        let (_, stream) = crate::driver::current::stream(handle)?;
        let (status, number) = status(&stream);
        id.set_if_wanted(number);
        out.set(status)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        let wanted = crate::driver::types::In(mode.0.cast_const()).get()?;
        check(wanted <= 2)?;
        mode.set(THREAD_MODE.replace(wanted))
    }
}
