//! The driver of the process: its objects by handle.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use crate::driver::config::Config;
use crate::driver::registry::{Registry, lock};
use crate::driver::state::context::Context;
use crate::driver::state::device::{Allocation, Device};
use crate::driver::state::external::ExternalMemory;
use crate::driver::state::graph::{Graph, GraphExec};
use crate::driver::state::memory::{HostRange, Pool};
use crate::driver::state::module::{Function, Module};
use crate::driver::state::operation::{Capture, Event, Stream};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::DevicePtr;
use crate::memory::MAX_DEVICES;

/// State of the driver.
#[derive(Default)]
pub struct Driver {
    devices: RwLock<Vec<Arc<Device>>>,
    /// The primary contexts, by the device's ordinal.
    primaries: Mutex<BTreeMap<usize, Arc<Mutex<Primary>>>>,
    initialized: AtomicBool,
    pub contexts: Registry<Context>,
    pub streams: Registry<Stream>,
    pub events: Registry<Event>,
    pub modules: Registry<Module>,
    pub functions: Registry<Function>,
    pub graphs: Registry<Graph>,
    pub execs: Registry<GraphExec>,
    pub pools: Registry<Pool>,
    pub imports: Registry<ExternalMemory>,
    /// Mappings of imported memory that its buffers keep alive, by the buffer's address.
    pub external_buffers: Mutex<HashMap<DevicePtr, Arc<ExternalMemory>>>,
    /// Host memory that the driver allocated or registered, by its first address.
    pub host: Mutex<BTreeMap<u64, HostRange>>,
    /// Captures under way.
    pub captures: Mutex<Vec<Weak<Capture>>>,
}

/// The state of a device's primary context.
#[derive(Default)]
pub struct Primary {
    pub context: Option<Arc<Context>>,
    pub retained: usize,
    pub flags: u32,
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
                let capability = capability.copied().unwrap_or(80);
                devices.push(self.new_device(ordinal, capability, config)?);
            }
        }
        if devices.is_empty() {
            return Err(CUresult::NO_DEVICE);
        }
        self.initialized.store(true, Ordering::Release);
        Ok(())
    }

    fn new_device(&self, ordinal: usize, capability: u32, config: &Config) -> Result<Arc<Device>> {
        let new_pool = || {
            let pool = self.pools.insert(|handle| Pool::new(handle, ordinal, true));
            pool.handle
        };
        Device::new(ordinal, capability, config, new_pool).map(Arc::new)
    }

    /// The state of a device's primary context.
    pub fn primary(&self, device: &Device) -> Arc<Mutex<Primary>> {
        lock(&self.primaries)
            .entry(device.ordinal)
            .or_default()
            .clone()
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
            devices.push(self.new_device(ordinal, capability, config)?);
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
