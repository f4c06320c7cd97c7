//! A device: memory, and the cores of this machine that run its blocks.
use crate::counters::Counters;
use crate::launch::{self, LaunchConfig};
use crate::load_error::LoadError;
use crate::memory::{Memory, Watch};
use crate::module::{LoadedKernel, LoadedModule, Module};
#[cfg(unix)]
use crate::order;
use crate::panics;
use crate::report::Fault;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Compute capability as 75, 80 or 90. Modules for a higher one are refused.
    pub sm: u32,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Which of several devices it is; the first [`MAX_DEVICES`](crate::memory::MAX_DEVICES) have
    /// different addresses.
    pub ordinal: u32,
    /// Threads that run blocks; `None` for as many as the machine has cores.
    pub workers: Option<usize>,
    /// A launch ends with a fault when one warp has executed more instructions than this, so that a
    /// loop which never ends is reported.
    pub instruction_limit: u64,
    /// A launch ends with a fault when it has taken longer than this; `None` for no such limit.
    pub time_limit: Option<Duration>,
    /// Bytes of text that a launch may print; of what is more, the latest is kept, as in CUDA's
    /// circular buffer.
    pub print_bytes: usize,
}

impl DeviceConfig {
    /// 10^10 instructions of one warp: some minutes.
    pub const DEFAULT_INSTRUCTION_LIMIT: u64 = 10_000_000_000;
    /// Ten minutes.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(600);
    /// 1 MiB: CUDA's default of `CU_LIMIT_PRINTF_FIFO_SIZE`.
    pub const DEFAULT_PRINT_BYTES: usize = 1 << 20;

    /// A device of capability `sm` (75, 80, 90) with 16 GiB.
    pub fn new(sm: u32) -> DeviceConfig {
        DeviceConfig {
            sm,
            memory_bytes: 16 << 30,
            ordinal: 0,
            workers: None,
            instruction_limit: Self::DEFAULT_INSTRUCTION_LIMIT,
            time_limit: Some(Self::DEFAULT_TIME_LIMIT),
            print_bytes: Self::DEFAULT_PRINT_BYTES,
        }
    }

    /// What one launch may take.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            instructions: self.instruction_limit,
            time: self.time_limit,
            print_bytes: self.print_bytes,
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

    /// Threads that run blocks.
    pub(crate) fn workers(&self) -> usize {
        // The standard library reads the limits of control groups from files each time.
        static CORES: LazyLock<usize> =
            LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
        self.workers.unwrap_or(*CORES)
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

    /// What it is.
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

/// What one launch may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Instructions of one warp.
    pub instructions: u64,
    /// How long it may run.
    pub time: Option<Duration>,
    /// Bytes that it may print.
    pub print_bytes: usize,
}
