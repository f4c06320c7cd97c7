//! Operations of a stream, and what refers to them: nodes, captures, streams, events.
//!
//! These types are one cycle. An event that was recorded in a capturing stream has the capture,
//! which has nodes with operations, one of which may record an event.

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;
use std::time::Instant;

use crate::driver::registry::fresh_handle;
use crate::driver::state::copy::Copy;
use crate::driver::state::device::Device;
use crate::driver::state::fill::Fill;
use crate::driver::state::launch::Launch;
use crate::driver::state::transfer::Transfer;
use crate::driver::types::{DevicePtr, Handle};

/// Id of a task, in order of submission. 0 means no task, and counts as done.
pub type TaskId = u64;

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
}

/// A node of a graph: its operation and its dependencies.
#[derive(Clone)]
pub struct Node {
    pub handle: Handle,
    pub op: Op,
    pub after: Vec<usize>,
}

impl Node {
    pub fn new(op: Op, after: Vec<usize>) -> Node {
        Node {
            handle: fresh_handle(),
            op,
            after,
        }
    }
}

/// An event.
pub struct Event {
    pub handle: Handle,
    pub context: Handle,
    pub flags: u32,
    pub state: Mutex<EventState>,
}

/// State of an event's last record.
#[derive(Clone, Default)]
pub enum EventState {
    #[default]
    Never,
    /// Recorded by a task, with the time at which the stream reached it.
    Recorded {
        task: TaskId,
        reached: Option<Instant>,
    },
    /// Recorded in a capturing stream: the capture and the nodes before it.
    Captured(Arc<Capture>, Vec<usize>),
}

/// Scope of the calls that a capture forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

/// A capture in progress; several streams can take part.
pub struct Capture {
    pub id: u64,
    pub mode: Mode,
    pub thread: ThreadId,
    pub origin: Handle,
    pub context: Handle,
    pub invalid: AtomicBool,
    pub nodes: Mutex<Vec<Node>>,
    pub streams: Mutex<Vec<Weak<Stream>>>,
}

/// A stream's state in a capture: the nodes that its next node depends on.
pub struct StreamCapture {
    pub capture: Arc<Capture>,
    pub after: Vec<usize>,
}

impl Capture {
    /// Marks the capture as failed.
    pub fn invalidate(&self) {
        self.invalid.store(true, Ordering::Release);
    }

    /// Returns whether the capture has not failed.
    pub fn is_valid(&self) -> bool {
        !self.invalid.load(Ordering::Acquire)
    }
}

/// A stream.
pub struct Stream {
    /// Unique id in the process; the handles of default streams are the same in all contexts and
    /// threads.
    pub id: u64,
    /// The last submitted task. Changed only under the scheduler's lock.
    last: AtomicU64,
    pub handle: Handle,
    pub context: Handle,
    pub flags: u32,
    pub priority: i32,
    pub capture: Mutex<Option<StreamCapture>>,
}

impl Stream {
    /// `CU_STREAM_NON_BLOCKING`.
    pub const NON_BLOCKING: u32 = 1;

    pub fn new(handle: Handle, context: Handle, flags: u32, priority: i32) -> Stream {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Stream {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            last: AtomicU64::new(0),
            handle,
            context,
            flags,
            priority,
            capture: Mutex::default(),
        }
    }

    /// The last submitted task.
    pub fn last(&self) -> TaskId {
        self.last.load(Ordering::Acquire)
    }

    /// Sets the last submitted task; called by the scheduler.
    pub fn set_last(&self, task: TaskId) {
        self.last.store(task, Ordering::Release);
    }

    /// Returns whether the stream and the legacy stream wait for each other.
    pub fn is_blocking(&self) -> bool {
        self.flags & Stream::NON_BLOCKING == 0
    }

    /// Returns whether this is the legacy default stream, which all threads share.
    pub fn is_legacy(&self) -> bool {
        self.handle == 1
    }
}
