//! Connection of the driver's tasks with the stream order checker ([`crate::order`]), and reports
//! of its conflicts.

use std::sync::{Arc, LazyLock, Mutex};

use crate::driver::config::{self, OrderCheck};
use crate::driver::current::healthy;
use crate::driver::journal::note_fault;
use crate::driver::queue::task::Task;
use crate::driver::registry::lock;
use crate::driver::state::transfer::{self, Kind, Side, Transfer};
use crate::driver::state::{Context, Device, Op, Stream, driver};
use crate::driver::status::CUresult;
use crate::driver::touched::{self, is_off, setting, used_stream};
use crate::driver::types::DevicePtr;
use crate::order::{Access, Bytes, Conflict, Done, Footprint, Operation, Order, Place, Site, What};

static ORDER: LazyLock<Mutex<Order>> = LazyLock::new(Mutex::default);

/// Records that a task was submitted. Runs in the submitting thread with the scheduler locked, in
/// the order of task ids.
pub fn submitted(task: &Task) {
    if is_off() {
        return;
    }
    used_stream(task.stream.id);
    let site = Site {
        context: task.context.handle,
        device: task.context.device.ordinal,
    };
    lock(&ORDER).submitted(task.id, site, &task.after);
}

/// Records that a task starts in this thread, after the end of each task before it. For a momentary
/// task the scheduler is locked.
pub fn begins(task: &Task) {
    match &task.op {
        _ if is_off() => {}
        op if op.is_host_function() => lock(&ORDER).host_function_begins(task.id),
        // The allocation no longer exists afterwards.
        Op::Release(device, address) => touched::touched(whole(device, *address)),
        _ => {}
    }
}

/// Records that a task has ended in this thread. For a momentary task the scheduler is locked.
pub fn ends(task: &Task) {
    let mut accesses = touched::take();
    if is_off() {
        return;
    }
    let is_run = matches!(task.op, Op::Release(..)) || task.context.healthy().is_ok();
    let what = if is_run {
        describe(&task.op, &mut accesses)
    } else {
        None
    };
    accesses.retain_mut(name_host_memory);
    let operation = what.map(|what| Operation {
        what,
        place: place(&task.stream),
        stream: task.stream.id,
    });
    let conflict = lock(&ORDER).ended(task.id, operation, accesses);
    if let Some(conflict) = conflict {
        report(&task.context, &conflict);
    }
}

/// Records that a host thread has synchronised with tasks.
pub fn host_knows(done: Done) {
    if !is_off() {
        lock(&ORDER).host_knows(done);
    }
}

/// Records that the calling host thread frees memory of a pool without waiting.
pub fn freed_by_host(address: DevicePtr) {
    let found = driver().ok().and_then(|driver| driver.find(address));
    let Some((device, ..)) = found.filter(|_| !is_off()) else {
        return;
    };
    for access in whole(&device, address) {
        let conflict = lock(&ORDER).freed_by_host(access);
        if let (Some(conflict), Ok(context)) = (conflict, healthy()) {
            report(&context, &conflict);
        }
    }
}

/// Reports a conflict, which breaks the context as a kernel's fault does.
fn report(context: &Arc<Context>, conflict: &Conflict) {
    let text = conflict.to_string();
    config::report(&format!("ptx-emulator: {text}"));
    note_fault(text, CUresult::LAUNCH_FAILED);
    if setting() == OrderCheck::Error {
        context.fail(CUresult::LAUNCH_FAILED);
    }
}

/// Replaces the number of host memory, which differs per device, by that of the first device.
/// Returns whether the memory still exists; otherwise it was freed by a call that has waited.
fn name_host_memory(access: &mut Access) -> bool {
    if !access.is_host {
        return true;
    }
    let first = driver().ok().and_then(|driver| driver.device(0).ok());
    let found = first.and_then(|device| device.backend.region_at(access.region.base));
    let same = found.filter(|(region, _)| region.base == access.region.base);
    same.map(|(region, _)| access.region = region).is_some()
}

fn place(stream: &Stream) -> Place {
    match stream.handle {
        0 | 1 => Place::Legacy,
        2 => Place::PerThread(stream.id),
        handle => Place::Stream(handle, !stream.is_blocking()),
    }
}

/// Kind of an operation; adds accesses that are not yet recorded. `None` for operations without
/// accesses.
fn describe(op: &Op, accesses: &mut Vec<Access>) -> Option<What> {
    match op {
        Op::Launch(launch) => Some(What::Kernel(launch.name().to_owned())),
        Op::Transfer(transfer) => {
            let sizes = [transfer.width, transfer.height, transfer.depth].map(|n| n as u64);
            accesses.extend(side(&transfer.from, sizes, Footprint::reads));
            accesses.extend(side(&transfer.to, sizes, Footprint::writes));
            Some(direction(transfer))
        }
        Op::Fill(fill) => {
            let (device, address, [width, height, pitch]) = fill.place()?;
            let sizes = [width, height, 1];
            accesses.extend(rows(device, address, sizes, [pitch, 0], Footprint::writes));
            Some(What::Fill)
        }
        Op::Alloc(address) => {
            let devices = driver().map(|driver| driver.devices()).unwrap_or_default();
            accesses.extend(devices.iter().flat_map(|device| whole(device, *address)));
            Some(What::Allocation)
        }
        Op::Release(..) => Some(What::Free),
        _ => None,
    }
}

fn direction(transfer: &Transfer) -> What {
    let name = |kind| match kind {
        Kind::Pageable => "pageable memory",
        Kind::Pinned => "page-locked memory",
        Kind::Unified => "managed memory",
        Kind::Device => "device memory",
    };
    What::Copy(name(transfer.from.kind), name(transfer.to.kind))
}

/// The whole allocation at an address, as a write access.
fn whole(device: &Device, address: DevicePtr) -> Vec<Access> {
    let found = device.backend.region_at(address);
    let access = found.map(|(region, is_host)| Access {
        footprint: Footprint::writes(Bytes::range(0, region.bytes)),
        region,
        is_host,
    });
    access.into_iter().collect()
}

/// Access of one side of a copy, if it is memory of the driver.
fn side(side: &Side, sizes: [u64; 3], footprint: fn(Bytes) -> Footprint) -> Option<Access> {
    let pitches = [side.pitch, side.plane].map(|n| n as u64);
    match &side.place {
        transfer::Place::Device(device, address) => {
            rows(device, *address, sizes, pitches, footprint)
        }
        transfer::Place::Pinned(address, _) => {
            // Host memory is mapped on every device.
            let device = driver().ok()?.device(0).ok()?;
            rows(&device, *address as u64, sizes, pitches, footprint)
        }
        transfer::Place::Host(_) | transfer::Place::Staged(_) => None,
    }
}

/// Footprint of rows of bytes that begin at an address.
fn rows(
    device: &Device,
    address: DevicePtr,
    sizes: [u64; 3],
    pitches: [u64; 2],
    footprint: fn(Bytes) -> Footprint,
) -> Option<Access> {
    let (region, is_host) = device.backend.region_at(address)?;
    let bytes = Bytes::rows(address - region.base, sizes, pitches);
    Some(Access {
        region,
        is_host,
        footprint: footprint(bytes),
    })
}
