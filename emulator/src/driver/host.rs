//! Host memory: page-locked, registered, and managed. Kernels access all three under their host
//! addresses.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use crate::driver::capture;
use crate::driver::current::healthy;
use crate::driver::queue;
use crate::driver::registry::{fresh_handle, lock};
use crate::driver::state::{Allocation, AllocationKind, Context, Driver, HostRange, Pages, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::wait_for_everything;
use crate::driver::types::{DevicePtr, Handle, Out, check};

/// Alignment of pages, in bytes.
const PAGE: usize = 4096;

/// Allocates zeroed pages. For an alignment above the system's own, `alloc_zeroed` would write
/// every byte, so the start is aligned manually and no byte is written.
fn pages(bytes: usize) -> Result<(u64, Pages)> {
    let size = bytes
        .max(1)
        .checked_next_multiple_of(PAGE)
        .and_then(|size| size.checked_add(PAGE));
    let layout = size.and_then(|size| Layout::from_size_align(size, 16).ok());
    let layout = layout.ok_or(CUresult::OUT_OF_MEMORY)?;
    // SAFETY: the size is not zero.
    let pointer = unsafe { alloc_zeroed(layout) };
    if pointer.is_null() {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    let start = pointer as usize;
    Ok((start.next_multiple_of(PAGE) as u64, Pages { start, layout }))
}

/// Refuses host memory beyond the limit: page-locked and managed memory together may be as large as
/// the largest device's memory.
fn within_limit(driver: &Driver, host: &BTreeMap<u64, HostRange>, bytes: usize) -> Result {
    let devices = driver.devices();
    let limit = devices.iter().map(|device| device.memory_bytes).max();
    let used = host
        .values()
        .filter(|range| range.layout.is_some())
        .fold(0u64, |sum, range| sum.saturating_add(range.bytes as u64));
    match used.checked_add(bytes as u64) {
        Some(all) if all <= limit.unwrap_or(0) => Ok(()),
        _ => {
            crate::driver::contain::log_detail(&format!(
                "{bytes} bytes of host memory asked for with {used} in use: PTX_EMULATOR_MEMORY is \
                the most, {}",
                limit.unwrap_or(0)
            ));
            Err(CUresult::OUT_OF_MEMORY)
        }
    }
}

/// Maps a range of host memory on every device.
pub fn map(
    driver: &Driver,
    address: u64,
    bytes: usize,
    context: Handle,
    kind: AllocationKind,
) -> Result {
    for device in driver.devices() {
        // SAFETY: the range stays valid until it is unmapped: the driver frees its own memory after
        // that, and the caller that registers memory guarantees it until it is unregistered.
        unsafe { device.backend.map_host(address, bytes as u64) }?;
        lock(&device.allocations).insert(
            address,
            Allocation {
                bytes: bytes as u64,
                context,
                kind,
            },
        );
    }
    Ok(())
}

/// Unmaps a range of host memory from every device.
pub fn unmap(driver: &Driver, address: u64) {
    for device in driver.devices() {
        if lock(&device.allocations).remove(&address).is_some() {
            device.backend.free(address);
        }
    }
}

fn allocate(context: &Arc<Context>, bytes: usize, flags: u32, kind: AllocationKind) -> Result<u64> {
    let driver = driver()?;
    let mut host = lock(&driver.host);
    within_limit(driver, &host, bytes)?;
    let (address, layout) = pages(bytes)?;
    let range = HostRange {
        number: fresh_handle(),
        bytes,
        flags,
        layout: Some(layout),
        context: context.handle,
    };
    host.insert(address, range);
    drop(host);
    if let Err(code) = map(driver, address, bytes, context.handle, kind) {
        drop_range(driver, address);
        return Err(code);
    }
    Ok(address)
}

/// Removes a range, and frees it if the driver allocated it. Later work does not find it; running
/// work in all streams is waited for first.
fn drop_range(driver: &Driver, address: u64) {
    unmap(driver, address);
    let range = lock(&driver.host).remove(&address);
    if queue::wait_for_running().is_err() {
        // The process is ending: work that cannot be waited for may still use it.
        return;
    }
    if let Some(pages) = range.and_then(|range| range.layout) {
        // SAFETY: allocated by `pages` with this layout, and no longer in the table.
        unsafe { dealloc(pages.start as *mut u8, pages.layout) };
    }
}

/// Allocates managed memory.
pub fn allocate_managed(context: &Arc<Context>, bytes: usize) -> Result<DevicePtr> {
    if bytes as u64 > context.device.memory_bytes {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    allocate(context, bytes, 0, AllocationKind::Managed)
}

/// Frees managed memory; returns whether the address was that of a managed allocation.
pub fn release_managed(address: DevicePtr) -> Result<bool> {
    let driver = driver()?;
    match driver.find(address) {
        Some((_, base, allocation)) if allocation.kind == AllocationKind::Managed => {
            check(base == address)?;
            drop_range(driver, address);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Frees host memory of a destroyed context.
pub fn forget_context(driver: &Driver, context: Handle) {
    let left: Vec<u64> = lock(&driver.host)
        .iter()
        .filter(|(_, range)| range.context == context)
        .map(|(&address, _)| address)
        .collect();
    left.into_iter()
        .for_each(|address| drop_range(driver, address));
}

/// The range of host memory that contains an address.
fn range_of(address: u64) -> Result<(u64, u32)> {
    let host = lock(&driver()?.host);
    let (&base, range) = host
        .range(..=address)
        .next_back()
        .ok_or(CUresult::INVALID_VALUE)?;
    check(address - base < range.bytes as u64)?;
    Ok((base, range.flags))
}

fn allocate_pinned(out: Out<*mut c_void>, bytes: usize, flags: c_uint) -> Result {
    check(!out.is_null() && bytes > 0 && flags & !7 == 0)?;
    let context = healthy()?;
    capture::forbid_unsafe_call()?;
    out.set(allocate(&context, bytes, flags, AllocationKind::Host)? as *mut c_void)
}

driver! {
    fn cuMemHostAlloc(out: Out<*mut c_void>, bytes: usize, flags: c_uint) {
        allocate_pinned(out, bytes, flags)
    }

    fn cuMemAllocHost_v2(out: Out<*mut c_void>, bytes: usize) {
        allocate_pinned(out, bytes, 0)
    }

    // Running kernels and copies may use the memory, so the driver waits for all of them.
    fn cuMemFreeHost(pointer: *mut c_void) {
        let context = healthy()?;
        capture::forbid_unsafe_call()?;
        let driver = driver()?;
        let address = pointer as u64;
        check(lock(&driver.host).get(&address).is_some_and(|range| range.layout.is_some()))?;
        wait_for_everything(&context)?;
        drop_range(driver, address);
        Ok(())
    }

    fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: c_uint) {
        check(!pointer.is_null() && bytes > 0 && flags & !15 == 0)?;
        let context = healthy()?;
        let driver = driver()?;
        let address = pointer as u64;
        let end = address.checked_add(bytes as u64).ok_or(CUresult::INVALID_VALUE)?;
        let mut host = lock(&driver.host);
        let before = host.range(..end).next_back();
        if before.is_some_and(|(&base, range)| base + range.bytes as u64 > address) {
            return Err(CUresult::HOST_MEMORY_ALREADY_REGISTERED);
        }
        host.insert(address, HostRange {
            number: fresh_handle(), bytes, flags, layout: None, context: context.handle,
        });
        drop(host);
        let mapped = map(driver, address, bytes, context.handle, AllocationKind::Host);
        if mapped.is_err() {
            drop_range(driver, address);
        }
        mapped
    }

    fn cuMemHostUnregister(pointer: *mut c_void) {
        let context = healthy()?;
        let driver = driver()?;
        let address = pointer as u64;
        if lock(&driver.host).get(&address).is_none_or(|range| range.layout.is_some()) {
            return Err(CUresult::HOST_MEMORY_NOT_REGISTERED);
        }
        wait_for_everything(&context)?;
        drop_range(driver, address);
        Ok(())
    }

    fn cuMemHostGetDevicePointer_v2(out: Out<DevicePtr>, pointer: *mut c_void, flags: c_uint) {
        check(flags == 0)?;
        healthy()?;
        range_of(pointer as u64)?;
        out.set(pointer as u64)
    }

    fn cuMemHostGetFlags(flags: Out<c_uint>, pointer: *mut c_void) {
        healthy()?;
        flags.set(range_of(pointer as u64)?.1)
    }
}
