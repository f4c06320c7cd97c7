//! Branches and exits.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::ir::{Op, Pc, Reg};
use crate::report::FaultKind;
use crate::sanitizer::UnlocatedFault;

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Bra { target, reconverge } => Ok(branch(cx, w, m, target, reconverge)),
        Op::Exit => {
            w.split().pc = w.pc + 1;
            w.exit(m);
            Ok(Flow::Changed)
        }
        _ => rare(cx, w, m, op),
    }
}

/// Executes an operation that is rare in main loops.
#[inline(never)]
fn rare(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::BrxIdx {
            index,
            table,
            reconverge,
        } => branch_table(cx, w, m, index, table, reconverge),
        Op::Trap => {
            let lane = m.trailing_zeros() as usize;
            Err(UnlocatedFault::lane(lane, FaultKind::Trap))
        }
        _ => no_execution(op),
    }
}

/// Branches the lanes of `m` to a target; other lanes continue.
#[inline(always)]
fn branch(cx: &mut Context, w: &mut Warp, m: u32, target: Pc, reconverge: Pc) -> Flow {
    let split = w.split();
    let all = split.mask;
    if m == all {
        split.pc = target;
        return Flow::Next;
    }
    cx.counters.divergent_branches += 1;
    let next = w.pc + 1;
    w.diverge(&[(target, m), (next, all & !m)], reconverge);
    Flow::Changed
}

/// Branches each lane to the target of its index.
fn branch_table(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    index: Reg,
    table: u16,
    reconverge: Pc,
) -> Step {
    let all = w.split().mask;
    let targets = &cx.grid.kernel.branch_tables[usize::from(table)];
    let index = *w.u32s(index);
    let mut ways: Vec<(Pc, u32)> = Vec::new();
    if all & !m != 0 {
        ways.push((w.pc + 1, all & !m));
    }
    for lane in lanes(m) {
        let Some(&target) = targets.get(index[lane] as usize) else {
            let kind = FaultKind::BranchIndex {
                index: index[lane],
                len: targets.len() as u32,
            };
            return Err(UnlocatedFault::lane(lane, kind));
        };
        match ways.iter_mut().find(|way| way.0 == target) {
            Some(way) => way.1 |= 1 << lane,
            None => ways.push((target, 1 << lane)),
        }
    }
    if let [(target, _)] = ways[..] {
        w.split().pc = target;
    } else {
        cx.counters.divergent_branches += 1;
        w.diverge(&ways, reconverge);
    }
    Ok(Flow::Changed)
}
