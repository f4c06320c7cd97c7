//! `setmaxnreg`: warps hand registers to each other.
//!
//! How many registers a thread has at the start is known where the kernel says so (`.maxnreg`);
//! else it is taken to be what a compiler gives it: an even share of the 65536 of a multiprocessor,
//! in eights.
use crate::exec::instructions::mbarrier;
use crate::exec::machine::context::Context;
use crate::exec::machine::warp::Warp;
use crate::exec::run::Flow;
use crate::ir::Kernel;
use crate::report::{AsyncFault, FaultKind, WaitsFor};
use crate::sanitizer::UnlocatedFault;

/// Registers of a multiprocessor.
const ALL: u32 = 1 << 16;
/// The fewest registers that `setmaxnreg` gives a thread.
const LEAST: u64 = 24;
/// Requests that a warp may be ahead of another of its warpgroup. The language wants them to meet
/// between two.
const AHEAD: usize = 1024;

/// Who has how many registers.
#[derive(Default)]
pub(crate) struct Registers {
    /// Registers a thread at the start.
    first: u32,
    /// Registers a thread of each warp.
    current: Vec<u32>,
    /// Registers of a warp's thread that nobody has.
    free: u32,
    /// What each warp has asked for, in order, without what all warps of its warpgroup have asked
    /// for.
    history: Vec<Vec<u32>>,
    /// Whether each warp has asked for any.
    asked: Vec<bool>,
}

impl Registers {
    pub fn new(kernel: &Kernel, threads: u32) -> Registers {
        let warps = threads.div_ceil(32);
        let share = |blocks: u64| u64::from(ALL) / (u64::from(warps.max(1)) * 32 * blocks);
        // The language ignores `.minnctapersm` where so many blocks do not fit a multiprocessor.
        let blocks = u64::from(kernel.min_blocks.unwrap_or(1).max(1));
        let share = match share(blocks) {
            few if few < LEAST => share(1),
            enough => enough,
        };
        let first = kernel
            .max_registers
            .map_or(share / 8 * 8, u64::from)
            .min(255) as u32;
        Registers {
            first,
            current: vec![first; warps as usize],
            free: 0,
            history: vec![Vec::new(); warps as usize],
            asked: vec![false; warps as usize],
        }
    }

    pub fn clear(&mut self) {
        self.current.fill(self.first);
        self.free = 0;
        self.history.iter_mut().for_each(Vec::clear);
        self.asked.fill(false);
    }

    /// Notes what a warp was given, and forgets what all of its warpgroup have. Whether it is not
    /// too far ahead.
    fn note(&mut self, warp: usize, count: u32) -> bool {
        self.current[warp] = count;
        self.asked[warp] = true;
        self.history[warp].push(count);
        if self.history[warp].len() <= AHEAD {
            return true;
        }
        let first = warp / 4 * 4;
        let last = (first + 4).min(self.history.len());
        let group = &mut self.history[first..last];
        let common = group.iter().map(Vec::len).min().unwrap_or(0);
        for history in group {
            history.drain(..common);
        }
        common > 0
    }

    /// The first warp whose requests differ in number from another's of its warpgroup.
    pub fn incomplete(&self) -> Option<(usize, AsyncFault)> {
        let ask = |warp: usize, n: usize| self.history[warp].get(n).copied();
        for warp in 0..self.history.len() {
            let first = warp / 4 * 4;
            let (mine, theirs) = (self.history[warp].len(), self.history[first].len());
            if mine != theirs {
                let n = mine.min(theirs);
                let (count, other) = (ask(warp, n), ask(first, n));
                return Some((warp, AsyncFault::RegistersDiffer { count, other }));
            }
        }
        None
    }
}

/// `setmaxnreg`. The split waits if there are not as many yet.
pub(crate) fn set(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    count: u32,
    more: bool,
) -> Result<Flow, Box<UnlocatedFault>> {
    let warp = w.own as usize;
    let known = cx.grid.kernel.max_registers.is_some();
    let registers = &mut cx.registers;
    let current = registers.current[warp];
    let asked = registers.history[warp].len();
    let before = registers.asked[warp];
    let bad = |what| {
        let fault = AsyncFault::Registers {
            count,
            current,
            what,
        };
        Err(UnlocatedFault::warp(fault.into()))
    };
    if m != u32::MAX {
        return bad("not all lanes of the warp execute it");
    }
    // What the compiler gave is known only where the kernel says so.
    if (known || before) && more != (count > current) && count != current {
        return bad("the wrong direction");
    }
    let others = warp / 4 * 4..(warp / 4 * 4 + 4).min(registers.history.len());
    for other in others {
        if let Some(&theirs) = registers.history[other].get(asked)
            && theirs != count
        {
            let (count, other) = (Some(count), Some(theirs));
            let fault = AsyncFault::RegistersDiffer { count, other };
            return Err(UnlocatedFault::warp(fault.into()));
        }
    }
    if count > current + registers.free {
        w.wants = WaitsFor::Registers {
            count,
            available: current + registers.free,
        };
        return Ok(mbarrier::block(w));
    }
    registers.free = registers.free + current - count;
    if !registers.note(warp, count) {
        let fault = FaultKind::TooMany {
            what: "requests for registers by one warp of a warpgroup ahead of another",
            most: AHEAD as u64,
        };
        return Err(UnlocatedFault::warp(fault));
    }
    cx.mbarriers.events += 1;
    cx.mbarriers.changed = true;
    Ok(Flow::Next)
}
