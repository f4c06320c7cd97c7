//! Memory pools of stream-ordered allocations.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::Ordering;

use crate::driver::registry::lock;
use crate::driver::state::{Pool, driver};
use crate::driver::status::CUresult;
use crate::driver::types::{Handle, In, Ordinal, Out, PoolProperties, check};

/// Returns whether an attribute is a `cuuint64_t`; the others are `int`. `None` for an unknown
/// number.
fn is_wide(attribute: c_uint) -> Option<bool> {
    match attribute {
        1..=3 => Some(false),
        4..=8 => Some(true),
        _ => None,
    }
}

fn value(pool: &Pool, attribute: c_uint) -> u64 {
    let used = *lock(&pool.used);
    match attribute {
        // Memory is freed immediately, so reserved memory equals used memory.
        5 | 7 => used.current,
        6 | 8 => used.high,
        _ => lock(&pool.attributes)
            .get(&attribute)
            .copied()
            .unwrap_or(u64::from(attribute <= 3)),
    }
}

fn forget_high(pool: &Pool) {
    let mut used = lock(&pool.used);
    used.high = used.current;
}

driver! {
    fn cuDeviceGetDefaultMemPool(out: Out<Handle>, device: Ordinal) {
        out.set(driver()?.device(device)?.default_pool)
    }

    fn cuDeviceGetMemPool(out: Out<Handle>, device: Ordinal) {
        out.set(driver()?.device(device)?.pool.load(Ordering::Relaxed))
    }

    fn cuDeviceSetMemPool(device: Ordinal, pool: Handle) {
        let device = driver()?.device(device)?;
        let pool = driver()?.pools.get(pool)?;
        check(pool.ordinal == device.ordinal)?;
        device.pool.store(pool.handle, Ordering::Relaxed);
        Ok(())
    }

    fn cuMemPoolCreate(out: Out<Handle>, properties: In<PoolProperties>) {
        check(!out.is_null())?;
        let wanted = properties.get()?;
        // Pinned memory on a device; handles for other processes are not supported.
        check(wanted.allocation_type == 1 && wanted.location_type == 1)?;
        if wanted.handle_types != 0 {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let device = driver()?.device(wanted.location_id)?;
        out.set(driver()?.pools.insert(|handle| Pool::new(handle, device.ordinal, false)).handle)
    }

    fn cuMemPoolDestroy(handle: Handle) {
        let pool = driver()?.pools.get(handle)?;
        check(!pool.is_default)?;
        let device = driver()?.device(pool.ordinal as Ordinal)?;
        let _ = device.pool
            .compare_exchange(handle, device.default_pool, Ordering::Relaxed, Ordering::Relaxed);
        driver()?.pools.remove(handle).map(|_| ())
    }

    fn cuMemPoolTrimTo(handle: Handle, _keep: usize) {
        driver()?.pools.get(handle).map(|_| ())
    }

    fn cuMemPoolGetAttribute(handle: Handle, attribute: c_uint, out: *mut c_void) {
        let pool = driver()?.pools.get(handle)?;
        match is_wide(attribute).ok_or(CUresult::INVALID_VALUE)? {
            true => Out(out.cast::<u64>()).set(value(&pool, attribute)),
            false => Out(out.cast::<c_int>()).set(value(&pool, attribute) as c_int),
        }
    }

    fn cuMemPoolSetAttribute(handle: Handle, attribute: c_uint, from: *const c_void) {
        let pool = driver()?.pools.get(handle)?;
        let wanted = match is_wide(attribute).ok_or(CUresult::INVALID_VALUE)? {
            true => In(from.cast::<u64>()).get()?,
            false => In(from.cast::<c_int>()).get()? as u64,
        };
        match attribute {
            5 | 7 => Err(CUresult::INVALID_VALUE),
            6 | 8 => {
                // A high-water mark may only be reset.
                check(wanted == 0)?;
                forget_high(&pool);
                Ok(())
            }
            _ => {
                lock(&pool.attributes).insert(attribute, wanted);
                Ok(())
            }
        }
    }

    fn cuMemPoolSetAccess(handle: Handle, _list: *const c_void, count: usize) {
        driver()?.pools.get(handle)?;
        if count == 0 { Ok(()) } else { Err(CUresult::NOT_SUPPORTED) }
    }

    fn cuMemPoolGetAccess(flags: Out<c_uint>, handle: Handle, _location: *const c_void) {
        driver()?.pools.get(handle)?;
        flags.set(3)
    }

    fn cuDeviceGraphMemTrim(device: Ordinal) {
        driver()?.device(device).map(|_| ())
    }

    fn cuDeviceGetGraphMemAttribute(device: Ordinal, attribute: c_uint, out: Out<u64>) {
        check(attribute <= 3)?;
        let device = driver()?.device(device)?;
        let graph = crate::driver::state::AllocationKind::Graph;
        let used = lock(&device.allocations).values().filter(|a| a.kind == graph)
            .map(|a| a.bytes).sum();
        out.set(used)
    }
}
