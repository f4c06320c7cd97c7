//! Block barriers.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::barriers::{BARRIERS, Waiting};
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::{State, Warp};
use crate::ir::{BarrierKind, Op, Reg};
use crate::report::FaultKind;
use crate::sanitizer::UnlocatedFault;

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    let goes_on = arrive(cx, w, m, op)?;
    Ok(match goes_on {
        true if cx.barriers.is_any_complete() => Flow::Yield,
        true => Flow::Next,
        false => Flow::Changed,
    })
}

/// The value of a barrier's operand, which must be the same for all lanes of `m`.
fn uniform(w: &Warp, m: u32, operand: Reg) -> Result<u32, Box<UnlocatedFault>> {
    let values = w.u32s(operand);
    let first = w.first32(m, operand);
    match lanes(m).find(|&lane| values[lane] != first) {
        None => Ok(first),
        Some(lane) => Err(UnlocatedFault::lane(
            lane,
            FaultKind::BarrierOperand {
                first,
                other: values[lane],
            },
        )),
    }
}

/// Barrier number and thread count of an instruction, if the lanes of `m` may arrive at it.
fn named(cx: &Context, w: &Warp, m: u32, op: &Op) -> Result<(u32, u32), Box<UnlocatedFault>> {
    let Op::Barrier {
        aligned, id, count, ..
    } = *op
    else {
        return Ok((0, 0));
    };
    let id = uniform(w, m, id)?;
    let threads = cx.barriers.threads;
    let expected = if count.is_none() {
        threads
    } else {
        uniform(w, m, count)?
    };
    if id as usize >= BARRIERS
        || expected == 0
        || !expected.is_multiple_of(32)
        || expected > threads
    {
        let count = expected;
        return Err(UnlocatedFault::warp(FaultKind::BadBarrier { id, count }));
    }
    if aligned && m != w.alive {
        return Err(divergent(w, m, id));
    }
    if count.is_none() && w.alive != w.existing {
        let kind = FaultKind::ExitedAtBarrier {
            id,
            exited: (w.existing & !w.alive).count_ones(),
            arrived: m.count_ones(),
            expected,
        };
        return Err(UnlocatedFault::lane(m.trailing_zeros() as usize, kind));
    }
    if cx.order.is_exhausted() {
        return Err(UnlocatedFault::warp(FaultKind::TooManyBarriers));
    }
    Ok((id, expected))
}

#[cold]
fn divergent(w: &Warp, m: u32, id: u32) -> Box<UnlocatedFault> {
    let kind = FaultKind::DivergentBarrier {
        id,
        arrived: m,
        alive: w.alive,
    };
    UnlocatedFault::lane(m.trailing_zeros() as usize, kind)
}

/// Makes the lanes of the current split arrive at a barrier. Returns whether they continue at once.
pub(crate) fn arrive(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    op: &Op,
) -> Result<bool, Box<UnlocatedFault>> {
    let Op::Barrier {
        kind, src, d, p, ..
    } = *op
    else {
        return Ok(true);
    };
    let (number, expected) = named(cx, w, m, op)?;
    let time = if cx.order.precise {
        cx.order.arrive()
    } else {
        cx.order.now
    };
    let yes = (w.pred(src) & m).count_ones();
    let barrier = &mut cx.barriers.list[number as usize];
    if barrier.arrived == 0 {
        barrier.expected = expected;
        barrier.only_sync = true;
    } else if barrier.expected != expected {
        return Err(UnlocatedFault::warp(FaultKind::BadBarrier {
            id: number,
            count: expected,
        }));
    }
    let warp = w.index as usize;
    barrier.count(warp, m, w.alive);
    barrier.yes += yes;
    barrier.asked += m.count_ones();
    barrier.times.push((warp, time));
    barrier.only_sync &= kind != BarrierKind::Arrive;
    if barrier.arrived >= barrier.expected {
        cx.barriers.complete.push(number as usize);
    }
    if kind == BarrierKind::Arrive {
        return Ok(true);
    }
    let split = w.current;
    barrier.waiting.push(Waiting {
        warp,
        split,
        lanes: m,
        kind,
        d,
        p,
    });
    if w.splits[split].mask != m {
        // Predicated-off lanes would continue past their own warp's barrier.
        return Err(divergent(w, m, number));
    }
    w.splits[split].pc = w.pc;
    w.splits[split].state = State::Barrier;
    Ok(false)
}

/// Makes the warps that wait at complete barriers ready.
pub(crate) fn release(cx: &mut Context, warps: &mut [Warp]) {
    while let Some(number) = cx.barriers.complete.pop() {
        let barrier = std::mem::take(&mut cx.barriers.list[number]);
        cx.counters.barriers += 1;
        let all = barrier.expected == cx.barriers.threads && cx.order.blocks == 1;
        if all && barrier.only_sync {
            cx.order.full_barrier();
        } else {
            let waiting: Vec<usize> = barrier.waiting.iter().map(|w| w.warp).collect();
            cx.order.join(&barrier.times, &waiting);
        }
        for waiting in &barrier.waiting {
            let w = &mut warps[waiting.warp];
            w.splits[waiting.split].state = State::Ready;
            w.splits[waiting.split].pc += 1;
            w.sync_count = w.sync_count.wrapping_add(1);
            let holds = match waiting.kind {
                BarrierKind::RedPopc => {
                    for lane in lanes(waiting.lanes) {
                        w.u32s_mut(waiting.d)[lane] = barrier.yes;
                    }
                    continue;
                }
                BarrierKind::RedAnd => barrier.yes == barrier.asked,
                BarrierKind::RedOr => barrier.yes > 0,
                BarrierKind::Sync | BarrierKind::Arrive => continue,
            };
            w.set_pred(waiting.lanes, waiting.p, if holds { u32::MAX } else { 0 });
        }
    }
}
