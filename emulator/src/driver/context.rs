//! Contexts: a device's primary context and others, and the current one of a thread.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::driver::capture;
use crate::driver::config::Config;
use crate::driver::current::{current, healthy, with_stack};
use crate::driver::host;
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::release::note_freed;
use crate::driver::state::context::{PRINT_BYTES, default_limit};
use crate::driver::state::{AllocationKind, Context, Driver, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{Handle, Ordinal, Out, check};

/// The context of a handle.
fn context(handle: Handle) -> Result<Arc<Context>> {
    driver()?
        .contexts
        .get(handle)
        .map_err(|_| CUresult::INVALID_CONTEXT)
}

/// Creates a context and pushes it on the thread's stack.
fn create(out: Out<Handle>, flags: c_uint, ordinal: Ordinal) -> Result {
    check(!out.is_null() && flags & !0xff == 0)?;
    let device = driver()?.device(ordinal)?;
    let made = driver()?
        .contexts
        .insert(|handle| Context::new(handle, device, false, flags));
    out.set(made.handle)?;
    with_stack(|stack| stack.push(made));
    Ok(())
}

/// Maximum size of the printf buffer.
const MOST_PRINT_BYTES: usize = 1 << 30;

/// Destroys a context: waits for its work and releases its objects.
fn destroy(context: &Context, driver: &Driver) {
    // An error means that the process is ending.
    let _ = queue::wait(queue::Target::Context(context.handle));
    if context.mark_destroyed() {
        return;
    }
    let _ = driver.contexts.remove(context.handle);
    driver
        .streams
        .retain(|stream| stream.context != context.handle);
    driver
        .events
        .retain(|event| event.context != context.handle);
    driver
        .functions
        .retain(|function| function.module.context != context.handle);
    driver
        .modules
        .retain(|module| module.context != context.handle);
    let mut allocations = lock(&context.device.allocations);
    allocations.retain(|&address, allocation| {
        let keep = allocation.context != context.handle;
        if !keep {
            context.device.backend.free(address);
            if let AllocationKind::Pool(pool) = allocation.kind {
                note_freed(pool, allocation.bytes);
            }
        }
        keep
    });
    drop(allocations);
    host::forget_context(driver, context.handle);
}

/// Waits for all of a context's streams.
fn synchronize(context: &Context) -> Result {
    capture::forbid_in_context(context)?;
    queue::wait(queue::Target::Context(context.handle))?;
    context.healthy()
}

driver! {
    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, device: Ordinal) {
        check(!out.is_null())?;
        let driver = driver()?;
        let device = driver.device(device)?;
        let primary = driver.primary(&device);
        let mut primary = lock(&primary);
        let context = match &primary.context {
            Some(context) => context.clone(),
            None => {
                let flags = primary.flags;
                let made = driver.contexts
                    .insert(|handle| Context::new(handle, device.clone(), true, flags));
                primary.context = Some(made.clone());
                made
            }
        };
        primary.retained += 1;
        out.set(context.handle)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: Ordinal) {
        let driver = driver()?;
        let device = driver.device(device)?;
        let primary = driver.primary(&device);
        let mut primary = lock(&primary);
        if primary.retained == 0 {
            return Err(CUresult::INVALID_CONTEXT);
        }
        primary.retained -= 1;
        let last = if primary.retained == 0 { primary.context.take() } else { None };
        drop(primary);
        if let Some(context) = last {
            destroy(&context, driver);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(device: Ordinal) {
        let driver = driver()?;
        let device = driver.device(device)?;
        let primary = driver.primary(&device);
        let mut primary = lock(&primary);
        let context = primary.context.take();
        primary.retained = 0;
        drop(primary);
        if let Some(context) = context {
            destroy(&context, driver);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: Ordinal, flags: c_uint) {
        check(flags & !0xff == 0)?;
        let device = driver()?.device(device)?;
        let primary = driver()?.primary(&device);
        let mut primary = lock(&primary);
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: Ordinal, flags: Out<c_uint>, active: Out<c_int>) {
        let device = driver()?.device(device)?;
        let primary = driver()?.primary(&device);
        let primary = lock(&primary);
        flags.set(primary.flags)?;
        active.set(c_int::from(primary.context.is_some()))
    }

    fn cuCtxCreate_v2(out: Out<Handle>, flags: c_uint, device: Ordinal) {
        create(out, flags, device)
    }

    fn cuCtxCreate_v3(
        out: Out<Handle>, _affinity: *const c_void, count: c_int, flags: c_uint, device: Ordinal,
    ) {
        if count != 0 {
            return Err(CUresult::NOT_SUPPORTED);
        }
        create(out, flags, device)
    }

    fn cuCtxCreate_v4(out: Out<Handle>, parameters: *const c_void, flags: c_uint, device: Ordinal) {
        if !parameters.is_null() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        create(out, flags, device)
    }

    fn cuCtxDestroy_v2(handle: Handle) {
        let context = context(handle)?;
        if context.primary {
            return Err(CUresult::INVALID_CONTEXT);
        }
        with_stack(|stack| {
            if stack.last().is_some_and(|top| top.handle == handle) {
                stack.pop();
            }
        });
        destroy(&context, driver()?);
        Ok(())
    }

    fn cuCtxPushCurrent_v2(handle: Handle) {
        let context = context(handle)?;
        with_stack(|stack| stack.push(context));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(out: Out<Handle>) {
        driver()?;
        let popped = with_stack(Vec::pop).ok_or(CUresult::INVALID_CONTEXT)?;
        out.set_if_wanted(popped.handle);
        Ok(())
    }

    fn cuCtxSetCurrent(handle: Handle) {
        driver()?;
        let context = if handle == 0 { None } else { Some(context(handle)?) };
        with_stack(|stack| {
            stack.pop();
            stack.extend(context);
        });
        Ok(())
    }

    fn cuCtxGetCurrent(out: Out<Handle>) {
        driver()?;
        out.set(with_stack(|stack| stack.last().map_or(0, |top| top.handle)))
    }

    fn cuCtxGetDevice(device: Out<Ordinal>) {
        device.set(current()?.device.ordinal as Ordinal)
    }

    fn cuCtxGetDevice_v2(device: Out<Ordinal>, handle: Handle) {
        let context = if handle == 0 { current()? } else { context(handle)? };
        device.set(context.device.ordinal as Ordinal)
    }

    fn cuCtxGetId(handle: Handle, id: Out<u64>) {
        let context = if handle == 0 { current()? } else { context(handle)? };
        id.set(context.handle as u64)
    }

    fn cuCtxGetApiVersion(handle: Handle, version: Out<c_uint>) {
        if handle != 0 {
            context(handle)?;
        }
        version.set(Config::get()?.driver_version as c_uint)
    }

    fn cuCtxGetFlags(flags: Out<c_uint>) {
        flags.set(current()?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: c_uint) {
        check(flags & !0xff == 0)?;
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxSynchronize() {
        let context = healthy()?;
        synchronize(&context)
    }

    fn cuCtxSynchronize_v2(handle: Handle) {
        let context = if handle == 0 { current()? } else { context(handle)? };
        context.healthy()?;
        synchronize(&context)
    }

    fn cuCtxGetLimit(value: Out<usize>, limit: c_uint) {
        let context = healthy()?;
        let set = lock(&context.limits).get(&limit).copied();
        value.set(set.or(default_limit(limit)).ok_or(CUresult::UNSUPPORTED_LIMIT)?)
    }

    fn cuCtxSetLimit(limit: c_uint, value: usize) {
        let context = healthy()?;
        default_limit(limit).ok_or(CUresult::UNSUPPORTED_LIMIT)?;
        check(limit != PRINT_BYTES || value <= MOST_PRINT_BYTES)?;
        lock(&context.limits).insert(limit, value);
        Ok(())
    }

    fn cuCtxGetCacheConfig(config: Out<c_uint>) {
        config.set(healthy()?.cache_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetCacheConfig(config: c_uint) {
        check(config <= 3)?;
        healthy()?.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(config: Out<c_uint>) {
        config.set(healthy()?.shared_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetSharedMemConfig(config: c_uint) {
        check(config <= 2)?;
        healthy()?.shared_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        healthy()?;
        least.set_if_wanted(0);
        greatest.set_if_wanted(-5);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        healthy().map(|_| ())
    }

    fn cuCtxGetExecAffinity(_value: *mut c_void, _kind: c_int) {
        Err(CUresult::NOT_SUPPORTED)
    }

    fn cuCtxEnablePeerAccess(peer: Handle, flags: c_uint) {
        check(flags == 0)?;
        healthy()?;
        context(peer)?;
        Err(CUresult::PEER_ACCESS_UNSUPPORTED)
    }

    fn cuCtxDisablePeerAccess(peer: Handle) {
        healthy()?;
        context(peer)?;
        Err(CUresult::PEER_ACCESS_NOT_ENABLED)
    }

    fn cuCtxRecordEvent(handle: Handle, event: Handle) {
        let owner = if handle == 0 { current()? } else { context(handle)? };
        owner.healthy()?;
        crate::driver::event::record(&owner, &owner.legacy_stream, event)
    }

    fn cuCtxWaitEvent(handle: Handle, event: Handle) {
        let owner = if handle == 0 { current()? } else { context(handle)? };
        owner.healthy()?;
        crate::driver::event::wait(&owner, &owner.legacy_stream, event)
    }

    fn cuCtxAttach(out: Out<Handle>, flags: c_uint) {
        check(flags == 0)?;
        out.set(current()?.handle)
    }

    fn cuCtxDetach(handle: Handle) {
        context(handle).map(|_| ())
    }
}
