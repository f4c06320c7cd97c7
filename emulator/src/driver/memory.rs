//! Device memory.

use std::ffi::c_uint;
use std::sync::Arc;

use crate::driver::capture;
use crate::driver::current::{healthy, stream};
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::release::{note_allocated, release};
use crate::driver::state::{Allocation, AllocationKind, Context, Device, Op, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::{submit, wait_for_device, wait_for_everything};
use crate::driver::types::{DevicePtr, Handle, Location, Out, check};

/// Allocates `bytes` bytes of a device's memory and records their owner.
pub fn allocate(
    device: &Arc<Device>,
    context: Handle,
    bytes: usize,
    kind: AllocationKind,
) -> Result<DevicePtr> {
    let address = match device.backend.alloc(bytes as u64) {
        Err(CUresult::OUT_OF_MEMORY) => {
            // Pending frees of streams are completed first.
            queue::wait_for_frees()?;
            device.backend.alloc(bytes as u64)?
        }
        done => done?,
    };
    lock(&device.allocations).insert(
        address,
        Allocation {
            bytes: bytes as u64,
            context,
            kind,
        },
    );
    if let AllocationKind::Pool(pool) = kind {
        note_allocated(pool, bytes as u64);
    }
    Ok(address)
}

/// `cuMemFree`.
fn free(address: DevicePtr) -> Result {
    let context = ready_to_allocate()?;
    if address == 0 {
        return Ok(());
    }
    let (_, base, allocation) = driver()?.find(address).ok_or(CUresult::INVALID_VALUE)?;
    check(base == address)?;
    match allocation.kind {
        // "This API will not perform any implicit synchronization when the pointer was allocated
        // with cuMemAllocAsync or cuMemAllocFromPoolAsync. Callers must ensure that all accesses to
        // these pointer have completed before invoking cuMemFree."
        AllocationKind::Pool(_) => crate::driver::ordering::freed_by_host(address),
        // Memory that every device can access.
        AllocationKind::Managed | AllocationKind::External => wait_for_everything(&context)?,
        _ => wait_for_device(&context)?,
    }
    if crate::driver::host::release_managed(address)?
        || crate::driver::external::release_buffer(address)?
    {
        return Ok(());
    }
    release(address)
}

/// Stream-ordered allocation from a pool of a device; a node where the stream is captured.
pub fn allocate_async(
    out: Out<DevicePtr>,
    bytes: usize,
    pool: Option<Handle>,
    handle: Handle,
) -> Result {
    check(!out.is_null())?;
    let (context, stream) = stream(handle)?;
    if bytes == 0 {
        return out.set(0);
    }
    let pool = pool.unwrap_or_else(|| {
        context
            .device
            .pool
            .load(std::sync::atomic::Ordering::Relaxed)
    });
    let owner = driver()?.device(driver()?.pools.get(pool)?.ordinal as i32)?;
    if capture::is_capturing(&stream) {
        let address = allocate(&owner, context.handle, bytes, AllocationKind::Graph)?;
        submit(&context, &stream, Op::Alloc(address))?;
        return out.set(address);
    }
    let kind = AllocationKind::Pool(pool);
    let address = allocate(&owner, context.handle, bytes, kind)?;
    if let Err(code) = submit(&context, &stream, Op::Alloc(address)) {
        release(address)?;
        return Err(code);
    }
    out.set(address)
}

fn advise(address: DevicePtr, bytes: usize) -> Result {
    healthy()?;
    let (_, base, allocation) = driver()?.find(address).ok_or(CUresult::INVALID_VALUE)?;
    check(
        allocation.kind == AllocationKind::Managed
            && allocation.bytes - (address - base) >= bytes as u64,
    )
}

/// Checks for an allocation that waits for the device, which captures forbid.
fn ready_to_allocate() -> Result<Arc<Context>> {
    let context = healthy()?;
    capture::forbid_unsafe_call()?;
    Ok(context)
}

driver! {
    fn cuMemAlloc_v2(out: Out<DevicePtr>, bytes: usize) {
        check(!out.is_null() && bytes > 0)?;
        let context = ready_to_allocate()?;
        out.set(allocate(&context.device, context.handle, bytes, AllocationKind::Plain)?)
    }

    fn cuMemAllocPitch_v2(
        out: Out<DevicePtr>,
        pitch: Out<usize>,
        width: usize,
        height: usize,
        element_bytes: c_uint,
    ) {
        check(!out.is_null() && width > 0 && height > 0 && matches!(element_bytes, 4 | 8 | 16))?;
        let context = ready_to_allocate()?;
        let row = width.checked_next_multiple_of(512).ok_or(CUresult::OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(CUresult::OUT_OF_MEMORY)?;
        pitch.set(row)?;
        out.set(allocate(&context.device, context.handle, bytes, AllocationKind::Plain)?)
    }

    fn cuMemFree_v2(address: DevicePtr) {
        free(address)
    }

    fn cuMemAllocAsync(out: Out<DevicePtr>, bytes: usize, stream: Handle) {
        allocate_async(out, bytes, None, stream)
    }

    fn cuMemAllocFromPoolAsync(out: Out<DevicePtr>, bytes: usize, pool: Handle, stream: Handle) {
        driver()?.pools.get(pool)?;
        allocate_async(out, bytes, Some(pool), stream)
    }

    fn cuMemFreeAsync(address: DevicePtr, handle: Handle) {
        let (context, stream) = stream(handle)?;
        if address == 0 {
            return Ok(());
        }
        submit(&context, &stream, Op::Free(address))
    }

    fn cuMemAllocManaged(out: Out<DevicePtr>, bytes: usize, flags: c_uint) {
        check(!out.is_null() && bytes > 0 && matches!(flags, 1 | 2))?;
        let context = ready_to_allocate()?;
        out.set(crate::driver::host::allocate_managed(&context, bytes)?)
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let device = healthy()?.device.clone();
        free.set(device.memory_bytes.saturating_sub(device.used_bytes()) as usize)?;
        total.set(device.memory_bytes as usize)
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePtr>, bytes: Out<usize>, address: DevicePtr) {
        healthy()?;
        let (_, first, allocation) = driver()?.find(address).ok_or(CUresult::NOT_FOUND)?;
        base.set_if_wanted(first);
        bytes.set_if_wanted(allocation.bytes as usize);
        Ok(())
    }

    fn cuMemAdvise(address: DevicePtr, bytes: usize, _advice: c_uint, _device: i32) {
        advise(address, bytes)
    }

    fn cuMemAdvise_v2(address: DevicePtr, bytes: usize, _advice: c_uint, _location: Location) {
        advise(address, bytes)
    }

    fn cuMemPrefetchAsync(address: DevicePtr, bytes: usize, _device: i32, handle: Handle) {
        stream(handle)?;
        advise(address, bytes)
    }

    fn cuMemPrefetchAsync_v2(
        address: DevicePtr,
        bytes: usize,
        _location: Location,
        flags: c_uint,
        handle: Handle,
    ) {
        check(flags == 0)?;
        stream(handle)?;
        advise(address, bytes)
    }
}
