//! Execution of a block, or of the blocks of a cluster: the warps take turns until all have ended.
use crate::counters::{Class, Counters, MatrixKind, MatrixWork};
use crate::exec::instructions::async_copy;
use crate::exec::instructions::barrier;
use crate::exec::instructions::cluster;
use crate::exec::instructions::cluster_barrier;
use crate::exec::instructions::isa::Isa;
use crate::exec::instructions::mbarrier;
use crate::exec::instructions::wgmma;
use crate::exec::machine::barriers::Barriers;
use crate::exec::machine::cluster::{Cluster, Part};
use crate::exec::machine::cluster_barrier::ClusterBarrier;
use crate::exec::machine::context::{
    Context, Grid, Profile, SharedMemory, Site, Sites, thread_index,
};
use crate::exec::machine::deadlock_timer::{DeadlockTimer, TIME_LIMIT};
use crate::exec::machine::flow::Stop;
use crate::exec::machine::mbarriers::Mbarriers;
use crate::exec::machine::register_pool::Registers;
use crate::exec::machine::special::fill_rows;
use crate::exec::machine::warp::{Split, State, Warp};
use crate::exec::machine::wgmma_state::Factors;
use crate::exec::needs::{
    has_flags, is_order_partial, moves_rows, reads_asynchronously, smallest_shared_access,
    uses_barriers_in_memory, uses_cluster_barrier,
};
use crate::exec::run::run;
use crate::ir::{Kernel, Op};
use crate::launch_config::LaunchConfig;
use crate::panics::Panic;
use crate::report::{AsyncFault, Fault, FaultKind, Waiting, WaitsFor};
use crate::sanitizer::UnlocatedFault;
use crate::sanitizer::fences::Fences;
use crate::sanitizer::shadow::Shadow;
use crate::sanitizer::vector_clock::Order;

/// State of a host thread that runs clusters, one after another.
pub(crate) struct Worker<'a> {
    pub cx: Context<'a>,
    pub warps: Vec<Warp>,
}

impl<'a> Worker<'a> {
    pub fn new(grid: &'a Grid<'a>) -> Worker<'a> {
        let kernel = grid.kernel;
        let threads = grid.config.threads() as u32;
        let count = threads.div_ceil(32);
        let shared_bytes = kernel.dynamic_shared_offset() + grid.config.shared_bytes;
        let flags = shared_bytes > 0 && has_flags(kernel);
        let blocks = grid.cluster.iter().product::<u32>();
        let meets = blocks > 1 || uses_cluster_barrier(kernel);
        let precise = meets || flags || is_order_partial(kernel);
        let mut order = Order::new(count as usize, blocks as usize, precise);
        if meets {
            order.watch_cluster();
        }
        if flags {
            order.watch_flags();
        }
        let part = || new_part(kernel, threads, shared_bytes, &order);
        let parts = if blocks > 1 {
            (0..blocks).map(|_| part()).collect()
        } else {
            Vec::new()
        };
        let Part {
            shared,
            barriers,
            mbarriers,
            registers,
            products_arrived,
        } = part();
        let warps = (count * blocks) as usize;
        let cluster = Cluster {
            size: grid.cluster,
            rank: 0,
            warps: count,
            blocks: vec![[0; 3]; blocks as usize],
            parts,
            alive: vec![0; blocks as usize],
            visits: vec![Vec::new(); blocks as usize],
            barrier: ClusterBarrier::new(if meets { warps } else { 0 }),
        };
        let instructions = kernel.code.len();
        let cx = Context {
            grid,
            block: [0; 3],
            shared,
            order,
            barriers,
            mbarriers,
            fences: Fences::new(warps),
            cluster,
            registers,
            products_arrived,
            product_ready: None,
            factors: Factors::default(),
            counters: Counters::default(),
            sites: Sites::new(instructions),
            profile: vec![Profile::default(); instructions + 1],
            timed_out: 0,
            stopped: false,
            current: 0,
        };
        let rows = kernel.rows as usize + 1;
        let warps = (0..warps as u32)
            .map(|i| Warp::new(i, i % count, rows, kernel.preds as usize))
            .collect();
        Worker { cx, warps }
    }

    /// Upper bound of the host memory that a worker needs, in bytes.
    pub fn bytes(kernel: &Kernel, config: &LaunchConfig) -> u64 {
        let warps = config.threads().div_ceil(32);
        let code = kernel.code.len() as u64 + 1;
        let rows = u64::from(kernel.rows) + 1;
        let local = u64::from(kernel.local_bytes).next_multiple_of(4) + 8;
        // A register row is 128 bytes; the products of a warpgroup keep the state of each row;
        // shared memory has a shadow.
        let warp = rows * 144 + local * 32 + 8192;
        let code = code * (size_of::<Site>() + size_of::<Profile>()) as u64;
        let shared = u64::from(kernel.dynamic_shared_offset()) + u64::from(config.shared_bytes);
        warps * warp + code + shared * 32
    }

    /// The fault of a block after a panic of the emulator.
    pub fn internal(&self, panic: &Panic) -> Fault {
        let kernel = self.cx.grid.kernel;
        let pc = self.warps.get(self.cx.current).map_or(0, |w| w.pc);
        Fault {
            kernel: kernel.name.clone(),
            line: kernel.lines.get(pc as usize).copied().unwrap_or(0),
            block: self.cx.block,
            thread: None,
            kind: Box::new(FaultKind::Internal(panic.to_string())),
        }
    }

    /// Runs a cluster to its end; without clusters that is one block.
    pub fn run_cluster<I: Isa>(&mut self, index: u64) -> Result<(), Fault> {
        self.begin(index);
        let result = self.run_warps::<I>();
        for w in &mut self.warps {
            self.cx.switch(self.cx.cluster.rank_of(w.index));
            async_copy::abandon(&mut self.cx, w);
        }
        let blocks = u64::from(self.cx.cluster.count());
        let counters = &mut self.cx.counters;
        counters.blocks += blocks;
        counters.warps += self.warps.len() as u64;
        counters.threads += self.cx.grid.config.threads() * blocks;
        result
    }

    fn begin(&mut self, index: u64) {
        let cx = &mut self.cx;
        let grid = cx.grid;
        cx.current = 0;
        let first = grid.first_block(index);
        for (rank, block) in cx.cluster.blocks.iter_mut().enumerate() {
            let place = thread_index(grid.cluster, rank as u32);
            *block = std::array::from_fn(|axis| first[axis] + place[axis]);
        }
        let again = cx.order.begin_block();
        for rank in 0..cx.cluster.count() {
            cx.switch(rank);
            begin_part(cx, again);
        }
        cx.switch(0);
        cx.block = first;
        cx.cluster.alive.fill(cx.cluster.warps);
        cx.cluster.barrier.clear();
        cx.fences.clear();
        wgmma::start_block(cx);
        let threads = grid.config.threads() as u32;
        for w in &mut self.warps {
            cx.switch(cx.cluster.rank_of(w.index));
            let left = threads - w.own * 32;
            let existing = if left >= 32 {
                u32::MAX
            } else {
                (1 << left) - 1
            };
            w.clear_rows();
            w.start(existing);
            w.local.start(grid.kernel.local_bytes);
            if !grid.kernel.watched.is_empty() {
                w.products.start(grid.kernel.rows as usize + 1);
            }
            fill_rows(cx, w);
        }
    }

    fn run_warps<I: Isa>(&mut self) -> Result<(), Fault> {
        let mut timer = DeadlockTimer::default();
        let meets = self.cx.order.meets();
        loop {
            let mut moved = false;
            let mut alive = false;
            for i in 0..self.warps.len() {
                let w = &mut self.warps[i];
                if w.alive == 0 {
                    continue;
                }
                alive = true;
                if !w.splits.iter().any(|s| s.state == State::Ready) {
                    continue;
                }
                let before = w.executed;
                self.cx.current = i;
                self.cx.switch(self.cx.cluster.rank_of(w.index));
                let stop = run::<I>(&mut self.cx, w);
                let w = &self.warps[i];
                let stop = stop.map_err(|t| fault(&self.cx, w, *t))?;
                moved |= w.executed != before || stop != Stop::Waiting;
                if meets {
                    self.meet(i)?;
                }
                if self.cx.barriers.is_any_complete() {
                    barrier::release(&mut self.cx, &mut self.warps);
                }
                if let Some(warpgroup) = self.cx.product_ready.take() {
                    self.multiply::<I>(warpgroup)?;
                    moved = true;
                }
                if std::mem::take(&mut self.cx.mbarriers.changed) {
                    self.wake(false);
                    moved = true;
                }
            }
            if !alive {
                return self.after();
            }
            let time = self.cx.check_time();
            time.map_err(|t| fault(&self.cx, &self.warps[self.cx.current], *t))?;
            if !(moved || timer.lasts(&self.cx) && self.wake(true)) {
                return Err(self.deadlock());
            }
            if !moved {
                self.cx.timed_out += TIME_LIMIT;
            }
        }
    }

    /// Updates the cluster after a warp's turn: the warp may have ended, or have arrived at the
    /// cluster's barrier.
    fn meet(&mut self, warp: usize) -> Result<(), Fault> {
        let cx = &mut self.cx;
        let rank = cx.cluster.rank;
        if self.warps[warp].alive == 0 {
            let alive = &mut cx.cluster.alive[rank as usize];
            *alive -= 1;
            if *alive == 0 {
                let ended = cluster::check_exit(cx, rank);
                ended.map_err(|t| fault(cx, &self.warps[warp], *t))?;
            }
        }
        if cx.cluster.barrier.is_open() {
            cluster_barrier::settle(cx, &self.warps);
        }
        Ok(())
    }

    /// Executes the matrix product at which all warps of a warpgroup have arrived.
    fn multiply<I: Isa>(&mut self, warpgroup: usize) -> Result<(), Fault> {
        let block = self.cx.cluster.rank * self.cx.cluster.warps;
        let first = block as usize + warpgroup * wgmma::WARPS;
        let warps = &mut self.warps[first..first + wgmma::WARPS];
        let done = wgmma::multiply::<I>(&mut self.cx, warps);
        done.map_err(|trouble| fault(&self.cx, &self.warps[first], *trouble))
    }

    /// Makes the splits that wait for an event ready again, and returns whether there were any.
    /// With `expired`, their wait times out.
    fn wake(&mut self, expired: bool) -> bool {
        let mut any = false;
        for split in self.warps.iter_mut().flat_map(|w| &mut w.splits) {
            if split.state == State::Event {
                split.state = State::Ready;
                split.expired = expired;
                any = true;
            }
        }
        any
    }

    /// Checks that are possible only after all warps have ended.
    fn after(&mut self) -> Result<(), Fault> {
        let count = self.cx.cluster.warps as usize;
        for (rank, warps) in self.warps.chunks(count).enumerate() {
            self.cx.switch(rank as u32);
            let stores = warps.iter().find_map(|w| {
                let lane = w.stores.unfinished()?;
                Some((w.own as usize, lane, AsyncFault::BulkNotWaited))
            });
            let registers = self.cx.registers.incomplete();
            let registers = registers.map(|(warp, kind)| (warp, 0, kind));
            if let Some((warp, lane, kind)) = stores.or(registers) {
                return Err(Fault {
                    kernel: self.cx.grid.kernel.name.clone(),
                    line: 0,
                    block: self.cx.block,
                    thread: Some(self.cx.thread(warp as u32, lane)),
                    kind: Box::new(kind.into()),
                });
            }
        }
        Ok(())
    }

    /// The fault of a block in which no warp can continue.
    fn deadlock(&mut self) -> Fault {
        let count = self.cx.cluster.warps as usize;
        let waiting: Vec<Waiting> = self.warps.iter().filter_map(|w| self.waiting(w)).collect();
        let events = waiting.iter().any(|w| w.wants != WaitsFor::Barrier);
        let first = waiting.first().map_or(0, |w| w.line);
        let mut kind = None;
        let mut blamed = 0;
        for (rank, warps) in self.warps.chunks(count).enumerate() {
            self.cx.switch(rank as u32);
            let exited: u32 = warps
                .iter()
                .map(|w| (w.existing & !w.alive).count_ones())
                .sum();
            if let Some((id, arrived, expected)) = self.cx.barriers.unfinished()
                && exited > 0
                && !events
                && kind.is_none()
            {
                blamed = rank as u32;
                kind = Some(FaultKind::ExitedAtBarrier {
                    id,
                    exited,
                    arrived,
                    expected,
                });
            }
        }
        self.cx.switch(blamed);
        Fault {
            kernel: self.cx.grid.kernel.name.clone(),
            line: first,
            block: self.cx.block,
            thread: None,
            kind: Box::new(kind.unwrap_or(FaultKind::Deadlock { waiting })),
        }
    }

    /// Cause of a warp's wait, if it waits.
    fn waiting(&self, w: &Warp) -> Option<Waiting> {
        let cx = &self.cx;
        let waits =
            |s: &&Split| matches!(s.state, State::Barrier | State::Event | State::Warpgroup);
        let split = w.splits.iter().find(waits)?;
        let lines = &cx.grid.kernel.lines;
        let rank = cx.cluster.rank_of(w.index) as usize;
        Some(Waiting {
            warp: w.own,
            block: (cx.cluster.count() > 1).then(|| cx.cluster.blocks[rank]),
            line: lines.get(split.pc as usize).copied().unwrap_or(0),
            wants: match (split.state, w.wants) {
                (State::Event, WaitsFor::Cluster { .. }) => WaitsFor::Cluster {
                    threads: cx.cluster.barrier.lacks(&self.warps),
                },
                (State::Event, _) => mbarrier::waits_for(cx, w),
                (State::Warpgroup, _) => WaitsFor::Warpgroup,
                _ => WaitsFor::Barrier,
            },
        })
    }

    /// The counters, with the instructions sorted into their classes.
    pub fn into_counters(mut self) -> Counters {
        let (mut warps, mut threads) = (0, 0);
        for (inst, profile) in self.cx.grid.kernel.code.iter().zip(&self.cx.profile) {
            warps += profile.warps;
            threads += profile.threads;
            let executed = &mut self.cx.counters.classes[Class::of(&inst.op) as usize];
            executed.warp += warps as u64;
            let active = (threads as u64).saturating_sub(profile.off);
            executed.thread += active;
            let (ty, multiply_adds) = match inst.op {
                Op::Mma { mma, .. } => (mma.a, mma.multiply_adds()),
                Op::Wgmma { wgmma, .. } => (wgmma.ty, wgmma.multiply_adds()),
                _ => continue,
            };
            // All lanes or none.
            let instructions = active / 32;
            self.cx.counters.matrix[MatrixKind::of(ty) as usize] += MatrixWork {
                instructions,
                multiply_adds: instructions * multiply_adds,
            };
        }
        self.cx.counters
    }
}

/// State of a block within a cluster.
fn new_part(kernel: &Kernel, threads: u32, shared_bytes: u32, order: &Order) -> Part {
    let fine = smallest_shared_access(kernel).trailing_zeros();
    let coarse = if moves_rows(kernel) { 4 } else { fine };
    let mut shared = SharedMemory {
        words: vec![0; shared_bytes as usize / 4 + 8],
        bytes: shared_bytes,
        shadow: Shadow::with_units(shared_bytes as usize, fine, coarse, order),
    };
    if reads_asynchronously(kernel) {
        let warpgroups = threads.div_ceil(128) as usize;
        shared.shadow.watch_reads(shared_bytes as usize, warpgroups);
    }
    Part {
        shared,
        barriers: Barriers::new(threads.next_multiple_of(32)),
        mbarriers: Mbarriers::default(),
        registers: Registers::new(kernel, threads),
        products_arrived: [0; 8],
    }
}

/// Initialises a block. `again`: the clock has started again.
fn begin_part(cx: &mut Context, again: bool) {
    if again {
        cx.shared.shadow.clear();
    }
    cx.shared.shadow.begin_block();
    cx.barriers.clear();
    cx.mbarriers.clear();
    cx.registers.clear();
    cx.products_arrived.fill(0);
    let rank = cx.cluster.rank as usize;
    cx.cluster.visits[rank].clear();
    if uses_barriers_in_memory(cx.grid.kernel) {
        cx.shared.shadow.forget_writes();
    }
}

/// Adds kernel, line, block and thread to a fault.
fn fault(cx: &Context, w: &Warp, trouble: UnlocatedFault) -> Fault {
    let kernel = cx.grid.kernel;
    Fault {
        kernel: kernel.name.clone(),
        line: kernel.lines.get(w.pc as usize).copied().unwrap_or(0),
        block: cx.block,
        thread: trouble.lane.map(|lane| cx.thread(w.index, lane)),
        kind: Box::new(trouble.kind),
    }
}
