//! A device: memory, and the host's cores, which run its blocks.
pub use crate::device_config::DeviceConfig;
pub(crate) use crate::device_config::Limits;

use crate::counters::Counters;
use crate::launch::{self, LaunchConfig};
use crate::load_error::LoadError;
use crate::memory::{Memory, Watch};
use crate::module::{LoadedKernel, LoadedModule, Module};
#[cfg(unix)]
use crate::order;
use crate::panics;
use crate::report::Fault;
use std::sync::{Arc, PoisonError, RwLock};

/// An emulated device. All methods may be called from any thread. Launches of [`Device::launch`]
/// run one after another; those of the driver may overlap.
pub struct Device {
    config: DeviceConfig,
    memory: Arc<Memory>,
    /// Locked for reading by launches that may overlap.
    launching: RwLock<()>,
}

impl Device {
    /// A new device with empty memory.
    pub fn new(config: DeviceConfig) -> Device {
        let memory = Arc::new(Memory::new(config.memory_bytes, config.ordinal));
        Device {
            config,
            memory,
            launching: RwLock::new(()),
        }
    }

    /// Properties of the device.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Memory of the device.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Allocates a module's variables. Returns an error if the module is for a newer device or
    /// memory is insufficient.
    pub fn load(&self, module: &Module) -> Result<LoadedModule, LoadError> {
        let target = module.program().target;
        if target > self.config.sm {
            let message = format!(
                "the module is for sm_{target}, the device is sm_{}",
                self.config.sm
            );
            return Err(LoadError::new(0, message));
        }
        let placed = panics::contain(|| LoadedModule::place(module, &self.memory));
        match placed {
            Ok(placed) => placed.map_err(|error| LoadError::new(0, error.to_string())),
            Err(panic) => Err(LoadError::new(0, panic.to_string())),
        }
    }

    /// As [`Device::launch`], with one host thread per block, so that blocks may wait for each
    /// other. Grids larger than any card of the capability holds at a time are refused: more than
    /// 16 blocks per SM on 7.5, 32 from 8.0 on. The driver API also counts the resources of each
    /// block.
    pub fn launch_cooperative(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        self.launch_within(&self.config.limits(), kernel, config, params, true)
    }

    /// Runs a kernel to its end. `params` is its parameter buffer with the layout of
    /// [`crate::ir::Kernel::params`].
    pub fn launch(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        self.launch_within(&self.config.limits(), kernel, config, params, false)
    }

    /// Runs a kernel with limits other than the device's own.
    pub(crate) fn launch_within(
        &self,
        limits: &Limits,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
        cooperative: bool,
    ) -> Result<Counters, Fault> {
        let _alone = self
            .launching
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let what = (kernel, config, params);
        self.launch_noting(limits, what, cooperative, Watch::Off)
    }

    /// As [`Device::launch_within`], but concurrently with other launches. Returns the accesses to
    /// each allocation: whether it was accessed at all or, if `fine`, which bytes.
    #[cfg(unix)]
    pub(crate) fn launch_watched(
        &self,
        limits: &Limits,
        what: (&LoadedKernel, LaunchConfig, &[u8]),
        cooperative: bool,
        fine: bool,
    ) -> (Result<Counters, Fault>, Vec<order::Access>) {
        let _shared = self
            .launching
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let slot = self.memory.watching().begin(fine);
        let allocations = self.memory.snapshot();
        let result = self.launch_noting(limits, what, cooperative, slot.watch);
        let touched = allocations.iter().filter_map(|allocation| {
            let footprint = allocation.watched.take(slot.watch, allocation.bytes)?;
            Some(order::Access {
                region: allocation.region(),
                is_host: allocation.is_host(),
                footprint,
            })
        });
        (result, touched.collect())
    }

    /// Runs a kernel and records its accesses as `watch` specifies.
    fn launch_noting(
        &self,
        limits: &Limits,
        (kernel, config, params): (&LoadedKernel, LaunchConfig, &[u8]),
        cooperative: bool,
        watch: Watch,
    ) -> Result<Counters, Fault> {
        let device = DeviceConfig {
            instruction_limit: limits.instructions,
            time_limit: limits.time,
            print_bytes: limits.print_bytes,
            ..self.config.clone()
        };
        if cooperative {
            launch::run_cooperative(&device, kernel, config, params, watch)
        } else {
            launch::run(&device, kernel, config, params, watch)
        }
    }
}
