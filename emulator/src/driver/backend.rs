//! Interface of the driver to the emulator: memory, modules and launches of one device, with errors
//! converted to codes.

use crate::device::Limits;
use crate::driver::config;
use crate::driver::status::{CUresult, Result};
use crate::driver::touched;
use crate::driver::types::DevicePtr;
use crate::report::{FaultKind, Region};
use crate::{
    Counters, Device, DeviceConfig, Fault, LaunchConfig, LoadError, LoadedKernel, LoadedModule,
    MemoryError, Module,
};

/// One emulated device.
pub struct Backend {
    device: Device,
}

fn code(error: MemoryError) -> CUresult {
    match error {
        MemoryError::OutOfMemory { .. } => CUresult::OUT_OF_MEMORY,
        _ => CUresult::INVALID_VALUE,
    }
}

impl Backend {
    pub fn new(
        capability: u32,
        ordinal: usize,
        memory_bytes: u64,
        workers: Option<usize>,
    ) -> Backend {
        let config = DeviceConfig {
            memory_bytes,
            ordinal: ordinal as u32,
            workers,
            ..DeviceConfig::new(capability)
        };
        Backend {
            device: Device::new(config),
        }
    }

    pub fn alloc(&self, bytes: u64) -> Result<DevicePtr> {
        self.device.memory().alloc(bytes).map_err(code)
    }

    /// Frees an allocation; an address that is no longer allocated is ignored.
    pub fn free(&self, address: DevicePtr) {
        let _ = self.device.memory().free(address);
    }

    /// Names an allocation for reports.
    pub fn label(&self, address: DevicePtr, label: &str) -> Result {
        self.device.memory().set_label(address, label).map_err(code)
    }

    pub fn used(&self) -> u64 {
        self.device.memory().used()
    }

    pub fn write(&self, address: DevicePtr, bytes: &[u8]) -> Result {
        self.device.memory().write(address, bytes).map_err(code)
    }

    pub fn read(&self, address: DevicePtr, bytes: &mut [u8]) -> Result {
        self.device.memory().read(address, bytes).map_err(code)
    }

    pub fn fill(&self, address: DevicePtr, pattern: &[u8], count: u64) -> Result {
        self.device
            .memory()
            .fill(address, pattern, count)
            .map_err(code)
    }

    /// Copies from another device, or within this one, including the state of each byte
    /// (initialised or not).
    pub fn copy_from(
        &self,
        to: DevicePtr,
        source: &Backend,
        from: DevicePtr,
        bytes: u64,
    ) -> Result {
        crate::memory::copy_between(
            self.device.memory(),
            to,
            source.device.memory(),
            from,
            bytes,
        )
        .map_err(code)
    }

    /// Maps `bytes` bytes of host memory for kernels, under their host address.
    ///
    /// # Safety
    /// The memory must stay valid until [`Backend::free`] is called with its address and no launch
    /// runs.
    pub unsafe fn map_host(&self, address: u64, bytes: u64) -> Result {
        // SAFETY: the caller guarantees that the memory stays valid.
        unsafe { self.device.memory().map_host(address, bytes) }.map_err(code)
    }

    /// Loads a module that was compiled from text.
    pub fn load(&self, module: &Module) -> std::result::Result<LoadedModule, LoadError> {
        self.device.load(module)
    }

    /// The allocation that contains an address, with its name for reports, and whether it is host
    /// memory.
    pub fn region_at(&self, address: u64) -> Option<(Region, bool)> {
        self.device.memory().region_at(address)
    }

    /// Number of threads that run blocks.
    pub fn workers(&self) -> usize {
        self.device.config().workers()
    }

    /// Runs a kernel, and passes its accesses to the stream order checker.
    pub fn launch(
        &self,
        kernel: &LoadedKernel,
        config: LaunchConfig,
        params: &[u8],
        cooperative: bool,
        print_bytes: usize,
    ) -> std::result::Result<Counters, Fault> {
        let (instructions, time) = config::limits();
        let limits = Limits {
            instructions,
            time,
            print_bytes,
        };
        let what = (kernel, config, params);
        let fine = touched::is_fine();
        let (result, accesses) = self.device.launch_watched(&limits, what, cooperative, fine);
        touched::touched(accesses);
        result
    }
}

/// The code that a real driver returns for a kernel's fault.
pub fn fault_code(fault: &Fault) -> CUresult {
    kind_code(&fault.kind)
}

fn kind_code(kind: &FaultKind) -> CUresult {
    match *kind {
        FaultKind::InCluster { ref fault, .. } => kind_code(fault),
        FaultKind::OutOfBounds { .. }
        | FaultKind::UseAfterFree { .. }
        | FaultKind::ReadOnly { .. } => CUresult::ILLEGAL_ADDRESS,
        FaultKind::Misaligned { .. } => CUresult::MISALIGNED_ADDRESS,
        FaultKind::WrongSpace { .. } => CUresult::INVALID_ADDRESS_SPACE,
        FaultKind::Assert { .. } => CUresult::ASSERT,
        FaultKind::InstructionLimit { .. } | FaultKind::TimeLimit { .. } => {
            CUresult::LAUNCH_TIMEOUT
        }
        FaultKind::Internal(_) => CUresult::UNKNOWN,
        FaultKind::InvalidLaunch(_) => CUresult::INVALID_VALUE,
        _ => CUresult::LAUNCH_FAILED,
    }
}
