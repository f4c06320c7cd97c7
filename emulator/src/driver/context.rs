//! Contexts: a device's primary context and others, and the current one of a thread.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::capture;
use super::config::Config;
use super::current::{current, healthy, with_stack};
use super::queue;
use super::registry::lock;
use super::state::{Context, driver};
use super::status::{CUresult, Result};
use super::types::{Handle, Ordinal, Out, check};

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

/// `CU_LIMIT_PRINTF_FIFO_SIZE`.
pub const PRINT_BYTES: c_uint = 1;
/// Maximum size of the printf buffer.
const MOST_PRINT_BYTES: usize = 1 << 30;

/// Current value of a context's limit.
pub fn limit(context: &Context, limit: c_uint) -> usize {
    let set = lock(&context.limits).get(&limit).copied();
    set.or(default_limit(limit)).unwrap_or(0)
}

/// Default value of a limit.
fn default_limit(limit: c_uint) -> Option<usize> {
    Some(match limit {
        0 => 1024,    // stack of a thread
        1 => 1 << 20, // printf's buffer
        2 => 8 << 20, // heap
        3 => 2,       // depth of device-side launches
        4 => 2048,    // pending device-side launches
        5 => 64,      // L2 fetch granularity
        6 => 0,       // persisting L2 cache
        _ => return None,
    })
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
        let mut primary = lock(&device.primary);
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
        let mut primary = lock(&device.primary);
        if primary.retained == 0 {
            return Err(CUresult::INVALID_CONTEXT);
        }
        primary.retained -= 1;
        let last = if primary.retained == 0 { primary.context.take() } else { None };
        drop(primary);
        if let Some(context) = last {
            context.destroy(driver);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(device: Ordinal) {
        let driver = driver()?;
        let device = driver.device(device)?;
        let mut primary = lock(&device.primary);
        let context = primary.context.take();
        primary.retained = 0;
        drop(primary);
        if let Some(context) = context {
            context.destroy(driver);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: Ordinal, flags: c_uint) {
        check(flags & !0xff == 0)?;
        let device = driver()?.device(device)?;
        let mut primary = lock(&device.primary);
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: Ordinal, flags: Out<c_uint>, active: Out<c_int>) {
        let device = driver()?.device(device)?;
        let primary = lock(&device.primary);
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
        context.destroy(driver()?);
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
