//! A device: memory, and the cores of this machine that run its blocks.
use crate::counters::Counters;
use crate::launch::{self, LaunchConfig};
use crate::load_error::LoadError;
use crate::memory::Memory;
use crate::module::{LoadedKernel, LoadedModule, Module};
use crate::report::Fault;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Compute capability as 75, 80 or 90. Modules for a higher one are refused.
    pub sm: u32,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Which of several devices it is; the first [`MAX_DEVICES`](crate::memory::MAX_DEVICES) have different addresses.
    pub ordinal: u32,
    /// Threads that run blocks; `None` for as many as the machine has cores.
    pub workers: Option<usize>,
    /// A launch ends with a fault when one warp has executed more instructions than this, so that a loop which never
    /// ends is reported.
    pub instruction_limit: u64,
}

impl DeviceConfig {
    /// 10^10 instructions of one warp: some minutes.
    pub const DEFAULT_INSTRUCTION_LIMIT: u64 = 10_000_000_000;

    /// A device of capability `sm` (75, 80, 90) with 16 GiB.
    pub fn new(sm: u32) -> DeviceConfig {
        DeviceConfig {
            sm,
            memory_bytes: 16 << 30,
            ordinal: 0,
            workers: None,
            instruction_limit: Self::DEFAULT_INSTRUCTION_LIMIT,
        }
    }

    /// Shared memory that a block may have, opt-in included.
    pub fn shared_bytes_per_block(&self) -> u32 {
        match self.sm {
            90.. => 227 << 10,
            80..90 => 163 << 10,
            _ => 64 << 10,
        }
    }

    /// Blocks that a multiprocessor holds at most.
    pub(crate) fn blocks_per_multiprocessor(&self) -> u32 {
        if self.sm >= 80 { 32 } else { 16 }
    }

    /// `%nsmid`: multiprocessors of a typical card of that capability.
    pub fn multiprocessors(&self) -> u32 {
        match self.sm {
            90.. => 132,
            80..90 => 108,
            _ => 40,
        }
    }
}

/// An emulated device. All methods may be called from any thread; launches run one after the other.
pub struct Device {
    config: DeviceConfig,
    memory: Arc<Memory>,
    launching: Mutex<()>,
}

impl Device {
    /// A new device with empty memory.
    pub fn new(config: DeviceConfig) -> Device {
        let memory = Arc::new(Memory::new(config.memory_bytes, config.ordinal));
        Device {
            config,
            memory,
            launching: Mutex::new(()),
        }
    }

    /// What it is.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Places a module's variables. An error if the module is for a newer device or memory is short.
    pub fn load(&self, module: &Module) -> Result<LoadedModule, LoadError> {
        let target = module.program().target;
        if target > self.config.sm {
            let message = format!(
                "the module is for sm_{target}, the device is sm_{}",
                self.config.sm
            );
            return Err(LoadError::new(0, message));
        }
        LoadedModule::place(module, &self.memory).map_err(|e| LoadError::new(0, e.to_string()))
    }

    /// As [`Device::launch`], with a thread of the host for every block, so that blocks may wait for each other. Grids
    /// that no card of the capability holds at a time are refused: more than 16 blocks a multiprocessor on 7.5, 32 from
    /// 8.0 on (the driver API counts in also what each block takes).
    pub fn launch_cooperative(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        let _one_at_a_time = self.one_at_a_time();
        launch::run_cooperative(&self.config, kernel, config, params)
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.launching
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs a kernel to its end. `params` is its parameter buffer, laid out as [`crate::ir::Kernel::params`] says.
    pub fn launch(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
    ) -> Result<Counters, Fault> {
        let _one_at_a_time = self.one_at_a_time();
        launch::run(&self.config, kernel, config, params)
    }
}
