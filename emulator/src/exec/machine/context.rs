//! State shared by the instructions of a block: the grid, its shared memory, the counters.
use crate::counters::{Counters, GlobalTraffic, SharedTraffic};
use crate::device_config::DeviceConfig;
use crate::ir::{Kernel, Pc, Space};
use crate::launch_config::LaunchConfig;
use crate::memory::{self, Memory, Snapshot, Watch};
use crate::report::{
    Access, AccessKind, AsyncFault, AsyncReader, ConflictingAccess, FaultKind, Region,
};
use crate::sanitizer::async_proxy::COPY_READERS;
use crate::sanitizer::shadow::{Actor, Conflict, Shadow};
use crate::sanitizer::vector_clock::Order;
use crate::sanitizer::{Outcome, UnlocatedFault};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A launch, shared by its workers.
pub(crate) struct Grid<'a> {
    pub device: &'a DeviceConfig,
    pub kernel: &'a Kernel,
    pub config: LaunchConfig,
    pub params: &'a [u8],
    pub memory: &'a Memory,
    pub allocations: Snapshot,
    /// Addresses of the module's variables.
    pub symbols: &'a [u64],
    /// Number of the launch, for [`crate::memory::Allocation::touch_sector`].
    pub epoch: u16,
    /// Accesses that are recorded.
    pub watch: Watch,
    /// Cluster size: blocks along x, y, z.
    pub cluster: [u32; 3],
    /// True if the launch or the kernel specifies the cluster size.
    pub explicit_cluster: bool,
    /// Index of the next cluster to start.
    pub next_cluster: AtomicU64,
    /// First cluster that need not run, because an earlier one has a fault.
    pub end_cluster: AtomicU64,
    pub began: Instant,
    /// End of the launch's time limit.
    pub deadline: Option<Instant>,
    /// True for a cooperative launch, whose blocks may wait for each other.
    pub together: bool,
    /// True if the launch ends without the blocks that still run.
    pub stop: AtomicBool,
    pub printed: crate::exec::machine::printed::Printed,
}

impl Grid<'_> {
    /// The index of the first block of the `linear`-th cluster.
    pub fn first_block(&self, linear: u64) -> [u32; 3] {
        let [width, height, depth] = self.cluster;
        let [x, y, _] = self.config.grid;
        let (x, y) = (u64::from(x / width).max(1), u64::from(y / height).max(1));
        [
            (linear % x) as u32 * width,
            (linear / x % y) as u32 * height,
            (linear / x / y) as u32 * depth,
        ]
    }
}

/// Address pattern of an instruction's last execution, which the next execution is likely to share.
#[derive(Clone, Default)]
pub(crate) struct Site {
    /// Index of the allocation.
    pub allocation: u32,
    /// The active lanes; 0 if there is no pattern yet.
    pub mask: u32,
    /// Addresses of the lanes, relative to the lowest active lane's.
    pub pattern: [u32; 32],
    /// The lowest active lane's address, modulo four.
    pub part: u32,
    /// For the pattern: lanes whose address no lower lane has.
    pub unique: u32,
    /// For the pattern: number of wavefronts, and the number without conflicts.
    pub wavefronts: u32,
    pub ideal: u32,
}

/// The sites of all executed instructions.
pub(crate) struct Sites {
    /// Index of each instruction's site.
    places: Vec<u32>,
    /// The sites; the first one belongs to no instruction.
    sites: Vec<Site>,
}

impl Sites {
    /// Sites for `instructions` instructions.
    pub fn new(instructions: usize) -> Sites {
        Sites {
            places: vec![0; instructions + 1],
            sites: vec![Site::default()],
        }
    }

    /// The site of an instruction.
    #[inline(always)]
    pub fn at(&mut self, pc: Pc) -> &mut Site {
        let mut place = self.places[pc as usize] as usize;
        if place == 0 {
            place = self.add(pc);
        }
        &mut self.sites[place]
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, pc: Pc) -> usize {
        let place = self.sites.len();
        self.sites.push(Site::default());
        self.places[pc as usize] = place as u32;
        place
    }
}

/// Execution counts of an instruction, as differences to the previous instruction.
#[derive(Clone, Copy, Default)]
pub(crate) struct Profile {
    pub warps: i64,
    pub threads: i64,
    /// Number of lanes whose guard was false.
    pub off: u64,
}

/// The shared memory of a block.
pub(crate) struct SharedMemory {
    pub words: Vec<u32>,
    pub bytes: u32,
    pub shadow: Shadow,
}

/// The state of a worker besides its warps.
pub(crate) struct Context<'a> {
    pub grid: &'a Grid<'a>,
    /// Index in the grid of the block whose part this is.
    pub block: [u32; 3],
    pub shared: SharedMemory,
    pub order: Order,
    pub barriers: crate::exec::machine::barriers::Barriers,
    pub mbarriers: crate::exec::machine::mbarriers::Mbarriers,
    pub fences: crate::sanitizer::fences::Fences,
    pub cluster: crate::exec::machine::cluster::Cluster,
    pub registers: crate::exec::machine::register_pool::Registers,
    /// Number of warps of each warpgroup that have arrived at a matrix product.
    pub products_arrived: [u8; 8],
    /// The warpgroup whose warps have all arrived.
    pub product_ready: Option<usize>,
    pub factors: crate::exec::machine::wgmma_state::Factors,
    pub counters: Counters,
    pub sites: Sites,
    pub profile: Vec<Profile>,
    /// Nanoseconds by which `%globaltimer` is ahead of the host's clock: the time limits of the
    /// waits that timed out.
    pub timed_out: u64,
    /// True if the block ends because another block has a fault.
    pub stopped: bool,
    /// Index of the running warp.
    pub current: usize,
}

impl Context<'_> {
    /// Returns a fault if the time limit is exceeded, or if the launch ends.
    ///
    /// Must be called at least once per millisecond or so of a warp's work: at the end of its turn,
    /// and by instructions that copy many bytes.
    pub fn check_time(&mut self) -> Outcome {
        if self.grid.stop.load(Ordering::Relaxed) {
            self.stopped = true;
        } else if self.grid.deadline.is_none_or(|end| Instant::now() < end) {
            return Ok(());
        }
        let limit = self.grid.device.time_limit.unwrap_or_default();
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Err(UnlocatedFault::warp(FaultKind::TimeLimit { milliseconds }))
    }

    /// The linear index of the block in its grid.
    pub fn block_number(&self) -> u64 {
        let [width, height, _] = self.grid.config.grid.map(u64::from);
        let [x, y, z] = self.block.map(u64::from);
        (z * height + y) * width + x
    }

    /// The PTX line of an instruction.
    pub fn line(&self, pc: u32) -> u32 {
        self.grid
            .kernel
            .lines
            .get(pc as usize)
            .copied()
            .unwrap_or(0)
    }

    /// Index of a warp's lane in its block.
    pub fn thread(&self, warp: u32, lane: u32) -> [u32; 3] {
        let warp = warp % self.cluster.warps;
        thread_index(self.grid.config.block, warp * 32 + lane)
    }

    /// Allocation nearest to an address of global memory.
    #[cold]
    pub fn nearest(&self, address: u64) -> Option<Region> {
        memory::nearest(&self.grid.allocations, address)
    }

    /// The shared variable at or before an address, else the whole shared memory.
    #[cold]
    pub fn shared_region(&self, address: u64) -> Option<Region> {
        let kernel = self.grid.kernel;
        let dynamic = kernel.dynamic_shared_offset();
        let region = |label: &str, base: u32, bytes: u32| Region {
            sequence: None,
            label: Some(label.to_owned()),
            base: u64::from(base),
            bytes: u64::from(bytes),
        };
        let variable = kernel.shared_vars.iter().rfind(|v| {
            address >= u64::from(v.offset) && address < u64::from(v.offset) + u64::from(v.size)
        });
        if let Some(v) = variable {
            return Some(region(&v.name, v.offset, v.size));
        }
        if address >= u64::from(dynamic) && address < u64::from(self.shared.bytes) {
            return Some(region(
                "dynamic shared memory",
                dynamic,
                self.shared.bytes - dynamic,
            ));
        }
        Some(region("shared memory", 0, self.shared.bytes))
    }

    /// The fault of a conflicting access to shared memory; `at` is the first byte of the unit.
    #[cold]
    pub fn shared_trouble(
        &self,
        conflict: Conflict,
        touch: Access,
        at: u64,
        actor: &Actor,
    ) -> Box<UnlocatedFault> {
        let nearest = self.shared_region(at);
        let lines = &self.grid.kernel.lines;
        let rival = |kind, thread, warp: Option<u32>, line| ConflictingAccess {
            kind,
            thread,
            warp: warp.map(|warp| warp % self.cluster.warps),
            line,
            block: warp.and_then(|warp| self.cluster.other_block(warp)),
        };
        let kind = match conflict {
            Conflict::Uninitialised => FaultKind::Uninitialised {
                touch,
                first: at,
                nearest,
            },
            Conflict::Written { warp, lane, pc } => {
                let thread = Some(self.thread(warp, lane));
                let line = lines.get(pc as usize).copied().unwrap_or(0);
                let rival = rival(AccessKind::Write, thread, Some(warp), line);
                FaultKind::SharedRace {
                    touch,
                    at,
                    nearest,
                    rival,
                }
            }
            Conflict::ReadBy { warp } => {
                let rival = rival(AccessKind::Read, None, warp, 0);
                FaultKind::SharedRace {
                    touch,
                    at,
                    nearest,
                    rival,
                }
            }
            Conflict::Pending { warp, lane } => FaultKind::AsyncCopyPending {
                touch,
                owner: self.thread(warp, lane),
            },
            Conflict::Barrier => AsyncFault::MbarrierTouched { touch }.into(),
            Conflict::Tracked(copy) => AsyncFault::CopyPending {
                touch,
                barrier: self.mbarriers.get(copy.slot).address.into(),
                parity: crate::exec::machine::mbarriers::parity(self, copy),
                line: self.line(copy.pc),
                ordinary: copy.is_known(&self.order, actor.warp),
            }
            .into(),
            Conflict::AsyncRead { reader } => AsyncFault::ReadUnderWay {
                touch,
                at,
                reader: async_reader(reader),
            }
            .into(),
            Conflict::Unfenced { warp, lane, pc } => AsyncFault::Unfenced {
                touch,
                at,
                writer: self.thread(warp, lane),
                line: self.line(pc),
            }
            .into(),
        };
        UnlocatedFault::lane(actor.lane as usize, kind)
    }

    /// Counts a request to device memory.
    pub fn count_global(&mut self, kind: AccessKind, request: GlobalTraffic) {
        match kind {
            AccessKind::Write => self.counters.global_stores += request,
            _ => self.counters.global_loads += request,
        }
    }

    /// Counts a request to shared memory.
    pub fn count_shared(&mut self, kind: AccessKind, wavefronts: u32, ideal: u32) {
        let request = SharedTraffic {
            requests: 1,
            wavefronts: u64::from(wavefronts),
            conflicts: u64::from(wavefronts - ideal),
        };
        match kind {
            AccessKind::Read => self.counters.shared_loads += request,
            _ => self.counters.shared_stores += request,
        }
    }
}

/// Converts a reader's column of [`crate::sanitizer::vector_clock::Order`] to its identity.
fn async_reader(reader: usize) -> AsyncReader {
    match reader.checked_sub(COPY_READERS) {
        Some(warp) => AsyncReader::Warp(warp as u32),
        None => AsyncReader::Warpgroup(reader as u32),
    }
}

/// The index of the `linear`-th thread of a block, or block of a grid.
pub(crate) fn thread_index([x, y, _]: [u32; 3], linear: u32) -> [u32; 3] {
    [linear % x, linear / x % y, linear / x / y]
}

/// An access, as it appears in a report.
pub(crate) fn touch(kind: AccessKind, space: Space, address: u64, bytes: u32) -> Access {
    Access {
        kind,
        space,
        address,
        bytes,
    }
}
