//! A warp: its registers, and the positions of its lanes.
//!
//! Lanes that diverge at a branch become *splits*, each with its own program counter and lane mask.
//! A split that has diverged waits at the point of reconvergence until its children have reached
//! it. Splits run in turn, even if one of them waits for the others. So threads of a warp may wait
//! for each other, as on sm_70 and later.
use crate::ir::{NO_PC, Pc, Pred, PredSrc, Reg};

/// One 32-bit register of all 32 lanes.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
pub(crate) struct WarpRegister(pub [u32; 32]);

/// No split: the parent of a root split.
pub(crate) const NO_SPLIT: u32 = u32::MAX;

/// State of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is free.
    Free,
    /// The split can run.
    Ready,
    /// The split waits for its children to reach its program counter.
    Parent,
    /// The split waits at a block barrier.
    Barrier,
    /// The split waits at a matrix product for the other warps of its warpgroup.
    Warpgroup,
    /// The split executes its instruction again after a change of a barrier in shared memory, or a
    /// similar event.
    Event,
    /// The split waits at `bar.warp.sync` for the lanes of the mask.
    WarpSync(u32),
    /// The split waits at a warp-level operation for the lanes of the mask to reach the same
    /// operation.
    Collective(u32),
}

/// Lanes that run together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub pc: Pc,
    /// Program counter where it joins its parent.
    pub rpc: Pc,
    pub mask: u32,
    pub parent: u32,
    pub children: u32,
    pub state: State,
    /// True if its wait for an event has timed out.
    pub expired: bool,
}

/// State of a warp: registers, predicates, splits.
pub(crate) struct Warp {
    pub rows: Vec<WarpRegister>,
    row_count: usize,
    pub preds: Vec<u32>,
    /// The carry flag of each lane.
    pub carry: u32,
    /// Index among the warps of all blocks of the cluster.
    pub index: u32,
    /// Index of the warp in the block.
    pub own: u32,
    /// Lanes with a thread.
    pub existing: u32,
    /// Lanes that have not exited.
    pub alive: u32,
    /// Lanes that continued from a point of reconvergence for other lanes that wait for them, and
    /// have not synchronised with those since.
    parted: u32,
    /// Exited lanes among those: others wait for them in vain.
    missed: u32,
    pub splits: Vec<Split>,
    pub current: usize,
    /// Program counter of the executing instruction.
    pub pc: Pc,
    /// Number of issued instructions.
    pub executed: u64,
    /// Number of warp-level synchronisations.
    pub sync_count: u32,
    pub local: crate::exec::machine::local_memory::LocalMemory,
    pub copies: crate::exec::machine::copies::Copies,
    pub stores: crate::exec::machine::copies::Stores,
    pub products: crate::exec::machine::wgmma_state::Products,
    /// Condition of a wait for an event.
    pub wants: crate::report::WaitsFor,
}

impl Warp {
    pub fn new(index: u32, own: u32, rows: usize, preds: usize) -> Warp {
        Warp {
            // Filled when a block starts.
            rows: Vec::with_capacity(rows),
            row_count: rows,
            preds: vec![0; preds.max(1)],
            carry: 0,
            index,
            own,
            existing: 0,
            alive: 0,
            parted: 0,
            missed: 0,
            splits: Vec::with_capacity(8),
            current: 0,
            pc: 0,
            executed: 0,
            sync_count: 0,
            local: crate::exec::machine::local_memory::LocalMemory::default(),
            copies: crate::exec::machine::copies::Copies::default(),
            stores: crate::exec::machine::copies::Stores::default(),
            products: crate::exec::machine::wgmma_state::Products::default(),
            wants: crate::report::WaitsFor::Barrier,
        }
    }

    /// Zeroes all registers.
    pub fn clear_rows(&mut self) {
        self.rows.clear();
        self.rows.resize(self.row_count, WarpRegister([0; 32]));
    }

    /// Starts all lanes at the first instruction.
    pub fn start(&mut self, existing: u32) {
        self.existing = existing;
        self.alive = existing;
        self.parted = 0;
        self.missed = 0;
        self.carry = 0;
        self.executed = 0;
        self.sync_count = 0;
        self.preds.fill(0);
        self.preds[0] = u32::MAX;
        self.splits.clear();
        self.splits.push(Split {
            pc: 0,
            rpc: NO_PC,
            mask: existing,
            parent: NO_SPLIT,
            children: 0,
            state: State::Ready,
            expired: false,
        });
        self.current = 0;
        self.pc = 0;
        self.copies.clear();
        self.stores.clear();
    }

    #[inline(always)]
    pub fn u32s(&self, r: Reg) -> &[u32; 32] {
        &self.rows[r.0 as usize].0
    }

    #[inline(always)]
    pub fn u64s(&self, r: Reg) -> &[u64; 32] {
        let pair: &[WarpRegister] = &self.rows[r.0 as usize..r.0 as usize + 2];
        // SAFETY: two rows are 256 bytes, aligned to 128, and any bits are a valid u64.
        unsafe { &*pair.as_ptr().cast::<[u64; 32]>() }
    }

    #[inline(always)]
    pub fn u32s_mut(&mut self, r: Reg) -> &mut [u32; 32] {
        &mut self.rows[r.0 as usize].0
    }

    #[inline(always)]
    pub fn u64s_mut(&mut self, r: Reg) -> &mut [u64; 32] {
        let pair: &mut [WarpRegister] = &mut self.rows[r.0 as usize..r.0 as usize + 2];
        // SAFETY: as in `u64s`.
        unsafe { &mut *pair.as_mut_ptr().cast::<[u64; 32]>() }
    }

    /// Writes a 32-bit register in the lanes of a mask.
    #[inline(always)]
    pub fn set32(&mut self, m: u32, d: Reg, v: &[u32; 32]) {
        let row = self.u32s_mut(d);
        if m == u32::MAX {
            *row = *v;
        } else {
            merge(row, m, v);
        }
    }

    /// Writes a 64-bit register in the lanes of a mask.
    #[inline(always)]
    pub fn set64(&mut self, m: u32, d: Reg, v: &[u64; 32]) {
        let row = self.u64s_mut(d);
        if m == u32::MAX {
            *row = *v;
        } else {
            merge(row, m, v);
        }
    }

    #[inline(always)]
    pub fn pred(&self, p: PredSrc) -> u32 {
        let v = self.preds[p.pred.0 as usize];
        if p.negated { !v } else { v }
    }

    /// Writes a predicate in the lanes of a mask, unless there is no such predicate.
    #[inline(always)]
    pub fn set_pred(&mut self, m: u32, p: Pred, v: u32) {
        if !p.is_none() {
            let old = &mut self.preds[p.0 as usize];
            *old = (*old & !m) | (v & m);
        }
    }

    /// The value of the lowest lane of `m`.
    #[inline(always)]
    pub fn first32(&self, m: u32, r: Reg) -> u32 {
        self.u32s(r)[(m.trailing_zeros() & 31) as usize]
    }

    /// The current split.
    #[inline(always)]
    pub fn split(&mut self) -> &mut Split {
        let current = self.current;
        &mut self.splits[current]
    }

    /// Splits the current split. `ways` are the targets with their lanes, at least two.
    pub fn diverge(&mut self, ways: &[(Pc, u32)], reconverge: Pc) {
        let current = self.current;
        let here = self.splits[current];
        let (parent, rpc) = if reconverge == NO_PC || reconverge == here.rpc {
            self.splits[current].state = State::Free;
            (here.parent, here.rpc)
        } else {
            let split = &mut self.splits[current];
            split.pc = reconverge;
            split.state = State::Parent;
            split.children = 0;
            (current as u32, reconverge)
        };
        let mut made = 0;
        for &(pc, mask) in ways {
            if pc != rpc {
                let split = Split {
                    pc,
                    rpc,
                    mask,
                    parent,
                    children: 0,
                    state: State::Ready,
                    expired: false,
                };
                self.current = self.place(split);
                made += 1;
            }
        }
        if parent != NO_SPLIT {
            // A split that was replaced had been counted once.
            let replaced = u32::from(parent != current as u32);
            self.splits[parent as usize].children += made - replaced;
        }
    }

    fn place(&mut self, split: Split) -> usize {
        match self.splits.iter().position(|s| s.state == State::Free) {
            Some(slot) => {
                self.splits[slot] = split;
                slot
            }
            None => {
                self.splits.push(split);
                self.splits.len() - 1
            }
        }
    }

    /// Ends a split: it has reached its parent's program counter, or has no lanes left.
    pub fn finish(&mut self, split: usize) {
        let mut at = split;
        loop {
            self.splits[at].state = State::Free;
            let parent = self.splits[at].parent;
            if parent == NO_SPLIT {
                return;
            }
            at = parent as usize;
            let waiting = &mut self.splits[at];
            waiting.children -= 1;
            if waiting.children > 0 {
                return;
            }
            if waiting.mask != 0 && waiting.pc != waiting.rpc {
                waiting.state = State::Ready;
                self.current = at;
                return;
            }
        }
    }

    /// Releases lanes that wait at a point of reconvergence for other lanes, which themselves wait
    /// for them. Returns whether there were any. The two groups reconverge at the next enclosing
    /// point of reconvergence.
    pub fn part(&mut self) -> bool {
        let mut parted = false;
        for at in 0..self.splits.len() {
            let waiting = self.splits[at];
            if waiting.state != State::Parent {
                continue;
            }
            let children = self.splits.iter().filter(|s| s.parent == at as u32);
            let apart = children
                .filter(|s| s.state != State::Free)
                .fold(0, |m, s| m | s.mask);
            let arrived = waiting.mask & !apart;
            // If its own parent waits at the same place, these lanes join that parent.
            if arrived == 0 {
                continue;
            }
            parted = true;
            self.parted |= arrived;
            self.splits[at].mask &= !arrived;
            if waiting.pc == waiting.rpc {
                continue;
            }
            self.place(Split {
                mask: arrived,
                children: 0,
                state: State::Ready,
                expired: false,
                ..waiting
            });
            if waiting.parent != NO_SPLIT {
                self.splits[waiting.parent as usize].children += 1;
            }
        }
        parted
    }

    /// Ends lanes of the current split.
    pub fn exit(&mut self, lanes: u32) {
        self.alive &= !lanes;
        self.missed |= lanes & self.parted;
        let mut at = self.current as u32;
        while at != NO_SPLIT {
            let split = &mut self.splits[at as usize];
            split.mask &= !lanes;
            at = split.parent;
        }
        if self.splits[self.current].mask == 0 {
            self.finish(self.current);
        }
        self.release();
    }

    /// Chooses a split that can run, the current one if possible. Returns whether there is one.
    pub fn choose(&mut self) -> bool {
        if self
            .splits
            .get(self.current)
            .is_some_and(|s| s.state == State::Ready)
        {
            return true;
        }
        self.rotate()
    }

    /// Chooses the next split that can run. Returns whether there is one.
    pub fn rotate(&mut self) -> bool {
        let count = self.splits.len();
        for step in 1..=count {
            let at = (self.current + count - step % count) % count;
            if self.splits[at].state == State::Ready {
                self.current = at;
                return true;
            }
        }
        false
    }

    /// Releases splits whose partners at a warp-level synchronisation have all arrived or exited.
    pub fn release(&mut self) {
        for at in 0..self.splits.len() {
            match self.splits[at].state {
                State::WarpSync(mask) => {
                    let same = |s: &Split| s.state == State::WarpSync(mask);
                    let there = self
                        .splits
                        .iter()
                        .filter(|s| same(s))
                        .fold(0, |m, s| m | s.mask);
                    if mask & self.expected() & !there == 0 {
                        self.met();
                        self.sync_count = self.sync_count.wrapping_add(1);
                        for split in self.splits.iter_mut().filter(|s| same(s)) {
                            split.state = State::Ready;
                            split.pc += 1;
                        }
                    }
                }
                // The split executes its instruction again and finds its partners waiting.
                State::Collective(mask) if mask & self.expected() & !self.gathered(mask) == 0 => {
                    self.splits[at].state = State::Ready;
                }
                _ => {}
            }
        }
    }

    /// Lanes for which a collective operation waits if they are in its mask: all except exited
    /// ones, unless other lanes had to be released so that they could arrive.
    pub fn expected(&self) -> u32 {
        self.alive | self.missed
    }

    /// Records that the lanes of a collective operation have synchronised.
    #[inline(always)]
    pub fn met(&mut self) {
        self.parted = 0;
    }

    /// Lanes that wait at a collective operation of a mask.
    fn gathered(&self, mask: u32) -> u32 {
        let there = |s: &&Split| s.state == State::Collective(mask);
        self.splits.iter().filter(there).fold(0, |m, s| m | s.mask)
    }
}

/// Writes the lanes of a mask. A separate function, because every handler ends with it.
#[inline(never)]
fn merge<T: Copy>(row: &mut [T; 32], m: u32, v: &[T; 32]) {
    for i in 0..32 {
        row[i] = if m >> i & 1 != 0 { v[i] } else { row[i] };
    }
}
