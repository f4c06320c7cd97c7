//! Operations of a whole warp: shuffles, votes, matches, reductions.
//!
//! Lanes in the mask that are on another path are waited for: their splits run until they reach the
//! same operation, and then all of them execute it together. Exited lanes are not waited for. The
//! instruction may differ: according to the PTX ISA, `shfl.sync` and similar instructions wait
//! "until all non-exited threads corresponding to membermask have executed" them "with the same
//! qualifiers and same membermask value".
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::{Split, State, Warp};
use crate::ir::{Inst, Op, Pred, ReduxOp, Reg, ShflMode, VoteMode, Width};
use crate::report::FaultKind;
use crate::sanitizer::UnlocatedFault;

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    let goes_on = match *op {
        Op::WarpSync { mask } => warp_sync(w, m, mask)?,
        Op::Shfl { mask, .. }
        | Op::Vote { mask, .. }
        | Op::Match { mask, .. }
        | Op::Redux { mask, .. }
        | Op::Elect { mask, .. } => step(w, m, mask, op, &cx.grid.kernel.code)?,
        Op::ActiveMask { d } => {
            w.set32(m, d, &[m; 32]);
            true
        }
        _ => return no_execution(op),
    };
    Ok(if goes_on { Flow::Next } else { Flow::Changed })
}

/// The mask of the lanes of `m`, which must contain all of them; `None` if they form groups with a
/// mask each. PTX requires one mask of the lanes that it names, not of the warp.
///
/// A group must be complete: one that also waits for lanes on another path is a fault here.
fn named(w: &Warp, m: u32, mask: Reg) -> Result<Option<u32>, Box<UnlocatedFault>> {
    let bad = |named| UnlocatedFault::warp(FaultKind::BadWarpMask { named, active: m });
    let named = w.first32(m, mask);
    if lanes(m).all(|i| w.u32s(mask)[i] == named) {
        return if m & !named == 0 {
            Ok(Some(named))
        } else {
            Err(bad(named))
        };
    }
    for (group, named) in groups(w.u32s(mask), m) {
        if group & !named != 0 || named & w.expected() & !group != 0 {
            return Err(bad(named));
        }
    }
    Ok(None)
}

/// The lanes of `m` that give the same mask, with it, in the order of their first lanes.
fn groups(masks: &[u32; 32], m: u32) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut left = m;
    while left != 0 {
        let named = masks[left.trailing_zeros() as usize & 31];
        let group = lanes(left).filter(|&i| masks[i] == named);
        let group = group.fold(0, |group, i| group | 1 << i);
        found.push((group, named));
        left &= !group;
    }
    found
}

/// Executes a collective operation for the lanes of `m`. Returns whether the split continues;
/// otherwise it waits for other lanes.
pub(crate) fn step(
    w: &mut Warp,
    m: u32,
    mask: Reg,
    op: &Op,
    code: &[Inst],
) -> Result<bool, Box<UnlocatedFault>> {
    if mask.is_none() {
        run(w, &[(op, m)], m);
        return Ok(true);
    }
    let Some(named) = named(w, m, mask)? else {
        for (group, _) in groups(w.u32s(mask), m) {
            run(w, &[(op, group)], group);
        }
        return Ok(true);
    };
    let wanted = named & w.expected();
    if wanted & !m == 0 {
        run(w, &[(op, m)], m);
        return Ok(true);
    }
    let waits =
        |s: &Split| s.state == State::Collective(named) && is_same(op, &code[s.pc as usize].op);
    let others = w.splits.iter().filter(|s| waits(s));
    let mut parties = vec![(op, m)];
    parties.extend(others.map(|s| (&code[s.pc as usize].op, s.mask)));
    let there = parties.iter().fold(0, |all, (_, lanes)| all | lanes);
    if wanted & !there != 0 {
        return wait(w, m, named, State::Collective(named)).map(|()| false);
    }
    run(w, &parties, there);
    w.met();
    for split in w.splits.iter_mut().filter(|s| waits(s)) {
        split.state = State::Ready;
        split.pc += 1;
    }
    Ok(true)
}

/// Returns whether two instructions are the same operation; registers may differ.
fn is_same(op: &Op, other: &Op) -> bool {
    match (op, other) {
        (Op::Shfl { mode: x, .. }, Op::Shfl { mode: y, .. }) => x == y,
        (Op::Vote { mode: x, .. }, Op::Vote { mode: y, .. }) => x == y,
        (Op::Match { all, w, .. }, Op::Match { all: y, w: v, .. }) => (all, w) == (y, v),
        (
            Op::Redux { op, signed, .. },
            Op::Redux {
                op: o, signed: s, ..
            },
        ) => (op, signed) == (o, s),
        (Op::Elect { .. }, Op::Elect { .. }) => true,
        _ => false,
    }
}

/// `bar.warp.sync`. Returns whether the split continues.
pub(crate) fn warp_sync(w: &mut Warp, m: u32, mask: Reg) -> Result<bool, Box<UnlocatedFault>> {
    let waits = named(w, m, mask)?.filter(|named| named & w.expected() & !m != 0);
    let Some(named) = waits else {
        w.sync_count = w.sync_count.wrapping_add(1);
        return Ok(true);
    };
    wait(w, m, named, State::WarpSync(named))?;
    w.release();
    Ok(false)
}

/// Makes the current split wait. A fault if lanes of the mask are predicated off: they would never
/// arrive.
fn wait(w: &mut Warp, m: u32, named: u32, state: State) -> Result<(), Box<UnlocatedFault>> {
    let pc = w.pc;
    let split = w.split();
    if split.mask != m {
        return Err(UnlocatedFault::warp(FaultKind::DivergentWarp {
            named,
            active: m,
        }));
    }
    split.pc = pc;
    split.state = state;
    Ok(())
}

/// The fault of a warp whose splits all wait for lanes that never arrive.
pub(crate) fn stuck(w: &Warp) -> Option<(Box<UnlocatedFault>, u32)> {
    w.splits.iter().find_map(|s| match s.state {
        State::WarpSync(named) | State::Collective(named) => Some((
            UnlocatedFault::warp(FaultKind::DivergentWarp {
                named,
                active: s.mask,
            }),
            s.pc,
        )),
        _ => None,
    })
}

/// Executes an operation once all lanes (`all`) have arrived. The lanes of each party execute the
/// party's own instruction, with values from the lanes of all parties.
fn run(w: &mut Warp, parties: &[(&Op, u32)], all: u32) {
    match *parties[0].0 {
        Op::Shfl { .. } => {
            let given = words(w, parties);
            for &(op, m) in parties {
                if let Op::Shfl {
                    mode, d, p, b, c, ..
                } = *op
                {
                    shfl(w, m, mode, d, p, &given, [b, c]);
                }
            }
        }
        Op::Vote { .. } => {
            let holds = parties.iter().fold(0, |holds, &(op, m)| match *op {
                Op::Vote { src, .. } => holds | w.pred(src) & m,
                _ => holds,
            });
            for &(op, m) in parties {
                if let Op::Vote { mode, d, p, .. } = *op {
                    vote(w, m, mode, d, p, holds, all);
                }
            }
        }
        Op::Match { w: width, .. } => {
            let given = match width {
                Width::W64 => wide(w, parties),
                _ => words(w, parties).map(u64::from),
            };
            for &(op, m) in parties {
                if let Op::Match {
                    all: same, d, p, ..
                } = *op
                {
                    match_lanes(w, m, same, d, p, &given, all);
                }
            }
        }
        Op::Redux { op, signed, .. } => {
            let value = reduce(&words(w, parties), all, op, signed);
            for &(op, m) in parties {
                if let Op::Redux { d, .. } = *op {
                    w.set32(m, d, &[value; 32]);
                }
            }
        }
        Op::Elect { .. } => {
            let leader = all.trailing_zeros();
            for &(op, m) in parties {
                if let Op::Elect { d, p, .. } = *op {
                    if !d.is_none() {
                        w.set32(m, d, &[leader; 32]);
                    }
                    w.set_pred(m, p, 1 << leader);
                }
            }
        }
        _ => {}
    }
}

/// The source register of an operation.
fn given(op: &Op) -> Reg {
    match *op {
        Op::Shfl { a, .. } | Op::Match { a, .. } | Op::Redux { a, .. } => a,
        _ => Reg::NONE,
    }
}

/// The 32-bit source values of all lanes, by party.
fn words(w: &Warp, parties: &[(&Op, u32)]) -> [u32; 32] {
    let mut all = *w.u32s(given(parties[0].0));
    for &(op, m) in &parties[1..] {
        let own = w.u32s(given(op));
        lanes(m).for_each(|lane| all[lane] = own[lane]);
    }
    all
}

/// The 64-bit source values of all lanes, by party.
fn wide(w: &Warp, parties: &[(&Op, u32)]) -> [u64; 32] {
    let mut all = *w.u64s(given(parties[0].0));
    for &(op, m) in &parties[1..] {
        let own = w.u64s(given(op));
        lanes(m).for_each(|lane| all[lane] = own[lane]);
    }
    all
}

fn shfl(w: &mut Warp, m: u32, mode: ShflMode, d: Reg, p: Pred, a: &[u32; 32], [b, c]: [Reg; 2]) {
    let (b, c) = (*w.u32s(b), *w.u32s(c));
    let mut out = [0; 32];
    let mut inside = 0u32;
    for lane in 0..32u32 {
        let i = lane as usize;
        let (offset, clamp, segment) = (b[i] & 31, c[i] & 31, c[i] >> 8 & 31);
        let low = lane & segment;
        let limit = low | (clamp & !segment);
        let (from, good) = match mode {
            ShflMode::Up => (
                lane.wrapping_sub(offset),
                lane as i32 - offset as i32 >= limit as i32,
            ),
            ShflMode::Down => (lane + offset, lane + offset <= limit),
            ShflMode::Bfly => (lane ^ offset, lane ^ offset <= limit),
            ShflMode::Idx => {
                let from = low | (offset & !segment);
                (from, from <= limit)
            }
        };
        out[i] = a[if good { (from & 31) as usize } else { i }];
        inside |= u32::from(good) << lane;
    }
    if !d.is_none() {
        w.set32(m, d, &out);
    }
    w.set_pred(m, p, inside);
}

fn vote(w: &mut Warp, m: u32, mode: VoteMode, d: Reg, p: Pred, value: u32, all: u32) {
    let everywhere = |holds: bool| if holds { u32::MAX } else { 0 };
    match mode {
        VoteMode::All => w.set_pred(m, p, everywhere(value == all)),
        VoteMode::Any => w.set_pred(m, p, everywhere(value != 0)),
        VoteMode::Uni => w.set_pred(m, p, everywhere(value == all || value == 0)),
        VoteMode::Ballot => w.set32(m, d, &[value; 32]),
    }
}

fn match_lanes(w: &mut Warp, m: u32, same: bool, d: Reg, p: Pred, value: &[u64; 32], all: u32) {
    let equal =
        |i: usize| lanes(all).fold(0u32, |bits, j| bits | u32::from(value[j] == value[i]) << j);
    if same {
        let same = equal(all.trailing_zeros() as usize & 31) == all;
        if !d.is_none() {
            w.set32(m, d, &[if same { all } else { 0 }; 32]);
        }
        w.set_pred(m, p, if same { u32::MAX } else { 0 });
    } else {
        w.set32(m, d, &std::array::from_fn(equal));
    }
}

fn reduce(a: &[u32; 32], m: u32, op: ReduxOp, signed: bool) -> u32 {
    let both = |x: u32, y: u32| match (op, signed) {
        (ReduxOp::Add, _) => x.wrapping_add(y),
        (ReduxOp::And, _) => x & y,
        (ReduxOp::Or, _) => x | y,
        (ReduxOp::Xor, _) => x ^ y,
        (ReduxOp::Min, false) => x.min(y),
        (ReduxOp::Max, false) => x.max(y),
        (ReduxOp::Min, true) => (x as i32).min(y as i32) as u32,
        (ReduxOp::Max, true) => (x as i32).max(y as i32) as u32,
    };
    lanes(m).map(|i| a[i]).reduce(both).unwrap_or(0)
}
