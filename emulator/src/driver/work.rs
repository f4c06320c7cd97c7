//! Operations of a stream, and their execution.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::capture;
use super::copy::Copy;
use super::fill::Fill;
use super::launch::Launch;
use super::queue;
use super::state::{AllocationKind, Context, Device, Event, Stream, driver};
use super::status::{CUresult, Result};
use super::transfer::Transfer;
use super::types::{DevicePtr, Handle};

/// A host function: `CUhostFn`.
pub type HostFunction = unsafe extern "C" fn(*mut c_void);

/// A callback: `CUstreamCallback`.
pub type CallbackFunction = unsafe extern "C" fn(Handle, c_uint, *mut c_void);

/// A host function's argument: an address that the emulator never dereferences.
#[derive(Clone, Copy)]
pub struct HostData(pub *mut c_void);

// SAFETY: the caller that submits a host function guarantees that it may be called with its
// argument from any thread.
unsafe impl Send for HostData {}
// SAFETY: as above; the emulator itself never dereferences the address.
unsafe impl Sync for HostData {}

/// Limit in bytes of copies and fills that take less time than waking a thread.
const SHORT_BYTES: usize = 1 << 16;

thread_local! {
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs a host function, whose driver calls return
/// `CUDA_ERROR_NOT_PERMITTED`.
pub fn in_host_function() -> bool {
    IN_HOST_FUNCTION.get()
}

/// An operation of a stream or of a graph's node.
#[derive(Clone)]
pub enum Op {
    Empty,
    Launch(Launch),
    /// An unresolved copy: a graph's node. Streams get [`Op::Transfer`].
    Copy(Copy),
    /// A copy with resolved memory.
    Transfer(Transfer),
    Fill(Fill),
    Host(HostFunction, HostData),
    /// `cuStreamAddCallback`: it is called even if the context is broken, with the error code.
    Callback(Handle, CallbackFunction, HostData),
    Record(Arc<Event>),
    /// A wait: later tasks follow the record of an event, which the task lists as a predecessor.
    Wait,
    /// Memory of an allocation node or of a stream-ordered allocation, already allocated.
    Alloc(DevicePtr),
    /// An unresolved free: a graph's node. Streams get [`Op::Release`].
    Free(DevicePtr),
    /// Memory to free, already removed from the table of allocations.
    Release(Arc<Device>, DevicePtr),
}

impl Op {
    /// The node's `CUgraphNodeType`.
    pub fn node_type(&self) -> u32 {
        match self {
            Op::Launch(_) => 0,
            Op::Copy(_) | Op::Transfer(_) => 1,
            Op::Fill(_) => 2,
            Op::Host(..) | Op::Callback(..) => 3,
            Op::Empty => 5,
            Op::Wait => 6,
            Op::Record(_) => 7,
            Op::Alloc(_) => 10,
            Op::Free(_) | Op::Release(..) => 11,
        }
    }

    /// Returns whether it takes no time: done as soon as all tasks before it are.
    pub fn is_momentary(&self) -> bool {
        matches!(self, Op::Empty | Op::Record(_) | Op::Wait | Op::Alloc(_))
    }

    /// Returns whether it is a host function, which may wait for anything.
    pub fn is_host_function(&self) -> bool {
        matches!(self, Op::Host(..) | Op::Callback(..))
    }

    /// Returns whether it takes less time than waking a thread.
    pub fn is_short(&self) -> bool {
        match self {
            Op::Release(..) => true,
            Op::Transfer(transfer) => transfer.bytes() <= SHORT_BYTES,
            Op::Fill(fill) => fill.bytes() <= SHORT_BYTES,
            _ => false,
        }
    }

    /// Resolves the memory of the operation: invalid addresses are errors of the submitting call.
    pub fn prepare(self) -> Result<Op> {
        Ok(match self {
            Op::Copy(copy) => Op::Transfer(copy.resolve()?),
            Op::Fill(fill) => Op::Fill(fill.resolve()?),
            Op::Free(address) => match driver()?.find(address) {
                // The memory of a graph's own allocation stays allocated until the graph is
                // destroyed.
                Some((_, _, allocation)) if allocation.kind == AllocationKind::Graph => Op::Empty,
                _ => Op::Release(crate::driver::memory::forget(address)?, address),
            },
            other => other,
        })
    }

    /// Performs the operation. An error breaks the context; a kernel's fault has already done so.
    pub fn run(&self, context: &Arc<Context>) -> Result {
        let broken = context.healthy();
        match self {
            Op::Release(device, address) => device.backend.free(*address),
            Op::Callback(stream, function, data) => {
                let code = broken.err().map_or(0, |code| code.0);
                // SAFETY: the caller that added the callback guarantees that it may be called with
                // this argument.
                call_host(|| unsafe { function(*stream, code, data.0) });
            }
            // After a fault, no operation of the context runs. "The function will not be called in
            // the event of an error in the CUDA context" (cuLaunchHostFunc).
            _ if broken.is_err() => {}
            Op::Launch(launch) => launch.run(context)?,
            Op::Transfer(transfer) => transfer.run()?,
            Op::Fill(fill) => fill.run()?,
            Op::Host(function, data) => {
                // SAFETY: the caller that submitted the function guarantees that it may be called
                // with this argument.
                call_host(|| unsafe { function(data.0) });
            }
            Op::Copy(copy) => copy.resolve()?.run()?,
            Op::Empty | Op::Record(_) | Op::Wait | Op::Alloc(_) | Op::Free(_) => {}
        }
        Ok(())
    }
}

/// Calls a host function; its driver calls are refused.
fn call_host(function: impl FnOnce()) {
    let before = IN_HOST_FUNCTION.replace(true);
    function();
    IN_HOST_FUNCTION.set(before);
}

/// Adds work as a node if the stream is being captured; returns whether it did. Otherwise the
/// caller submits the work.
pub fn noted(context: &Arc<Context>, stream: &Arc<Stream>, op: &Op) -> Result<bool> {
    context.healthy()?;
    capture::note(context, stream, op)
}

/// Submits work to a stream, or adds it as a node if the stream is being captured.
pub fn submit(context: &Arc<Context>, stream: &Arc<Stream>, op: Op) -> Result {
    if !noted(context, stream, &op)? {
        queue::submit(context, stream, op.prepare()?, &[]);
    }
    Ok(())
}

/// Waits until a stream's work is done; for the legacy stream also that of the blocking streams.
pub fn wait_for_stream(context: &Arc<Context>, stream: &Arc<Stream>) -> Result {
    queue::wait(queue::Target::Tasks(&queue::tail(context, stream)))?;
    context.healthy()
}

/// Queries whether a stream's work is done: `CUDA_ERROR_NOT_READY` if not.
pub fn query_stream(context: &Arc<Context>, stream: &Arc<Stream>) -> Result {
    queue::query(&queue::tail(context, stream))?;
    context.healthy()
}

/// Waits for all work of a device, as calls that free memory do.
pub fn wait_for_device(context: &Arc<Context>) -> Result {
    queue::wait(queue::Target::Device(context.device.ordinal))?;
    context.healthy()
}

/// Waits for all work of the process, as calls that free memory of all devices do.
pub fn wait_for_everything(context: &Arc<Context>) -> Result {
    queue::wait(queue::Target::All)?;
    context.healthy()
}

/// Error of a task whose memory was freed. It is reported like a kernel's fault.
pub fn gone(what: &str, address: u64, bytes: usize) -> CUresult {
    let report = format!(
        "use after free: {what} of {bytes} bytes at {address:#x}; its allocation was freed after \
        the call that submitted \
         the work and before the stream came to it"
    );
    crate::driver::config::report(&format!("ptx-emulator: {report}"));
    crate::driver::client_api::note_fault(report, CUresult::ILLEGAL_ADDRESS);
    CUresult::ILLEGAL_ADDRESS
}
