//! Properties of a device and limits of its launches.
use std::sync::LazyLock;
use std::time::Duration;

/// Properties of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Compute capability as 75, 80 or 90. Modules for a higher one are refused.
    pub sm: u32,
    /// Size of device memory in bytes.
    pub memory_bytes: u64,
    /// Index among several devices; the addresses of the first
    /// [`MAX_DEVICES`](crate::memory::MAX_DEVICES) devices are disjoint.
    pub ordinal: u32,
    /// Number of threads that run blocks; `None` for one per core of the machine.
    pub workers: Option<usize>,
    /// Limit of instructions that one warp may execute in a launch; beyond it the launch ends with
    /// a fault. Infinite loops are reported in this way.
    pub instruction_limit: u64,
    /// Time limit of a launch, after which it ends with a fault; `None` for no limit.
    pub time_limit: Option<Duration>,
    /// Bytes of text that a launch may print; of longer output the latest part is kept, as in
    /// CUDA's circular buffer.
    pub print_bytes: usize,
}

impl DeviceConfig {
    /// Default limit: 10^10 instructions of one warp, some minutes.
    pub const DEFAULT_INSTRUCTION_LIMIT: u64 = 10_000_000_000;
    /// Default limit: ten minutes.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(600);
    /// Default: 1 MiB, as CUDA's `CU_LIMIT_PRINTF_FIFO_SIZE`.
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

    /// Limits of one launch.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            instructions: self.instruction_limit,
            time: self.time_limit,
            print_bytes: self.print_bytes,
        }
    }

    /// Shared memory that a block may have, opt-in included, in bytes.
    pub fn shared_bytes_per_block(&self) -> u32 {
        match self.sm {
            90.. => 227 << 10,
            80..90 => 163 << 10,
            _ => 64 << 10,
        }
    }

    /// Maximum of resident blocks per SM.
    pub(crate) fn blocks_per_multiprocessor(&self) -> u32 {
        if self.sm >= 80 { 32 } else { 16 }
    }

    /// Number of threads that run blocks.
    pub(crate) fn workers(&self) -> usize {
        // Cached: the standard library reads the limits of control groups from files at each call.
        static CORES: LazyLock<usize> =
            LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
        self.workers.unwrap_or(*CORES)
    }

    /// `%nsmid`: number of SMs of a typical card of that capability.
    pub fn multiprocessors(&self) -> u32 {
        match self.sm {
            90.. => 132,
            80..90 => 108,
            _ => 40,
        }
    }
}

/// Limits of one launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Instructions that one warp may execute.
    pub instructions: u64,
    /// Time limit of the launch; `None` for no limit.
    pub time: Option<Duration>,
    /// Bytes of text that it may print.
    pub print_bytes: usize,
}
