//! Moves, packing and selection.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::{lanes, wide1};
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{space_of, window};
use crate::ir::{CLUSTER_SHIFT, Clock, Op, Packing, Pred, Reg, Space, Width};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Mov { w: width, d, a } => I::mov(w, m, width, d, a),
        Op::Pack { kind, d, parts } => I::pack(w, m, kind, d, parts),
        Op::Unpack { kind, parts, a } => I::unpack(w, m, kind, parts, a),
        _ => return rare(cx, w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare(cx: &Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Cvta {
            space,
            to_space,
            wide,
            d,
            a,
        } => cvta(w, m, space, to_space, wide, d, a),
        Op::IsSpace { space, p, a } => is_space(w, m, (space, cx.cluster.rank), p, a),
        Op::ReadClock { clock, d } => read_clock(cx, w, m, clock, d),
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Copies a register.
#[inline(always)]
pub(crate) fn mov(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg) {
    if width == Width::W64 {
        let value = *w.u64s(a);
        w.set64(m, d, &value);
    } else {
        let value = *w.u32s(a);
        w.set32(m, d, &value);
    }
}

fn row(w: &Warp, r: Reg) -> [u32; 32] {
    if r.is_none() { [0; 32] } else { *w.u32s(r) }
}

/// Builds a register from parts.
#[inline(always)]
pub(crate) fn pack(w: &mut Warp, m: u32, kind: Packing, d: Reg, parts: [Reg; 4]) {
    let p = parts.map(|r| row(w, r));
    match kind {
        Packing::B32By16 => {
            let out = std::array::from_fn(|i| p[0][i] & 0xffff | p[1][i] << 16);
            w.set32(m, d, &out);
        }
        Packing::B16By8 => {
            let out = std::array::from_fn(|i| p[0][i] & 0xff | (p[1][i] & 0xff) << 8);
            w.set32(m, d, &out);
        }
        Packing::B32By8 => {
            let out = std::array::from_fn(|i| {
                p[0][i] & 0xff | (p[1][i] & 0xff) << 8 | (p[2][i] & 0xff) << 16 | p[3][i] << 24
            });
            w.set32(m, d, &out);
        }
        Packing::B64By32 => {
            let out = std::array::from_fn(|i| u64::from(p[0][i]) | u64::from(p[1][i]) << 32);
            w.set64(m, d, &out);
        }
        Packing::B64By16 => {
            let out = std::array::from_fn(|i| {
                let half = |j: usize| u64::from(p[j][i] & 0xffff) << (16 * j);
                half(0) | half(1) | half(2) | half(3)
            });
            w.set64(m, d, &out);
        }
    }
}

/// Splits a register into parts.
#[inline(always)]
pub(crate) fn unpack(w: &mut Warp, m: u32, kind: Packing, parts: [Reg; 4], a: Reg) {
    let (bits, count, wide) = match kind {
        Packing::B32By16 => (16, 2, false),
        Packing::B16By8 => (8, 2, false),
        Packing::B32By8 => (8, 4, false),
        Packing::B64By32 => (32, 2, true),
        Packing::B64By16 => (16, 4, true),
    };
    let value: [u64; 32] = if wide {
        *w.u64s(a)
    } else {
        w.u32s(a).map(u64::from)
    };
    let mask = (1u64 << bits) - 1;
    for (j, &part) in parts.iter().enumerate().take(count) {
        if !part.is_none() {
            let out = value.map(|x| (x >> (bits * j) & mask) as u32);
            w.set32(m, part, &out);
        }
    }
}

/// Converts an address of a space to a generic one, or back.
pub(crate) fn cvta(w: &mut Warp, m: u32, space: Space, to_space: bool, wide: bool, d: Reg, a: Reg) {
    let base = window(space);
    if base == 0 || !wide {
        mov(w, m, if wide { Width::W64 } else { Width::W32 }, d, a);
    } else if to_space {
        wide1(w, m, d, a, |x| x.wrapping_sub(base));
    } else {
        wide1(w, m, d, a, |x| x.wrapping_add(base));
    }
}

/// Sets the predicate to whether a generic address lies in a space. `rank`: the block's rank in its
/// cluster.
pub(crate) fn is_space(w: &mut Warp, m: u32, (space, rank): (Space, u32), p: Pred, a: Reg) {
    let address = *w.u64s(a);
    let is = |address: u64| match (space, space_of(address)) {
        (Space::Const, actual) => actual == Space::Global,
        (Space::Cluster, actual) => actual == Space::Shared,
        (Space::Shared, Space::Shared) => {
            let tag = (address - window(Space::Shared)) >> CLUSTER_SHIFT;
            tag == 0 || tag == u64::from(rank) + 1
        }
        (wanted, actual) => actual == wanted,
    };
    let bits = lanes(m).fold(0, |bits, i| bits | u32::from(is(address[i])) << i);
    w.set_pred(m, p, bits);
}

/// Reads a clock.
fn read_clock(cx: &Context, w: &mut Warp, m: u32, clock: Clock, d: Reg) {
    let cycles = w.executed;
    let nanoseconds = cx.grid.began.elapsed().as_nanos() as u64 + cx.timed_out;
    let (value, wide) = match clock {
        Clock::Clock32 => (cycles, false),
        Clock::ClockHi => (cycles >> 32, false),
        Clock::Clock64 => (cycles, true),
        Clock::GlobalTimer => (nanoseconds, true),
        Clock::GlobalTimerLo => (nanoseconds, false),
        Clock::GlobalTimerHi => (nanoseconds >> 32, false),
    };
    if wide {
        w.set64(m, d, &[value; 32]);
    } else {
        w.set32(m, d, &[value as u32; 32]);
    }
}
