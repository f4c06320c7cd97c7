//! The driver's objects, and their registries by handle.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread::ThreadId;
use std::time::Instant;

use super::backend::Backend;
use super::capture::{Capture, StreamCapture};
use super::config::Config;
use super::device_profiles::Card;
use super::queue::{self, LegacyOrder, TaskId};
use super::registry::{Registry, fresh_handle, lock};
use super::status::{CUresult, Result};
use super::types::{DevicePtr, Handle};
use super::work::Op;
use crate::memory::MAX_DEVICES;

/// State of the driver.
#[derive(Default)]
pub struct Driver {
    devices: RwLock<Vec<Arc<Device>>>,
    initialized: AtomicBool,
    pub contexts: Registry<Context>,
    pub streams: Registry<Stream>,
    pub events: Registry<Event>,
    pub modules: Registry<Module>,
    pub functions: Registry<Function>,
    pub graphs: Registry<Graph>,
    pub execs: Registry<GraphExec>,
    pub pools: Registry<Pool>,
    pub imports: crate::driver::external::Imports,
    /// Mappings of imported memory that its buffers keep alive, by the buffer's address.
    pub external_buffers: Mutex<HashMap<DevicePtr, Arc<crate::driver::external::ExternalMemory>>>,
    /// Host memory that the driver allocated or registered, by its first address.
    pub host: Mutex<BTreeMap<u64, HostRange>>,
    /// Captures under way.
    pub captures: Mutex<Vec<Weak<Capture>>>,
}

/// The driver of the process, initialised or not.
pub fn driver_raw() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(Driver::default)
}

/// The driver, or `CUDA_ERROR_NOT_INITIALIZED` before `cuInit`.
pub fn driver() -> Result<&'static Driver> {
    let driver = driver_raw();
    if driver.initialized.load(Ordering::Acquire) {
        Ok(driver)
    } else {
        Err(CUresult::NOT_INITIALIZED)
    }
}

impl Driver {
    /// `cuInit`: creates the devices of the environment's settings, unless the client has created
    /// others.
    pub fn initialize(&self) -> Result {
        let config = Config::get()?;
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        if devices.is_empty() {
            for index in 0..config.devices {
                let capability = config
                    .capabilities
                    .get(index)
                    .or(config.capabilities.last());
                let ordinal = devices.len();
                devices.push(Arc::new(Device::new(
                    self,
                    ordinal,
                    capability.copied().unwrap_or(80),
                    config,
                )?));
            }
        }
        if devices.is_empty() {
            return Err(CUresult::NO_DEVICE);
        }
        self.initialized.store(true, Ordering::Release);
        Ok(())
    }

    /// The ordinals of `count` devices of a capability; missing ones are added.
    pub fn ensure(&self, capability: u32, count: usize) -> Result<Vec<usize>> {
        let config = Config::get()?;
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<usize> = devices
            .iter()
            .filter(|device| device.card.capability == capability)
            .map(|device| device.ordinal)
            .collect();
        let missing = count.saturating_sub(found.len());
        if missing > (MAX_DEVICES as usize).saturating_sub(devices.len()) {
            return Err(CUresult::INVALID_VALUE);
        }
        while found.len() < count {
            let ordinal = devices.len();
            devices.push(Arc::new(Device::new(self, ordinal, capability, config)?));
            found.push(ordinal);
        }
        found.truncate(count);
        Ok(found)
    }

    /// All devices, in the order of their ordinals.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        self.devices
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Number of devices.
    pub fn device_count(&self) -> usize {
        self.devices
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// A device, or `CUDA_ERROR_INVALID_DEVICE`.
    pub fn device(&self, ordinal: i32) -> Result<Arc<Device>> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| devices.get(ordinal))
            .cloned()
            .ok_or(CUresult::INVALID_DEVICE)
    }

    /// The device and the allocation that contain an address.
    pub fn find(&self, address: DevicePtr) -> Option<(Arc<Device>, DevicePtr, Allocation)> {
        self.devices().into_iter().find_map(|device| {
            let (base, allocation) = device.find(address)?;
            Some((device, base, allocation))
        })
    }
}

/// Host memory known to the driver.
pub struct HostRange {
    /// Unique number, which distinguishes it from later memory at the same address.
    pub number: Handle,
    pub bytes: usize,
    pub flags: u32,
    /// Pages of an allocation by the driver; `None` for registered memory.
    pub layout: Option<crate::driver::host::Pages>,
    pub context: Handle,
}

/// An emulated device: its memory, allocations and primary context.
pub struct Device {
    pub ordinal: usize,
    pub card: &'static Card,
    pub memory_bytes: u64,
    pub backend: Backend,
    pub allocations: Mutex<BTreeMap<DevicePtr, Allocation>>,
    pub primary: Mutex<Primary>,
    pub default_pool: Handle,
    pub pool: AtomicUsize,
}

/// A range of device memory that is in use.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    pub bytes: u64,
    pub context: Handle,
    pub kind: AllocationKind,
}

/// Origin of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationKind {
    /// `cuMemAlloc`.
    Plain,
    /// `cuMemAllocAsync` and its like, from a pool.
    Pool(Handle),
    /// `cuMemAllocManaged`.
    Managed,
    /// A variable of a module.
    Module,
    /// An allocation node of a graph; lives as long as the graph.
    Graph,
    /// Host memory that kernels may reach.
    Host,
    /// A buffer on imported memory.
    External,
}

/// The state of a device's primary context.
#[derive(Default)]
pub struct Primary {
    pub context: Option<Arc<Context>>,
    pub retained: usize,
    pub flags: u32,
}

impl Device {
    fn new(driver: &Driver, ordinal: usize, capability: u32, config: &Config) -> Result<Device> {
        let card = Card::of(capability).ok_or(CUresult::INVALID_DEVICE)?;
        let memory_bytes = config
            .memory
            .unwrap_or_else(|| card.memory_bytes.min(machine_memory() / 2));
        let backend = Backend::new(capability, ordinal, memory_bytes, config.threads);
        let pool = driver
            .pools
            .insert(|handle| Pool::new(handle, ordinal, true))
            .handle;
        Ok(Device {
            ordinal,
            card,
            memory_bytes,
            backend,
            allocations: Mutex::default(),
            primary: Mutex::default(),
            default_pool: pool,
            pool: AtomicUsize::new(pool),
        })
    }

    /// The allocation that contains an address, with its first address.
    pub fn find(&self, address: DevicePtr) -> Option<(DevicePtr, Allocation)> {
        let allocations = lock(&self.allocations);
        let (&base, &allocation) = allocations.range(..=address).next_back()?;
        (address - base < allocation.bytes).then_some((base, allocation))
    }

    /// Number of bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.backend.used()
    }
}

/// The machine's memory in bytes; 8 GiB if it cannot be determined.
fn machine_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        });
    kilobytes.map_or(8 << 30, |kilobytes| kilobytes * 1024)
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

    /// `CUDA_ERROR_CONTEXT_IS_DESTROYED` after its destruction.
    pub fn alive(&self) -> Result {
        if self.destroyed.load(Ordering::Acquire) {
            Err(CUresult::CONTEXT_IS_DESTROYED)
        } else {
            Ok(())
        }
    }

    /// Destroys the context: waits for its work and releases its objects.
    pub fn destroy(&self, driver: &Driver) {
        // An error means that the process is ending.
        let _ = queue::wait(queue::Target::Context(self.handle));
        if self.destroyed.swap(true, Ordering::AcqRel) {
            return;
        }
        let _ = driver.contexts.remove(self.handle);
        driver
            .streams
            .retain(|stream| stream.context != self.handle);
        driver.events.retain(|event| event.context != self.handle);
        driver
            .functions
            .retain(|function| function.module.context != self.handle);
        driver
            .modules
            .retain(|module| module.context != self.handle);
        let mut allocations = lock(&self.device.allocations);
        allocations.retain(|&address, allocation| {
            let keep = allocation.context != self.handle;
            if !keep {
                self.device.backend.free(address);
                if let AllocationKind::Pool(pool) = allocation.kind {
                    crate::driver::pool::note_freed(pool, allocation.bytes);
                }
            }
            keep
        });
        drop(allocations);
        crate::driver::host::forget_context(driver, self.handle);
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

/// A loaded module.
pub struct Module {
    pub handle: Handle,
    pub context: Handle,
    pub program: crate::Module,
    pub loaded: crate::LoadedModule,
    /// Handles of its functions, by name.
    pub functions: Mutex<HashMap<String, Handle>>,
}

/// A kernel of a module.
pub struct Function {
    pub handle: Handle,
    pub module: Arc<Module>,
    pub kernel: crate::LoadedKernel,
    pub name: CString,
    /// The maximum of dynamic shared memory in bytes that launches may request.
    pub max_dynamic_shared: AtomicU32,
    pub carveout: AtomicU32,
    pub cluster: crate::driver::cluster::Settings,
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

/// A graph; its nodes are in topological order.
pub struct Graph {
    pub handle: Handle,
    pub nodes: Mutex<Vec<Node>>,
}

/// An executable graph.
pub struct GraphExec {
    /// The task that ends its last launch.
    pub last: Mutex<TaskId>,
    pub handle: Handle,
    pub nodes: Vec<Node>,
    pub flags: u64,
}

/// A memory pool.
pub struct Pool {
    pub handle: Handle,
    pub ordinal: usize,
    pub is_default: bool,
    /// Attributes that were set, by number.
    pub attributes: Mutex<HashMap<u32, u64>>,
    pub used: Mutex<PoolUse>,
}

/// Bytes allocated from a pool.
#[derive(Clone, Copy, Default)]
pub struct PoolUse {
    pub current: u64,
    pub high: u64,
}

impl Pool {
    pub fn new(handle: Handle, ordinal: usize, is_default: bool) -> Pool {
        Pool {
            handle,
            ordinal,
            is_default,
            attributes: Mutex::default(),
            used: Mutex::default(),
        }
    }
}
