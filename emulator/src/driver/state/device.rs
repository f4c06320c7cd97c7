//! Devices and their allocations.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use crate::driver::backend::Backend;
use crate::driver::config::Config;
use crate::driver::device_profiles::Card;
use crate::driver::registry::lock;
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, Handle};

/// An emulated device: its memory and allocations.
pub struct Device {
    pub ordinal: usize,
    pub card: &'static Card,
    pub memory_bytes: u64,
    pub backend: Backend,
    pub allocations: Mutex<BTreeMap<DevicePtr, Allocation>>,
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

impl Device {
    /// A device of a capability; `new_pool` creates its default pool.
    pub fn new(
        ordinal: usize,
        capability: u32,
        config: &Config,
        new_pool: impl FnOnce() -> Handle,
    ) -> Result<Device> {
        let card = Card::of(capability).ok_or(CUresult::INVALID_DEVICE)?;
        let memory_bytes = config
            .memory
            .unwrap_or_else(|| card.memory_bytes.min(machine_memory() / 2));
        let backend = Backend::new(capability, ordinal, memory_bytes, config.threads);
        let pool = new_pool();
        Ok(Device {
            ordinal,
            card,
            memory_bytes,
            backend,
            allocations: Mutex::default(),
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
