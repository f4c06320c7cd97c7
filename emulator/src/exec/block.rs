//! A block: its warps take turns until all have ended.
use super::async_copy;
use super::barrier::{self, Barriers};
use super::context::{Context, Grid, Profile, SharedMemory, Site, thread_index};
use super::isa::Isa;
use super::mbarrier::{self, Mbarriers};
use super::product::Factors;
use super::registers::Registers;
use super::run::{Stop, run};
use super::warp::{Row, Split, State, Warp};
use super::wgmma;
use crate::check::Trouble;
use crate::check::order::Order;
use crate::check::proxy::Fences;
use crate::check::shadow::Shadow;
use crate::counters::{Class, Counters, MatrixKind, MatrixWork};
use crate::ir::{AtomTy, BarrierKind, ConstantValue, Inst, Kernel, Op, Reg, Space, Special};
use crate::launch::LaunchConfig;
use crate::panics::Panic;
use crate::report::{AsyncFault, Fault, FaultKind, Waiting, WaitsFor};

/// What one thread of the host needs to run blocks, one after the other.
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
        let mut order = Order::new(count as usize, flags || is_order_partial(kernel));
        if flags {
            order.watch_flags();
        }
        let shift = smallest_shared_access(kernel).trailing_zeros();
        let mut shared = SharedMemory {
            words: vec![0; shared_bytes as usize / 4 + 8],
            bytes: shared_bytes,
            shadow: Shadow::new(shared_bytes as usize, shift, &order),
        };
        if reads_asynchronously(kernel) {
            let warpgroups = threads.div_ceil(128) as usize;
            shared.shadow.watch_reads(shared_bytes as usize, warpgroups);
        }
        let instructions = kernel.code.len();
        let cx = Context {
            grid,
            block: [0; 3],
            block_index: 0,
            shared,
            order,
            barriers: Barriers::new(count * 32),
            mbarriers: Mbarriers::default(),
            fences: Fences::new(count as usize),
            registers: Registers::new(kernel, threads),
            products_arrived: [0; 8],
            product_ready: None,
            factors: Factors::default(),
            counters: Counters::default(),
            sites: vec![Site::default(); instructions + 1],
            profile: vec![Profile::default(); instructions + 1],
            stopped: false,
            current: 0,
        };
        let rows = kernel.rows as usize + 1;
        let warps = (0..count)
            .map(|i| Warp::new(i, rows, kernel.preds as usize))
            .collect();
        Worker { cx, warps }
    }

    /// The bytes of the host that a worker takes at most, all in all.
    pub fn bytes(kernel: &Kernel, config: &LaunchConfig) -> u64 {
        let warps = config.threads().div_ceil(32);
        let code = kernel.code.len() as u64 + 1;
        let rows = u64::from(kernel.rows) + 1;
        let local = u64::from(kernel.local_bytes).next_multiple_of(4) + 8;
        // A row is 128 bytes; products of a warpgroup keep a note of each row; shared memory has a shadow.
        let warp = rows * 144 + local * 32 + 8192;
        let code = code * (size_of::<Site>() + size_of::<Profile>()) as u64;
        let shared = u64::from(kernel.dynamic_shared_offset()) + u64::from(config.shared_bytes);
        warps * warp + code + shared * 32
    }

    /// The fault of a block in which the emulator itself failed.
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

    /// Runs a block to its end.
    pub fn run_block<I: Isa>(&mut self, index: u64) -> Result<(), Fault> {
        self.begin(index);
        let result = self.run_warps::<I>();
        for w in &mut self.warps {
            async_copy::abandon(&mut self.cx, w);
        }
        let counters = &mut self.cx.counters;
        counters.blocks += 1;
        counters.warps += self.warps.len() as u64;
        counters.threads += self.cx.grid.config.threads();
        result
    }

    fn begin(&mut self, index: u64) {
        let cx = &mut self.cx;
        let grid = cx.grid;
        cx.block_index = index;
        cx.block = grid.block_index(index);
        cx.current = 0;
        if cx.order.begin_block() {
            cx.shared.shadow.clear();
        }
        cx.barriers.clear();
        cx.mbarriers.clear();
        cx.fences.clear();
        cx.registers.clear();
        wgmma::start_block(cx);
        if uses_barriers_in_memory(grid.kernel) {
            cx.shared.shadow.forget_writes();
        }
        let threads = grid.config.threads() as u32;
        for w in &mut self.warps {
            let left = threads - w.index * 32;
            let existing = if left >= 32 {
                u32::MAX
            } else {
                (1 << left) - 1
            };
            w.rows.fill(Row([0; 32]));
            w.start(existing);
            w.local.start(grid.kernel.local_bytes);
            if !grid.kernel.watched.is_empty() {
                w.products.start(grid.kernel.rows as usize + 1);
            }
            fill_rows(cx, w);
        }
    }

    fn run_warps<I: Isa>(&mut self) -> Result<(), Fault> {
        let mut patience = Patience::default();
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
                let stop = run::<I>(&mut self.cx, w);
                let w = &self.warps[i];
                let stop = stop.map_err(|t| fault(&self.cx, w, *t))?;
                moved |= w.executed != before || stop != Stop::Waiting;
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
            if !(moved || patience.lasts(&self.cx) && self.wake(true)) {
                return Err(self.deadlock());
            }
        }
    }

    /// The product that the warps of a warpgroup have come to.
    fn multiply<I: Isa>(&mut self, warpgroup: usize) -> Result<(), Fault> {
        let first = warpgroup * wgmma::WARPS;
        let warps = &mut self.warps[first..first + wgmma::WARPS];
        let done = wgmma::execute::<I>(&mut self.cx, warps);
        done.map_err(|trouble| fault(&self.cx, &self.warps[first], *trouble))
    }

    /// Lets the splits look again that wait for an event. Whether there are any. `expired`: they have waited as long as
    /// they will.
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

    /// What can be said only once all warps have ended.
    fn after(&self) -> Result<(), Fault> {
        let stores = self.warps.iter().find_map(|w| {
            let lane = w.stores.unfinished()?;
            Some((w.index as usize, lane, AsyncFault::BulkNotWaited))
        });
        let registers = self.cx.registers.incomplete();
        let registers = registers.map(|(warp, kind)| (warp, 0, kind));
        let Some((warp, lane, kind)) = stores.or(registers) else {
            return Ok(());
        };
        Err(Fault {
            kernel: self.cx.grid.kernel.name.clone(),
            line: 0,
            block: self.cx.block,
            thread: Some(self.cx.thread(warp as u32, lane)),
            kind: Box::new(kind.into()),
        })
    }

    /// Why no warp can go on.
    fn deadlock(&self) -> Fault {
        let lines = &self.cx.grid.kernel.lines;
        let line = |pc: u32| lines.get(pc as usize).copied().unwrap_or(0);
        let waiting: Vec<Waiting> = self
            .warps
            .iter()
            .filter_map(|w| {
                let waits = |s: &&Split| {
                    matches!(s.state, State::Barrier | State::Event | State::Warpgroup)
                };
                let split = w.splits.iter().find(waits)?;
                Some(Waiting {
                    warp: w.index,
                    line: line(split.pc),
                    wants: match split.state {
                        State::Event => mbarrier::waits_for(&self.cx, w),
                        State::Warpgroup => WaitsFor::Warpgroup,
                        _ => WaitsFor::Barrier,
                    },
                })
            })
            .collect();
        let events = waiting.iter().any(|w| w.wants != WaitsFor::Barrier);
        let exited: u32 = self
            .warps
            .iter()
            .map(|w| (w.existing & !w.alive).count_ones())
            .sum();
        let first = waiting.first().map_or(0, |w| w.line);
        let kind = match self.cx.barriers.unfinished() {
            Some((id, arrived, expected)) if exited > 0 && !events => FaultKind::ExitedAtBarrier {
                id,
                exited,
                arrived,
                expected,
            },
            _ => FaultKind::Deadlock { waiting },
        };
        Fault {
            kernel: self.cx.grid.kernel.name.clone(),
            line: first,
            block: self.cx.block,
            thread: None,
            kind: Box::new(kind),
        }
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

/// Rounds in which waits give up before the block is given up.
const ROUNDS: u32 = 64;

/// How long a block may do nothing but wait anew.
#[derive(Default)]
struct Patience {
    rounds: u32,
    /// What had happened before the last round.
    events: u64,
    barriers: u64,
}

impl Patience {
    /// Whether the block may have another round.
    fn lasts(&mut self, cx: &Context) -> bool {
        if (self.events, self.barriers) != (cx.mbarriers.events, cx.counters.barriers) {
            (self.events, self.barriers) = (cx.mbarriers.events, cx.counters.barriers);
            self.rounds = 0;
        }
        self.rounds += 1;
        self.rounds <= ROUNDS
    }
}

/// Adds kernel, line, block and thread to a fault.
fn fault(cx: &Context, w: &Warp, trouble: Trouble) -> Fault {
    let kernel = cx.grid.kernel;
    Fault {
        kernel: kernel.name.clone(),
        line: kernel.lines.get(w.pc as usize).copied().unwrap_or(0),
        block: cx.block,
        thread: trouble.lane.map(|lane| cx.thread(w.index, lane)),
        kind: Box::new(trouble.kind),
    }
}

/// Fills the rows that hold constants and special registers.
fn fill_rows(cx: &Context, w: &mut Warp) {
    let kernel = cx.grid.kernel;
    for constant in &kernel.constants {
        match constant.value {
            ConstantValue::Word(value) => *w.u32s_mut(constant.reg) = [value; 32],
            ConstantValue::Double(value) => *w.u64s_mut(constant.reg) = [value; 32],
            ConstantValue::Symbol { symbol, addend } => {
                let address = cx.grid.symbols[symbol as usize].wrapping_add_signed(addend);
                *w.u64s_mut(constant.reg) = [address; 32];
            }
        }
    }
    for &(reg, special) in &kernel.specials {
        if special == Special::GridId {
            *w.u64s_mut(reg) = [u64::from(cx.grid.epoch); 32];
        } else {
            let row = std::array::from_fn(|lane| special_value(cx, w.index, lane as u32, special));
            *w.u32s_mut(reg) = row;
        }
    }
}

fn special_value(cx: &Context, warp: u32, lane: u32, special: Special) -> u32 {
    let config = &cx.grid.config;
    let axis = |a: u8| usize::from(a.min(2));
    let sms = cx.grid.device.multiprocessors();
    match special {
        Special::Tid(a) => thread_index(config.block, warp * 32 + lane)[axis(a)],
        Special::Ntid(a) => config.block[axis(a)],
        Special::Ctaid(a) => cx.block[axis(a)],
        Special::Nctaid(a) => config.grid[axis(a)],
        Special::LaneId => lane,
        Special::WarpId => warp,
        Special::NwarpId => config.threads().div_ceil(32) as u32,
        Special::SmId => (cx.block_index % u64::from(sms)) as u32,
        Special::NsmId => sms,
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskLe => u32::MAX >> (31 - lane),
        Special::LaneMaskGe => u32::MAX << lane,
        Special::LaneMaskGt => (u32::MAX << lane) & !(1 << lane),
        Special::DynamicSharedBytes => config.shared_bytes,
        Special::TotalSharedBytes => cx.shared.bytes,
        Special::One => 1,
        Special::Zero | Special::GridId => 0,
    }
}

/// Whether the kernel has barriers of some of its warps.
fn is_order_partial(kernel: &Kernel) -> bool {
    kernel.code.iter().any(|inst| match inst.op {
        Op::Barrier { kind, count, .. } => count != Reg::NONE || kind == BarrierKind::Arrive,
        _ => false,
    }) || uses_barriers_in_memory(kernel)
}

/// Whether the kernel has operations of the asynchronous proxy or their barriers.
fn uses_barriers_in_memory(kernel: &Kernel) -> bool {
    let is = |inst: &Inst| matches!(inst.op, Op::Mbarrier { .. } | Op::ProxyFence { .. });
    kernel.code.iter().any(is) || reads_asynchronously(kernel)
}

/// Whether the asynchronous proxy reads shared memory.
fn reads_asynchronously(kernel: &Kernel) -> bool {
    let is = |inst: &Inst| {
        matches!(
            inst.op,
            Op::BulkStore { .. } | Op::TensorStore { .. } | Op::Wgmma { .. }
        )
    };
    kernel.code.iter().any(is)
}

/// Whether the kernel may hand data over in shared memory with fences and flags.
fn has_flags(kernel: &Kernel) -> bool {
    let shared = |space: Space| matches!(space, Space::Shared | Space::Generic);
    let is_flag = |inst: &Inst| match inst.op {
        Op::Ld { access, .. } | Op::St { access, .. } => access.strong && shared(access.space),
        Op::Atom { space, .. } => shared(space),
        _ => false,
    };
    let fences = kernel.code.iter().any(|inst| inst.op == Op::Fence);
    fences && kernel.code.iter().any(is_flag)
}

/// Bytes of the smallest access that may go to shared memory, at most four.
fn smallest_shared_access(kernel: &Kernel) -> u32 {
    let shared = |space: Space| matches!(space, Space::Shared | Space::Generic);
    let bytes = |op: &Op| match op {
        Op::Ld { access, .. } | Op::St { access, .. } if shared(access.space) => {
            access.bytes.into()
        }
        Op::Atom {
            space,
            ty: AtomTy::B16 | AtomTy::F16 | AtomTy::Bf16,
            ..
        } if shared(*space) => 2,
        _ => 4,
    };
    kernel
        .code
        .iter()
        .map(|inst| bytes(&inst.op))
        .min()
        .unwrap_or(4)
        .min(4)
}
