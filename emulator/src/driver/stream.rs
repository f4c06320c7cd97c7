//! Streams: creation, waits, queries, and host functions.

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::capture;
use crate::driver::current::{healthy, stream};
use crate::driver::state::{CallbackFunction, Context, HostData, HostFunction, Op, Stream, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::{query_stream, submit, wait_for_stream};
use crate::driver::types::{DevicePtr, Handle, Ordinal, Out, check};

/// Priorities range from 0 to this value, the highest priority.
const GREATEST_PRIORITY: c_int = -5;

fn create(out: Out<Handle>, flags: c_uint, priority: c_int) -> Result {
    check(!out.is_null() && flags & !Stream::NON_BLOCKING == 0)?;
    let context: std::sync::Arc<Context> = healthy()?;
    let priority = priority.clamp(GREATEST_PRIORITY, 0);
    let made = driver()?
        .streams
        .insert(|handle| Stream::new(handle, context.handle, flags, priority));
    crate::driver::touched::stream_created();
    out.set(made.handle)
}

driver! {
    fn cuStreamCreate(out: Out<Handle>, flags: c_uint) {
        create(out, flags, 0)
    }

    fn cuStreamCreateWithPriority(out: Out<Handle>, flags: c_uint, priority: c_int) {
        create(out, flags, priority)
    }

    fn cuStreamDestroy_v2(handle: Handle) {
        let (_, found) = stream(handle)?;
        if handle <= 2 {
            return Err(CUresult::INVALID_HANDLE);
        }
        let _ = capture::forbid_on_stream(&found);
        // "In case the device is still doing work in the stream hStream when cuStreamDestroy() is
        // called, the function will return immediately and the resources associated with hStream
        // will be released automatically once the device has completed all work in hStream."
        driver()?.streams.remove(handle).map(|_| ())
    }

    fn cuStreamSynchronize(handle: Handle) {
        let (context, stream) = stream(handle)?;
        capture::forbid_on_stream(&stream)?;
        wait_for_stream(&context, &stream)
    }

    fn cuStreamQuery(handle: Handle) {
        let (context, stream) = stream(handle)?;
        capture::forbid_on_stream(&stream)?;
        query_stream(&context, &stream)
    }

    fn cuStreamWaitEvent(handle: Handle, event: Handle, flags: c_uint) {
        check(flags & !1 == 0)?;
        let (context, stream) = stream(handle)?;
        crate::driver::event::wait(&context, &stream, event)
    }

    fn cuStreamGetFlags(handle: Handle, flags: Out<c_uint>) {
        flags.set(stream(handle)?.1.flags)
    }

    fn cuStreamGetPriority(handle: Handle, priority: Out<c_int>) {
        priority.set(stream(handle)?.1.priority)
    }

    fn cuStreamGetId(handle: Handle, id: Out<u64>) {
        let (context, stream) = stream(handle)?;
        let of_context = stream.handle <= 2;
        let first = if of_context { context.handle } else { 0 };
        id.set((first + stream.handle) as u64)
    }

    fn cuStreamGetCtx(handle: Handle, context: Out<Handle>) {
        context.set(stream(handle)?.0.handle)
    }

    fn cuStreamGetDevice(handle: Handle, device: Out<Ordinal>) {
        device.set(stream(handle)?.0.device.ordinal as Ordinal)
    }

    fn cuStreamCopyAttributes(to: Handle, from: Handle) {
        stream(to)?;
        stream(from).map(|_| ())
    }

    fn cuStreamAttachMemAsync(handle: Handle, address: DevicePtr, _bytes: usize, flags: c_uint) {
        check(matches!(flags, 1 | 2 | 4))?;
        stream(handle)?;
        let (_, _, allocation) = driver()?.find(address).ok_or(CUresult::INVALID_VALUE)?;
        check(allocation.kind == crate::driver::state::AllocationKind::Managed)
    }

    fn cuLaunchHostFunc(handle: Handle, function: Option<HostFunction>, data: *mut c_void) {
        let function = function.ok_or(CUresult::INVALID_VALUE)?;
        let (context, stream) = stream(handle)?;
        submit(&context, &stream, Op::Host(function, HostData(data)))
    }

    fn cuStreamAddCallback(
        handle: Handle,
        function: Option<CallbackFunction>,
        data: *mut c_void,
        flags: c_uint,
    ) {
        check(flags == 0)?;
        let function = function.ok_or(CUresult::INVALID_VALUE)?;
        let (context, stream) = stream(handle)?;
        capture::forbid_on_stream(&stream)?;
        submit(&context, &stream, Op::Callback(handle, function, HostData(data)))
    }
}
