//! Operations of a whole warp: shuffles, votes, matches, reductions.
//!
//! Lanes that a mask names but that are on another path are waited for: their splits run until they come to the same
//! instruction, and then all of them execute it together. Lanes that have exited are not waited for.
use super::lanes::lanes;
use super::warp::{State, Warp};
use crate::check::Trouble;
use crate::ir::{Op, Pred, ReduxOp, Reg, ShflMode, VoteMode, Width};
use crate::report::FaultKind;

/// The mask that the lanes of `m` give, which must be the same and name all of them.
fn named(w: &Warp, m: u32, mask: Reg) -> Result<u32, Box<Trouble>> {
    let masks = w.u32s(mask);
    let named = w.first32(m, mask);
    if m & !named != 0 || lanes(m).any(|i| masks[i] != named) {
        return Err(Trouble::warp(FaultKind::BadWarpMask { named, active: m }));
    }
    Ok(named)
}

/// The lanes that execute a collective operation now, or `None` if this split must wait for others.
pub(crate) fn gather(w: &mut Warp, m: u32, mask: Reg) -> Result<Option<u32>, Box<Trouble>> {
    if mask.is_none() {
        return Ok(Some(m));
    }
    let named = named(w, m, mask)?;
    let wanted = named & w.alive;
    if wanted & !m == 0 {
        return Ok(Some(m));
    }
    let pc = w.pc;
    let there = m | w.gathered(pc, named);
    if wanted & !there == 0 {
        for split in &mut w.splits {
            if split.pc == pc && split.state == State::Collective(named) {
                split.state = State::Ready;
                split.pc += 1;
            }
        }
        return Ok(Some(there));
    }
    wait(w, m, named, State::Collective(named)).map(|()| None)
}

/// `bar.warp.sync`. Whether the split can go on.
pub(crate) fn warp_sync(w: &mut Warp, m: u32, mask: Reg) -> Result<bool, Box<Trouble>> {
    let named = named(w, m, mask)?;
    if named & w.alive & !m == 0 {
        w.sync_count = w.sync_count.wrapping_add(1);
        return Ok(true);
    }
    wait(w, m, named, State::WarpSync(named))?;
    w.release();
    Ok(false)
}

/// Makes the current split wait. Lanes that the guard turned off run on and would never come.
fn wait(w: &mut Warp, m: u32, named: u32, state: State) -> Result<(), Box<Trouble>> {
    let pc = w.pc;
    let split = w.split();
    if split.mask != m {
        return Err(Trouble::warp(FaultKind::DivergentWarp { named, active: m }));
    }
    split.pc = pc;
    split.state = state;
    Ok(())
}

/// The fault of a warp whose splits all wait for lanes that never come.
pub(crate) fn stuck(w: &Warp) -> Option<(Box<Trouble>, u32)> {
    w.splits.iter().find_map(|s| match s.state {
        State::WarpSync(named) | State::Collective(named) => Some((
            Trouble::warp(FaultKind::DivergentWarp {
                named,
                active: s.mask,
            }),
            s.pc,
        )),
        _ => None,
    })
}

/// Executes a collective operation for the lanes of `m`, which have all come.
pub(crate) fn run(w: &mut Warp, m: u32, op: &Op) {
    match *op {
        Op::Shfl {
            mode,
            d,
            p,
            a,
            b,
            c,
            ..
        } => shfl(w, m, mode, d, p, [a, b, c]),
        Op::Vote {
            mode, d, p, src, ..
        } => {
            let value = w.pred(src) & m;
            vote(w, m, mode, d, p, value);
        }
        Op::Match {
            all,
            w: width,
            d,
            p,
            a,
            ..
        } => match_lanes(w, m, all, width, d, p, a),
        Op::Redux {
            op, signed, d, a, ..
        } => redux(w, m, op, signed, d, a),
        Op::Elect { d, p, .. } => {
            let leader = m.trailing_zeros();
            if !d.is_none() {
                w.set32(m, d, &[leader; 32]);
            }
            w.set_pred(m, p, 1 << leader);
        }
        _ => {}
    }
}

fn shfl(w: &mut Warp, m: u32, mode: ShflMode, d: Reg, p: Pred, [a, b, c]: [Reg; 3]) {
    let (a, b, c) = (*w.u32s(a), *w.u32s(b), *w.u32s(c));
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

fn vote(w: &mut Warp, m: u32, mode: VoteMode, d: Reg, p: Pred, value: u32) {
    let everywhere = |holds: bool| if holds { u32::MAX } else { 0 };
    match mode {
        VoteMode::All => w.set_pred(m, p, everywhere(value == m)),
        VoteMode::Any => w.set_pred(m, p, everywhere(value != 0)),
        VoteMode::Uni => w.set_pred(m, p, everywhere(value == m || value == 0)),
        VoteMode::Ballot => w.set32(m, d, &[value; 32]),
    }
}

fn match_lanes(w: &mut Warp, m: u32, all: bool, width: Width, d: Reg, p: Pred, a: Reg) {
    let value: [u64; 32] = match width {
        Width::W64 => *w.u64s(a),
        _ => w.u32s(a).map(u64::from),
    };
    let equal =
        |i: usize| lanes(m).fold(0u32, |bits, j| bits | u32::from(value[j] == value[i]) << j);
    if all {
        let same = equal(m.trailing_zeros() as usize & 31) == m;
        if !d.is_none() {
            w.set32(m, d, &[if same { m } else { 0 }; 32]);
        }
        w.set_pred(m, p, if same { u32::MAX } else { 0 });
    } else {
        w.set32(m, d, &std::array::from_fn(equal));
    }
}

fn redux(w: &mut Warp, m: u32, op: ReduxOp, signed: bool, d: Reg, a: Reg) {
    let a = *w.u32s(a);
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
    if let Some(value) = lanes(m).map(|i| a[i]).reduce(both) {
        w.set32(m, d, &[value; 32]);
    }
}
