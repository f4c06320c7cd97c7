//! The interpreter's loop.
use crate::exec::execute::step;
use crate::exec::instructions::collective;
use crate::exec::instructions::float;
use crate::exec::instructions::isa::Isa;
use crate::exec::instructions::wgmma;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Stop};
use crate::exec::machine::warp::Warp;
use crate::ir::*;
use crate::report::FaultKind;
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Number of instructions after which the turn ends, at the next branch.
const TURN: u64 = 1 << 16;

/// Runs a warp until it waits, ends, or its turn is over. On a fault, `w.pc` is the instruction.
///
/// A single function, so that its state (split, program counter, turn) stays in registers.
pub(crate) fn run<I: Isa>(cx: &mut Context, w: &mut Warp) -> Result<Stop, Box<UnlocatedFault>> {
    let kernel = cx.grid.kernel;
    let code = &kernel.code[..];
    let watched = &kernel.watched[..];
    let mut turn = 0;
    loop {
        if !w.choose() {
            match not_ready(w) {
                // Splits that would wait forever may be waiting for lanes that are held at a point
                // of reconvergence.
                Err(_) if w.part() => continue,
                stop => return stop,
            }
        }
        let split = *w.split();
        let mut pc = split.pc;
        let mut begin = pc;
        let flow = loop {
            if pc == split.rpc || pc as usize >= code.len() {
                w.pc = pc;
                account(cx, w, begin, pc, split.mask);
                if pc == split.rpc {
                    w.finish(w.current);
                } else {
                    w.exit(split.mask);
                }
                break Flow::Changed;
            }
            let inst = &code[pc as usize];
            let mut m = split.mask;
            if inst.guard != PredSrc::TRUE {
                m &= w.pred(inst.guard);
                if m != split.mask {
                    cx.profile[pc as usize].off += u64::from((split.mask & !m).count_ones());
                    if m == 0 {
                        pc += 1;
                        continue;
                    }
                }
            } else if watched.is_empty()
                && let Op::Fma {
                    ty: FloatTy::F32,
                    mode,
                    d,
                    a,
                    b,
                    c,
                } = inst.op
            {
                if m == u32::MAX && float::is_plain(mode) {
                    let end = if split.rpc > pc {
                        split.rpc as usize
                    } else {
                        usize::MAX
                    };
                    pc = I::fma_run(w, code, pc as usize, end.min(code.len())) as Pc;
                } else {
                    I::fma32(w, m, mode, d, [a, b, c]);
                    pc += 1;
                }
                continue;
            }
            w.pc = pc;
            if let Some(Some(_)) = watched.get(pc as usize) {
                wgmma::touch(cx, w, pc)?;
            }
            match step::<I>(cx, w, m, &inst.op)? {
                Flow::Next => {
                    pc += 1;
                    if matches!(inst.op, Op::Bra { .. }) {
                        // Taken by all lanes or by none; the split has the new program counter.
                        turn += u64::from(pc - begin);
                        account(cx, w, begin, pc, split.mask);
                        pc = w.split().pc;
                        begin = pc;
                        limit(cx, w)?;
                        if turn > TURN {
                            w.rotate();
                            return Ok(Stop::Turn);
                        }
                    }
                }
                flow => {
                    let end = pc + u32::from(!matches!(flow, Flow::Blocked));
                    turn += u64::from(end - begin);
                    account(cx, w, begin, end, split.mask);
                    if let Flow::Yield = flow {
                        w.split().pc = pc + 1;
                    }
                    break flow;
                }
            }
        };
        limit(cx, w)?;
        if turn > TURN {
            w.rotate();
        }
        if turn > TURN || matches!(flow, Flow::Yield) {
            return Ok(Stop::Turn);
        }
    }
}

/// Reason why a warp without a runnable split stopped.
fn not_ready(w: &mut Warp) -> Result<Stop, Box<UnlocatedFault>> {
    use crate::exec::machine::warp::{Split, State};
    if w.alive == 0 {
        return Ok(Stop::Done);
    }
    let waits = |s: &Split| matches!(s.state, State::Barrier | State::Event | State::Warpgroup);
    if w.splits.iter().any(waits) {
        return Ok(Stop::Waiting);
    }
    match collective::stuck(w) {
        Some((trouble, pc)) => {
            w.pc = pc;
            Err(trouble)
        }
        None => Ok(Stop::Waiting),
    }
}

/// Counts the instructions of a straight run as issued.
#[inline(always)]
fn account(cx: &mut Context, w: &mut Warp, begin: Pc, end: Pc, mask: u32) {
    let threads = i64::from(mask.count_ones());
    w.executed += u64::from(end - begin);
    let first = &mut cx.profile[begin as usize];
    first.warps += 1;
    first.threads += threads;
    let last = &mut cx.profile[end as usize];
    last.warps -= 1;
    last.threads -= threads;
}

#[inline(always)]
fn limit(cx: &Context, w: &Warp) -> Outcome {
    let limit = cx.grid.device.instruction_limit;
    if w.executed > limit {
        return Err(UnlocatedFault::warp(FaultKind::InstructionLimit { limit }));
    }
    Ok(())
}
