//! Release of device memory, and the use of pools.

use std::sync::Arc;

use crate::driver::registry::lock;
use crate::driver::state::{AllocationKind, Device, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, Handle, check};

/// Removes an allocation from the table, so that later calls do not find it, and returns its
/// device. The address must be the first of an allocation that callers may free.
/// [`crate::driver::backend::Backend::free`] frees the memory.
pub fn forget(address: DevicePtr) -> Result<Arc<Device>> {
    let (device, base, allocation) = driver()?.find(address).ok_or(CUresult::INVALID_VALUE)?;
    check(
        base == address
            && !matches!(
                allocation.kind,
                AllocationKind::Module | AllocationKind::Host
            ),
    )?;
    // If two threads free the same memory, the second gets an error.
    (lock(&device.allocations).remove(&address)).ok_or(CUresult::INVALID_VALUE)?;
    if let AllocationKind::Pool(pool) = allocation.kind {
        note_freed(pool, allocation.bytes);
    }
    Ok(device)
}

/// Frees memory immediately.
pub fn release(address: DevicePtr) -> Result {
    forget(address)?.backend.free(address);
    Ok(())
}

/// Records an allocation from a pool.
pub fn note_allocated(pool: Handle, bytes: u64) {
    if let Ok(pool) = driver().and_then(|driver| driver.pools.get(pool)) {
        let mut used = lock(&pool.used);
        used.current += bytes;
        used.high = used.high.max(used.current);
    }
}

/// Records that an allocation was freed.
pub fn note_freed(pool: Handle, bytes: u64) {
    if let Ok(pool) = driver().and_then(|driver| driver.pools.get(pool)) {
        let mut used = lock(&pool.used);
        used.current = used.current.saturating_sub(bytes);
    }
}
