//! What a stream can be told to do, and doing it.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Instant;

use super::capture;
use super::copy::Copy;
use super::fill::Fill;
use super::launch::Launch;
use super::registry::lock;
use super::state::{AllocationKind, Context, Event, EventState, Stream, driver};
use super::status::Result;
use super::types::DevicePtr;

/// A host function: `CUhostFn`.
pub type HostFunction = unsafe extern "C" fn(*mut c_void);

/// A host function's argument: an address that the emulator only passes on.
#[derive(Clone, Copy)]
pub struct HostData(pub *mut c_void);

// SAFETY: whoever submits a host function vouches that it may be called with its argument from any thread.
unsafe impl Send for HostData {}
// SAFETY: as above; the emulator itself never follows the address.
unsafe impl Sync for HostData {}

/// One piece of work; also what a node of a graph does.
#[derive(Clone)]
pub enum Op {
    Empty,
    Launch(Launch),
    Copy(Copy),
    Fill(Fill),
    Host(HostFunction, HostData),
    Record(Arc<Event>),
    /// Memory of an allocation node, reserved when the node is made.
    Alloc(DevicePtr),
    Free(DevicePtr),
}

impl Op {
    /// `CUgraphNodeType`.
    pub fn node_type(&self) -> u32 {
        match self {
            Op::Launch(_) => 0,
            Op::Copy(_) => 1,
            Op::Fill(_) => 2,
            Op::Host(..) => 3,
            Op::Empty => 5,
            Op::Record(_) => 7,
            Op::Alloc(_) => 10,
            Op::Free(_) => 11,
        }
    }

    /// Does the work, in the caller's thread. A kernel's fault is no error here: it breaks the context.
    pub fn run(&self, context: &Arc<Context>) -> Result {
        match self {
            // The memory of a graph's own allocation stays reserved until the graph is gone.
            Op::Empty | Op::Alloc(_) => Ok(()),
            Op::Launch(launch) => launch.run(context),
            Op::Copy(copy) => copy.run(context),
            Op::Fill(fill) => fill.run(),
            Op::Host(function, data) => {
                // SAFETY: who submitted the function vouches that it may be called with this argument.
                unsafe { function(data.0) };
                Ok(())
            }
            Op::Record(event) => {
                *lock(&event.state) = EventState::Done(Instant::now());
                Ok(())
            }
            Op::Free(address) => match driver()?.find(*address) {
                Some((_, _, allocation)) if allocation.kind == AllocationKind::Graph => Ok(()),
                _ => super::memory::release(*address),
            },
        }
    }
}

/// Gives a stream work: done at once, or noted as a node where the stream is being captured.
pub fn submit(context: &Arc<Context>, stream: &Arc<Stream>, op: Op) -> Result {
    context.healthy()?;
    if capture::note(context, stream, &op)? {
        return Ok(());
    }
    op.run(context)
}
