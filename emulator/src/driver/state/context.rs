//! Contexts.

use std::collections::HashMap;
use std::ffi::c_uint;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use crate::driver::registry::lock;
use crate::driver::state::device::Device;
use crate::driver::state::operation::{Stream, TaskId};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::Handle;

/// `CU_LIMIT_PRINTF_FIFO_SIZE`.
pub const PRINT_BYTES: c_uint = 1;

/// Default value of a limit.
pub fn default_limit(limit: c_uint) -> Option<usize> {
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

/// Order of a context's legacy stream and its blocking streams.
///
/// CUDA driver API, "Stream synchronization behavior": "When an action is taken in the legacy
/// stream such as a kernel launch or cudaStreamWaitEvent(), the legacy stream first waits on all
/// blocking streams, the action is queued in the legacy stream, and then all blocking streams wait
/// on the legacy stream."
#[derive(Default)]
pub struct LegacyOrder {
    /// The legacy stream's last task.
    pub last: TaskId,
    /// The last task of each blocking stream with tasks submitted since then, by stream id.
    pub since: HashMap<u64, TaskId>,
}

impl LegacyOrder {
    /// The last tasks of the legacy stream and of the streams that it waits for.
    pub fn tail(&self) -> Vec<TaskId> {
        self.since.values().copied().chain([self.last]).collect()
    }
}

/// A context, primary or not.
pub struct Context {
    pub handle: Handle,
    pub device: Arc<Device>,
    pub primary: bool,
    pub flags: AtomicU32,
    /// The sticky error that every call returns after a fault; 0 for no error.
    error: AtomicU32,
    destroyed: AtomicBool,
    pub legacy_stream: Arc<Stream>,
    per_thread_streams: Mutex<HashMap<ThreadId, Arc<Stream>>>,
    pub legacy_order: Mutex<LegacyOrder>,
    pub limits: Mutex<HashMap<u32, usize>>,
    pub cache_config: AtomicU32,
    pub shared_config: AtomicU32,
}

impl Context {
    pub fn new(handle: Handle, device: Arc<Device>, primary: bool, flags: u32) -> Context {
        Context {
            handle,
            device,
            primary,
            flags: AtomicU32::new(flags),
            error: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
            legacy_stream: Arc::new(Stream::new(1, handle, 0, 0)),
            per_thread_streams: Mutex::default(),
            legacy_order: Mutex::default(),
            limits: Mutex::default(),
            cache_config: AtomicU32::new(0),
            shared_config: AtomicU32::new(0),
        }
    }

    /// The stream of handle 2 (`CU_STREAM_PER_THREAD`) on this thread.
    pub fn per_thread_stream(&self) -> Arc<Stream> {
        let mut streams = lock(&self.per_thread_streams);
        let make = || Arc::new(Stream::new(2, self.handle, 0, 0));
        streams
            .entry(std::thread::current().id())
            .or_insert_with(make)
            .clone()
    }

    /// Marks the context as broken by a kernel; the first error is kept.
    pub fn fail(&self, code: CUresult) {
        let _ = self
            .error
            .compare_exchange(0, code.0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The sticky error, if a kernel faulted, or `CUDA_ERROR_CONTEXT_IS_DESTROYED`.
    pub fn healthy(&self) -> Result {
        self.alive()?;
        CUresult(self.error.load(Ordering::Acquire)).into()
    }

    /// Marks the context as destroyed; returns whether it already was.
    pub fn mark_destroyed(&self) -> bool {
        self.destroyed.swap(true, Ordering::AcqRel)
    }

    /// `CUDA_ERROR_CONTEXT_IS_DESTROYED` after its destruction.
    pub fn alive(&self) -> Result {
        if self.destroyed.load(Ordering::Acquire) {
            Err(CUresult::CONTEXT_IS_DESTROYED)
        } else {
            Ok(())
        }
    }

    /// Current value of a limit.
    pub fn limit(&self, limit: c_uint) -> usize {
        let set = lock(&self.limits).get(&limit).copied();
        set.or(default_limit(limit)).unwrap_or(0)
    }
}
