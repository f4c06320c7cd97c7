//! A device: memory, and the cores of this machine that run its blocks.
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

/// An emulated device. All methods may be called from any thread. Launches run one after the other;
/// those of the driver may overlap.
pub struct Device {
    config: DeviceConfig,
    memory: Arc<Memory>,
    /// Shared by launches that may overlap.
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

    /// Kind.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Places a module's variables. An error if the module is for a newer device or memory is
    /// short.
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

    /// As [`Device::launch`], with a thread of the host for every block, so that blocks may wait
    /// for each other. Grids that no card of the capability holds at a time are refused: more than
    /// 16 blocks a multiprocessor on 7.5, 32 from 8.0 on (the driver API counts in also what each
    /// block takes).
    pub fn launch_cooperative(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        self.launch_within(&self.config.limits(), kernel, config, params, true)
    }

    /// Runs a kernel to its end. `params` is its parameter buffer, laid out as
    /// [`crate::ir::Kernel::params`] says.
    pub fn launch(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        self.launch_within(&self.config.limits(), kernel, config, params, false)
    }

    /// Runs a kernel within other limits than the device's own.
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

    /// As [`Device::launch_within`], but beside others, and says what the launch did to each
    /// allocation that it touched: to some of its bytes, or if `fine` to which.
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

    /// Runs a kernel and notes its accesses as `watch` says.
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
